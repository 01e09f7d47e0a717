"""Tasks that wait for a key of another: what they cost, who wakes them, and that none waits for ever."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from delayed.backoff import Constant
from delayed.base.ids import digest
from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry, retry_all
from delayed.dead_letters.search import Search, search
from delayed.errors import Duplicate, Reason, ResultError, TaskCancelled, TaskFailed, UnknownTask
from delayed.job.job import Job
from delayed.ops.checks import Snapshot
from delayed.ops.invariants import INVARIANTS
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import sweep
from delayed.task.decode import Call, headers_of
from delayed.task.headers import HOLDS_NOTHING, Holds, holds_in
from delayed.task.options import ENDED_FOR, TRACKED_FOR
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.redis.queue.test_groups import make_due
from tests.redis.test_costs import monitored

Start = Callable[[Worker], threading.Thread]
RUNNING: dict[str, Any] = {"unique": "u", "unique_mode": "while_running", "result_ttl": 60}
SLOT: dict[str, Any] = {"concurrency_key": "s", "result_ttl": 60}
KEYS = [pytest.param(RUNNING, id="unique"), pytest.param(SLOT, id="slot"), pytest.param({**RUNNING, **SLOT}, id="both")]


def lease(queue: Queue, number: int) -> str:
    return queue.keys.lease("t", number)


def hold(queue: Queue, number: int = 0, **options: Any) -> tuple[Holds, bytes, Handle[Any]]:
    """A task that runs, under the lease of this number."""
    handle = queue.enqueue(PyTask("tasks:noop", (number,), **options))
    (data,) = queue.store.take([lease(queue, number)], "t", 60, waiting=True).tasks
    holds = holds_in(headers_of(data))
    assert queue.store.start(lease(queue, number), holds, bound=60_000) == 1
    return holds, data, handle


def waiting_keys(queue: Queue) -> set[str]:
    return {key.decode() for key in queue.store.call("KEYS", f"{queue.name}_wait*")}


ENDINGS: dict[str, Callable[[Queue, Holds, bytes], object]] = {
    "conclude": lambda queue, holds, data: queue.store.conclude(
        lease(queue, 0), holds, state="succeeded", result=b"\x90", keep=1000
    ),
    "postpone": lambda queue, holds, data: queue.store.postpone(lease(queue, 0), data, holds, 60_000, "no"),
    "defer": lambda queue, holds, data: queue.store.defer(lease(queue, 0), holds, limit=60, cause="no"),
    "give back": lambda queue, holds, data: queue.store.give_back([lease(queue, 0)], {lease(queue, 0): data}, 1),
    "sweep": lambda queue, holds, data: (queue.store.call("DEL", lease(queue, 0)), sweep(queue.store)),
    "sweep that buries": lambda queue, holds, data: (queue.store.call("DEL", lease(queue, 0)), sweep(queue.store, 1)),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keys", KEYS)
def test_every_ending_frees_what_the_task_held_and_wakes_one(queue: Queue, ending: str, keys: dict[str, Any]) -> None:
    holds, data, _ = hold(queue, **keys)
    waits = [queue.enqueue(PyTask("tasks:two", (number,), **keys)) for number in range(2)]
    burst(queue)
    assert [handle.status().state for handle in waits] == [State.QUEUED] * 2
    assert all("running" in handle.status().waits for handle in waits)
    assert queue.store.lengths() == (0, 0)
    ENDINGS[ending](queue, holds, data)
    assert queue.store.lengths()[0] == 1 + (ending in ("give back", "sweep"))
    burst(queue)
    assert [handle.result(1) for handle in waits] == [2, 3]
    assert not waiting_keys(queue)


@pytest.mark.parametrize("ending", ["succeed", "bury"])
def test_so_do_those_of_tasks_that_are_not_tracked(queue: Queue, ending: str) -> None:
    holds, _, _ = hold(queue, concurrency_key="s")
    queue.enqueue(PyTask("tasks:noop", (5,), concurrency_key="s"))
    burst(queue)
    assert queue.len() == 0
    if ending == "succeed":
        queue.store.succeed(lease(queue, 0), holds)
    else:
        queue.store.bury(lease(queue, 0), Reason.FAILED, "x", "y", holds)
    assert burst(queue).finished == 1
    assert not waiting_keys(queue)


def test_they_go_on_in_the_order_in_which_they_came(queue: Queue, client: redis.Redis) -> None:
    holds, _, _ = hold(queue, **SLOT)
    for number in range(5):
        queue.enqueue(PyTask("life:note_itself", (f"{queue.name}:r",), concurrency_key="s", group=f"g{number}"))
        burst(queue)
    marks = [member[16:57] for member in client.zrange(queue.keys.waits(queue.keys.slots("s")), 0, -1)]
    assert marks == [f":{digest(f'g{number}')}".encode() for number in range(5)]
    queue.store.succeed(lease(queue, 0), holds)
    assert burst(queue).finished == 5


def test_waiting_costs_nothing(queue: Queue, client: redis.Redis, name: str, threaded: Start) -> None:
    """Each is looked at once, and then not before its turn."""
    holds, _, _ = hold(queue, **SLOT)
    queue.enqueue_many(PyTask("tasks:noop", (number,), concurrency_key="s") for number in range(50))
    worker = Worker(queue, allow=["tasks:*"])
    threaded(worker)
    line = queue.keys.waits(queue.keys.slots("s"))
    eventually(lambda: client.zcard(line) == 50)
    with monitored(client, name) as sent:
        assert queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)).result(10) == 3
        turns = worker.state.rounds
        eventually(lambda: worker.state.rounds > turns)
    assert len(sent) < 40, sent
    queue.store.conclude(lease(queue, 0), holds, state="succeeded", result=b"\x90", keep=1000)
    eventually(lambda: worker.finished == 50 + 1 + 50)


# What nobody wakes, the sweeper does


def stuck(queue: Queue, keys: dict[str, Any]) -> Handle[Any]:
    hold(queue, **keys)
    handle = queue.enqueue(PyTask("tasks:two", (1,), **keys))
    burst(queue)
    assert handle.status().waits
    return handle


@pytest.mark.parametrize("keys", KEYS)
def test_a_sweeper_wakes_those_whose_key_something_else_has_freed(
    queue: Queue, client: redis.Redis, keys: dict[str, Any]
) -> None:
    """A sweeper that knows nothing of keys puts back what a dead worker held; a unique key runs out."""
    handle = stuck(queue, keys)
    unwoken = next(each for each in INVARIANTS if each.name == "waits-woken")
    client.hdel(queue.keys.processing, lease(queue, 0))
    assert not list(unwoken.look(Snapshot(queue)))
    client.delete(queue.keys.unique("u"), queue.keys.slots("s"))
    assert list(unwoken.look(Snapshot(queue)))
    sweep(queue.store)
    assert not list(unwoken.look(Snapshot(queue)))
    burst(queue)
    assert handle.result(1) == 3


def test_slots_that_are_left_over_are_found_when_all_seem_taken(queue: Queue, client: redis.Redis) -> None:
    handle = stuck(queue, SLOT)
    client.hdel(queue.keys.processing, lease(queue, 0))
    assert queue.store.wake_all() == 1
    assert client.exists(queue.keys.slots("s")) == 0
    burst(queue)
    assert handle.result(1) == 3


def test_a_higher_limit_of_some_that_wait_lets_them_go_on(queue: Queue) -> None:
    """What waits for a key may have different limits, as after a deploy."""
    running = [hold(queue, number, concurrency_key="s", concurrency=3)[0] for number in range(3)]
    one = queue.enqueue(PyTask("tasks:two", (1,), **SLOT))
    three = [queue.enqueue(PyTask("tasks:two", (1,), **{**SLOT, "concurrency": 3})) for _ in range(2)]
    burst(queue)
    queue.store.succeed(lease(queue, 0), running[0])
    burst(queue)  # `one` cannot go on, as two run
    sweep(queue.store)
    burst(queue)
    assert [handle.status().state for handle in three] == [State.SUCCEEDED] * 2
    assert one.status().state is State.QUEUED
    for number in (1, 2):
        queue.store.succeed(lease(queue, number), running[number])
    burst(queue)
    assert one.result(1) == 3


def test_one_that_was_woken_and_cancelled_passes_it_on(queue: Queue) -> None:
    holds, _, _ = hold(queue, **SLOT)
    first, second = (queue.enqueue(PyTask("tasks:two", (1,), **SLOT)) for _ in range(2))
    burst(queue)
    queue.store.conclude(lease(queue, 0), holds, state="succeeded", result=b"\x90", keep=1000)
    assert first.cancel() is State.QUEUED
    burst(queue)
    assert second.result(1) == 3


# Cancel


@pytest.mark.parametrize("keys", KEYS)
def test_one_that_waits_for_a_key_can_be_cancelled(queue: Queue, keys: dict[str, Any]) -> None:
    handle = stuck(queue, keys)
    assert handle.cancel() is State.QUEUED
    with pytest.raises(TaskCancelled):
        handle.result(1)
    assert not waiting_keys(queue)
    assert 0 < queue.store.call("PTTL", queue.keys.task(handle.id or "")) <= 1000 * ENDED_FOR


def test_a_cancelled_task_that_still_waits_is_remembered_as_long_as_its_state(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", (), result_ttl=60))
    client.pexpire(queue.keys.task(handle.id or ""), 30_000)
    handle.cancel()
    assert abs(client.pttl(queue.keys.task(handle.id or "")) - 1000 * TRACKED_FOR) < 60_000


@pytest.mark.parametrize("state", ["cancelled", "expired", "failed", "succeeded"])
def test_who_waits_looks_at_the_state(queue: Queue, client: redis.Redis, state: str) -> None:
    """The result has run out before the state, as older versions let it."""
    handle = queue.enqueue(PyTask("tasks:noop", (), result_ttl=60))
    client.hset(queue.keys.task(handle.id or ""), mapping={"state": state, "error": "ValueError: no"})
    words = {"cancelled": "TaskCancelled", "expired": "TaskExpired", "failed": "TaskFailed", "succeeded": "NoResult"}
    with pytest.raises(ResultError) as caught:
        handle.result(20)
    assert type(caught.value).__name__ == words[state]
    client.delete(queue.keys.task(handle.id or ""))
    with pytest.raises(UnknownTask):
        handle.result(1)


@pytest.mark.parametrize("mode", ["while_running", "until_done"])
def test_a_cancel_between_two_attempts_frees_the_key(queue: Queue, mode: str) -> None:
    task: dict[str, Any] = {"unique": "k", "unique_mode": mode, "retry": 3, "backoff": Constant(600, jitter=False)}
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), **task))
    burst(queue)
    assert handle.status().state is State.RETRYING
    assert bool(queue.store.call("EXISTS", queue.keys.unique("k"))) == (mode == "until_done")
    handle.cancel()
    assert not queue.store.call("EXISTS", queue.keys.unique("k"))


# Letters


def test_a_letter_that_is_retried_late_has_a_state_and_its_key(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), unique="k", result_ttl=60))
    enqueued = handle.status().enqueued
    burst(queue)
    client.delete(queue.keys.task(handle.id or ""))
    assert retry(queue, next(search(queue)))
    status = handle.status()
    assert status.state is State.QUEUED
    assert abs((status.enqueued or 0) - (enqueued or 0)) < 5
    with pytest.raises(Duplicate):
        queue.enqueue(PyTask("tasks:noop", (), unique="k"))
    handle.cancel()
    queue.enqueue(PyTask("tasks:noop", (), unique="k"))


def test_a_long_pause_has_a_state_as_long(queue: Queue) -> None:
    holds, data, handle = hold(queue, track=True)
    queue.store.postpone(lease(queue, 0), data, holds, 10 * 86_400_000, "no")
    left = queue.store.call("PTTL", queue.keys.task(handle.id or ""))
    assert abs(left - 10 * 86_400_000 - 1000 * TRACKED_FOR) < 60_000
    assert handle.cancel() is State.RETRYING
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 0


# Deferred


def deferred(queue: Queue, number: int, limit: float = 600) -> tuple[int, float]:
    make_due(queue)
    queue.store.due([queue.keys])
    (data,) = queue.store.take([lease(queue, number)], "t", 60, waiting=True).tasks
    done = queue.store.defer(lease(queue, number), holds_in(headers_of(data)), limit=limit, cause="no such function")
    return done.answer, done.pause


def passes(client: redis.Redis, queue: Queue, milliseconds: int) -> None:
    """As if the notes were older."""
    notes: dict[bytes, bytes] = client.hgetall(queue.keys.deferred)  # type: ignore[assignment]
    for sha1, note in notes.items():
        first, last, count = note.decode().split(":")
        client.hset(queue.keys.deferred, sha1, f"{int(first) - milliseconds}:{int(last) - milliseconds}:{count}")


def test_what_cannot_run_yet_waits_longer_each_time_and_not_for_ever(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", (), track=True))
    pauses = []
    for number in range(9):
        answer, pause = deferred(queue, number)
        assert answer == 1
        pauses.append(pause)
        passes(client, queue, round(pause * 1000))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    status = handle.status()
    assert (status.state, status.waits, status.attempt) == (State.SCHEDULED, "no such function", None)
    assert 86_000 < client.ttl(queue.keys.deferred) <= 86_400
    passes(client, queue, 400_000)
    assert deferred(queue, 9)[0] == 2
    assert client.hlen(queue.keys.processing) == 1  # nothing has happened


def test_it_is_the_first_time_again_after_a_long_while(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("tasks:noop"))
    assert deferred(queue, 0) == (1, 1)
    passes(client, queue, 700_000)
    assert deferred(queue, 1, 600) == (1, 1)


def test_many_of_the_same_bytes_wait_as_one(queue: Queue) -> None:
    queue.enqueue_many(PyTask("tasks:noop") for _ in range(30))
    leases = [lease(queue, number) for number in range(30)]
    queue.store.take(leases, "t", 60)
    pauses = [queue.store.defer(each, HOLDS_NOTHING, limit=60, cause="x").pause for each in leases]
    assert set(pauses) == {1, 2}
    assert queue.store.defer(leases[0], HOLDS_NOTHING, limit=60, cause="x").answer == 0


def test_with_too_many_notes_the_pause_is_the_longest(queue: Queue, client: redis.Redis) -> None:
    pipe = client.pipeline()
    for first in range(0, 100_000, 10_000):
        pipe.hset(queue.keys.deferred, mapping={f"{number:040}": "1:1:1" for number in range(first, first + 10_000)})
    pipe.expire(queue.keys.deferred, 60)
    pipe.execute()
    queue.enqueue(PyTask("tasks:noop"))
    assert deferred(queue, 0) == (1, 60)
    assert client.hlen(queue.keys.deferred) == 100_000
    client.delete(queue.keys.deferred)  # to look through all these takes long


def test_a_retried_letter_has_all_its_time_again(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("tasks:noop"))
    deferred(queue, 0)
    passes(client, queue, 100_000)
    assert deferred(queue, 1, 100)[0] == 2
    queue.store.bury(lease(queue, 1), Reason.UNKNOWN_FUNCTION, "x", "y")
    assert retry_all(queue, Search()) == 1
    assert deferred(queue, 2, 100) == (1, 1)


# What was booked returns


@pytest.mark.parametrize("way", ["give back", "sweep", "defer", "wait"])
def test_tokens_return_of_what_has_not_begun(queue: Queue, client: redis.Redis, way: str) -> None:
    queue.limit(rate=0.001, burst=5)
    if way == "wait":
        hold(queue, 9, **SLOT)
    queue.enqueue_many(PyTask("tasks:noop", (number,), concurrency_key="s" if way == "wait" else None) for number in range(5))
    leases = [lease(queue, number) for number in range(5)]
    assert len(queue.store.take_limited(leases, "t", 60).tasks) == 5
    slot = Holds(slots="s", limit=1)
    for each in leases[2:]:
        if way == "give back":
            queue.store.give_back([each])
        elif way == "defer":
            queue.store.defer(each, HOLDS_NOTHING, limit=60, cause="x")
        elif way == "wait":
            assert queue.store.start(each, slot) == 4
        else:
            queue.store.call("DEL", each)
    if way == "sweep":
        queue.store.sweep(leases[2:], 3, "p", "s")
    assert 2.9 < float(client.hget(queue.keys.bucket, "tokens") or 0) < 3.1


def test_a_task_that_had_begun_has_used_its_token(queue: Queue, client: redis.Redis) -> None:
    queue.limit(rate=0.001, burst=5)
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(5))
    leases = [lease(queue, number) for number in range(5)]
    queue.store.take_limited(leases, "t", 60)
    assert queue.store.give_back(leases, None, 2) == 5
    assert 2.9 < float(client.hget(queue.keys.bucket, "tokens") or 0) < 3.1


def test_more_tokens_than_a_burst_are_never_there(queue: Queue) -> None:
    queue.limit(rate=0.001, burst=5)
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(40))
    leases = [lease(queue, number) for number in range(20)]
    queue.store.take(leases, "t", 60)  # before there was a rate
    queue.store.take_limited([lease(queue, 30)], "t", 60)
    queue.store.give_back(leases)
    assert len(queue.store.take_limited([lease(queue, number) for number in range(40, 60)], "t", 60).tasks) == 5


# Progress


def test_progress_makes_no_key_that_lives_for_ever(queue: Queue, client: redis.Redis) -> None:
    job = Job(queue, Call("m:f", (), {}, 0, {"id": "0" * 16}))
    job.progress(1, 2, "still here")
    assert not client.exists(queue.keys.task("0" * 16))


# Sweeps read the dead


def test_a_sweep_reads_only_the_dead_and_each_once(queue: Queue, client: redis.Redis) -> None:
    body = b"\x93\xa3m:f\x91\xda\xff\xff" + b"x" * 0xFFFF + b"\x80"
    leases = [lease(queue, number) for number in range(60)]
    client.hset(queue.keys.processing, mapping=dict.fromkeys(leases, body))
    for each in leases[::2]:
        client.set(each, "t", px=60_000)
    read: list[int] = []

    class Counting:
        def call(self, *command: Any) -> Any:
            reply = queue.store.call(*command)
            if command[0] == "HMGET":
                read.append(sum(len(each or b"") for each in reply))
            return reply

    assert sweep(queue.store.over(Counting())).recovered == 30
    assert sum(read) == 30 * len(body)
    assert max(read) <= (1 << 20) + len(body)


def test_lost_tasks_that_are_buried_are_told_in_the_same_step(queue: Queue) -> None:
    handles = [queue.enqueue(PyTask("tasks:noop", (number,), result_ttl=60, unique=f"u{number}")) for number in range(120)]
    leases = [lease(queue, number) for number in range(120)]
    queue.store.take(leases, "t", 60)
    queue.store.call("DEL", *leases)
    more = True
    while more:
        *_, more = queue.store.sweep(leases, 1, "p", "s")
    for handle in handles:
        with pytest.raises(TaskFailed, match=r"^lost: its worker died or lost its lease 1 times$"):
            handle.result(1)
        assert handle.status().state is State.FAILED
    assert not queue.store.call("KEYS", f"{queue.name}_unique_*")
    assert len(list(dead_letters(queue))) == 120


def test_a_key_whose_task_has_ended_is_found(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", (), unique="k"))
    owners = next(each for each in INVARIANTS if each.name == "unique-owners")
    assert not list(owners.look(Snapshot(queue)))
    client.hset(queue.keys.task(handle.id or ""), "state", "cancelled")
    (finding,) = owners.look(Snapshot(queue))
    assert finding.subject == queue.keys.unique("k")
    assert "cancelled" in finding.says
    client.delete(queue.keys.unique("k"))


def test_a_task_that_was_announced_before_it_was_added_begins_at_once(
    queue: Queue, client: redis.Redis, threaded: Start
) -> None:
    queue.dequeue_timeout = 30
    worker = Worker(queue, allow=["tasks:*"])
    threaded(worker)
    eventually(lambda: worker.state.rounds == 1)
    client.rpush(queue.keys.noti, "1")
    eventually(lambda: client.llen(queue.keys.noti) == 0)
    client.rpush(queue.name, PyTask("tasks:noop").serialize())
    eventually(lambda: worker.finished == 1)
    worker.stop()
