"""The judge of scripts/chaos, on those who take tasks from servers, and on what histories tell."""

from collections import Counter

import pytest

from chaos.events import BACK, FORWARD, FULL, KILL, SERVER, STEP, STOP, Event
from chaos.judge import Judge
from chaos.notes import CONFIRMED, IDENTIFIED, LIMITED, NUMBERED, OVERDUE, SPOILED, TURNED_AWAY, Note, Writer
from chaos.told import Compared, Told, compare
from chaos.wishes import identity_of
from delayed.queue.history import HistoryEvent

from .test_judge import BEYOND, MS, A, B, blow, mark, run, weather

FAR, OTHER = Writer(200, 1, 0), Writer(201, 1, 0)  # consumers
HERE = [*mark(CONFIRMED, 0, 0, FAR), *mark(CONFIRMED, 0, 0, OTHER)]


def judge(*notes: list[Note], events: tuple[Event, ...] = ()) -> Judge:
    return Judge([*HERE, *(note for some in notes for note in some)], events, BEYOND)


def causes(*notes: list[Note], events: tuple[Event, ...] = ()) -> list[str]:
    return [repeat.cause for repeat in judge(*notes, events=events).verdict.repeats]


AGAIN = run(1, OTHER, 900, 901)


def test_what_a_killed_consumer_had_in_hand_may_run_again() -> None:
    kill = blow(KILL, 200, 500, kind="consumer")
    for first in (run(1, FAR, 0), run(1, FAR, 0, 1)):
        assert causes(first, AGAIN, events=(kill,)) == ["kill consumer"]
        assert causes(first, mark(CONFIRMED, 1, 2, FAR), AGAIN, events=(kill,)) == [""]
        assert causes(first, AGAIN) == [""]


@pytest.mark.parametrize(("again", "cause"), [(2100, "kill consumer"), (1900, "")])
def test_a_consumer_that_was_killed_before_it_could_note_that_it_was_late(again: int, cause: str) -> None:
    kill = blow(KILL, 200, 2500, kind="consumer")
    assert causes(run(1, FAR, 0, 1), run(1, OTHER, again, again + 1), events=(kill,)) == [cause]


def test_a_consumer_that_was_late_by_its_own_clock_may_have_lost_its_task() -> None:
    late = mark(OVERDUE, 1, 800, FAR)
    assert causes(run(1, FAR, 0, 1), late, AGAIN) == ["late consumer"]
    assert causes(run(1, FAR, 0, 1), late, mark(CONFIRMED, 1, 801, FAR), AGAIN) == [""]
    assert causes(run(1, FAR, 0, 1), mark(OVERDUE, 2, 800, FAR), AGAIN) == [""]


@pytest.mark.parametrize(("end", "cause"), [(3000, "stop consumer"), (1000, "")])
def test_only_a_long_stop_of_a_consumer_explains_a_repeat(end: int, cause: str) -> None:
    stop = blow(STOP, 200, 5, end, kind="consumer")
    assert causes(run(1, FAR, 0, end + 1), run(1, OTHER, 2500, 2600), events=(stop,)) == [cause]


def test_blows_to_servers_explain_nothing() -> None:
    events = (blow(KILL, 7, 1, kind=SERVER), blow(STOP, 8, 0, 5000, kind=SERVER))
    assert causes(run(1, FAR, 0, 1), AGAIN, events=events) == [""]


def test_an_end_that_is_refused_in_time_is_found() -> None:
    refused = mark(TURNED_AWAY, 1, 50, FAR)
    assert judge(refused).verdict.turned_away == [1]
    assert judge(refused, events=(blow(STOP, 200, 0, 49, kind="consumer"),)).verdict.turned_away == []
    assert judge(refused, events=(weather(STEP, 40),)).verdict.turned_away == [1]
    swept = (weather(STEP, 40), blow(KILL, 7, 45, kind="sweeper"))
    assert judge(refused, events=swept).verdict.turned_away == []


@pytest.mark.parametrize(("kind", "moment", "explained"), [(FORWARD, 400, True), (BACK, 400, False), (FORWARD, 950, False)])
def test_a_clock_that_is_set_forward_ends_the_lease_of_a_consumer(kind: str, moment: int, explained: bool) -> None:
    step = Event(STEP, kind, (), moment * MS, moment * MS)
    assert causes(run(1, FAR, 0, 1), AGAIN, events=(step,)) == ["clock set forward under a consumer" if explained else ""]
    refused = mark(TURNED_AWAY, 1, 900, FAR)
    assert judge(refused, events=(step,)).verdict.turned_away == ([] if explained else [1])


def test_a_clock_that_is_set_forward_lets_a_consumer_begin_what_another_has_ended() -> None:
    step = Event(STEP, FORWARD, (), 400 * MS, 400 * MS)
    ended = [*run(1, FAR, 600, 601), *mark(CONFIRMED, 1, 602, FAR)]
    assert causes(ended, AGAIN, mark(TURNED_AWAY, 1, 902, OTHER), events=(step,)) == ["clock set forward under a consumer"]
    assert causes(ended, AGAIN, mark(CONFIRMED, 1, 902, OTHER), events=(step,)) == [""]
    assert causes(ended, AGAIN, mark(TURNED_AWAY, 1, 902, OTHER)) == [""]
    assert causes(ended, run(1, B, 900, 901), events=(step,)) == [""]


def test_a_number_that_two_tasks_got_is_found() -> None:
    verdict = judge(mark(NUMBERED, 5), mark(NUMBERED, 6), mark(NUMBERED, 5)).verdict
    assert (verdict.twice, len(verdict.numbered), verdict.confirmed) == ([5], 2, 0)


@pytest.mark.parametrize(("confirmed", "crowded"), [(True, [6]), (False, [])])
def test_only_what_a_consumer_has_held_to_the_end_has_a_slot_for_certain(*, confirmed: bool, crowded: list[int]) -> None:
    limits = [note for task in (2, 4, 6) for note in mark(LIMITED, task)]
    ends = mark(CONFIRMED, 2, 10, FAR) if confirmed else []
    verdict = judge(limits, run(2, FAR, 0, 9), ends, run(4, B, 1, 9), run(6, A, 8, 9)).verdict
    assert verdict.asked.crowded == crowded


# Histories


def told(*outcomes: tuple[int, str], counted: int = 0) -> Told:
    found = Told(counted=counted)
    found.add(HistoryEvent(0.0, outcome, "m:f", identity_of(number)) for number, outcome in outcomes)
    return found


def compared(what: Told, *notes: list[Note], events: tuple[Event, ...] = ()) -> Compared:
    found = judge(*notes, events=events)
    return compare(what, found.history, found.identified, found.lives_on)


KNOWN = mark(IDENTIFIED, 1)


def test_a_history_that_tells_what_was_is_right() -> None:
    found = compared(told((1, "succeeded"), counted=1), KNOWN, run(1, A, 0, 1))
    assert (found.failures(), found.known, found.certain, found.ended) == ([], 1, 1, 1)
    again = compared(told((1, "lost"), (1, "succeeded"), counted=1), KNOWN, run(1, A, 0), run(1, B, 20, 21))
    assert again.failures() == []


def test_an_end_that_is_not_told_is_found_unless_its_worker_was_hit() -> None:
    task, silence = (KNOWN, run(1, A, 0, 1)), told()
    assert compared(silence, *task).silent == [1]
    for event in (blow(KILL, 100, 1500), blow(STOP, 100, 1, 900), blow(KILL, 10, 5), Event(FULL, "Redis", (), MS, 9 * MS)):
        assert compared(silence, *task, events=(event,)).failures() == []
    assert compared(silence, *task, mark(SPOILED, 1)).failures() == []
    assert compared(silence, *task, events=(blow(KILL, 100, 5000),)).silent == [1]
    assert compared(silence, KNOWN, run(1, FAR, 0, 1), mark(CONFIRMED, 1, 2, FAR)).silent == []


def test_an_end_that_nobody_noted_is_found() -> None:
    assert compared(told((1, "succeeded"), (1, "succeeded")), KNOWN, run(1, A, 0, 1)).invented == [1]
    assert compared(told((1, "succeeded")), KNOWN, run(1, A, 0)).invented == [1]


def test_a_repeat_without_a_loss_in_the_history_is_found() -> None:
    ran = (KNOWN, run(1, A, 0), run(1, B, 20, 21))
    assert compared(told((1, "succeeded"), counted=1), *ran).unheard == [1]


@pytest.mark.parametrize(("successes", "counted", "wrong"), [(1, 1, 0), (2, 1, 1), (1, 0, 1), (1, 2, 1)])
def test_sums_that_cannot_be_are_found(successes: int, counted: int, wrong: int) -> None:
    what = told(counted=counted)
    what.outcomes = Counter(succeeded=successes)
    assert len(compared(what, run(1, A, 0, 1)).failures()) == wrong


def test_what_supervisors_count_for_killed_workers_is_told_as_a_number() -> None:
    found = Told()
    found.add([HistoryEvent(0.0, "unwritten", "", attempt=7), HistoryEvent(0.0, "succeeded", "m:f", "x" * 16)])
    assert (found.unwritten, dict(found.by_number), found.outcomes["succeeded"]) == (7, {}, 1)
