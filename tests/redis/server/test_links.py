"""The server's connections to Redis: how many there are does not depend on the names that clients choose."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from delayed.errors import UnknownTask
from delayed.queue.queue import Queue
from delayed.server.consumer import Consumer
from delayed.server.links import Links
from delayed.server.look import result_of
from delayed.task.task import PyTask
from tests.support.clients import tracking
from tests.support.waiting import eventually

LONG = 60.0  # seconds: what does not come within them never does


@pytest.fixture
async def links(redis_url: str) -> AsyncIterator[Links]:
    made = Links(redis_url)
    yield made
    await made.aclose()


async def look_in_vain(links: Links, queue: str) -> None:
    with pytest.raises(UnknownTask):
        await result_of(links[queue], "nobody", 0.01, asyncio.Event())


async def test_waits_for_results_of_all_queues_share_a_connection(
    links: Links, queue: Queue, name: str, client: redis.Redis
) -> None:
    before = tracking(client)  # those of other tests may end meanwhile
    for number in range(10):
        await look_in_vain(links, f"{name}_{number}")
    assert len(tracking(client) - before) == 1
    names, consumer = [name, f"{name}_0", f"{name}_1"], Consumer(links)
    handles = [Queue(each, client).enqueue(PyTask("shop:pay", track=True, result_ttl=60)) for each in names]
    waiting = [
        asyncio.create_task(result_of(links[each], handle.id or "", LONG, asyncio.Event()))
        for each, handle in zip(names, handles, strict=True)
    ]
    for each in names:
        (lease,) = await consumer.take(each)
        await consumer.succeed(lease.token, each)
    assert [found.body["result"] for found in await asyncio.gather(*waiting)] == names
    assert len(tracking(client) - before) == 1
    await consumer.close()


async def test_where_each_slot_needs_its_own_those_that_nobody_uses_are_closed(
    links: Links, name: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.server.links.place_of", lambda _, key: hash(key))  # as if it were a cluster
    monkeypatch.setattr("delayed.server.links._WAITERS", 2)
    before = tracking(client)
    handle = Queue(name, client).enqueue(PyTask("shop:pay", track=True, result_ttl=60))
    waiting = asyncio.create_task(result_of(links[name], handle.id or "", LONG, asyncio.Event()))
    await asyncio.to_thread(eventually, lambda: tracking(client) - before)
    for number in range(10):
        await look_in_vain(links, f"{name}_{number}")
    await asyncio.to_thread(eventually, lambda: len(tracking(client) - before) == 2)
    consumer = Consumer(links)
    (lease,) = await consumer.take(name)
    await consumer.succeed(lease.token, 1)
    assert (await waiting).body["result"] == 1
    await consumer.close()
