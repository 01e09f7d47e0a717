"""What each script does to the keys."""

from collections.abc import Callable

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import Reason
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import Outcome, sweep
from delayed.task.task import PyTask


def task(number: object = 0) -> bytes:
    return PyTask("m:f", (number,)).serialize()


def leases(queue: Queue, count: int, token: str = "t") -> list[str]:
    return [queue.keys.lease(token, number) for number in range(count)]


def put(queue: Queue, *numbers: object) -> None:
    queue.enqueue_many(PyTask("m:f", (number,)) for number in numbers)


def waiting(queue: Queue) -> list[bytes]:
    return list(queue.store.call("LRANGE", queue.name, 0, -1))


def held(queue: Queue) -> dict[str, bytes]:
    names = queue.store.call("HKEYS", queue.keys.processing)
    return {name.decode(): queue.store.call("HGET", queue.keys.processing, name) for name in names}


def notifications(queue: Queue) -> int:
    return int(queue.store.call("LLEN", queue.keys.noti))


def die(queue: Queue, *names: str) -> None:
    """What the end of a TTL does."""
    queue.store.call("DEL", *names)


# take


def test_take_moves_tasks_under_leases_that_live(queue: Queue) -> None:
    put(queue, 1, 2, 3)
    names = leases(queue, 2)
    assert queue.store.take(names, "me", 10) == ([task(1), task(2)], False)
    assert held(queue) == dict(zip(names, [task(1), task(2)], strict=True))
    assert waiting(queue) == [task(3)]
    assert notifications(queue) == 1
    for name in names:
        assert queue.store.call("GET", name) == b"me"
        assert 9_000 < queue.store.call("PTTL", name) <= 10_000


def test_take_of_an_empty_queue_makes_nothing(queue: Queue, client: redis.Redis) -> None:
    assert queue.store.take(leases(queue, 2), "me", 10) == ([], False)
    assert not list(client.scan_iter(f"{queue.name}*"))


def test_take_makes_only_the_keys_that_are_needed(queue: Queue) -> None:
    put(queue, 1, 2)
    names = leases(queue, 3)
    queue.store.call("SET", names[0], "me", "PX", 60_000)
    queue.store.take(names, "me", 10, living=1)
    assert queue.store.call("PTTL", names[0]) > 50_000  # it lives already, so it was left alone
    assert queue.store.alive(names[1:2]) == 1
    assert queue.store.alive(names[2:]) == 0  # no task for it


def test_take_leaves_to_others_what_they_have_claimed(queue: Queue) -> None:
    put(queue, 1, 2, 3)
    queue.store.call("LPOP", queue.keys.noti)  # somebody was woken, and is on its way
    tasks, _ = queue.store.take(leases(queue, 5), "me", 10)
    assert len(tasks) == 2
    assert notifications(queue) == 0


def test_take_with_a_claim_needs_no_notification(queue: Queue) -> None:
    put(queue, 1, 2, 3)
    queue.store.call("LPOP", queue.keys.noti, 3)
    assert queue.store.take(leases(queue, 5), "me", 10, claims=1).tasks == [task(1)]


def test_take_after_waiting_in_vain_takes_what_is_there(queue: Queue) -> None:
    put(queue, 1, 2)
    queue.store.call("DEL", queue.keys.noti)
    assert len(queue.store.take(leases(queue, 5), "me", 10, waiting=True).tasks) == 2


def test_defect_u11_a_surplus_notification_finds_nothing_and_no_error(queue: Queue) -> None:
    queue.store.call("RPUSH", queue.keys.noti, "1")
    assert queue.store.take(leases(queue, 1), "me", 10, claims=1) == ([], False)


# Completer


def test_succeed_is_fenced(queue: Queue) -> None:
    put(queue, 1)
    (lease,) = leases(queue, 1)
    queue.store.take([lease], "me", 10)
    assert queue.store.succeed(lease)
    assert not queue.store.succeed(lease)
    assert not held(queue)


def test_defect_u1_retry_is_one_step(queue: Queue) -> None:
    put(queue, 1, 2)
    (lease,) = leases(queue, 1)
    queue.store.take([lease], "me", 10)
    sent: list[object] = []

    class Spy:
        def call(self, *command: object) -> object:
            sent.append(command[0])
            return queue.store.call(*command)  # type: ignore[arg-type]

    queue.store.retry("no-such-lease", task(9))  # now the server has the script
    assert queue.store.over(Spy()).retry(lease, task(9))
    assert sent == ["EVALSHA"]
    assert waiting(queue) == [task(2), task(9)]
    assert notifications(queue) == 2
    assert not held(queue)


@pytest.mark.parametrize("ending", ["succeed", "retry", "bury", "give_back"])
def test_defect_u6_a_superseded_worker_changes_nothing(queue: Queue, ending: str) -> None:
    put(queue, 1)
    mine, other = leases(queue, 1, "mine"), leases(queue, 1, "other")
    queue.store.take(mine, "me", 10)
    die(queue, *mine)
    assert sweep(queue.store).recovered == 1
    queue.store.take(other, "other", 10)
    before = {
        key: queue.store.call("DUMP", key) for key in (queue.name, queue.keys.noti, queue.keys.processing, queue.keys.dead)
    }
    endings: dict[str, Callable[[], object]] = {
        "succeed": lambda: queue.store.succeed(mine[0]),
        "retry": lambda: queue.store.retry(mine[0], task(5)),
        "bury": lambda: queue.store.bury(mine[0], Reason.FAILED, "x", "me"),
        "give_back": lambda: queue.store.give_back(mine),
    }
    assert not endings[ending]()
    assert held(queue) == {other[0]: task(1)}
    assert before == {key: queue.store.call("DUMP", key) for key in before}


def test_bury_keeps_bytes_reason_detail_worker_and_time(queue: Queue) -> None:
    put(queue, 1)
    (lease,) = leases(queue, 1)
    queue.store.take([lease], "me", 10)
    assert queue.store.bury(lease, Reason.FAILED, "because \ud800", "host:1")
    (letter,) = dead_letters(queue)
    assert (letter.data, letter.reason, letter.detail, letter.worker) == (task(1), "failed", "because ?", "host:1")
    now = queue.store.call("TIME")
    assert abs(letter.time - int(now[0])) < 60
    assert not held(queue)


def test_give_back_restores_the_order(queue: Queue) -> None:
    put(queue, 1, 2, 3, 4)
    names = leases(queue, 3)
    queue.store.take(names, "me", 10)
    assert queue.store.give_back([*names, "no-such-lease"]) == 3
    assert waiting(queue) == [task(1), task(2), task(3), task(4)]
    assert notifications(queue) == 4
    assert not held(queue)


# Sweep


@pytest.mark.parametrize("limited", [False, True])
def test_a_lease_that_has_run_out_lives_again_with_its_task(queue: Queue, limited: bool) -> None:
    """Its holder cannot know: the server's clock was set forward."""
    names = [queue.keys.lease("t", number) for number in range(3)]
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(3))
    queue.store.call("SET", names[0], "me", "PX", 60_000)
    take = queue.store.take_limited if limited else queue.store.take
    assert len(take(names, "me", 10, living=2).tasks) == 3
    assert all(queue.store.call("PTTL", name) > 0 for name in names)
    assert sweep(queue.store) == Outcome()


def test_sweep_takes_from_the_dead_and_not_from_the_living(queue: Queue) -> None:
    put(queue, 1, 2, 3)
    names = leases(queue, 3)
    queue.store.take(names, "me", 10)
    die(queue, names[0], names[2])
    assert sweep(queue.store).recovered == 2
    assert held(queue) == {names[1]: task(2)}
    assert sorted(waiting(queue)) == [task(1), task(3)]
    assert notifications(queue) == 2
    assert queue.store.call("HGET", queue.keys.stats, "recovered") == b"2"


def test_sweep_checks_again(queue: Queue) -> None:
    put(queue, 1)
    (lease,) = leases(queue, 1)
    queue.store.take([lease], "me", 10)
    assert queue.store.sweep([lease], 3, "pass", "me") == (0, 0, False)
    assert held(queue) == {lease: task(1)}


def test_the_third_loss_buries(queue: Queue) -> None:
    put(queue, 1)
    for loss in (1, 2):
        lease = leases(queue, 1, f"t{loss}")
        queue.store.take(lease, "me", 10)
        die(queue, *lease)
        assert sweep(queue.store)[:2] == (1, 0)
    lease = leases(queue, 1, "t3")
    assert queue.store.take(lease, "me", 10).suspect
    die(queue, *lease)
    assert sweep(queue.store, sweeper="s:1")[:2] == (0, 1)
    (letter,) = dead_letters(queue)
    assert (letter.data, letter.reason, letter.worker) == (task(1), "lost", "s:1")
    assert "3 times" in letter.detail
    assert queue.store.call("EXISTS", queue.keys.lost) == 0
    assert queue.store.call("HGET", queue.keys.stats, "buried") == b"1"


def test_tasks_of_the_same_bytes_count_once_in_a_sweep(queue: Queue) -> None:
    put(queue, *[7] * 50)
    names = leases(queue, 50)
    queue.store.take(names, "me", 10)
    die(queue, *names)
    assert sweep(queue.store)[:2] == (50, 0)
    assert queue.store.call("HVALS", queue.keys.lost)[0].startswith(b"1:")


@pytest.mark.parametrize("ending", ["succeed", "retry", "bury"])
def test_an_ending_clears_the_count(queue: Queue, ending: str) -> None:
    put(queue, 1)
    first, second = leases(queue, 2)
    queue.store.take([first], "me", 10)
    die(queue, first)
    sweep(queue.store)
    assert queue.store.call("HLEN", queue.keys.lost) == 1
    assert queue.store.take([second], "me", 10).suspect
    if ending == "succeed":
        queue.store.succeed(second)
    elif ending == "retry":
        queue.store.retry(second, task(1))
    else:
        queue.store.bury(second, Reason.FAILED, "", "")
    assert queue.store.call("HLEN", queue.keys.lost) == 0


def test_giving_back_does_not_clear_the_count(queue: Queue) -> None:
    put(queue, 1)
    first, second = leases(queue, 2)
    queue.store.take([first], "me", 10)
    die(queue, first)
    sweep(queue.store)
    queue.store.take([second], "me", 10)
    queue.store.give_back([second])
    assert queue.store.call("HLEN", queue.keys.lost) == 1


def test_a_task_that_was_lost_comes_alone(queue: Queue) -> None:
    put(queue, 1, 2, 3)
    names = leases(queue, 3)
    queue.store.take(names[:2], "me", 10)
    die(queue, names[0])
    sweep(queue.store)  # 1 is suspect, and waits before 3
    queue.store.give_back([names[1]])  # 2 goes to the head
    assert queue.store.take(names, "me", 10) == ([task(2)], False)
    assert notifications(queue) == 2
    assert queue.store.take(names[1:], "me", 10) == ([task(1)], True)
    assert queue.store.take(names[2:], "me", 10) == ([task(3)], False)
    assert notifications(queue) == 0


def test_losses_that_nobody_clears_are_forgotten_after_a_day_or_when_they_are_too_many(queue: Queue) -> None:
    put(queue, 1)
    (lease,) = leases(queue, 1)
    queue.store.take([lease], "me", 10)
    queue.store.call("HSET", queue.keys.lost, *[part for n in range(10_000) for part in (f"digest{n}", "1:x")])
    die(queue, lease)
    sweep(queue.store)
    assert queue.store.call("HLEN", queue.keys.lost) == 1
    assert 86_000 < queue.store.call("TTL", queue.keys.lost) <= 86_400


def test_large_lost_tasks_are_swept_in_several_calls(queue: Queue) -> None:
    names = leases(queue, 5)
    for name in names:
        queue.store.call("HSET", queue.keys.processing, name, name.encode() + b"x" * 900_000)
    assert queue.store.sweep(names, 3, "pass", "me") == (2, 0, True)
    assert sweep(queue.store).recovered == 3
    assert queue.len() == 5


def test_sweep_pages_through_many_leases(queue: Queue) -> None:
    fields = [part for n in range(3000) for part in (queue.keys.lease("t", n), task(n))]
    queue.store.call("HSET", queue.keys.processing, *fields)
    living = [queue.keys.lease("t", n) for n in range(0, 3000, 3)]
    for name in living:
        queue.store.call("SET", name, "me", "PX", 60_000)
    assert sweep(queue.store).recovered == 2000
    assert set(held(queue)) == set(living)


def test_defect_u5_keys_of_the_application_keep_no_dead_worker_alive(queue: Queue, client: redis.Redis) -> None:
    put(queue, 1)
    lease = queue.keys.lease("1234", 0)
    assert lease.startswith(f"{queue.name}_lease_")
    client.set("1234", "of the application")
    queue.store.take([lease], "1234", 10)
    die(queue, lease)
    assert sweep(queue.store).recovered == 1
    client.delete("1234")


def test_what_a_dead_upstream_worker_held_comes_back(queue: Queue, client: redis.Redis) -> None:
    queue.store.call("HSET", queue.keys.processing, "47110815", task(1))
    assert sweep(queue.store).recovered == 1
    queue.store.call("HSET", queue.keys.processing, "47110815", task(1))
    client.set("47110815", 1, ex=100)
    assert sweep(queue.store).recovered == 0
    client.delete("47110815")


# Repair


def test_defect_u2_any_number_of_missing_notifications_is_repaired(queue: Queue) -> None:
    put(queue, *range(20_000))
    queue.store.call("DEL", queue.keys.noti)
    assert sweep(queue.store).repaired == 20_000
    assert notifications(queue) == 20_000


def test_surplus_notifications_are_removed(queue: Queue) -> None:
    put(queue, 1)
    for _ in range(9):
        queue.store.call("RPUSH", queue.keys.noti, *["1"] * 1000)
    assert sweep(queue.store).repaired == 9000
    assert notifications(queue) == 1


def test_due_finds_the_first_queue_with_tasks(queue: Queue) -> None:
    queues = [Queue(f"{queue.name}{n}", queue.conn) for n in range(3)]
    keys = [each.keys for each in queues]
    assert queue.store.due(keys) == (None, 0, None)
    queues[2].enqueue(PyTask("m:f"))
    assert queue.store.due(keys) == (2, 0, None)
    queues[1].enqueue(PyTask("m:f"))
    assert queue.store.due(keys) == (1, 0, None)


def test_due_moves_what_is_due_in_bounded_batches(queue: Queue) -> None:
    for number in range(5):
        queue.enqueue(PyTask("m:f", (number,), at=1000 - number))
        queue.enqueue(PyTask("m:f", (number,), after=1000 + number))
    assert queue.len() == 5  # those were due when they came
    queue.store.call("DEL", queue.name, queue.keys.noti)
    members = queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1)
    queue.store.call("ZADD", queue.keys.scheduled, *(word for score, member in enumerate(members) for word in (score, member)))
    assert queue.store.due([queue.keys], 3) == (0, 3, 0)
    assert queue.store.due([queue.keys], 3) == (0, 2, None)
    assert queue.store.call("LRANGE", queue.name, 0, -1) == [PyTask("m:f", (number,)).serialize() for number in range(5)]
    assert queue.store.call("LLEN", queue.keys.noti) == 5


# Register and dead letters


def test_the_dead_are_struck_off_the_register(queue: Queue) -> None:
    living, dead = queue.keys.lease("a"), queue.keys.lease("b")
    queue.store.call("HSET", queue.keys.workers, living, b"\x80", dead, b"\x80")
    queue.store.call("SET", living, "a", "PX", 60_000)
    assert sweep(queue.store).pruned == 1
    assert queue.store.call("HKEYS", queue.keys.workers) == [living.encode()]


def test_dead_letters_go_back_as_they_came(queue: Queue) -> None:
    for number in (1, 2):
        put(queue, number)
        names = leases(queue, 1, f"t{number}")
        queue.store.take(names, "me", 10)
        queue.store.bury(names[0], Reason.FAILED, "", "")
    newest, oldest = dead_letters(queue)
    assert queue.store.dead_retry([oldest.id, oldest.id, "1-1"]) == 1
    assert waiting(queue) == [task(1)]
    assert notifications(queue) == 1
    assert [letter.id for letter in dead_letters(queue)] == [newest.id]


@pytest.mark.breaks_invariants("a dead letter without a task")
def test_a_part_of_an_id_moves_its_letter_and_an_entry_without_a_task_stays(queue: Queue) -> None:
    queue.store.call("XADD", queue.keys.dead, "5-1", "reason", "failed", "task", task(1))
    queue.store.call("XADD", queue.keys.dead, "6-1", "reason", "failed")
    assert queue.store.dead_retry(["5", "6"]) == 1
    assert waiting(queue) == [task(1)]
    assert [letter.id for letter in dead_letters(queue)] == ["6-1"]


def test_a_lease_whose_name_is_not_utf8_is_swept(queue: Queue) -> None:
    queue.store.call("HSET", queue.keys.processing, b"\xff\xfe", task(1))
    assert sweep(queue.store).recovered == 1


def test_dead_letters_are_read_in_pages(queue: Queue) -> None:
    for number in range(250):
        queue.store.call("XADD", queue.keys.dead, "*", "task", task(number), "reason", "failed", "detail", "", "worker", "")
    assert [letter.data for letter in dead_letters(queue)] == [task(number) for number in reversed(range(250))]
    assert len(list(dead_letters(queue, 120))) == 120
    assert not list(dead_letters(queue, 120, "lost"))
