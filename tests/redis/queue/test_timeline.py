"""The timeline of a tracked task, which its state keeps."""

from typing import Any

import pytest

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.errors import NoResult, UnknownTask
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.queue.timeline import EVENTS, Happening
from delayed.queue.waiting import find, move
from delayed.task.decode import headers_of
from delayed.task.headers import holds_in
from delayed.task.task import PyTask
from tests.conftest import burst


def events(handle: Handle[Any]) -> list[str]:
    found = handle.timeline()
    assert {each.event for each in found} <= set(EVENTS)
    times = [each.time for each in found if each.time is not None]
    assert times == sorted(times)
    return [each.event for each in found]


def take(queue: Queue, number: int = 0) -> str:
    """Hold the first task under a lease and begin it, as a worker does."""
    lease = queue.keys.lease("t", number)
    (data,) = queue.store.take([lease], "t", 60, waiting=True).tasks
    assert queue.store.start(lease, holds_in(headers_of(data)), worker="host:1") == 1
    return lease


def test_what_ends_as_it_began_keeps_no_more_than_its_end(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    burst(queue)
    assert events(handle) == ["enqueued", "started", "succeeded"]
    assert queue.store.call("HEXISTS", queue.keys.task(handle.id or ""), "log") == 0
    started, ended = handle.timeline()[1:]
    assert started.worker == ended.worker != ""
    assert (started.attempt, ended.attempt) == (1, 1)


def test_attempts_that_fail_are_told_one_by_one(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), retry=2, track=True))
    burst(queue)
    assert events(handle) == ["enqueued", "started", "retried", "started", "retried", "started", "failed"]
    rows = handle.timeline()
    assert [each.attempt for each in rows] == [None, 1, 1, 2, 2, 3, 3]
    assert "no" in rows[2].detail
    assert "no" in rows[-1].detail


def test_what_comes_back_from_the_dead_letters_keeps_its_past(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), track=True))
    burst(queue)
    (letter,) = dead_letters(queue)
    retry(queue, letter)
    assert events(handle) == ["enqueued", "started", "failed", "revived"]
    burst(queue)
    assert events(handle) == ["enqueued", "started", "failed", "revived", "started", "failed"]


def test_losses_and_what_goes_back(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", track=True))
    lease = take(queue)
    held = queue.store.call("HGET", queue.keys.processing, lease)
    queue.store.give_back([lease], {lease: held}, 1)
    assert events(handle) == ["enqueued", "started", "given_back"]
    lease = take(queue)
    queue.store.call("DEL", lease)
    queue.store.sweep([lease], 3, "p", "sweeper:1", "killed by SIGKILL")
    assert events(handle) == ["enqueued", "started", "given_back", "started", "lost"]
    lost = handle.timeline()[-1]
    assert (lost.times, lost.worker) == (1, "host:1")
    assert "SIGKILL" in lost.detail
    lease = take(queue)
    queue.store.call("DEL", lease)
    queue.store.sweep([lease], 1, "q", "sweeper:1", "killed by SIGKILL")
    assert events(handle)[-1] == "failed"


def test_cancels_say_who_asked(queue: Queue) -> None:
    waits = queue.enqueue(PyTask("tasks:noop", track=True, after=60))
    waits.cancel()
    assert events(waits) == ["enqueued", "cancel", "cancelled"]
    assert ":" in waits.timeline()[1].worker
    runs = queue.enqueue(PyTask("tasks:noop", track=True))
    take(queue)
    runs.cancel(hard=True)
    assert events(runs) == ["enqueued", "started", "cancel"]
    assert runs.timeline()[-1].detail == "hard"


def test_moves_and_waits_for_keys(queue: Queue) -> None:
    moved = queue.enqueue(PyTask("tasks:noop", track=True, after=60))
    waits = find(queue, moved.id or "")
    assert waits is not None
    move(queue, waits, 4e9)
    assert moved.timeline()[-1] == Happening(moved.timeline()[-1].time, "moved", due=4e9)
    first, second = (queue.enqueue(PyTask("tasks:noop", track=True, concurrency_key="k", concurrency=1)) for _ in range(2))
    take(queue)
    lease = queue.keys.lease("t", 1)
    (data,) = queue.store.take([lease], "t", 60, waiting=True).tasks
    assert queue.store.start(lease, holds_in(headers_of(data)), worker="host:1") == 4
    assert (events(first), events(second)) == (["enqueued", "started"], ["enqueued", "waits"])


def test_the_first_and_the_last_stay_and_the_middle_is_counted(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), retry=99, track=True))
    burst(queue)
    rows = handle.timeline()
    attempts = [each.attempt for each in rows if each.event == "retried"]
    assert attempts == [*range(1, 17), *range(84, 100)]
    (omitted,) = [each for each in rows if each.event == "omitted"]
    assert omitted.times == 99 - 32
    assert [each.event for each in rows].count("started") == 33
    assert queue.store.call("HSTRLEN", queue.keys.task(handle.id or ""), "log") < 33 * 100


def test_what_another_program_has_written_ends_it(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", track=True))
    key = queue.keys.task(handle.id or "")
    for log in (b"\xc1", b"\x93\x01\x02", b"\x01", b"\x94\xa1x\xa1x\xa1x\x01"):
        queue.store.call("HSET", key, "log", log)
        assert events(handle) == ["enqueued"]
    lease = take(queue)
    held = queue.store.call("HGET", queue.keys.processing, lease)
    assert queue.store.give_back([lease], {lease: held}, 1) == 1


def test_of_nothing_there_is_none(queue: Queue) -> None:
    with pytest.raises(UnknownTask):
        Handle(queue, "0123456789abcdef").timeline()
    with pytest.raises(NoResult):
        queue.enqueue(PyTask("tasks:noop")).timeline()
