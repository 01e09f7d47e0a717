import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import redis.asyncio

from delayed.errors import ConfigurationError, NotEncodable, TaskTooLarge
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.command import bulk, pack
from delayed.redis.connect import DEADLINE, connect, connect_async
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.foreign import ForeignType
from delayed.task.decode import decode
from delayed.task.task import GoTask, PyTask
from delayed.worker.leases import LeasePool
from tests.conftest import eventually
from tests.support.servers import stopped


def _keys(client: redis.Redis, queue: Queue) -> set[str]:
    return {key.decode() for key in client.scan_iter(f"{queue.name}*")}


def _busy(queue: Queue) -> int:
    """How many connections of its client are in use."""
    assert isinstance(queue.conn, redis.Redis)
    return len(queue.conn.connection_pool._in_use_connections)


def test_enqueue_writes_what_upstream_writes(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f", (1,)))
    queue.enqueue(GoTask("main.F", ("x", 300)))
    assert client.lrange(queue.name, 0, -1) == [
        bytes.fromhex("92a36d3a669101"),
        bytes.fromhex("92a66d61696e2e46c40692a178cd012c"),
    ]
    assert client.lrange(f"{queue.name}_noti", 0, -1) == [b"1", b"1"]
    assert queue.len() == 2
    assert _keys(client, queue) == {queue.name, f"{queue.name}_noti"}


def test_nothing_is_enqueued_when_an_argument_cannot_be_sent(queue: Queue, client: redis.Redis) -> None:
    with pytest.raises(NotEncodable):
        queue.enqueue(PyTask("m:f", (1j,)))
    assert not _keys(client, queue)


def test_a_task_that_is_too_large_is_refused_with_both_sizes(name: str, client: redis.Redis) -> None:
    queue = Queue(name, client, max_task_size=100)
    with pytest.raises(TaskTooLarge, match=r"m:f has 208 bytes.*100"):
        queue.enqueue(PyTask("m:f", ("x" * 200,)))
    assert not _keys(client, queue)
    Queue(name, client).enqueue(PyTask("m:f", ("x" * 1_000_000,)))
    with pytest.raises(TaskTooLarge):
        Queue(name, client).enqueue(PyTask("m:f", ("x" * (1 << 20),)))


def test_enqueue_many_takes_any_iterable_in_order(queue: Queue, client: redis.Redis) -> None:
    assert queue.enqueue_many(PyTask("m:f", (i,)) for i in range(2500)) == 2500
    assert [decode(data).args[0] for data in queue.store.call("LRANGE", queue.name, 0, -1)] == list(range(2500))
    assert client.llen(f"{queue.name}_noti") == 2500
    assert queue.enqueue_many([]) == 0


def test_enqueue_many_sends_large_tasks_in_chunks(queue: Queue) -> None:
    assert queue.enqueue_many(PyTask("m:f", (b"x" * 400_000,)) for _ in range(7)) == 7
    assert queue.len() == 7


def test_enqueue_many_says_how_far_it_came(queue: Queue) -> None:
    tasks = [PyTask("m:f", (i,)) for i in range(1500)] + [PyTask("m:f", (1j,))]
    with pytest.raises(NotEncodable) as error:
        queue.enqueue_many(tasks)
    assert error.value.__notes__ == ["1000 tasks of this call had been enqueued before"]
    assert queue.len() == 1000


def test_enqueue_many_writes_tasks_down_while_others_are_on_their_way(queue: Queue, client: redis.Redis) -> None:
    """Also where the tasks come from code that uses the same client, and that breaks off."""

    def tasks() -> Iterator[PyTask]:
        for i in range(2500):
            if i == 2100:
                eventually(lambda: client.llen(queue.name) == 2000)  # before anybody has read what Redis said
                busy.append(_busy(queue))
            if i == 2200:
                raise KeyError(i)
            yield PyTask("m:f", (i,), track=True)

    busy: list[int] = []
    with pytest.raises(KeyError) as error:
        queue.enqueue_many(tasks())
    assert error.value.__notes__ == ["2000 tasks of this call had been enqueued before"]
    assert queue.len() == 2000
    assert busy == [1]
    assert _busy(queue) == 0


def test_a_chunk_of_enqueue_many_that_is_on_its_way_is_given_up_with_its_connection(queue: Queue) -> None:
    def tasks() -> Iterator[PyTask]:
        for i in range(1500):
            if i == 1200:
                raise KeyboardInterrupt
            yield PyTask("m:f", (i,))

    with pytest.raises(KeyboardInterrupt):
        queue.enqueue_many(tasks())
    assert _busy(queue) == 0
    eventually(lambda: queue.len() == 1000)
    assert queue.enqueue_many([PyTask("m:f")]) == 1
    assert queue.len() == 1001


def test_after_a_chunk_that_is_refused_none_is_sent(queue: Queue, client: redis.Redis) -> None:
    client.set(f"{queue.name}_noti", "x")
    with pytest.raises(ForeignType) as error:
        queue.enqueue_many(PyTask("m:f", (i,)) for i in range(3000))
    assert error.value.__notes__[-1] == "0 tasks of this call had been enqueued before"
    client.delete(f"{queue.name}_noti")
    assert queue.len() == 0


def test_a_generator_that_breaks_after_a_chunk_that_is_refused_says_both(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.name, "x")

    def tasks() -> Iterator[PyTask]:
        yield from (PyTask("m:f", (i,)) for i in range(1001))
        raise KeyError

    with pytest.raises(KeyError) as error:
        queue.enqueue_many(tasks())
    client.delete(queue.name)
    lost, count = error.value.__notes__
    assert lost.startswith("of the 1000 tasks that were sent last: ")
    assert count == "0 tasks of this call had been enqueued before"


def test_enqueue_many_needs_one_connection_where_there_are_few(name: str, server: EmbeddedRedis) -> None:
    queue = Queue(name, f"{server.url}?max_connections=1&timeout=0.1")
    tasks = (PyTask("m:f", (queue.len(),)) for _ in range(1500))
    assert queue.enqueue_many(tasks) == 1500


def test_enqueue_many_sends_scripts_that_the_server_lacks(queue: Queue, client: redis.Redis) -> None:
    client.script_flush()
    assert queue.enqueue_many(PyTask("m:f", (i,), track=True) for i in range(2500)) == 2500
    assert queue.len() == 2500


async def test_async_queue_writes_the_same(queue: Queue, server: EmbeddedRedis, client: redis.Redis) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        other = AsyncQueue(queue.name, conn)
        await other.enqueue(PyTask("m:f", (1,)))
        assert await other.enqueue_many(PyTask("m:f", (i,)) for i in range(1200)) == 1200
        assert await other.len() == 1201
        with pytest.raises(NotEncodable):
            await other.enqueue(PyTask("m:f", (1j,)))
        tasks = [PyTask("m:f", (i,)) for i in range(1001)] + [PyTask("m:f", (1j,))]
        with pytest.raises(NotEncodable) as error:
            await other.enqueue_many(tasks)
        assert error.value.__notes__ == ["1000 tasks of this call had been enqueued before"]
    assert client.lindex(queue.name, 0) == bytes.fromhex("92a36d3a669101")
    assert client.llen(f"{queue.name}_noti") == 2201


def test_many_threads_may_use_one_queue(queue: Queue) -> None:
    def produce() -> None:
        for _ in range(50):
            queue.enqueue(PyTask("m:f"))

    threads = [threading.Thread(target=produce) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.len() == 400


def test_a_client_that_decodes_replies_works_as_well(name: str, server: EmbeddedRedis) -> None:
    queue = Queue(name, redis.Redis.from_url(server.url, decode_responses=True))
    queue.enqueue(PyTask("m:f", (b"\xff",)))
    tasks, _ = queue.store.take([queue.keys.lease("t", 0)], "t", 10)
    assert decode(tasks[0]).args == [b"\xff"]


def test_a_url_will_do(name: str, server: EmbeddedRedis) -> None:
    queue = Queue(name, server.url)
    queue.enqueue(PyTask("m:f"))
    assert queue.len() == 1


async def test_a_url_will_do_for_an_async_queue_which_closes_what_it_has_opened(name: str, server: EmbeddedRedis) -> None:
    async with AsyncQueue(name, server.url) as queue:
        await queue.enqueue(PyTask("m:f"))
        own: Any = await queue.store.client()
        (connection,) = own.connection_pool._available_connections
        assert connection.is_connected
    assert not connection.is_connected
    assert await queue.len() == 1
    await queue.aclose()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        other = AsyncQueue(name, client)
        assert await other.len() == 1
        await other.aclose()
        (connection,) = client.connection_pool._available_connections
        assert connection.is_connected  # a client that was given belongs to whoever gave it


@pytest.mark.parametrize("make", [connect, connect_async])
@pytest.mark.parametrize("url", ["", "localhost:6379", "http://x", "redis+sentinel://host", "redis+sentinel://host:x/m"])
def test_a_url_that_says_nothing_is_refused_with_examples(url: str, make: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError, match="write for example"):
        make(url)


@pytest.mark.parametrize(
    ("kind", "conn", "message"),
    [
        (Queue, None, "a Queue needs a redis.Redis, a redis.RedisCluster or a URL, not None"),
        (Queue, redis.asyncio.Redis(), "not a redis.asyncio.client.Redis; for that client there is AsyncQueue"),
        (Queue, b"redis://localhost", "not a builtins.bytes"),
        (AsyncQueue, None, "an AsyncQueue needs a redis.asyncio.Redis, a redis.asyncio.RedisCluster or a URL, not None"),
        (AsyncQueue, redis.Redis(), "not a redis.client.Redis; for that client there is Queue"),
    ],
)
def test_what_is_no_client_is_refused_at_once(name: str, kind: Callable[..., object], conn: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        kind(name, conn)
    assert str(refused.value).endswith(message)


@pytest.mark.parametrize(("make", "kind"), [(connect, redis.Redis), (connect_async, redis.asyncio.Redis)])
def test_a_sentinel_url_names_hosts_service_and_credentials(make: Callable[[str], object], kind: type[Any]) -> None:
    client: Any = make("redis+sentinel://me:s%40crt@one:1,two/mymaster/3?socket_keepalive=1")
    assert isinstance(client, kind)
    pool: Any = client.connection_pool
    assert pool.service_name == "mymaster"
    assert pool.connection_kwargs["db"] == 3
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("me", "s@crt")
    hosts = [s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels]
    assert [(kwargs["host"], kwargs["port"]) for kwargs in hosts] == [("one", 1), ("two", 26379)]


@pytest.mark.parametrize("options", [{"dequeue_timeout": 0}, {"keep_alive_timeout": 0}, {"max_task_size": 0}])
def test_numbers_that_cannot_work_are_refused(name: str, client: redis.Redis, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Queue(name, client, **options)


class _Dropper:
    """A server that reads one command, and hangs up without a reply; counts the commands."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}?protocol=2"
        self.scripts = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    if b"EVAL" in data:
                        self.scripts += 1
                        break
                    connection.sendall(b"+OK\r\n" * data.count(b"CLIENT"))


def test_an_enqueue_without_reply_is_not_sent_twice_and_says_so(name: str) -> None:
    dropper = _Dropper()
    with pytest.raises(redis.ConnectionError) as error:
        Queue(name, redis.Redis.from_url(dropper.url)).enqueue(PyTask("m:f"))
    assert dropper.scripts == 1
    assert "may or may not" in error.value.__notes__[0]
    dropper.listener.close()


async def test_an_async_enqueue_without_reply_is_not_sent_twice(name: str) -> None:
    dropper = _Dropper()
    async with redis.asyncio.Redis.from_url(dropper.url) as conn:
        with pytest.raises(redis.ConnectionError):
            await AsyncQueue(name, conn).enqueue(PyTask("m:f"))
    assert dropper.scripts == 1
    dropper.listener.close()


async def test_a_cancelled_enqueue_leaves_no_reply_for_the_next(name: str, server: EmbeddedRedis) -> None:
    async with redis.asyncio.Redis.from_url(server.url, max_connections=1) as conn:
        queue = AsyncQueue(name, conn)
        for _ in range(20):
            task = asyncio.ensure_future(queue.enqueue(PyTask("m:f")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        before = await queue.len()
        await queue.enqueue(PyTask("m:f"))
        assert await queue.len() == before + 1


def test_scripts_are_sent_again_after_a_flush(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f"))
    client.script_flush()
    queue.enqueue(PyTask("m:f"))
    assert queue.len() == 2


@pytest.mark.breaks_invariants("the type is wrong on purpose")
def test_a_foreign_type_under_our_key_is_a_clear_error(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.name, "something")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        queue.enqueue(PyTask("m:f"))


class _Ending:
    """The ending of a lease that need not exist."""

    more = gone = False

    def __init__(self, key: str, field: str, answers: list[tuple[Any, bool]]) -> None:
        self.done, self.hash, self.field = pack("HDEL", key, field), bulk(key), bulk(field)
        self._answers = answers

    def answered(self, reply: Any, repeated: bool) -> None:
        self._answers.append((reply, repeated))


@pytest.fixture
def channel(queue: Queue, client: redis.Redis) -> Iterator[Channel]:
    opened = Channel(client, queue.name)
    opened.open()
    yield opened
    opened.close()


@pytest.mark.breaks_invariants("uses the name for a hash of its own")
def test_what_is_posted_is_done_at_once_and_confirmed_later(queue: Queue, client: redis.Redis, channel: Channel) -> None:
    answers: list[tuple[Any, bool]] = []
    client.hset(queue.name, mapping={"a": 1, "b": 2, "c": 3})
    for field in ("a", "b"):
        channel.post(_Ending(queue.name, field, answers))
    eventually(lambda: client.hkeys(queue.name) == [b"c"])
    assert not answers
    assert channel.call("HLEN", queue.name) == 1
    assert answers == [(1, False), (1, False)]


@pytest.mark.breaks_invariants("uses the name for a hash of its own")
def test_what_is_posted_and_refused_is_said_again(queue: Queue, client: redis.Redis, channel: Channel) -> None:
    """Without replies nobody hears that a server refuses writes for a while."""
    answers: list[tuple[Any, bool]] = []
    client.hset(queue.name, mapping={"a": 1})
    client.config_set("min-replicas-to-write", 1)
    try:
        channel.post(_Ending(queue.name, "a", answers))
        with pytest.raises(redis.ConnectionError, match="NOREPLICAS"):
            channel.settle()
        assert not answers
    finally:
        client.config_set("min-replicas-to-write", 0)
    channel.open()
    channel.settle()
    assert answers == [(1, True)]
    client.hset(queue.name, mapping={"a": 1, "b": 2})
    client.config_set("min-replicas-to-write", 1)
    channel.post(_Ending(queue.name, "a", answers))
    client.ping()
    client.config_set("min-replicas-to-write", 0)  # it accepts writes again before it is asked
    channel.settle()
    assert client.hkeys(queue.name) == [b"b"]


class _Finish(_Ending):
    """An ending that does more than HDEL, if `done` does."""

    more = True

    def __init__(self, key: str, field: str, answers: list[tuple[Any, bool]], *done: str) -> None:
        super().__init__(key, field, answers)
        self.done = pack(*done)


@pytest.mark.breaks_invariants("uses the name for a hash of its own")
def test_what_is_still_held_did_not_end_and_is_sent_again(queue: Queue, client: redis.Redis, channel: Channel) -> None:
    """Of two endings without replies the server has refused one, which has done nothing."""
    answers: list[tuple[Any, bool]] = []
    client.hset(queue.name, mapping={"a": 1, "b": 2, "c": 3})
    channel.post(_Finish(queue.name, "a", answers, "HDEL", queue.name, "a"))
    channel.post(_Finish(queue.name, "b", answers, "GETDEL", queue.name))  # of a hash: it is refused
    channel.post(_Ending(queue.name, "c", answers))
    with pytest.raises(redis.ConnectionError, match="has not carried out what ends tasks"):
        channel.settle()
    assert answers == [(1, False), (1, False)]
    assert not channel.is_open
    client.delete(queue.name)
    channel.open()
    channel.settle()
    assert answers[2:] == [(None, True)]


def test_a_channel_repeats_what_was_not_confirmed_and_says_so(queue: Queue, client: redis.Redis, channel: Channel) -> None:
    answers: list[tuple[Any, bool]] = []
    client.hset(queue.name, mapping={"a": 1})
    channel.ask(pack("INCR", f"{queue.name}:n"), lambda *answer: answers.append(answer))
    assert answers == [(1, False)]
    client.client_kill_filter(_id=channel.call("CLIENT", "ID"))
    with contextlib.suppress(redis.ConnectionError):  # the first send after a reset may go through, or not
        channel.post(_Ending(queue.name, "a", answers))
    with pytest.raises(redis.ConnectionError):
        channel.settle()
    assert not channel.is_open
    with pytest.raises(redis.ConnectionError, match="no connection"):
        channel.call("PING")
    channel.open()
    channel.settle()
    assert answers == [(1, False), (1, True)]


def test_a_server_without_client_reply_is_asked_for_replies(
    queue: Queue, client: redis.Redis, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[Any, bool]] = []
    monkeypatch.setattr(channel, "_can_be_silent", False)
    client.hset(queue.name, mapping={"a": 1})
    channel.post(_Ending(queue.name, "a", answers))
    channel.post(_Ending(queue.name, "b", answers))
    assert channel.call("HLEN", queue.name) == 0
    assert answers == [(1, False), (0, False)]


def test_names_that_are_not_utf8_go_through(queue: Queue, channel: Channel) -> None:
    name = f"{queue.name}\udcff"
    for caller in (queue.store, queue.store.over(channel)):
        caller.call("SET", name, "x")
        assert caller.call("EXISTS", name) == 1
        caller.call("DEL", name)


def test_a_channel_gives_up_on_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = redis.Redis.from_url(f"redis://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(redis.TimeoutError):
            Channel(client, "q", 0.2).open()
    assert Channel(client, "q")._deadline == DEADLINE < 5


def test_a_channel_gives_up_on_a_server_that_stalls(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    channel = Channel(client, queue.name, 0.2)
    channel.open()
    with stopped(server), pytest.raises(redis.TimeoutError):
        channel.call("PING")
    assert not channel.is_open


def test_timestamps_go_both_ways(queue: Queue) -> None:
    when = datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    queue.enqueue(PyTask("m:f", (when,)))
    tasks, _ = queue.store.take([queue.keys.lease("t", 0)], "t", 10)
    assert decode(tasks[0]).args == [when]


def test_an_ending_that_is_asked_for_is_remembered_when_those_before_it_cannot_be_confirmed(
    queue: Queue, client: redis.Redis
) -> None:
    """Else a task that has failed would be given back, and run again."""
    channel = Channel(client, queue.name)
    channel.open()
    book = LeasePool(queue, channel, lambda lease: None, lambda secret, count: None)
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(2))
    leases, _ = book.get(2)
    queue.store.take([lease.name for lease in leases], "t", 60, waiting=True)
    channel.post(leases[0])
    client.client_kill_filter(_id=str(channel.client_id))
    answers: list[object] = []
    with pytest.raises(redis.ConnectionError):
        channel.ask(pack("HDEL", queue.keys.processing, leases[1].name), lambda reply, repeated: answers.append(reply))
    assert not answers
    channel.open()
    channel.settle()
    assert answers == [1]
    assert client.hlen(queue.keys.processing) == 0
    channel.close()


def test_a_program_may_hold_tasks_by_itself(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f"))
    lease = queue.keys.lease("own", 0)
    assert queue.take([lease], "own", 10, waiting=True).tasks == [PyTask("m:f").serialize()]
    assert queue.call("HLEN", queue.keys.processing) == 1
    assert queue.store.succeed(lease)
    queue.call("DEL", lease)
