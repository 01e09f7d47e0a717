"""Queues without a server, by fakeredis: the base of `delayed.testing`."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import fakeredis

from ..errors import ConfigurationError, NotDone
from ..queue.async_queue import AsyncQueue
from ..queue.node import Node
from ..queue.queue import Queue
from ..queue.waits import Answer, NotYet, answer_in, undecided
from ..redis.async_store import AsyncStore
from ..redis.durability import MEMORY, Durability
from ..redis.scripts import Argument
from ..task.result import OUTCOME

__tracebackhide__ = True  # pytest shows the lines of the test instead


def fake_queue(name: str = "default") -> Queue:
    """A queue in this process's memory, that no other queue shares. All Lua scripts really run, by fakeredis.

    What it does not cover: workers and sweepers (they need a server's sockets; use `drain`, or a real Redis), blocking,
    other processes, clusters, timelines and histories, and whatever fakeredis does otherwise than Redis.
    """
    return _fake(name, fake_server())


def fake_async_queue(name: str = "default") -> AsyncQueue:
    """As `fake_queue`, for asyncio. `drain` and the others take it, too."""
    queue = AsyncQueue(name, fakeredis.FakeAsyncRedis())
    vars(queue).update(fake_attributes(queue, fake_server()))
    return queue


@contextmanager
def placed(queue: Queue | AsyncQueue, attributes: dict[str, Any]) -> Iterator[None]:
    """Inside of the block the queue object has these attributes instead of its own."""
    before = vars(queue).copy()
    try:
        vars(queue).update(attributes)
        yield
    finally:
        vars(queue).update(before)
        for name in vars(queue).keys() - before.keys():
            delattr(queue, name)


def beneath(queue: Queue | AsyncQueue) -> Queue:
    """The queue itself, or the one that a fake `AsyncQueue` hands everything to.

    Raises:
        ConfigurationError: it is an `AsyncQueue` on a real server.
    """
    if isinstance(queue, Queue):
        return queue
    if isinstance(queue.store, _Bridge):
        return queue.store.queue
    raise ConfigurationError(
        f"{queue!r} is on a real server: use it inside of `with faked(queue)`, or give this function a Queue of the same name"
    )


class _Bridge(AsyncStore):
    """What an `AsyncQueue` hands everything to: a fake `Queue`. It makes nobody wait, so it belongs to no loop."""

    def __init__(self, queue: Queue) -> None:
        pooled: Any = self
        super().__init__(queue.keys, pooled, Durability(MEMORY))
        self.queue = queue

    async def call(self, *command: Argument) -> Any:
        return self.queue.store.call(*command)

    async def waiter(self) -> "_Look":
        return _Look(self.queue)


class _Look:
    """Through which a handle waits for a result: nothing works on a fake queue by itself, so it is there now, or never.

    Args:
        queue: the fake queue.
    """

    trouble = None

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @contextmanager
    def waiting(self, key: str, tell: Callable[[Answer], None], node: Node | None = None) -> Iterator[None]:
        """As `Waiter.waiting`.

        Raises:
            NotDone: nothing has run the task yet.
        """
        call = self._queue.store.call
        answer = answer_in(call("HMGET", key, *OUTCOME))
        if node is not None and undecided(answer):
            answer = node.answer(answer, *(call(*question) for question in node.questions))
        if answer is NotYet:
            raise NotDone("nothing works on a faked queue by itself: call drain(queue) first (after travel, if it is not due)")
        tell(answer)
        yield


def fake_attributes(queue: Queue | AsyncQueue, server: fakeredis.FakeServer) -> dict[str, Any]:
    """What makes a queue object one on `server`."""
    fake = _fake(queue.name, server)
    if isinstance(queue, AsyncQueue):
        bridge = _Bridge(fake)
        return {"store": bridge, "waiter": bridge.waiter}
    return {name: vars(fake)[name] for name in ("conn", "store", "waiter")}


def _fake(name: str, server: fakeredis.FakeServer) -> Queue:
    queue = Queue(name, fakeredis.FakeRedis(server=server))
    vars(queue)["waiter"] = partial(_Look, queue)
    return queue


def fake_server() -> fakeredis.FakeServer:
    """A memory for fake queues, in which all our scripts run."""
    server = fakeredis.FakeServer()
    fakeredis.FakeRedis(server=server).eval("return 1", 0)  # now it has a Lua runtime, whose `redis` lacks what scripts need
    server._lua_runtime.globals()[b"redis"][b"sha1hex"] = _sha1hex  # type: ignore[attr-defined]
    return server


def _sha1hex(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()
