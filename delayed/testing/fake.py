"""Queues without a server, by fakeredis: the base of `delayed.testing`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fakeredis

from ..errors import ConfigurationError
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..redis.scripts import Argument

Either = TypeVar("Either", Queue, AsyncQueue)


def fake_queue(name: str = "default") -> Queue:
    """A queue in this process's memory, that no other queue shares. All Lua scripts really run, by fakeredis.

    What it does not cover: workers and sweepers (they need a server's sockets; use `drain`, or a real Redis), blocking,
    other processes, clusters, and whatever fakeredis does otherwise than Redis.
    """
    return _fake(name, _server())


def fake_async_queue(name: str = "default") -> AsyncQueue:
    """As `fake_queue`, for asyncio. `drain` and the others take it, too."""
    queue = AsyncQueue(name, fakeredis.FakeAsyncRedis())
    _dress(queue, _server())
    return queue


@contextmanager
def faked(queue: Either, *others: Queue | AsyncQueue) -> Iterator[Either]:
    """Inside of the block an application's own `Queue` or `AsyncQueue` object, to which its tasks are bound, is a fake one; so
    are `others`, which share its memory: queues of one name are one queue."""
    server = _server()
    before = [(each, _dress(each, server)) for each in (queue, *others)]
    try:
        yield queue
    finally:
        for each, attributes in reversed(before):
            vars(each).update(attributes)


def beneath(queue: Queue | AsyncQueue) -> Queue:
    """The queue itself, or the one that a fake `AsyncQueue` hands everything to.

    Raises:
        ConfigurationError: it is an `AsyncQueue` on a real server.
    """
    if isinstance(queue, Queue):
        return queue
    if isinstance(queue._pooled, _Bridge):
        return queue._pooled.queue
    raise ConfigurationError(
        f"{queue!r} is on a real server: use it inside of `with faked(queue)`, or give this function a Queue of the same name"
    )


class _Bridge:
    """Sends the commands of an `AsyncQueue` to a fake `Queue`. It never waits, so it belongs to no loop."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def call(self, *command: Argument) -> Any:
        return self.queue._pooled.call(*command)

    async def batch(self, *commands: tuple[Argument, ...]) -> list[Any]:
        return self.queue._pooled.batch(*commands)


def _dress(queue: Queue | AsyncQueue, server: fakeredis.FakeServer) -> dict[str, Any]:
    """From now on `queue` is on `server`. Returns the attributes that are others now, as they were."""
    fake = _fake(queue.name, server)
    others: dict[str, Any] = {name: vars(fake)[name] for name in ("faked", "_durability")}  # nothing here outlives the test
    if isinstance(queue, AsyncQueue):
        others["_pooled"] = _Bridge(fake)
    else:
        others |= {name: vars(fake)[name] for name in ("conn", "_pooled", "_caller")}
    before = {name: vars(queue)[name] for name in others}
    vars(queue).update(others)
    return before


def _fake(name: str, server: fakeredis.FakeServer) -> Queue:
    queue = Queue(name, fakeredis.FakeRedis(server=server))
    queue.faked = True
    return queue


def _server() -> fakeredis.FakeServer:
    server = fakeredis.FakeServer()
    fakeredis.FakeRedis(server=server).eval("return 1", 0)  # now it has a Lua runtime, whose `redis` lacks what scripts need
    server._lua_runtime.globals()[b"redis"][b"sha1hex"] = _sha1hex  # type: ignore[attr-defined]
    return server


def _sha1hex(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()
