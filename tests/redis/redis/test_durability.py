"""What an enqueue waits for, on a primary with a replica."""

import contextlib
import re
import socketserver
import threading
from collections.abc import Iterator

import hiredis
import pytest
import redis
import redis.asyncio
from click.testing import CliRunner

from delayed import ConfigurationError, NotDurable
from delayed.cli.main import main
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.durability import Durability
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.redis.test_costs import monitored
from tests.support.servers import follow, open_redis

TASK = PyTask("tasks:noop")


@pytest.fixture(scope="module")
def primary() -> Iterator[EmbeddedRedis]:
    with open_redis(persistent=True, options={"appendfsync": "always"}) as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server, server.client() as client:
        follow(server, primary.port or 0)
        eventually(lambda: client.info("replication")["master_link_status"] == "up")
        yield server


@pytest.fixture
def on_primary(primary: EmbeddedRedis, replica: EmbeddedRedis) -> Iterator[redis.Redis]:
    with primary.client() as client:
        eventually(lambda: client.wait(1, 100) == 1)
        yield client


@pytest.mark.parametrize(
    "text", ["", "disk", "replicas", "replicas:", "replicas:0", "replicas:-1", "replicas:1.5", "AOF", None, 1]
)
def test_what_is_no_durability_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="'memory', 'aof' or 'replicas:N'"):
        Durability(text)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_the_timeout_is_above_0(seconds: float, client: redis.Redis) -> None:
    with pytest.raises(ConfigurationError, match="durability_timeout"):
        Queue("q", client, durability="aof", durability_timeout=seconds)


@pytest.mark.parametrize("durability", ["aof", "replicas:1"])
def test_a_durable_task_is_one_round_trip_and_waits_in_the_queue(on_primary: redis.Redis, name: str, durability: str) -> None:
    queue = Queue(name, on_primary, durability=durability)
    queue.enqueue(TASK)
    with monitored(on_primary, name) as sent:
        queue.enqueue(TASK)
    rest = [command for command in sent if command not in {"HELLO", "CLIENT"}]
    assert rest[0] == "EVAL", sent
    assert len(rest) <= 2, sent  # Redis does not show CONFIG
    assert queue.enqueue_many([TASK] * 2500) == 2500
    assert queue.len() == 2502


def test_the_replica_has_what_was_enqueued(on_primary: redis.Redis, replica: EmbeddedRedis, name: str) -> None:
    queue = Queue(name, on_primary, durability="replicas:1")
    with replica.client() as client:
        for count in range(1, 51):
            queue.enqueue(TASK)
            assert client.llen(name) == count


def test_too_few_replicas_are_said_and_the_task_is_in_the_queue(on_primary: redis.Redis, name: str) -> None:
    queue = Queue(name, on_primary, durability="replicas:2", durability_timeout=0.05)
    with pytest.raises(NotDurable, match=r"[01] of 2 replicas had the task after 0\.05 s\. The task is on") as caught:
        queue.enqueue(TASK)
    assert caught.value.acknowledged in (0, 1)  # there is one, which may need longer
    with pytest.raises(NotDurable) as caught:
        queue.enqueue_many([TASK] * 3)
    assert "0 tasks of this call had been enqueued before" in caught.value.__notes__
    assert queue.len() == 4


def test_a_script_that_fails_is_an_error_of_redis_and_nothing_is_in_the_queue(on_primary: redis.Redis, name: str) -> None:
    on_primary.set(name, "not a list")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        Queue(name, on_primary, durability="replicas:1").enqueue(TASK)


@pytest.mark.parametrize("durability", ["aof", "replicas:1"])
async def test_asyncio(on_primary: redis.Redis, primary: EmbeddedRedis, name: str, durability: str) -> None:
    async with redis.asyncio.Redis.from_url(primary.url) as conn:
        queue = AsyncQueue(name, conn, durability=durability)
        await queue.enqueue(TASK)
        assert await queue.enqueue_many([TASK] * 10) == 10
        assert await queue.len() == 11
        on_primary.set(f"{name}x", "not a list")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await AsyncQueue(f"{name}x", conn, durability=durability).enqueue(TASK)
        with pytest.raises(NotDurable):
            await AsyncQueue(name, conn, durability="replicas:9", durability_timeout=0.01).enqueue(TASK)


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_and_clients_that_decode(
    on_primary: redis.Redis, primary: EmbeddedRedis, name: str, protocol: int
) -> None:
    url = f"{primary.url}?protocol={protocol}&decode_responses=yes"
    for durability in ("aof", "replicas:1"):
        Queue(name, url, durability=durability).enqueue(TASK)
    assert on_primary.llen(name) == 2


def test_without_an_append_only_file_aof_is_refused_before_anything_is_enqueued(queue: Queue, client: redis.Redis) -> None:
    durable = Queue(queue.name, client, durability="aof")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="appendonly yes"):
            durable.enqueue(TASK)
    assert queue.len() == 0


def test_a_server_that_is_set_otherwise_meanwhile(on_primary: redis.Redis, name: str) -> None:
    queue = Queue(name, on_primary, durability="aof", durability_timeout=0.2)
    queue.enqueue(TASK)
    on_primary.config_set("appendonly", "no")
    try:
        with pytest.raises(NotDurable, match=r"The task is on the primary and may run"):
            queue.enqueue(TASK)
        assert queue.len() == 2
        with pytest.raises(ConfigurationError):  # asked again, before it enqueues
            queue.enqueue(TASK)
        assert queue.len() == 2
    finally:
        on_primary.config_set("appendonly", "yes")
        eventually(lambda: on_primary.info("persistence")["aof_rewrite_in_progress"] == 0)
        eventually(lambda: on_primary.info("persistence")["aof_rewrite_scheduled"] == 0)
    queue.enqueue(TASK)
    assert queue.len() == 3


def test_the_command_line(on_primary: redis.Redis, primary: EmbeddedRedis, name: str) -> None:
    command = ["enqueue", name, "tasks:noop", "--redis", primary.url]
    assert CliRunner().invoke(main, [*command, "--durability", "replicas:1"]).exit_code == 0
    short = [*command, "--durability-timeout", "0.05"]
    result = CliRunner().invoke(main, short, env={"DELAYED_DURABILITY": "replicas:2"})
    assert result.exit_code == 1
    assert re.search("not durable: [01] of 2 replicas", result.output)
    assert CliRunner().invoke(main, [*command, "--durability", "paper"]).exit_code == 1
    assert on_primary.llen(name) == 2


class _Scripted(socketserver.StreamRequestHandler):
    """A server that gives each command the reply that its test says."""

    def handle(self) -> None:
        reader = hiredis.Reader()
        while data := self.connection.recv(65536):
            reader.feed(data)
            while command := reader.gets():
                name = command[0].decode().upper()
                self.wfile.write(self.server.replies.get(name, b"+OK\r\n"))  # type: ignore[attr-defined]


@contextlib.contextmanager
def scripted(**replies: bytes) -> Iterator[tuple[Queue, dict[str, bytes]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Scripted) as server:
        server.daemon_threads = True
        server.replies = replies  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with redis.Redis(port=server.server_address[1], protocol=2) as client:
            yield Queue("q", client, durability="aof"), replies
        server.shutdown()
        thread.join()


UNKNOWN = b"-ERR unknown command 'WAITAOF', with args beginning with: '1'\r\n"
FORBIDDEN = b"-NOPERM this user has no permissions to run the 'waitaof' command\r\n"


def _config(appendfsync: bytes) -> bytes:
    return b"*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$%d\r\n%b\r\n" % (len(appendfsync), appendfsync)


def test_waitaof_is_used_where_the_server_has_it() -> None:
    with scripted(WAITAOF=b"*2\r\n:1\r\n:0\r\n", CONFIG=FORBIDDEN, EVAL=b":1\r\n") as (queue, replies):
        queue.enqueue(TASK)
        replies["WAITAOF"] = b"*2\r\n:0\r\n:0\r\n"
        with pytest.raises(NotDurable, match="append-only file did not have the task after 3 s"):
            queue.enqueue(TASK)


@pytest.mark.parametrize("refusal", [UNKNOWN, FORBIDDEN])
def test_without_waitaof_appendfsync_always_will_do(refusal: bytes) -> None:
    with scripted(WAITAOF=refusal, CONFIG=_config(b"always"), EVAL=b":1\r\n") as (queue, replies):
        queue.enqueue(TASK)
        replies["CONFIG"] = _config(b"everysec")
        with pytest.raises(NotDurable, match="does not have `appendfsync always` any more"):
            queue.enqueue(TASK)
        with pytest.raises(ConfigurationError, match="has neither"):
            queue.enqueue(TASK)


def test_a_server_that_does_not_say_is_refused() -> None:
    with (
        scripted(WAITAOF=UNKNOWN, CONFIG=b"-NOPERM no permissions\r\n") as (queue, _),
        pytest.raises(ConfigurationError, match="Allow one of the commands"),
    ):
        queue.enqueue(TASK)


def test_a_replica_is_no_wrong_setting() -> None:
    refusal = b"-ERR WAITAOF cannot be used with replica instances.\r\n"
    with (
        scripted(WAITAOF=refusal, CONFIG=_config(b"always")) as (queue, _),
        pytest.raises(redis.ResponseError, match="replica"),
    ):
        queue.enqueue(TASK)
