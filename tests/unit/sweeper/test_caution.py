"""When a lease without a key is dead."""

from delayed.sweeper.caution import SETTLING, Caution, Suspects


def looking(caution: Caution, now: float, took: float = 0.01) -> bool:
    """A look that begins at `now`; whether its answer speaks of an outage."""
    caution.opened(now)
    return caution.stalled(now, now + took)


def test_a_slow_answer_is_an_outage_unless_the_link_is_always_slow() -> None:
    caution = Caution()
    assert [looking(caution, number) for number in range(5)] == [False] * 5
    assert looking(caution, 5, 0.3)
    slow = Caution()
    assert [looking(slow, number * 10, 2.0) for number in range(4)] == [True, False, False, False]
    assert looking(slow, 100, 9)
    assert [looking(caution, number * 10, 2.0) for number in range(5)] == [
        True,
        True,
        True,
        False,
        False,
    ]  # it has become slow


def test_after_an_outage_the_living_have_time() -> None:
    caution = Caution()
    caution.opened(0)
    caution.doubt()
    settled = []
    for now in (0, SETTLING / 2, SETTLING):
        caution.heard(now)
        settled.append((caution.settled, caution.remains))
    assert settled == [(False, SETTLING), (False, SETTLING / 2), (True, 0)]
    assert Caution().settled


def test_what_is_dead_at_two_looks_is_dead_whatever_the_link_is_like() -> None:
    caution = Caution()
    suspects = Suspects(caution)
    found = []
    for second in range(8):  # the connection breaks each second
        caution.opened(10 * second)
        caution.doubt()
        found.append(suspects.dead("held", ["a"] if second else ["a", "b"]))
        suspects.looked("held")
        caution.heard(10 * second + 1)
        caution.broke()
    assert found == [[]] * 5 + [["a"]] * 3
    assert not caution.settled
    assert caution.postponed == 8


def test_time_without_a_connection_does_not_count() -> None:
    caution = Caution()
    suspects = Suspects(caution)
    caution.opened(0)
    caution.doubt()
    assert suspects.dead("held", ["a"]) == []
    caution.heard(1)
    caution.broke()
    caution.heard(50)  # nothing is heard over no connection
    caution.opened(100)
    caution.doubt()
    assert suspects.dead("held", ["a"]) == []
    assert suspects.remains == 4


def test_who_lives_again_is_no_suspect() -> None:
    caution = Caution()
    suspects = Suspects(caution)
    caution.opened(0)
    for now, leases in ((0, ["a", "b"]), (3, ["b"]), (5, ["a", "b"])):
        caution.heard(now)
        caution.doubt()
        found = suspects.dead("held", leases)
        suspects.looked("held")
    assert found == ["b"]
    suspects.acquit()
    assert suspects.dead("held", ["a", "b"]) == []


def test_suspects_of_one_hash_are_not_those_of_another() -> None:
    caution = Caution()
    suspects = Suspects(caution)
    caution.opened(0)
    caution.doubt()
    suspects.dead("held", ["a"])
    suspects.looked("held")
    suspects.dead("register", ["b"])
    suspects.looked("register")
    caution.heard(5)
    caution.doubt()
    assert suspects.dead("held", ["a"]) == ["a"]
    assert suspects.dead("register", ["b"]) == ["b"]


def test_a_step_of_the_clock_is_seen_whatever_the_round_trip() -> None:
    for took in (0.001, 2.0):
        caution = Caution()
        assert caution.step(0, took, 1000 + took / 2) == 0
        assert caution.step(10, 10 + took, 1010) == 0
        assert caution.step(20, 20 + took, 1020 + took) == 0  # it was read late
        assert caution.step(30, 30 + took, 4630) > 3590
        assert caution.step(40, 40 + took, 4640) == 0
        assert caution.step(50, 50 + took, 1050) < -3590
        assert caution.step(60, 60 + took, 1060) == 0
    assert Caution().step(0, 0.1, 1e9) == 0
    slewed = Caution()
    assert slewed.step(0, 0.1, 0.0) == slewed.step(36000, 36000.1, 36018.0) == 0


def test_those_that_beat_seldom_have_more_time() -> None:
    caution = Caution()
    caution.opened(0)
    caution.doubt(31)
    caution.heard(10)
    caution.doubt()  # another outage shortens nothing
    caution.heard(40.9)
    assert not caution.settled
    caution.heard(41)
    caution.trust()
    assert (caution.postponed, caution.settling) == (0, SETTLING)
