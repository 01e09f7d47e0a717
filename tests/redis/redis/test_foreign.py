"""Other programs' data under our key names, and names of every sort."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.dead_letters.letter import dead_letters
from delayed.errors import ConfigurationError, Reason
from delayed.job.allow import AllowAny
from delayed.ops.info import inspect
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.foreign import ForeignType
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import eventually

pytestmark = pytest.mark.breaks_invariants("keys have foreign types here")

TASKS = [PyTask("tasks:noop", (number,)) for number in range(4)]
BYTES = [task.serialize() for task in TASKS]
SUFFIXES = ["", "_noti", "_processing", "_lost", "_dead", "_workers", "_stats"]
KINDS = ["string", "list", "hash", "stream", "set", "zset"]
PLACES = [
    (suffix, kind) for suffix in SUFFIXES for kind in KINDS
    if kind != {"": "list", "_noti": "list", "_dead": "stream"}.get(suffix, "hash")
]  # fmt: skip


def make_foreign(client: redis.Redis, key: str, kind: str) -> None:
    """Put another program's data there; what was there is kept aside."""
    if client.exists(key):
        client.rename(key, f"aside:{key}")
    commands: dict[str, tuple[Any, ...]] = {
        "string": ("SET", key, "x"),
        "list": ("RPUSH", key, "x"),
        "hash": ("HSET", key, "x", "y"),
        "stream": ("XADD", key, "*", "x", "y"),
        "set": ("SADD", key, "x"),
        "zset": ("ZADD", key, 1, "x"),
    }
    client.execute_command(*commands[kind])


def mend(client: redis.Redis, key: str) -> None:
    """What the message tells the operator to do."""
    client.delete(key)
    if client.exists(f"aside:{key}"):
        client.rename(f"aside:{key}", key)


def lease(queue: Queue, number: int) -> str:
    return queue.keys.lease("t", number)


# Each does one thing that changes tasks, on a queue with two that wait, one that is held, one dead letter, and one lost lease.
OPERATIONS: dict[str, Callable[[Queue], object]] = {
    "enqueue": lambda queue: queue.enqueue(TASKS[0]),
    "take": lambda queue: queue.store.take([lease(queue, 8)], "t", 10),
    "take what waits": lambda queue: queue.store.take([lease(queue, 8)], "t", 10, waiting=True),
    "succeed": lambda queue: queue.store.succeed(lease(queue, 0)),
    "retry": lambda queue: queue.store.retry(lease(queue, 0), BYTES[0]),
    "bury": lambda queue: queue.store.bury(lease(queue, 0), Reason.FAILED, "d", "w"),
    "give back": lambda queue: queue.store.give_back([lease(queue, 0)]),
    "sweep": lambda queue: sweep(queue.store),
    "sweep that buries": lambda queue: sweep(queue.store, 1),
    "dead retry": lambda queue: queue.store.dead_retry(["1-1"]),
    "info": inspect,
    "dead list": lambda queue: list(dead_letters(queue)),
}


def prepare(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(TASKS[:2])
    client.hset(queue.keys.processing, mapping={lease(queue, 0): BYTES[2], lease(queue, 1): BYTES[3]})
    client.set(lease(queue, 0), "t", px=60_000)
    client.xadd(queue.keys.dead, {"task": b"\x91\xa3d:l", "reason": "failed"}, id="1-1")
    client.hset(queue.keys.lost, "0" * 40, "1:x")


def state(queue: Queue, client: redis.Redis) -> dict[str, Any]:
    """All tasks, and where they are. (Notifications may be too many: sweepers repair them.)"""
    return {
        "waiting": client.lrange(queue.name, 0, -1),
        "held": client.hgetall(queue.keys.processing),
        "dead": client.xrange(queue.keys.dead),
    }


REFUSED = {  # what needs the key; the rest goes on
    "": set(OPERATIONS) - {"succeed", "bury", "dead list"},
    "_noti": set(OPERATIONS) - {"succeed", "bury", "dead list"},
    "_processing": set(OPERATIONS) - {"enqueue", "dead retry", "dead list"},
    "_lost": {"take", "take what waits", "succeed", "retry", "bury", "sweep", "sweep that buries"},
    "_dead": {"bury", "dead retry", "dead list", "sweep", "sweep that buries", "info"},
    "_workers": {"sweep", "sweep that buries", "info"},
    "_stats": {"info"},  # lost tasks come back, whatever becomes of the statistics
}


@pytest.mark.parametrize(("suffix", "kind"), PLACES)
def test_a_foreign_type_is_named_and_nothing_is_lost(queue: Queue, client: redis.Redis, suffix: str, kind: str) -> None:
    key = queue.name + suffix
    refused = set()
    for name, operate in OPERATIONS.items():
        client.delete(*client.keys(f"*{queue.name}*") or ["none"])
        prepare(queue, client)
        before = state(queue, client)
        make_foreign(client, key, kind)
        error = None
        try:
            operate(queue)
        except ForeignType as refusal:
            error = str(refusal)
        if error:
            refused.add(name)
            assert f"the key {key!r} of queue {queue.name!r} is a {kind} and not a" in error, name
            assert "rename it" in error
            mend(client, key)
            after = state(queue, client)
            assert sum(map(len, after.values())) == 5, name
            assert after == before or name.startswith("sweep"), name  # a sweep is many commands
    assert refused == REFUSED[suffix]


Start = Callable[[Worker], Any]


@pytest.mark.parametrize("suffix", ["", "_noti", "_processing", "_lost", "_dead", "_workers"])
def test_a_worker_says_what_is_wrong_waits_longer_and_longer_and_goes_on_when_it_is_mended(
    queue: Queue,
    client: redis.Redis,
    suffix: str,
    threaded: Start,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = queue.name + suffix
    pauses: list[float] = []
    tasks = [PyTask("tasks:noop"), PyTask("tasks:fail", ("x",)), PyTask("tasks:noop")]
    make_foreign(client, key, "set")
    worker = Worker(Queue(queue.name, client, dequeue_timeout=0.02), allow=AllowAny())
    wait = worker._stop.wait
    monkeypatch.setattr(worker._stop, "wait", lambda seconds: pauses.append(seconds) or wait(0.001))  # type: ignore[func-returns-value]
    with caplog.at_level(logging.WARNING, "delayed"):
        threaded(worker)
        if suffix in ("", "_noti"):
            with pytest.raises(ForeignType):
                queue.enqueue_many(tasks)
        else:
            queue.enqueue_many(tasks)
        if suffix != "_workers":  # without a register it can work
            eventually(lambda: len(pauses) >= 8)
            assert min(pauses[6:8]) >= 0.5
            assert max(pauses) <= 1
            assert f"the key {key!r} of queue {queue.name!r} is a set and not a" in caplog.text
        mend(client, key)
    if suffix in ("", "_noti"):
        queue.enqueue_many(tasks)
    eventually(lambda: (worker.finished, queue.len(), client.hlen(queue.keys.processing)) == (3, 0, 0))
    assert [letter.reason for letter in dead_letters(queue)] == ["failed"]


def test_a_sweeper_says_what_is_wrong_and_goes_on_when_it_is_mended(
    queue: Queue, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.hset(queue.keys.processing, lease(queue, 0), BYTES[0])
    make_foreign(client, queue.keys.dead, "string")
    sweeper = Sweeper([queue], 0.05)
    waits: list[int] = []
    pause = sweeper._wait

    def then(*arguments: Any) -> None:
        waits.append(queue.len())
        if len(waits) == 2:
            mend(client, queue.keys.dead)
        if len(waits) == 3:
            sweeper.stop()
        pause(*arguments)

    sweeper._wait = then  # type: ignore[method-assign,assignment]
    with caplog.at_level(logging.WARNING, "delayed"):
        sweeper.run()
    assert waits == [0, 0, 1]
    said = [record.getMessage() for record in caplog.records if "sweep of" in record.getMessage()]
    assert len(said) == 1  # of two attempts
    assert f"the key {queue.keys.dead!r} of queue {queue.name!r} is a string and not a stream" in said[0]


def test_a_worker_of_several_queues_names_the_right_one(
    name: str, client: redis.Redis, threaded: Start, caplog: pytest.LogCaptureFixture
) -> None:
    queues = [Queue(f"{name}{number}", client, dequeue_timeout=0.02) for number in range(2)]
    make_foreign(client, queues[1].keys.noti, "string")
    with caplog.at_level(logging.WARNING, "delayed"):
        threaded(Worker(queues, allow=AllowAny()))
        eventually(lambda: f"the key '{name}1_noti' of queue '{name}1' is a string" in caplog.text)
    assert f"'{name}0" not in caplog.text


def test_one_who_may_not_ask_for_types_still_hears_the_error(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    client.execute_command("ACL", "SETUSER", queue.name, "on", ">x", "~*", "+@all", "-type")
    make_foreign(client, queue.name, "string")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        Queue(queue.name, server.url.replace("unix://", f"unix://{queue.name}:x@")).enqueue(TASKS[0])


async def test_an_async_producer_hears_the_same(queue: Queue, client: redis.Redis, server: EmbeddedRedis) -> None:
    make_foreign(client, queue.keys.noti, "hash")
    async with redis.asyncio.Redis.from_url(server.url) as conn:
        with pytest.raises(ForeignType, match=f"the key '{queue.name}_noti' of queue '{queue.name}' is a hash and not a list"):
            await AsyncQueue(queue.name, conn).enqueue(TASKS[0])
    assert queue.len() == 0


@pytest.mark.parametrize(
    "command", [["info", "Q"], ["dead", "list", "Q"], ["dead", "retry", "Q", "1-1"], ["dead", "purge", "Q", "--all"]]
)
def test_the_command_line_says_it_in_a_line(
    queue: Queue, client: redis.Redis, server: EmbeddedRedis, command: list[str]
) -> None:
    make_foreign(client, queue.keys.dead, "zset")
    result = CliRunner().invoke(main, [*(queue.name if word == "Q" else word for word in command), "--redis", server.url])
    assert result.exit_code == 1
    assert f"Error: WRONGTYPE: the key '{queue.keys.dead}' of queue '{queue.name}' is a zset and not a stream" in result.output
    assert len(result.output.splitlines()) == 1


def test_info_shows_a_task_whose_upstream_worker_has_a_number_that_is_a_foreign_key(queue: Queue, client: redis.Redis) -> None:
    number = f"{queue.name}:4711"
    client.hset(queue.keys.processing, number, BYTES[0])
    make_foreign(client, number, "list")
    (shown,) = inspect(queue).leases
    assert (shown.lease, shown.task, shown.held_by, shown.alive) == (number, "tasks:noop", "", True)


NAMES = [
    "ünïcödé 队列",
    "a b",
    "a\nb\r\n",
    "a\0b",
    "{tag}q",
    "{}",
    "*?[a-z]",
    "%s {0}",
    "a:b/c",
    "\udcff",
    "x" * 10_000,
    "-",
    "\"'",
    "1",
]


@pytest.fixture(params=NAMES, ids=range(len(NAMES)))
def odd(request: pytest.FixtureRequest, name: str, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> Iterator[Queue]:
    caplog.set_level(logging.CRITICAL, "delayed")  # pytest-xdist cannot report text that is not UTF-8
    queue = Queue(f"{name}{request.param}", client, dequeue_timeout=0.1)
    yield queue
    for suffix in SUFFIXES:
        queue.store.call("DEL", queue.name + suffix)


def test_a_queue_may_have_any_name_that_is_text(odd: Queue, server: EmbeddedRedis, threaded: Start) -> None:
    async def produce() -> None:
        async with redis.asyncio.Redis.from_url(server.url) as conn:
            await AsyncQueue(odd.name, conn).enqueue(PyTask("tasks:fail", ("x",)))

    asyncio.run(produce())
    odd.enqueue(PyTask("tasks:noop"))
    odd.store.call("HSET", odd.keys.processing, lease(odd, 0), BYTES[0])
    assert sweep(odd.store)[:2] == (1, 0)
    worker = Worker(odd, allow=AllowAny())
    threaded(worker)
    eventually(lambda: worker.finished == 3)
    (letter,) = dead_letters(odd)
    assert odd.store.dead_retry([letter.id]) == 1
    eventually(lambda: worker.finished == 4)
    eventually(lambda: len(inspect(odd).processes) == 1)
    shown = CliRunner().invoke(main, ["info", "--redis", server.url, "--", odd.name])
    assert shown.exit_code == 0 or "\udcff" in odd.name, shown.output


@pytest.mark.parametrize("wrong", ["", None, 5, b"bytes", "\ud800", "a\udfffb", "q_noti", "q_lease_x", ("q",)])
@pytest.mark.parametrize("make", [Queue, AsyncQueue])
def test_other_names_are_refused(wrong: Any, make: Any, client: redis.Redis) -> None:
    with pytest.raises(ConfigurationError):
        make(wrong, client)
