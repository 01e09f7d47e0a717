"""Coroutine functions for the tests, and what they need."""

import asyncio
import contextvars
import os
import time
from collections.abc import Awaitable
from functools import cache
from typing import NoReturn

import redis
import redis.asyncio

from delayed.errors import Retry
from delayed.job.job import current_task
from delayed.queue.async_queue import AsyncQueue
from delayed.task.task import PyTask

_own = contextvars.ContextVar("own", default="nobody")


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])


def note(key: str, value: object) -> None:
    """Say something. It blocks the loop for a moment, and keeps no connection that belongs to a loop."""
    _client().rpush(key, str(value))


async def anote(key: str, value: object) -> None:
    note(key, value)


_gates: dict[str, asyncio.Event] = {}
_seen = [0, 0]  # in flight now, at most


async def meet(key: str, count: int) -> int:
    """Go on when so many are here at once; the last says so."""
    gate = _gates.setdefault(key, asyncio.Event())
    gate.n = getattr(gate, "n", 0) + 1  # type: ignore[attr-defined]
    if gate.n == count:  # type: ignore[attr-defined]
        note(f"{key}:met", count)
        gate.set()
    await gate.wait()
    return count


async def hold(key: str, value: object) -> None:
    """Say that it has begun, wait until told to go on, say that it has ended."""
    note(f"{key}:began", value)
    while not _client().exists(f"{key}:go"):
        await asyncio.sleep(0.02)
    note(f"{key}:ended", value)


def block(key: str, value: object) -> None:
    """As `hold`, and a plain function."""
    note(f"{key}:began", value)
    while not _client().exists(f"{key}:go"):
        time.sleep(0.02)
    note(f"{key}:ended", value)


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def noop(*args: object) -> None:
    """Nothing."""


async def same(i: int) -> int:
    return i


async def about_itself() -> list[object]:
    """What it knows of itself, after others have run meanwhile."""
    before = current_task()
    _own.set(str(before.id))
    await asyncio.sleep(0.01)
    job = current_task()
    assert job is before
    assert _own.get() == job.id
    return [job.func_path, job.id, job.attempt, job.queue.name, job.enqueued_at, job.headers.get("result_ttl")]


def own_value() -> str:
    """What another task has left in the context."""
    found = _own.get()
    _own.set("a task")
    return found


async def note_itself(key: str) -> None:
    await asyncio.sleep(0)
    note(key, current_task())


async def ask_again(attempts: int) -> int:
    job = current_task()
    await asyncio.sleep(0)
    if job.attempt < attempts:
        raise Retry(after=0.02)
    return job.attempt


async def until_cancelled(key: str, swallow: bool = False) -> str:
    note(f"{key}:began", 1)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        job = current_task()
        note(f"{key}:told", job.cancelled)
        if not swallow:
            raise
    return "tidied up"


def returns_until_cancelled(key: str, swallow: bool) -> Awaitable[str]:
    """As a decorator may have made it."""
    return until_cancelled(key, swallow)


async def forever(key: str) -> None:
    note(f"{key}:began", os.getpid())
    await asyncio.Event().wait()


async def _leave() -> NoReturn:
    raise SystemExit(4)


async def raise_strange(kind: str) -> None:
    """Raise, in several ways, what is not for an event loop."""
    await asyncio.sleep(0)
    match kind:
        case "cancelled":
            raise asyncio.CancelledError("its own")
        case "exit":
            raise SystemExit(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
        case "timeout":
            raise TimeoutError("its own")
        case "itself":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        case "child":
            await asyncio.create_task(_leave())
        case "stop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
            raise ValueError(kind)
        case _:
            raise ValueError(kind)


async def leave_a_child() -> None:
    """Nobody waits for it, and it ends the loop it runs in."""
    _kept.append(asyncio.create_task(_leave()))


_kept: list[asyncio.Task[object]] = []


async def sleep_on(key: str, number: int) -> None:
    """Long enough to be killed in it, at first."""
    note(f"{key}:began", number)
    await asyncio.sleep(0 if _client().exists(f"{key}:go") else 3600)
    note(f"{key}:ended", number)


QUEUE: AsyncQueue | None = None  # a test says where tasks enqueue others


async def enqueues(number: int) -> int:
    assert QUEUE is not None
    await QUEUE.enqueue(PyTask("tasks:noop", (number,)))
    return number


async def clean_up(key: str, seconds: float = 0) -> None:
    """Say that it has begun, and that it was cancelled, after a while."""
    note(f"{key}:began", 1)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(seconds)
        note(f"{key}:cleaned", 1)
