"""Waiting for results: how many can, what they hold meanwhile, and what a restart of Redis does to them."""

import asyncio
import logging
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from delayed.base.ids import new_id
from delayed.errors import NotDone, ResultError, TaskFailed, UnknownTask
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import AsyncHandle, Handle
from delayed.queue.queue import Queue
from delayed.queue.waiter import waiter_of
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.result import failure, success
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.support.processes import Fleet
from tests.support.proxy import Proxy
from tests.support.servers import open_redis


def tracked() -> PyTask:
    return PyTask("m:f", result_ttl=60)


def end(queue: Queue, handle: Handle[Any] | AsyncHandle[Any], result: bytes) -> None:
    """As a worker does."""
    queue.store.call("HSET", queue.keys.task(handle.id or ""), "result", result)


def connections(client: redis.Redis, name: str) -> int:
    return sum(each["name"] == name for each in client.client_list())


def counted(queue: Queue) -> int:
    """How many wait, all together."""
    return sum(map(len, waiter_of(queue.conn, queue.name)._waits._waiting.values()))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that keeps its data when it is stopped and started again."""
    server = open_redis(tmp_path / "redis", persistent=True, options={"appendfsync": "always"})
    with server:
        yield server


async def test_any_number_of_waits_takes_one_connection_and_no_thread(redis_url: str, name: str, client: redis.Redis) -> None:
    url = f"{redis_url}?client_name={name}"
    queue = Queue(name, url)
    async with AsyncQueue(name, url) as other:
        handles: list[Any] = [queue.enqueue(tracked()) for _ in range(1000)]
        handles += await asyncio.gather(*(other.enqueue(tracked()) for _ in range(1000)))
        threads, before = set(threading.enumerate()), connections(client, name)
        waits = [asyncio.ensure_future(handle.aresult(60)) for handle in handles]
        waiter = await other.waiter()
        while counted(queue) < 1000 or sum(map(len, waiter._waits._waiting.values())) < 1000:
            await asyncio.sleep(0.01)
        assert len(set(threading.enumerate()) - threads) <= 1  # those of other tests may end meanwhile
        assert connections(client, name) <= before + 2
        queue.enqueue(PyTask("m:f"))
        await other.enqueue(PyTask("m:f"))  # nobody stands in the way
        for number, handle in enumerate(handles):
            end(queue, handle, success(number, kept=True))
        assert await asyncio.gather(*waits) == list(range(2000))
    assert counted(queue) == 0


def test_many_threads_wait_for_many_results(redis_url: str, name: str, client: redis.Redis) -> None:
    queue = Queue(name, f"{redis_url}?max_connections=3")
    handles = [queue.enqueue(tracked()) for _ in range(100)]
    found: dict[int, int] = {}
    threads = [threading.Thread(target=lambda at=at: found.update({at: handles[at].result(60)})) for at in range(100)]
    for thread in threads:
        thread.start()
    eventually(lambda: counted(queue) == 100)
    queue.enqueue(PyTask("m:f"))
    for number, handle in enumerate(handles):
        end(queue, handle, success(number, kept=True))
    for thread in threads:
        thread.join(60)
    assert found == {number: number for number in range(100)}


async def test_a_wait_ends_with_its_await(queue: Queue, redis_url: str) -> None:
    async with AsyncQueue(queue.name, redis_url) as other:
        handles: list[Handle[Any] | AsyncHandle[Any]] = [queue.enqueue(tracked()), await other.enqueue(tracked())]
        for handle in handles:
            with pytest.raises(TimeoutError) as late:
                await asyncio.wait_for(handle.aresult(), 0.05)
            assert not isinstance(late.value, NotDone)
            with pytest.raises(NotDone, match=r"within 0\.05 s"):
                await handle.aresult(0.05)
        waiter = await other.waiter()
        assert waiter._task is None
        assert not waiter._waits
    assert counted(queue) == 0


def test_a_program_ends_though_a_wait_was_given_up(redis_url: str, name: str, fleet: Fleet) -> None:
    program = f"""
import asyncio
from delayed import PyTask, Queue

async def main():
    handle = Queue({name!r}, {redis_url!r}).enqueue(PyTask("m:f", result_ttl=60))
    try:
        await asyncio.wait_for(handle.aresult(), 0.1)
    except TimeoutError:
        print("gave up")

asyncio.run(main())
"""
    process = fleet.start(sys.executable, "-c", program)
    assert process.wait() == 0
    assert "gave up" in process.log.read_text()


@pytest.mark.parametrize("seconds", [0, 0.0001, 0.05])
async def test_even_the_shortest_wait_looks_once(queue: Queue, redis_url: str, seconds: float) -> None:
    async with AsyncQueue(queue.name, redis_url) as other:
        done = queue.enqueue(tracked())
        end(queue, done, success(7, kept=True))
        assert done.result(seconds) == await done.aresult(seconds) == await AsyncHandle(other, done.id).aresult(seconds) == 7
        unknown: list[Any] = [Handle(queue, new_id()), AsyncHandle(other, new_id())]
        for handle in unknown:
            with pytest.raises(UnknownTask):
                await handle.aresult(seconds)
        with pytest.raises(UnknownTask):
            unknown[0].result(seconds)


@pytest.mark.slow
async def test_every_answer_reaches_whoever_waits(queue: Queue, redis_url: str) -> None:
    async with AsyncQueue(queue.name, redis_url) as other:
        for through in (None, other):
            handles = [queue.enqueue(tracked()) for _ in range(4)]
            those: list[Any] = handles if through is None else [AsyncHandle(through, handle.id) for handle in handles]
            waits = [asyncio.ensure_future(each.aresult(30)) for each in those]
            await asyncio.sleep(0.05)
            end(queue, handles[0], failure("ValueError", "no", ""))
            end(queue, handles[1], b"\xc1")
            queue.store.call("SET", queue.keys.task(handles[2].id or ""), "another program's")
            queue.store.call("DEL", queue.keys.task(handles[3].id or ""))
            found = await asyncio.gather(*waits, return_exceptions=True)
            assert list(map(type, found)) == [TaskFailed, ResultError, redis.ResponseError, UnknownTask]
            queue.store.call("DEL", queue.keys.task(handles[2].id or ""))


@pytest.mark.parametrize("denied", ["-client", "-hello", "-hello -client"])
def test_who_may_not_track_looks_more_often(queue: Queue, server: EmbeddedRedis, client: redis.Redis, denied: str) -> None:
    user = f"u{queue.name}"
    client.execute_command("ACL", "SETUSER", user, "on", ">pw", "~*", "+@all", *denied.split())
    try:
        limited = Queue(queue.name, server.url.replace("unix://", f"unix://{user}:pw@"))
        handle = limited.enqueue(tracked())
        threading.Timer(0.3, end, (queue, handle, success(1, kept=True))).start()
        assert handle.result(20) == 1
    finally:
        client.execute_command("ACL", "DELUSER", user)


async def test_waits_go_on_over_a_restart(own_server: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue("q", own_server.url)
    async with AsyncQueue("q", own_server.url) as other:
        handles: list[Any] = [queue.enqueue(tracked()) for _ in range(2)]
        handles += [await other.enqueue(tracked())]
        waits = [asyncio.ensure_future(handle.aresult(60)) for handle in handles[1:]]
        waits.append(asyncio.ensure_future(asyncio.to_thread(handles[0].result)))
        while counted(queue) < 2:
            await asyncio.sleep(0.01)
        own_server.stop()
        status = [asyncio.ensure_future(handle.astatus()) for handle in handles]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_server.start)
        assert [each.state for each in await asyncio.gather(*status)] == ["queued"] * 3
        for handle in handles:
            end(queue, handle, success(handle.id, kept=True))
        assert await asyncio.gather(*waits) == [handle.id for handle in [*handles[1:], handles[0]]]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("wait for results" in line for line in said)


def test_a_wait_that_redis_outlasts_says_why(own_server: EmbeddedRedis) -> None:
    handle = Queue("q", own_server.url).enqueue(tracked())
    own_server.stop()
    with pytest.raises(NotDone, match="Redis cannot be asked: ") as late:
        handle.result(0.5)
    assert isinstance(late.value.__cause__, redis.ConnectionError)
    own_server.start()


def test_a_connection_that_is_cut_without_a_word_is_noticed(
    own_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.queue.waiter.DEADLINE", 0.3)
    monkeypatch.setattr("delayed.queue.waits.LOOK", 0.1)
    proxy = Proxy(own_server.port or 0)
    direct, queue = Queue("q", own_server.url), Queue("q", proxy.url)
    handle = queue.enqueue(tracked())
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(handle.result(60)))
    thread.start()
    eventually(lambda: counted(queue) == 1)
    proxy.lose()
    end(direct, handle, success(1, kept=True))
    thread.join(60)
    proxy.close()
    assert found == [1]


def _waits_in_a_child(queue: Queue, identity: str, answers: Any) -> None:
    answers.put(Handle(queue, identity).result(30))


def test_a_fork_waits_by_itself(queue: Queue) -> None:
    handle = queue.enqueue(tracked())
    with pytest.raises(NotDone):
        handle.result(0.05)  # now there is a thread
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_waits_in_a_child, args=(queue, handle.id, answers))
    child.start()
    threading.Timer(0.3, end, (queue, handle, success(1, kept=True))).start()
    assert handle.result(30) == answers.get(timeout=30) == 1
    child.join(30)


async def test_a_result_of_any_size_comes(queue: Queue, redis_url: str) -> None:
    async with AsyncQueue(queue.name, redis_url) as other:
        handle = queue.enqueue(tracked())
        both: list[Any] = [handle, AsyncHandle(other, handle.id)]
        waits = [asyncio.ensure_future(each.aresult(60)) for each in both * 3]
        await asyncio.sleep(0.05)
        end(queue, handle, success(b"x" * 10_000_000, kept=True))
        assert [len(each) for each in await asyncio.gather(*waits)] == [10_000_000] * 6


def test_a_wait_in_a_task_for_one_of_its_own_queue_is_told_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("delayed.queue.handle._REMIND", 0.05)
    child = queue.enqueue(PyTask("tasks:noop", result_ttl=60, after=600))
    parents = [PyTask(f"life:{kind}", (queue.name, child.id), result_ttl=60) for kind in ("waits_for", "waits_for_it")]
    handles = [queue.enqueue(parent) for parent in parents]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("life.QUEUE", queue, raising=False)
        burst(queue)
    assert [handle.result(10) for handle in handles] == ["NotDone"] * 2
    said = [record.getMessage() for record in caplog.records if "of its own queue" in record.getMessage()]
    assert len(said) == 2
    for line, parent, handle in zip(said, parents, handles, strict=True):
        assert f"Task {parent.func_path} (id {handle.id})" in line
        assert f"(id {child.id})" in line
        assert "timeout=" in line
    caplog.clear()
    with pytest.raises(NotDone):
        child.result(0.1)  # not in a task
    assert not caplog.messages


def test_a_task_may_wait_for_one_of_another_queue(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("delayed.queue.handle._REMIND", 0.05)
    other = Queue(f"{queue.name}x", queue.conn)
    child = other.enqueue(PyTask("tasks:noop", result_ttl=60, after=600))
    queue.enqueue(PyTask("life:waits_for", (other.name, child.id)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("life.QUEUE", other, raising=False)
        burst(queue)
    assert not [line for line in caplog.messages if "of its own queue" in line]
    other.store.call("DEL", *other.keys.all().values(), other.keys.task(child.id or ""))
