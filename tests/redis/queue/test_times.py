"""Whose clock counts: what is said relative to now is meant by the server's."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from delayed.errors import UnknownTask
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import AsyncHandle
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.server_time import ServerTime
from delayed.task.decode import headers_of
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from tests.redis.test_costs import monitored

Skew = Callable[[float], None]


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> Skew:
    """Sets the clock of this process wrong by so many seconds."""

    def skew(seconds: float) -> None:
        for module in ("task.options", "redis.server_time", "queue.producer"):
            monkeypatch.setattr(f"delayed.{module}.now", lambda: time.time() + seconds)

    return skew


def expires(queue: Queue, place: int = -1) -> float:
    """In how many seconds a waiting task expires."""
    return float(headers_of(queue.store.call("LINDEX", queue.keys.queue, place))["expires"]) / 1000 - time.time()


@pytest.mark.parametrize("seconds", [-3600, 3600])
@pytest.mark.parametrize("make", [lambda **how: PyTask("m:f", **how), lambda **how: GoTask("main.F", **how)])
async def test_seconds_until_a_task_expires_are_the_server_s(
    queue: Queue, redis_url: str, skewed: Skew, seconds: float, make: Callable[..., Any]
) -> None:
    skewed(seconds)
    async with AsyncQueue(queue.name, redis_url) as other:
        for options in ({}, {"result_ttl": 60}, {"retry": 1}):
            task = make(expires=30, **options)
            for enqueue in (queue.enqueue, lambda task: queue.enqueue_many([make(), task])):
                enqueue(task)
                assert 28 < expires(queue) <= 30.1
            for call in (other.enqueue(task), other.enqueue_many([make(), task])):
                await call
                assert 28 < expires(queue) <= 30.1


def test_the_server_is_asked_once_a_minute_and_by_none_who_need_not_know(
    queue: Queue, client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monitored(client, name) as sent:
        for _ in range(5):
            queue.enqueue(PyTask("m:f"))
            queue.enqueue(PyTask("m:f", result_ttl=60, after=5))
            queue.enqueue(PyTask("m:f", expires=datetime.now(UTC) + timedelta(60)))
        queue.enqueue_many(PyTask("m:f", expires=60) for _ in range(5))
    assert sent.count("TIME") == 1
    assert set(sent) - {"HELLO", "CLIENT"} <= {"EVALSHA", "EVAL", "TIME"}
    with monitored(client, name) as sent:
        monkeypatch.setattr("delayed.redis.server_time._TRUSTED", -1.0)
        queue.enqueue(PyTask("m:f", expires=60))
    assert sent.count("TIME") == 1


def test_who_may_not_ask_has_the_own_clock(queue: Queue, server: EmbeddedRedis, client: redis.Redis) -> None:
    user = f"u{queue.name}"
    client.execute_command("ACL", "SETUSER", user, "on", ">pw", "~*", "+@all", "-time")
    try:
        limited = Queue(queue.name, server.url.replace("unix://", f"unix://{user}:pw@"))
        limited.enqueue(PyTask("m:f", expires=30))
        assert 28 < expires(queue) <= 30.1
    finally:
        client.execute_command("ACL", "DELUSER", user)


def test_an_enqueue_that_could_not_ask_says_that_it_has_done_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(queue.store._pooled, "call", broken)
    with pytest.raises(redis.ConnectionError) as caught:
        queue.enqueue(PyTask("m:f", expires=30))
    assert any("before anything was enqueued" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_a_status_knows_by_the_server_whether_a_task_is_due(
    queue: Queue, redis_url: str, skewed: Skew, seconds: float
) -> None:
    skewed(seconds)
    async with AsyncQueue(queue.name, redis_url) as other:
        for after, state in ((600, State.SCHEDULED), (0.001, State.QUEUED)):
            handle = queue.enqueue(PyTask("m:f", track=True, after=after))
            there = AsyncHandle(other, handle.id)
            async with asyncio.timeout(60):
                while handle.status().state is not state or (await there.astatus()).state is not state:
                    await asyncio.sleep(0.002)  # when something is due is judged by estimates


def test_a_clock_that_is_set_or_a_sleep_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"now": 1000.0, "monotonic": 50.0}
    monkeypatch.setattr("delayed.redis.server_time.now", lambda: clocks["now"])
    monkeypatch.setattr("delayed.redis.server_time.monotonic", lambda: clocks["monotonic"])
    server = ServerTime()
    assert (server.known, server.age(), server.stale(), server.now()) == (False, float("inf"), True, 1000.0)
    server.learn([b"5000", b"500000"], 49.0, 51.0)
    clocks |= {"now": 1010.0, "monotonic": 60.0}
    assert (server.known, server.age(), server.stale(), server.now()) == (True, 9.0, False, 5010.5)
    clocks["now"] += 3600  # this machine has slept, or its clock was set
    assert server.stale()
    clocks |= {"now": 1070.0, "monotonic": 120.0}
    assert server.stale()  # it is long ago


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"state": "queued", "progress": b"\xc1"}, {"done": None, "total": None, "note": ""}),
        ({"state": "queued", "progress": b"\x93\xc3\xa1x\x01"}, {"done": None, "total": None, "note": ""}),
        (
            {"state": "queued", "progress": b"\x93\x01\xcb?\xf8\x00\x00\x00\x00\x00\x00\xa1x"},
            {"done": 1, "total": 1.5, "note": "x"},
        ),
        ({"state": "queued", "progress": b"\x81\x01\x02"}, {"done": None}),
        (
            {"state": "scheduled", "due": "soon", "attempt": "x", "enqueued": b"\xff"},
            {"due": None, "attempt": None, "enqueued": None},
        ),
        ({"state": "running", "worker": b"\xff", "error": b"\xfe"}, {"worker": "\ufffd", "error": "\ufffd"}),
    ],
)
def test_a_status_passes_over_what_another_program_has_written(
    queue: Queue, fields: dict[str, Any], wanted: dict[str, Any]
) -> None:
    handle = queue.enqueue(PyTask("m:f", track=True))
    for name, value in fields.items():
        queue.store.call("HSET", queue.keys.task(handle.id or ""), name, value)
    status = handle.status()._asdict()
    assert {name: status[name] for name in wanted} == wanted


@pytest.mark.parametrize("state", ["sleeping", b"\xff", ""])
def test_a_state_that_is_none_of_ours_is_no_task_of_ours(queue: Queue, state: str | bytes) -> None:
    handle = queue.enqueue(PyTask("m:f", track=True))
    queue.conn.hset(queue.keys.task(handle.id or ""), "state", state)
    with pytest.raises(UnknownTask, match="which this version does not know"):
        handle.status()
    queue.conn.hdel(queue.keys.task(handle.id or ""), "state")
    with pytest.raises(UnknownTask):
        handle.status()
