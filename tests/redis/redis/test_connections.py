"""The connections of producers: in which event loop they are, how many there may be, and what is said when one breaks."""

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from delayed.errors import TimedOut
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.connect import abandon
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import burst, eventually

TASK = PyTask("tasks:noop")


def connections(client: redis.Redis, name: str) -> int:
    return sum(each["name"] == name for each in client.client_list())


async def enqueue(queue: AsyncQueue) -> None:
    await asyncio.gather(*(queue.enqueue(TASK) for _ in range(3)))


async def twice(queue: AsyncQueue) -> None:
    for _ in range(2):
        await queue.enqueue(TASK)


def test_an_async_queue_has_connections_in_each_loop(redis_url: str, name: str, client: redis.Redis) -> None:
    """One after the other, as coroutine tasks without --async-tasks have them, and several at once."""
    queue = AsyncQueue(name, f"{redis_url}?client_name={name}")
    for _ in range(3):
        asyncio.run(enqueue(queue))
        eventually(lambda: connections(client, name) == 0)  # each loop closes what was opened in it
    with asyncio.Runner() as first, asyncio.Runner() as second:
        for runner in (first, second, first):
            runner.run(enqueue(queue))
        threads = [threading.Thread(target=asyncio.run, args=(enqueue(queue),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    eventually(lambda: connections(client, name) == 0)
    assert client.llen(name) == 3 * (3 + 3 + 4)


def test_a_loop_that_nobody_closes_well_leaves_nothing_open(redis_url: str, name: str, client: redis.Redis) -> None:
    queue = AsyncQueue(name, f"{redis_url}?client_name={name}")
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(enqueue(queue))
        handle = loop.run_until_complete(queue.enqueue(PyTask("m:f", track=True)))
        with pytest.raises(TimeoutError):
            loop.run_until_complete(handle.aresult(0.01))
        loop.close()
    asyncio.run(enqueue(queue))
    eventually(lambda: connections(client, name) == 0)
    gc.collect()  # which would complain of what was left open


def test_a_client_of_another_loop_says_what_to_do(redis_url: str, name: str, client: redis.Redis) -> None:
    given = redis.asyncio.Redis.from_url(redis_url, max_connections=1)
    queue = AsyncQueue(name, given)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(queue.enqueue(TASK))
        with pytest.raises(RuntimeError) as caught:
            second.run(twice(queue))
        assert any("give the AsyncQueue a URL" in note for note in caught.value.__notes__)
        first.run(given.aclose())


async def test_what_is_raised_after_the_command_was_sent_says_so(name: str, server: EmbeddedRedis) -> None:
    """Whatever it is: an error of the connection, a loop that ends, a cancellation."""
    async with redis.asyncio.Redis.from_url(server.url, max_connections=1) as conn:
        queue = AsyncQueue(name, conn)
        await queue.len()
        (connection,) = conn.connection_pool._available_connections
        read = connection.read_response
        for error in (RuntimeError("closed"), asyncio.CancelledError(), redis.TimeoutError("late"), ValueError("odd")):

            async def fails(*_: object, error: BaseException = error, **__: object) -> None:
                raise error

            connection.read_response = fails  # type: ignore[method-assign]
            with pytest.raises(type(error)) as caught:
                await queue.enqueue(TASK)
            assert "may or may not" in caught.value.__notes__[0]
            assert not connection.is_connected
            connection.read_response = read  # type: ignore[method-assign]
            await queue.enqueue(TASK)  # and the next one gets its own reply
        with pytest.raises(TypeError) as before:
            await queue.store.call("ECHO", object())  # type: ignore[arg-type]
        assert not getattr(before.value, "__notes__", ())  # nothing was sent


def test_so_does_what_a_signal_raises(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = client.connection_pool.get_connection()

    def interrupted(*_: object, **__: object) -> None:
        raise TimedOut("too long")

    with monkeypatch.context() as patched:
        patched.setattr(connection, "read_response", interrupted)
        patched.setattr(connection, "can_read", lambda timeout=0: False)
        client.connection_pool.release(connection)
        with pytest.raises(TimedOut) as caught:
            queue.enqueue(TASK)
    assert "may or may not" in caught.value.__notes__[0]


@contextlib.contextmanager
def held(server: EmbeddedRedis) -> Iterator[None]:
    """Meanwhile the server answers nobody who writes."""
    with server.client() as client:
        client.client_pause(300_000, all=False)
        try:
            yield
        finally:
            client.client_unpause()


def writing(client: redis.Redis, name: str) -> int:
    """How many connections of this name wait for an answer."""
    return sum(each["name"] == name and "b" in each["flags"] for each in client.client_list())


async def test_more_enqueues_at_once_than_connections_wait_for_each_other(
    redis_url: str, name: str, client: redis.Redis
) -> None:
    url = f"{redis_url}?max_connections=4&client_name={name}"
    async with AsyncQueue(name, url) as queue:
        await asyncio.gather(*(queue.enqueue(TASK) for _ in range(400)))
        assert await queue.len() == 400
        assert connections(client, name) <= 4
        waits = [asyncio.ensure_future(queue.len()) for _ in range(100)]
        await asyncio.sleep(0)
        for wait in waits[1::2]:
            wait.cancel()  # takes no room with it
        await asyncio.gather(*waits, return_exceptions=True)
        assert await asyncio.gather(*(queue.len() for _ in range(20))) == [400] * 20
    sync = Queue(name, url)
    threads = [threading.Thread(target=sync.enqueue, args=(TASK,)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sync.len() == 500
    assert connections(client, name) <= 4


async def test_who_gets_no_connection_in_time_hears_what_to_do(
    redis_url: str, name: str, server: EmbeddedRedis, client: redis.Redis
) -> None:
    url = f"{redis_url}?max_connections=1&timeout=0.1&client_name={name}"
    sync = Queue(name, url)
    assert sync.len() == 0
    async with AsyncQueue(name, url) as queue:
        assert await queue.len() == 0
        with held(server):
            first = [asyncio.ensure_future(queue.enqueue(TASK)), asyncio.ensure_future(asyncio.to_thread(sync.enqueue, TASK))]
            await asyncio.to_thread(eventually, lambda: writing(client, name) == 2)
            for call in (queue.enqueue(TASK), asyncio.to_thread(sync.enqueue, TASK)):
                with pytest.raises(
                    redis.ConnectionError, match=r"free for 0\.1 s, and nothing was sent: it has 1; .*max_conn"
                ) as no:
                    await call
                assert not getattr(no.value, "__notes__", ())
        await asyncio.gather(*first)


async def test_a_client_that_was_given_says_it_in_its_way(
    redis_url: str, name: str, server: EmbeddedRedis, client: redis.Redis
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, max_connections=1, client_name=name) as conn:
        given = redis.Redis.from_url(redis_url, max_connections=1, client_name=name)
        queues: list[Any] = [AsyncQueue(name, conn), Queue(name, given)]
        assert await queues[0].len() == queues[1].len() == 0
        with held(server):
            first = [
                asyncio.ensure_future(queues[0].enqueue(TASK)),
                asyncio.ensure_future(asyncio.to_thread(queues[1].enqueue, TASK)),
            ]
            await asyncio.to_thread(eventually, lambda: writing(client, name) == 2)
            for call in (queues[0].enqueue(TASK), asyncio.to_thread(queues[1].enqueue, TASK)):
                with pytest.raises(
                    redis.ConnectionError, match=r"is free, and nothing was sent: it has 1; .*BlockingConnectionPool"
                ):
                    await call
        await asyncio.gather(*first)
        given.close()


def test_coroutine_tasks_share_an_async_queue(
    queue: Queue, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a worker as it comes each has a loop of its own."""
    monkeypatch.setattr("coroutines.QUEUE", AsyncQueue(queue.name, redis_url), raising=False)
    handles = [queue.enqueue(PyTask("coroutines:enqueues", (n,), result_ttl=60)) for n in range(4)]
    burst(queue)
    assert [handle.result(10) for handle in handles] == [0, 1, 2, 3]
    assert client.llen(queue.name) == 0


def test_a_dead_loop_s_sockets_are_closed_whatever_they_are() -> None:
    """What asyncio has no public way for must at least not raise."""

    async def connected(port: int) -> redis.asyncio.Connection:
        connection = redis.asyncio.Connection(port=port)
        connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
        return connection

    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = asyncio.new_event_loop()
        connection = loop.run_until_complete(connected(listener.getsockname()[1]))
        peer, _ = listener.accept()
        loop.close()
        abandon(connection)
        abandon(connection)
        with contextlib.closing(peer):
            assert peer.recv(1) == b""
