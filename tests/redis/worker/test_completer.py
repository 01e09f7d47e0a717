"""Completer that Redis would refuse again and again: a worker must get past them, and no task may be lost."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from delayed.base.ids import digest, new_id
from delayed.dead_letters.letter import dead_letters
from delayed.errors import Reason, TaskCancelled, TaskFailed
from delayed.ops.info import inspect
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.foreign import ForeignType
from delayed.sweeper.sweep import sweep
from delayed.task import result as results
from delayed.task.result import State
from delayed.task.task import PyTask
from tests.conftest import burst

MEANWHILE: list[Callable[[], object]] = []  # what happens while `eventful` runs


def large(count: int) -> str:
    return "x" * count


def eventful(error: str = "") -> int:
    """Something happens meanwhile."""
    MEANWHILE.pop()() if MEANWHILE else None
    if error:
        raise ValueError(error)
    return 5


def foreign(client: redis.Redis, key: str) -> None:
    """Another program's data under the key."""
    client.delete(key)
    client.zadd(key, {"x": 1})
    client.expire(key, 60)  # or `fsck` would find it


@pytest.fixture(params=[{}, {"threads": 2}], ids=["alone", "several"])
def work(request: pytest.FixtureRequest, queue: Queue) -> Callable[[], int]:
    """Runs what waits, and returns how many tasks that were."""
    return lambda: burst(queue, **request.param).finished


def test_a_result_that_is_too_large_fails_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_RESULT_SIZE", 1000)
    handle = queue.enqueue(PyTask(large, (1000,), retry=3, result_ttl=60))
    fits = queue.enqueue(PyTask(large, (900,), result_ttl=60))
    assert burst(queue).finished == 2
    with pytest.raises(TaskFailed, match=r"it returned str of 1,\d\d\d bytes, and a result may have 1,000") as caught:
        handle.result(1)
    assert caught.value.kind == "delayed.errors.ResultTooLarge"
    assert [letter.reason for letter in dead_letters(queue)] == [Reason.FAILED]
    assert fits.result(1) == "x" * 900


def test_a_result_that_nobody_keeps_may_be_large(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_RESULT_SIZE", 1000)
    handle = queue.enqueue(PyTask(large, (10_000,), track=True))
    burst(queue)
    assert handle.status().state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"result_ttl": 60}, lambda queue, handle: queue.keys.task(handle.id)),
        ({"unique": "u", "unique_mode": "while_running"}, lambda queue, _: queue.keys.unique("u")),
        ({"concurrency_key": "c", "retry": 2}, lambda queue, _: queue.keys.slots("c")),
    ],
    ids=["state", "key at its beginning", "slots"],
)
def test_a_task_that_cannot_begin_is_buried_with_the_name_of_the_key(
    queue: Queue, client: redis.Redis, work: Callable[[], int], options: dict[str, Any], key: Any
) -> None:
    handle = queue.enqueue(PyTask(eventful, (), **options))
    name = key(queue, handle)
    foreign(client, name)
    other = queue.enqueue(PyTask(eventful, (), result_ttl=60))
    assert work() == 2
    (letter,) = dead_letters(queue)
    assert letter.reason == Reason.FOREIGN_KEY
    assert f"the key {name!r} of queue {queue.name!r} is a zset and not a" in letter.detail
    assert "rename it" in letter.detail
    assert inspect(queue).held == 0
    assert other.result(1) == 5
    assert client.zrange(name, 0, -1) == [b"x"]
    if handle.id is not None and name != queue.keys.task(handle.id):
        with pytest.raises(TaskFailed, match="foreign_key"):
            handle.result(1)


def test_a_key_that_it_has_had_since_its_enqueue_is_not_asked_at_its_beginning(
    queue: Queue, client: redis.Redis, work: Callable[[], int]
) -> None:
    handle = queue.enqueue(PyTask(eventful, (), unique="u", result_ttl=60))
    foreign(client, queue.keys.unique("u"))
    queue.enqueue(PyTask(eventful, (), result_ttl=60))  # they begin together
    assert work() == 2
    assert handle.result(1) == 5
    assert client.zrange(queue.keys.unique("u"), 0, -1) == [b"x"]
    assert inspect(queue).held == 0


@pytest.mark.parametrize("error", ["", "no"], ids=["success", "failure"])
@pytest.mark.parametrize("part", ["task", "unique"])
def test_what_becomes_foreign_meanwhile_is_left_alone(
    queue: Queue, client: redis.Redis, work: Callable[[], int], part: str, error: str
) -> None:
    handle = queue.enqueue(PyTask(eventful, (error,), result_ttl=60, unique="u"))
    name = queue.keys.unique("u") if part == "unique" else getattr(queue.keys, part)(handle.id)
    MEANWHILE.append(lambda: foreign(client, name))
    queue.enqueue(PyTask(eventful))
    assert work() == 2
    assert (inspect(queue).held, queue.len()) == (0, 0)
    assert [letter.reason for letter in dead_letters(queue)] == [Reason.FAILED] * bool(error)
    assert client.zrange(name, 0, -1) == [b"x"]
    if part == "task":
        with pytest.raises(ForeignType, match=f"the key '{name}' .* is a zset and not a hash"):
            handle.result(1)
    elif error:
        with pytest.raises(TaskFailed, match="no"):
            handle.result(1)
    else:
        assert handle.result(1) == 5
    if part != "task":
        assert handle.status().state is (State.FAILED if error else State.SUCCEEDED)


def test_a_retry_whose_state_became_foreign_is_not_lost(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask(eventful, ("no",), retry=1, track=True))
    name = queue.keys.task(handle.id or "")
    MEANWHILE.append(lambda: foreign(client, name))
    assert burst(queue).finished == 2
    assert [letter.reason for letter in dead_letters(queue)] == [Reason.FOREIGN_KEY]
    client.delete(name)
    (letter,) = dead_letters(queue)
    assert queue.store.dead_retry([letter.id]) == 1  # when it is mended, it can run
    assert burst(queue).finished == 1
    assert [letter.reason for letter in dead_letters(queue)] == [Reason.FAILED]


def test_slots_that_became_foreign_meanwhile(queue: Queue, client: redis.Redis, work: Callable[[], int]) -> None:
    queue.enqueue(PyTask(eventful, (), concurrency_key="c"))
    MEANWHILE.append(lambda: foreign(client, queue.keys.slots("c")))
    assert work() == 1
    assert inspect(queue).held == 0


@pytest.mark.parametrize("sooner", [True, False], ids=["before", "meanwhile"])
def test_a_retry_whose_group_is_foreign_goes_to_the_queue(queue: Queue, client: redis.Redis, sooner: bool) -> None:
    queue.enqueue(PyTask(eventful, ("no",), retry=1, group="g"))
    name = queue.keys.group(digest("g"))
    if sooner:
        foreign(client, name)
    else:
        MEANWHILE.append(lambda: foreign(client, name))
    worker = burst(queue)
    if worker.finished == 1:  # it was a moment too early for what is due
        worker = burst(queue)
    assert [letter.reason for letter in dead_letters(queue)] == [Reason.FAILED]
    assert not queue.store.call("ZCARD", queue.keys.scheduled)
    client.delete(name)


def test_a_foreign_group_stops_no_other(queue: Queue, client: redis.Redis) -> None:
    for group in "ab":
        queue.store.submit(*queue._submission(PyTask(eventful, (), group=group)))  # type: ignore[misc]
    foreign(client, queue.keys.group(digest("a")))
    with pytest.raises(ForeignType, match=r"_group_.* is a zset and not a list"):
        queue.enqueue(PyTask(eventful, (), group="a"))
    assert queue.store.feed(16)
    assert queue.len() == 1
    assert burst(queue).finished == 1
    client.delete(queue.keys.group(digest("a")))


def test_a_sweep_goes_on_if_it_cannot_tell_those_who_wait(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask(eventful, (), result_ttl=60))
    queue.store.take([queue.keys.lease("t", 0)], "t", 10, waiting=True)
    client.delete(queue.keys.lease("t", 0))
    client.delete(queue.keys.task(handle.id or ""))
    foreign(client, queue.keys.task(handle.id or ""))
    client.lpush(queue.keys.noti, "1")  # the sweep has to repair this
    assert sweep(queue.store, limit=1)[:3] == (0, 1, 1)


def test_a_producer_hears_of_a_foreign_key_of_its_task(queue: Queue, client: redis.Redis) -> None:
    identity = new_id()
    foreign(client, queue.keys.task(identity))
    with pytest.raises(ForeignType, match=f"the key '{queue.name}_task_.*' .* is a zset and not a hash") as caught:
        queue.enqueue(PyTask(eventful, (), track=True), id=identity)
    assert caught.value.narrow
    assert queue.len() == 0


async def test_an_async_producer_hears_the_same(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    foreign(client, queue.keys.unique("u"))
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        with pytest.raises(ForeignType, match=r"_unique_.* is a zset and not a string"):
            await AsyncQueue(queue.name, conn).enqueue(PyTask(eventful, (), unique="u"))
    assert queue.len() == 0


@pytest.mark.parametrize("part", ["scheduled", "unique"])
def test_to_cancel_is_refused_as_long_as_a_key_is_foreign(queue: Queue, client: redis.Redis, part: str) -> None:
    handle = queue.enqueue(PyTask(eventful, (), result_ttl=60, unique="u"))
    name = queue.keys.scheduled if part == "scheduled" else queue.keys.unique("u")
    client.delete(name)
    client.set(name, "x", ex=60) if part != "unique" else foreign(client, name)
    with pytest.raises(ForeignType, match=f"the key '{name}'"):
        handle.cancel()
    client.delete(name)
    assert handle.status().state is State.QUEUED
    assert handle.cancel() is State.QUEUED
    with pytest.raises(TaskCancelled):
        handle.result(1)


def test_recovery_does_not_depend_on_statistics(queue: Queue, client: redis.Redis) -> None:
    """Neither on what is no number, nor on what is no hash."""
    for number in range(3):
        client.hset(queue.keys.processing, queue.keys.lease("t", number), PyTask(eventful, (number,)).serialize())
    client.hset(queue.keys.stats, "recovered", "x")
    assert sweep(queue.store)[:2] == (3, 0)
    assert (queue.len(), client.hlen(queue.keys.processing)) == (3, 0)
    client.hset(queue.keys.stats, "recovered", "0")
