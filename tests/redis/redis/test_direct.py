"""The client without redis-py: what it sends and raises is as with redis-py, which takes over where it cannot connect."""

import asyncio
import secrets
import threading
from collections.abc import Iterator

import pytest
import redis

from delayed.errors import ConfigurationError
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.command import UNKNOWN
from delayed.redis.direct import Direct, client_for_a_moment
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.support.servers import free_port
from tests.support.tls import listening

TASK = PyTask("tasks:noop")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server with a port and a password."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis", numbered=True), free_port()) as embedded:
        yield embedded


def test_it_enqueues(redis_url: str, queue: Queue) -> None:
    with client_for_a_moment(redis_url) as client:
        assert isinstance(client, Direct)
        assert Queue(queue.name, client).enqueue_many([TASK] * 3000) == 3000
        assert Queue(queue.name, client).call("LLEN", queue.name) == 3000


def test_it_gives_a_password_and_a_database(guarded: EmbeddedRedis) -> None:
    url = f"{guarded.url.partition('?')[0].rpartition('/')[0]}/3"
    with client_for_a_moment(url) as client:
        assert isinstance(client, Direct)
        Queue("q", client).enqueue(TASK)
    with guarded.client() as own:
        assert own.llen("q") == 0
        own.select(3)
        assert own.llen("q") == 1


def test_an_error_is_redis_py_s(redis_url: str, queue: Queue) -> None:
    queue.call("SET", queue.name, "x")
    with client_for_a_moment(redis_url) as client:
        direct = Queue(queue.name, client)
        with pytest.raises(redis.ResponseError, match=f"'{queue.name}'|{queue.name}") as caught:
            direct.enqueue(TASK)
        with pytest.raises(redis.ResponseError) as usual:
            queue.enqueue(TASK)
        assert str(caught.value) == str(usual.value)
        with pytest.raises(redis.exceptions.NoScriptError):
            direct.call("EVALSHA", secrets.token_hex(20), 0)
    queue.call("DEL", queue.name)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:{closed}",
        "unix:///nowhere/redis.sock",
        "redis://:wrong@127.0.0.1:{port}",
        "redis://127.0.0.1:{port}?socket_timeout=3",
        "rediss://127.0.0.1:{port}",
        "redis+cluster://127.0.0.1:{port}",
    ],
)
def test_redis_py_does_the_rest(url: str, guarded: EmbeddedRedis) -> None:
    url = url.format(port=guarded.port, closed=free_port())
    with client_for_a_moment(url) as client:
        assert client == url


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.parametrize("login", ["", "bob:guess@", ":guess@"])
def test_who_is_not_let_in_is_told_what_to_correct(login: str, scheme: str, guarded: EmbeddedRedis) -> None:
    url = f"{scheme}://{login}127.0.0.1:{guarded.port}"

    async def enqueue() -> None:
        async with AsyncQueue("{q}", url) as queue:
            await queue.enqueue(TASK)

    for attempt in (lambda: Queue("{q}", url).enqueue(TASK), lambda: asyncio.run(enqueue())):
        with pytest.raises((redis.RedisError, ConfigurationError), match=r"does not let us in: .*correct the user") as caught:
            attempt()
        assert "guess" not in str(caught.value)
        assert not hasattr(caught.value, "__notes__")


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


def test_a_connection_that_breaks_may_have_enqueued() -> None:
    with listening(_hang_up, tls=False) as port, client_for_a_moment(f"redis://127.0.0.1:{port}") as client:
        with pytest.raises(redis.ConnectionError) as caught:
            Queue("q", client).enqueue(TASK)
        assert caught.value.__notes__ == [UNKNOWN]


def test_many_threads_have_a_connection_each(redis_url: str, queue: Queue) -> None:
    with client_for_a_moment(redis_url) as client:
        shared = Queue(queue.name, client)
        threads = [threading.Thread(target=lambda: [shared.enqueue(TASK) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared.len() == 200
