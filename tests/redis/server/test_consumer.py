"""Consumers that hold tasks by tokens: what they say of a task has the effect that a worker's ending has."""

import asyncio
from collections.abc import AsyncIterator

import msgpack
import pytest
import redis

from delayed.backoff import Constant
from delayed.dead_letters.search import search as letters
from delayed.errors import ConfigurationError, LeaseLost, Reason, TaskCancelled, TaskFailed
from delayed.queue.queue import Queue
from delayed.server.consumer import Bury, Consumer, Ending, Release, Retry, Succeed, UnknownLease
from delayed.server.leases import token_of
from delayed.server.links import Links
from delayed.sweeper.sweep import sweep
from delayed.task.task import GoTask, PyTask
from delayed.workflow import chain
from tests.conftest import burst
from tests.redis.workflow import functions
from tests.support.clients import blocked
from tests.support.waiting import LONG_AGO, eventually

LONG = 60.0  # seconds: what does not come within them never does


@pytest.fixture
async def consumer(redis_url: str) -> AsyncIterator[Consumer]:
    links = Links(redis_url)
    made = Consumer(links)
    yield made
    await made.close()
    await links.aclose()


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Consumer]:
    """Another process, as far as Redis can tell."""
    links = Links(redis_url)
    made = Consumer(links)
    yield made
    await made.close()
    await links.aclose()


def lose(queue: Queue) -> None:
    """All leases run out, and somebody sweeps."""
    held = queue.call("HKEYS", queue.keys.processing)
    queue.call("UNLINK", *held)
    sweep(queue.store)


async def test_a_task_is_taken_and_done(consumer: Consumer, queue: Queue, name: str) -> None:
    handle = queue.enqueue(PyTask("shop:pay", (1, "two"), {"three": 3}, track=True, result_ttl=60))
    (lease,) = await consumer.take(name, max=10)
    assert (lease.queue, lease.path, lease.id, lease.attempt) == (name, "shop:pay", handle.id, 1)
    assert lease.task[1:3] == [[1, "two"], {"three": 3}]
    assert handle.status().state == "running"
    assert await consumer.succeed(lease.token, {"paid": True}) == "succeeded"
    assert handle.result(0) == {"paid": True}
    assert not await consumer.take(name)


async def test_plain_tasks_come_and_go_in_their_order(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue_many(PyTask("shop:pay", (number,)) for number in range(5))
    first = await consumer.take(name, max=2)
    rest = await consumer.take(name, max=100)
    assert [lease.task[1] for lease in first + rest] == [[number] for number in range(5)]
    assert await consumer.succeed_many((lease.token, None) for lease in first + rest) == ["succeeded"] * 5
    assert queue.len() == queue.call("HLEN", queue.keys.processing) == queue.call("LLEN", queue.keys.noti) == 0


async def test_any_process_answers_for_a_lease(consumer: Consumer, other: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await consumer.take(name)
    assert not (await other.extend(lease.token, 30)).cancelled
    assert await other.succeed(lease.token) == "succeeded"
    with pytest.raises(LeaseLost):
        await consumer.succeed(lease.token)


async def test_who_is_late_changes_nothing(consumer: Consumer, queue: Queue, name: str) -> None:
    handle = queue.enqueue(PyTask("shop:pay", track=True, result_ttl=60))
    (late,) = await consumer.take(name)
    lose(queue)
    (lease,) = await consumer.take(name)
    assert lease.token != late.token
    for act in (
        consumer.succeed(late.token, "wrong"),
        consumer.retry(late.token),
        consumer.bury(late.token),
        consumer.release(late.token),
        consumer.extend(late.token, 60),
        consumer.progress(late.token, 1),
    ):
        with pytest.raises(LeaseLost):
            await act
    assert not queue.call("EXISTS", queue.keys.lease(late.token[:32]))
    await consumer.succeed(lease.token, "right")
    assert handle.result(0) == "right"


async def test_a_lease_that_ran_out_may_still_be_ended_until_somebody_sweeps(
    consumer: Consumer, queue: Queue, name: str
) -> None:
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await consumer.take(name)
    queue.call("UNLINK", queue.keys.lease(lease.token[:32]))
    await consumer.extend(lease.token, 60)
    assert queue.call("PTTL", queue.keys.lease(lease.token[:32])) > 50_000
    sweep(queue.store)
    assert await consumer.succeed(lease.token) == "succeeded"


async def test_what_is_lost_too_often_is_buried(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay"))
    for _ in range(3):
        await consumer.take(name)
        lose(queue)
    assert not await consumer.take(name)
    assert [letter.reason for letter in letters(queue)] == [Reason.LOST]


async def test_a_failed_attempt_is_repeated_as_the_task_says(consumer: Consumer, queue: Queue, name: str) -> None:
    handle = queue.enqueue(PyTask("shop:pay", retry=1, backoff=Constant(500, jitter=False), track=True, result_ttl=60))
    (lease,) = await consumer.take(name)
    assert await consumer.retry(lease.token, error="no money", kind="shop.NoMoney") == "retrying"
    assert handle.status().error == "NoMoney: no money"
    assert (handle.status().due or 0) - queue.ask_time() > 400
    assert queue.call("ZCARD", queue.keys.scheduled) == 1
    queue.call("ZADD", queue.keys.scheduled, "XX", 1, queue.call("ZRANGE", queue.keys.scheduled, 0, 0)[0])
    (lease,) = await consumer.take(name, wait=LONG)
    assert lease.attempt == 2
    assert await consumer.retry(lease.token, error="still none", kind="shop.NoMoney", detail="line 1") == "failed"
    with pytest.raises(TaskFailed) as failed:
        handle.result(0)
    assert (failed.value.kind, failed.value.message) == ("shop.NoMoney", "still none")
    assert [(letter.reason, letter.detail) for letter in letters(queue)] == [(Reason.FAILED, "line 1")]


async def test_errors_that_the_task_gives_up_on(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay", retry=5, give_up_on=["shop.NoMoney"]))
    (lease,) = await consumer.take(name)
    assert await consumer.retry(lease.token, kind="shop.NoMoney") == "failed"


@pytest.mark.parametrize("task", [PyTask("shop:pay", (1,), {"a": 1}, retry=2), GoTask("shop.Pay", (1,), retry=2)])
async def test_plain_tasks_and_go_tasks_are_repeated(
    consumer: Consumer, queue: Queue, name: str, task: PyTask | GoTask
) -> None:
    queue.enqueue(task)
    (lease,) = await consumer.take(name)
    first = lease.task
    assert await consumer.retry(lease.token, error="once") == "retrying"
    (lease,) = await consumer.take(name)
    assert lease.task[:2] == first[:2]
    assert await consumer.retry(lease.token, delay=0, error="twice") == "retrying"
    (lease,) = await consumer.take(name, wait=LONG)
    assert lease.task[:2] == first[:2]
    assert await consumer.retry(lease.token, error="thrice") == "failed"


async def test_a_pause_of_its_own_need_not_count(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay"))  # without a retry
    (lease,) = await consumer.take(name)
    assert await consumer.end(lease.token, Retry("busy", delay=0, counted=False)) == "retrying"
    (lease,) = await consumer.take(name, wait=LONG)
    assert await consumer.end(lease.token, Retry("busy", delay=1000, counted=False)) == "retrying"
    assert queue.call("ZCARD", queue.keys.scheduled) == 1


async def test_buried_and_released(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue_many([PyTask("shop:pay", (1,)), PyTask("shop:pay", (2,))])
    one, two = await consumer.take(name, max=2)
    ends: list[tuple[str, Ending]] = [
        (one.token, Bury("does not fit", Reason.BAD_ARGUMENTS)),
        (two.token, Release()),
        (one.token, Succeed()),
    ]
    assert await consumer.end_many(ends) == ["failed", "queued", None]
    assert [(letter.reason, letter.detail) for letter in letters(queue)] == [("bad_arguments", "does not fit")]
    (again,) = await consumer.take(name)
    assert again.task[1] == [2]
    await consumer.give_back([again])
    assert queue.len() == queue.call("LLEN", queue.keys.noti) == 1


async def test_progress_and_cancel(consumer: Consumer, queue: Queue, name: str) -> None:
    handle = queue.enqueue(PyTask("shop:pay", track=True))
    (lease,) = await consumer.take(name)
    assert not await consumer.progress(lease.token, 3, 10, "three of ten")
    assert (handle.status().done, handle.status().total, handle.status().note) == (3, 10, "three of ten")
    handle.cancel()
    assert (await consumer.extend(lease.token, 60)).cancelled
    await consumer.succeed(lease.token)


async def test_what_was_cancelled_or_has_expired_is_not_handed_out(consumer: Consumer, queue: Queue, name: str) -> None:
    cancelled = queue.enqueue(PyTask("shop:pay", track=True))
    queue.enqueue(PyTask("shop:pay", expires=LONG_AGO, track=True))
    strange = msgpack.packb(["shop:pay", [], {}, 0, {"!new": 1}])
    queue.store.enqueue([b"\xc1", strange])
    cancelled.cancel()
    assert not await consumer.take(name, max=10)
    with pytest.raises(TaskCancelled):
        cancelled.result(0)
    assert sorted(letter.reason for letter in letters(queue)) == ["expired", "undecodable"]
    assert queue.call("ZCARD", queue.keys.scheduled) == 1  # it waits for a worker that knows the header


async def test_keys_of_tasks_are_kept(consumer: Consumer, queue: Queue, name: str) -> None:
    for _ in range(3):
        queue.enqueue(PyTask("shop:pay", concurrency_key="till", concurrency=1))
    (lease,) = await consumer.take(name, max=10)
    assert not await consumer.take(name, max=10)
    await consumer.succeed(lease.token)
    (lease,) = await consumer.take(name, max=10)
    await consumer.retry(lease.token)
    (lease,) = await consumer.take(name, max=10)
    await consumer.release(lease.token)
    (lease,) = await consumer.take(name, max=10)
    await consumer.succeed(lease.token)
    assert not await consumer.take(name)


async def test_members_of_workflows(consumer: Consumer, queue: Queue, name: str) -> None:
    run = chain(GoTask("shop.Order", 5), PyTask(functions.see, ("end",))).submit(queue)
    (lease,) = await consumer.take(name)
    assert await consumer.succeed(lease.token, [1, 2]) == "succeeded"
    (lease,) = await consumer.take(name, wait=LONG)
    assert lease.path == "tests.redis.workflow.functions:see"
    await consumer.release(lease.token)
    burst(queue)
    assert run.result(5) == "end"
    assert functions.SEEN.pop() == [1, 2]


async def test_who_waits_is_woken_in_turn(consumer: Consumer, queue: Queue, name: str) -> None:
    waiting = []
    for number in range(20):
        waiting.append(asyncio.create_task(consumer.take(name, wait=LONG)))
        while len(consumer._served.line(name)._takers) <= number:
            await asyncio.sleep(0.001)  # until it stands in the row
    for number in range(20):
        queue.enqueue(PyTask("shop:pay", (number,)))
    taken = await asyncio.gather(*waiting)
    assert [lease.task[1][0] for (lease,) in taken] == list(range(20))  # first come, first served
    await consumer.give_back(lease for (lease,) in taken)


async def test_one_connection_waits_for_all(consumer: Consumer, queue: Queue, name: str, client: redis.Redis) -> None:
    before = blocked(client)  # those of other tests may end meanwhile
    waiting = [asyncio.create_task(consumer.take(name, wait=LONG)) for _ in range(1000)]
    async with asyncio.timeout(LONG):
        while not blocked(client) - before:
            await asyncio.sleep(0.01)
    assert len(blocked(client) - before) == 1
    queue.enqueue_many(PyTask("shop:pay", (number,)) for number in range(1000))
    taken = await asyncio.gather(*waiting)
    assert sorted(lease.task[1][0] for (lease,) in taken) == list(range(1000))
    await consumer.succeed_many((lease.token, None) for (lease,) in taken)


async def test_queues_for_which_there_is_no_connection_are_looked_at(
    redis_url: str, queue: Queue, name: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.server.served._WAITING", 1)
    monkeypatch.setattr("delayed.server.line._POLL", 0.05)
    names = [f"{name}_{each}" for each in "abc"]
    before, links = blocked(client), Links(redis_url)
    consumer = Consumer(links)

    async def one_waits() -> None:
        async with asyncio.timeout(LONG):
            while not blocked(client) - before:
                await asyncio.sleep(0.01)

    try:
        waiting = [asyncio.create_task(consumer.take(each, wait=LONG)) for each in names]
        await one_waits()
        assert len(blocked(client) - before) == 1
        for each in names:
            Queue(each, client).enqueue(PyTask("shop:pay", (each,)))
        found = await asyncio.gather(*waiting)
        assert [lease.task[1] for (lease,) in found] == [[each] for each in names]
        await consumer.succeed_many((lease.token, None) for (lease,) in found)
        before |= blocked(client)
        again = asyncio.create_task(consumer.take(names[1], wait=LONG))
        await one_waits()  # there is room again
        again.cancel()
    finally:
        await consumer.close()
        await links.aclose()


async def test_who_goes_loses_nothing(consumer: Consumer, queue: Queue, name: str) -> None:
    for number in range(50):
        waiting = asyncio.create_task(consumer.take(name, wait=LONG))
        await asyncio.sleep(0.001 * (number % 4))
        queue.enqueue(PyTask("shop:pay", (number,)))
        await asyncio.sleep(0.001 * (number % 5))
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            await consumer.give_back(waiting.result())
    await consumer.close()
    assert queue.len() == queue.call("LLEN", queue.keys.noti) == 50


async def test_nobody_waits_longer_than_asked(consumer: Consumer, queue: Queue, name: str) -> None:
    assert await consumer.take(name, wait=0.01) == []
    queue.enqueue(PyTask("shop:pay"))
    queue.call("DEL", queue.keys.noti)  # a notification that was lost
    (lease,) = await consumer.take(name, wait=LONG)
    await consumer.succeed(lease.token)


async def test_a_wait_ends_when_the_server_stops(consumer: Consumer, name: str) -> None:
    waiting = asyncio.create_task(consumer.take(name, wait=LONG))
    while not consumer._served.line(name)._takers:
        await asyncio.sleep(0.001)
    await consumer.close()
    assert await waiting == []


async def test_a_queue_is_not_forgotten_while_somebody_begins_to_wait(
    consumer: Consumer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.server.served._LINES", 4)
    names = [f"{name}_{each}" for each in range(12)]
    waiting = [asyncio.create_task(consumer.take(each, wait=LONG)) for each in names]
    await asyncio.sleep(0)  # each has begun, and none is in a row yet
    assert consumer._served._lines.keys() == set(names)
    await consumer.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), LONG) == [[]] * 12


@pytest.mark.slow
async def test_operators_are_obeyed(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.pause()
    queue.enqueue_many([PyTask("shop:pay")] * 5)
    assert not await consumer.take(name, wait=0.1)
    queue.resume()
    queue.limit(concurrency=2)
    one = await consumer.take(name, max=5, wait=LONG)
    two = await consumer.take(name, max=5, wait=LONG)
    assert len(one + two) == 2
    assert not await consumer.take(name, max=5, wait=0.1)
    await consumer.succeed(one[0].token)
    assert len(await consumer.take(name, max=5, wait=LONG)) == 1


async def test_groups_take_turns(consumer: Consumer, queue: Queue, name: str) -> None:
    for group in ("a", "b"):
        queue.enqueue_many(PyTask("shop:pay", (group,), group=group) for _ in range(30))
    found: list[str] = []
    while leases := await consumer.take(name, max=10, wait=0.2):
        found += [lease.task[1][0] for lease in leases]
        await consumer.succeed_many((lease.token, None) for lease in leases)
    assert found.count("a") == found.count("b") == 30


async def test_the_register_knows_it(consumer: Consumer, queue: Queue, name: str) -> None:
    await consumer.take(name)
    (about,) = queue.call("HVALS", queue.keys.workers)
    assert msgpack.unpackb(about)["language"] == "http"
    assert name in queue.store.served()
    await consumer.close()
    assert not queue.call("HLEN", queue.keys.workers)


async def test_what_is_no_token(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await consumer.take(name)
    for wrong in ("", "x", lease.token[:-1], lease.token + "=", "é" * 40, token_of("a" * 32, f"{name}_noti"), "a" * 5000):
        with pytest.raises(UnknownLease):
            await consumer.succeed(wrong)
    with pytest.raises(LeaseLost):
        await consumer.succeed(token_of("a" * 32, name))
    assert lease.token not in repr(lease)


@pytest.mark.parametrize(
    "numbers", [{"max": 0}, {"max": 1000}, {"wait": -1}, {"wait": 1e9}, {"ttl": 0}, {"ttl": float("nan")}]
)
async def test_numbers_out_of_bounds(consumer: Consumer, name: str, numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        await consumer.take(name, **numbers)  # type: ignore[arg-type]


async def test_an_outage_only_takes_longer(consumer: Consumer, queue: Queue, name: str, client: redis.Redis) -> None:
    before = blocked(client)
    waiting = asyncio.create_task(consumer.take(name, wait=LONG))
    await asyncio.to_thread(eventually, lambda: blocked(client) - before)
    client.client_kill_filter(_type="normal", skipme=True)
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await waiting
    await consumer.succeed(lease.token)
