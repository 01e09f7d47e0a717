"""Groups of tasks take turns."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from delayed.backoff import Constant
from delayed.base.ids import digest
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweeper import Sweeper
from delayed.task.decode import decode
from delayed.task.headers import Holds
from delayed.task.options import TRACKED_FOR
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.serial import SerialLoop
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.redis.test_costs import monitored

MOST = 256  # two batches of a worker


def task(group: str, number: int, **options: Any) -> PyTask:
    return PyTask("tasks:noop", (group, number), group=group, **options)


def flood(queue: Queue, group: str, count: int) -> None:
    """Many tasks in a group's list, as if they had been enqueued one after the other."""
    queue.enqueue(task(group, 0))
    for start in range(1, count, 5000):
        chunk = [task(group, number).serialize() for number in range(start, min(start + 5000, count))]
        queue.store.call("RPUSH", queue.keys.group(digest(group)), *chunk)
    queue.store.call("LREM", queue.keys.groups, 0, digest(group))
    queue.store.call("RPUSH", queue.keys.groups, digest(group))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The arguments of the tasks that workers of this process ran, in order."""
    found: list[list[Any]] = []
    run_one: Callable[..., bool] = SerialLoop._run_one

    def noting(loop: SerialLoop, lease: Any, data: bytes) -> bool:
        found.append(list(decode(data).args))
        return run_one(loop, lease, data)

    monkeypatch.setattr(SerialLoop, "_run_one", noting)
    return found


def test_one_task_waits_for_few_of_a_million(queue: Queue, ran: list[list[Any]]) -> None:
    """A hundred thousand, in fact: what counts is that it is far more than the bound."""
    flood(queue, "many", 100_000)
    queue.enqueue(task("few", 0))
    queue.enqueue(PyTask("tasks:noop", ("plain", 0)))
    worker = Worker(queue, allow=["tasks:*"], max_tasks=600)
    worker.run()
    assert [args[0] for args in ran].index("few") <= MOST + 1
    assert [args[0] for args in ran].index("plain") <= MOST + 1
    numbers = [number for group, number in ran if group == "many"]
    assert numbers == list(range(len(numbers)))


def test_many_groups_wait_for_one_of_each_other(queue: Queue, ran: list[list[Any]]) -> None:
    flood(queue, "many", 2000)
    for number in range(3):
        for group in range(50):
            queue.enqueue(task(f"g{group}", number))
    burst(queue)
    assert len(ran) == 2150
    firsts = [position for position, (group, number) in enumerate(ran) if group != "many" and number == 0]
    assert len(firsts) == 50
    assert max(firsts) <= MOST + 50
    for group in {args[0] for args in ran}:
        numbers = [number for each, number in ran if each == group]
        assert numbers == sorted(numbers)


def test_with_slow_tasks_little_is_ready(queue: Queue) -> None:
    """A worker whose batches are of one task has two ready."""
    flood(queue, "many", 100)
    queue.store.take([queue.keys.lease("t", number) for number in range(16)], "t", 60)
    queue.enqueue(task("few", 0))
    assert queue.store.feed(2)
    assert queue.len() == 2
    assert decode(queue.store.call("LINDEX", queue.name, 1)).args[0] == "few"


def test_an_enqueue_costs_two_commands_at_most(queue: Queue, client: redis.Redis, name: str) -> None:
    tasks = [task(f"g{number % 7}", number) for number in range(400)]
    queue.enqueue(tasks[0])
    queue.enqueue(tasks[1])
    with monitored(client, name) as sent:
        for each in tasks[2:]:
            queue.enqueue(each)
    assert len(sent) <= 398 + 30, len(sent)  # a second one only as long as the queue is short, and for the first of a group
    assert queue.len() == 16
    assert sum(queue.store.call("LLEN", queue.keys.group(each)) for each in queue.store.grouped(100)) == 384


def test_all_come_at_last(queue: Queue, ran: list[list[Any]]) -> None:
    handle = queue.enqueue(task("a", 0, result_ttl=60))
    queue.enqueue_many([PyTask("tasks:noop", ("plain", 0)), *(task("a", number) for number in range(1, 40))])
    burst(queue)
    assert len(ran) == 41
    assert handle.result(5) is None
    assert not queue.store.call("KEYS", f"{queue.name}_group*")


def test_a_retry_goes_back_to_its_group(queue: Queue, ran: list[list[Any]]) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), retry=1, group="a"))
    for number in range(300):
        queue.enqueue(task("a", number))
    burst(queue)
    assert [position for position, args in enumerate(ran) if args == ["no"]] == [0, 301]


def test_an_idle_worker_learns_of_groups_by_its_beat(queue: Queue, threaded: Callable[[Worker], Any]) -> None:
    """Its producer died between the two commands."""
    worker = Worker(Queue(queue.name, queue.conn, dequeue_timeout=0.05), 0.05, allow=["tasks:*"])
    threaded(worker)
    eventually(lambda: worker.state.rounds > 1)
    queue.store.submit(*queue._submission(task("a", 0)))  # type: ignore[misc]
    eventually(lambda: worker.finished == 1)


def test_a_sweeper_feeds_the_queue(queue: Queue) -> None:
    queue.store.submit(*queue._submission(task("a", 0)))  # type: ignore[misc]
    assert queue.len() == 0
    sweeper = Sweeper([queue], 60)
    move = sweeper._move_due
    sweeper._move_due = lambda: (sweeper.stop(), move())[1]  # type: ignore[method-assign,func-returns-value]
    sweeper.run()
    assert queue.len() == 1


async def test_async_producers_do_the_same(queue: Queue, server: EmbeddedRedis, ran: list[list[Any]]) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        producer = AsyncQueue(queue.name, conn)
        for number in range(20):
            await producer.enqueue(task("a", number))
    assert queue.len() == 16
    burst(queue)
    assert ran == [["a", number] for number in range(20)]


def make_due(queue: Queue) -> None:
    """All that is in the schedule, in its order."""
    for place, member in enumerate(queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1)):
        queue.store.call("ZADD", queue.keys.scheduled, place + 1, member)


def test_what_comes_from_the_schedule_goes_to_its_group(queue: Queue, ran: list[list[Any]]) -> None:
    """A tenant's many retries delay nobody else's task."""
    for number in range(1000):
        queue.enqueue(task("many", number, after=60 + number))
    queue.enqueue(PyTask("tasks:noop", ("plain", 0), after=5000))
    make_due(queue)
    while queue.store.call("ZCARD", queue.keys.scheduled):
        assert queue.store.due([queue.keys]).first == 0
    assert queue.len() == 16 + 1
    queue.enqueue(task("few", 0))
    burst(queue)
    assert len(ran) == 1002
    assert [args[0] for args in ran].index("few") <= 16 + 1 + MOST
    assert [number for group, number in ran if group == "many"] == list(range(1000))
    assert not queue.store.call("KEYS", f"{queue.name}_group*")


def test_a_worker_alone_moves_them(queue: Queue, ran: list[list[Any]]) -> None:
    other = Queue(f"{queue.name}2", queue.conn, dequeue_timeout=0.05)
    for each in (queue, other):
        for number in range(120):
            each.enqueue(task("ab"[number % 2], number, after=60 + number))
        make_due(each)
    worker = Worker([other, queue], allow=["tasks:*"], burst=True)
    worker.run()
    assert worker.finished == len(ran) == 240
    assert queue.len() == other.len() == queue.store.call("ZCARD", queue.keys.scheduled) == 0


def test_retries_after_a_pause_too(queue: Queue) -> None:
    queue.enqueue_many(
        PyTask("tasks:fail", (str(number),), retry=1, backoff=Constant(60, jitter=False), group="a") for number in range(20)
    )
    queue.enqueue_many(PyTask("tasks:fail", ("plain",), retry=1, backoff=Constant(60, jitter=False)) for _ in range(2))
    burst(queue)
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 22
    make_due(queue)
    assert queue.store.due([queue.keys]).moved == 22
    assert queue.len() + queue.store.call("LLEN", queue.keys.group(digest("a"))) == 22
    assert queue.len() == 2 + 16 - 2


def test_one_that_has_to_wait_for_a_key_remembers_its_group(queue: Queue) -> None:
    queue.enqueue(task("a", 0, concurrency_key="k"))
    queue.store.call("HSET", queue.keys.processing, queue.keys.lease("t", 0), "x")
    assert queue.store.start(queue.keys.lease("t", 0), Holds(slots="k", limit=1)) == 1
    burst(queue)
    line = queue.keys.waits(queue.keys.slots("k"))
    (member,) = queue.store.call("ZRANGE", line, 0, -1)
    assert member[16:57] == b":" + digest("a").encode()
    queue.store.succeed(queue.keys.lease("t", 0), Holds(slots="k", limit=1))
    assert burst(queue).finished == 1


@pytest.mark.parametrize("fails", [False, True])
def test_one_in_the_schedule_can_be_cancelled(queue: Queue, fails: bool) -> None:
    if fails:
        handle = queue.enqueue(
            PyTask("tasks:fail", ("no",), retry=1, backoff=Constant(60, jitter=False), group="a", track=True)
        )
        burst(queue)
    else:
        handle = queue.enqueue(task("a", 0, after=60, track=True))
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 1
    handle.cancel()
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 0


def test_tasks_without_a_group_cost_nothing_more(queue: Queue, client: redis.Redis, name: str) -> None:
    queue.enqueue(PyTask("tasks:noop", (), after=60))
    make_due(queue)
    with monitored(client, name) as sent:
        assert queue.store.due([queue.keys]).moved == 1
    assert sent.count("EVALSHA") == 1


def many(count: int) -> list[PyTask]:
    return [
        task(f"g{number % 5}", number) if number % 6 else PyTask("tasks:noop", ("plain", number)) for number in range(count)
    ]


def test_many_at_once_are_one_command_for_each_chunk_whatever_groups_it_has(
    queue: Queue, client: redis.Redis, name: str, ran: list[list[Any]]
) -> None:
    with monitored(client, name) as sent:
        assert queue.enqueue_many(many(3000)) == 3000
    assert sent.count("EVALSHA") == 3 + 1  # and `turn`, once, as all groups are new in the first chunk
    assert queue.len() <= 500 + 16
    burst(queue)
    assert len(ran) == 3000
    for group in {args[0] for args in ran}:
        numbers = [number for each, number in ran if each == group]
        assert numbers == sorted(numbers)


def test_if_the_id_of_one_is_known_none_of_any_group_goes_in(queue: Queue, client: redis.Redis) -> None:
    known = queue.enqueue(task("a", 0, track=True)).id
    assert known is not None
    before = {key: client.dump(key) for key in client.scan_iter()}
    with pytest.raises(redis.ResponseError, match="is known in"):
        queue.store.submit_many({"a": [b"1"], "b": [b"2"], None: [b"3"]}, ["new_id_of_a_task", known, "another_id_of_one"])
    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_tracked_tasks_of_many_groups_each_have_a_state_that_ends(queue: Queue, client: redis.Redis) -> None:
    handles = queue.enqueue_all(task(f"g{number % 3}", number, track=True) for number in range(9))
    assert all(handle.status().state is State.QUEUED for handle in handles)
    assert all(0 < client.pttl(queue.keys.task(handle.id or "")) <= TRACKED_FOR * 1000 for handle in handles)


async def test_async_producers_of_many_do_the_same(queue: Queue, server: EmbeddedRedis, ran: list[list[Any]]) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        producer = AsyncQueue(queue.name, conn)
        assert await producer.enqueue_many([*many(100), task("g1", 100, track=True), *many(10)]) == 111
    assert queue.len() >= 17
    burst(queue)
    assert len(ran) == 111
