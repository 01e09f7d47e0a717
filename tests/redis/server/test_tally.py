"""Tasks that consumers end are in the statistics and in the history, as those of workers are."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from delayed.backoff import Constant
from delayed.errors import Reason
from delayed.ops.history import history
from delayed.ops.overview import look
from delayed.ops.statistics import sums, totals
from delayed.queue.history import HistoryEvent, keep
from delayed.queue.queue import Queue
from delayed.server.consumer import Bury, Consumer, Ending, Retry, Succeed
from delayed.server.links import Links
from delayed.server.numbers import NumberedTasks, Peer
from delayed.server.text.bodies import Wrapping
from delayed.task.task import PyTask
from tests.redis.server.test_consumer import lose
from tests.support.waiting import LONG_AGO


@pytest.fixture
async def links(redis_url: str) -> AsyncIterator[Links]:
    made = Links(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
async def consumer(links: Links) -> AsyncIterator[Consumer]:
    made = Consumer(links)
    yield made
    await made.close()


def events(queue: Queue) -> dict[str, HistoryEvent]:
    return {f"{each.outcome} {each.task}": each for each in history(queue).events}


async def test_endings_are_counted_by_their_functions(consumer: Consumer, queue: Queue, name: str) -> None:
    keep(queue, "all")
    queue.enqueue_many(
        [
            PyTask("shop:plain"),
            PyTask("shop:tracked", track=True),
            PyTask("shop:again", retry=2, backoff=Constant(60, jitter=False)),
            PyTask("shop:again_plain", retry=1),
            PyTask("shop:bad"),
            PyTask("shop:odd"),
        ]
    )
    leases = {lease.path: lease for lease in await consumer.take(name, max=10)}
    ends: dict[str, Ending] = {
        "shop:plain": Succeed(),
        "shop:tracked": Succeed(1),
        "shop:again": Retry("no money"),
        "shop:again_plain": Retry(),
        "shop:bad": Retry("no"),
        "shop:odd": Bury("who is that", Reason.UNKNOWN_FUNCTION),
    }
    await consumer.end_many([(leases[path].token, ending) for path, ending in ends.items()])
    await consumer.close()
    found = totals(queue)
    counted = {path: {word: count for word, count in each.outcomes.items() if count} for path, each in found.functions.items()}
    assert counted == {
        "shop:plain": {"succeeded": 1},
        "shop:tracked": {"succeeded": 1},
        "shop:again": {"retried": 1},
        "shop:again_plain": {"retried": 1},
        "shop:bad": {"failed": 1},
        "shop:odd": {"buried": 1},
    }
    assert found.all.run.tasks == 6
    assert found.all.wait.tasks >= 1  # the tracked one says since when it waited
    total = sums(found, look(queue))
    assert total.enqueued == 6
    told = events(queue)
    assert told.keys() == {
        "succeeded shop:plain", "succeeded shop:tracked", "retried shop:again", "retried shop:again_plain", "failed shop:bad",
        "buried shop:odd",
    }  # fmt: skip
    assert told["succeeded shop:tracked"].id == leases["shop:tracked"].id
    assert told["succeeded shop:tracked"].seconds is not None
    assert told["retried shop:again"].said.endswith("no money")
    assert told["buried shop:odd"].said == "who is that"


async def test_who_is_late_is_not_counted(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await consumer.take(name)
    lose(queue)
    assert await consumer.end_many([(lease.token, Succeed())]) == [None]
    await consumer.close()
    assert not totals(queue).functions


async def test_what_another_server_has_handed_out_ran_for_nobody_knows_how_long(
    consumer: Consumer, redis_url: str, queue: Queue, name: str
) -> None:
    keep(queue, "all")
    queue.enqueue(PyTask("shop:pay"))
    queue.enqueue(PyTask("shop:told", track=True))
    leases = await consumer.take(name, max=2)
    links = Links(redis_url)
    other = Consumer(links)
    assert await other.succeed_many((lease.token, None) for lease in leases) == ["succeeded"] * 2
    await other.close()
    await links.aclose()
    counted = totals(queue).all
    assert (counted.outcomes["succeeded"], counted.run.tasks) == (2, 0)
    assert [each.seconds for each in events(queue).values()] == [None, None]


async def test_of_queues_that_nobody_uses_nothing_is_kept_but_what_was_counted(
    consumer: Consumer, links: Links, client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.server.served._BEATS", 4)
    other, queues = Consumer(links), [Queue(f"{name}_{number}", client) for number in range(12)]
    for queue in queues:
        queue.enqueue(PyTask("shop:pay"))
    leases = [lease for queue in queues for lease in await consumer.take(queue.name)]
    assert await other.succeed_many((lease.token, None) for lease in leases[:6]) == ["succeeded"] * 6
    assert len(other._served._beats) == 6  # what was counted is not sent yet
    await asyncio.gather(*(beat.tally.close() for beat in other._served._beats.values()))
    assert await other.succeed_many((lease.token, None) for lease in leases[6:7]) == ["succeeded"]
    assert len(other._served._beats) == 4
    assert await other.succeed_many((lease.token, None) for lease in leases[7:]) == ["succeeded"] * 5
    await other.close()
    assert [totals(queue).all.outcomes["succeeded"] for queue in queues] == [1] * 12


async def test_what_ends_before_it_is_handed_out_is_counted(consumer: Consumer, queue: Queue, name: str) -> None:
    queue.enqueue(PyTask("shop:late", expires=LONG_AGO))
    handle = queue.enqueue(PyTask("shop:unwanted", track=True))
    handle.cancel()
    queue.call("RPUSH", queue.keys.queue, b"\xc1")
    queue.call("RPUSH", queue.keys.noti, b"1")
    assert not await consumer.take(name, max=10)
    await consumer.close()
    found = totals(queue).all.outcomes
    assert (found["expired"], found["buried"]) == (1, 1)
    assert {"expired shop:late"} <= events(queue).keys()


async def test_a_history_that_keeps_nothing_keeps_nothing(consumer: Consumer, queue: Queue, name: str) -> None:
    keep(queue, "off")
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = await consumer.take(name)
    await consumer.bury(lease.token)
    await consumer.close()
    assert not queue.call("EXISTS", queue.keys.history)
    assert totals(queue).all.outcomes["failed"] == 1


async def test_tasks_of_the_text_protocol_are_counted(links: Links, consumer: Consumer, queue: Queue, name: str) -> None:
    numbered, peer = NumberedTasks(links, consumer, 60), Peer("one", "127.0.0.1")
    await numbered.enqueue(name, [b"a", b"b"], Wrapping())
    first, second = await numbered.take(name, peer, 2)
    assert await numbered.acknowledge(name, peer, [(first.number, first.token)]) == [True]
    lose(queue)
    assert await numbered.acknowledge(name, peer, [(second.number, None)]) == [True]  # nobody else has it yet
    await consumer.close()
    assert totals(queue).all.outcomes["succeeded"] == 2
