"""Rate keys: each task has an instant of its own in the schedule."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
import redis

from delayed.errors import InvalidTask
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.foreign import ForeignType
from delayed.redis.places import scored
from delayed.task.options import Options
from delayed.task.task import PyTask
from tests.conftest import burst


def dues(queue: Queue) -> list[float]:
    return [score for _, score in scored(queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1, "WITHSCORES"))]


def limited(number: int, **options: Any) -> PyTask:
    return PyTask("tasks:two", (number,), rate_key="customer-7", rate=2, **options)


def test_each_has_the_next_free_instant_in_the_order_of_arrival(queue: Queue) -> None:
    for number in range(5):
        queue.enqueue(limited(number))
    assert queue.len() == 1  # the first may begin at once
    times = dues(queue)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == [500, 500, 500]
    queue.enqueue(PyTask("tasks:two", (9,), rate_key="customer-8", rate=2))
    assert queue.len() == 2  # another key's tasks do not wait for this one's
    burst(queue)


def test_what_shall_begin_later_reserves_an_instant_then(queue: Queue) -> None:
    queue.enqueue(limited(1, after=60))
    queue.enqueue(limited(2, after=60))
    first, second = dues(queue)
    assert second - first == 500
    ahead = first - queue.ask_time() * 1000
    assert 0 < ahead < 60_001  # an instant is a whole number of milliseconds


async def test_both_clients_share_the_instants(queue: Queue, redis_url: str) -> None:
    async with AsyncQueue(queue.name, redis_url) as other:
        for number in range(3):
            await asyncio.to_thread(queue.enqueue, limited(number))
            await other.enqueue(limited(number))
        await other.enqueue_many([limited(7)])
    assert queue.enqueue_many([limited(8)]) == 1
    times = dues(queue)
    assert len(times) == 7
    assert max(times) - min(times) == 3000


def test_the_key_goes_when_it_is_not_needed_any_more(queue: Queue) -> None:
    queue.enqueue(limited(1))
    assert 0 < queue.store.call("PTTL", queue.keys.pace("customer-7")) <= 1501


@pytest.mark.parametrize("value", [b"\xff", b"1e300", b"nan", b"-5", b"99999999999999999999"])
def test_what_another_program_wrote_is_no_instant(queue: Queue, value: bytes) -> None:
    queue.store.call("SET", queue.keys.pace("customer-7"), value, "PX", 60_000)
    queue.enqueue(limited(1))
    assert queue.len() == 1


@pytest.mark.breaks_invariants("a key has another type")
def test_a_foreign_type_is_said_and_nothing_is_enqueued(queue: Queue, client: redis.Redis) -> None:
    client.rpush(queue.keys.pace("customer-7"), "x")
    with pytest.raises(ForeignType, match="pace"):
        queue.enqueue(limited(1))
    assert queue.len() == 0
    client.delete(queue.keys.pace("customer-7"))


@pytest.mark.parametrize(
    "options", [{"rate": 5}, {"rate_key": "k"}, {"rate_key": "k", "rate": 0}, {"rate_key": "", "rate": 1}]
)
def test_what_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match="rate"):
        PyTask("m:f", **options)
    assert Options().rate is None
