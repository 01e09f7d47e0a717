"""The queues that the server has been asked for, over connections that all of them share."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..queue.waiter import AsyncWaiter
from ..redis.async_pool import AsyncPooled, explained_async
from ..redis.async_store import AsyncStore
from ..redis.command import AsyncClient, Command, NoScriptError, RedisError, is_cluster, place_of
from ..redis.connect import clients_for, connect
from ..redis.durability import MEMORY, Durability
from ..redis.scripts import SCRIPTS, Argument
from ..redis.store import Store
from ..redis.wire import Wire

_MOST = 1000  # queues that are kept at hand: their names are the clients' to choose
_WAITERS = 100  # connections over which results are waited for that are kept: on a cluster each slot may need its own
_DURABLE = 10  # ways to enqueue durably into one queue that are kept at hand
_BY_SHA = {script.sha: script for script in SCRIPTS.values()}


_posted: set["asyncio.Future[list[Any]]"] = set()


def _done(task: "asyncio.Future[list[Any]]") -> None:
    _posted.discard(task)
    with contextlib.suppress(RedisError, asyncio.CancelledError):
        task.result()


class Recorder:
    """Notes what a method of the store would send.

    Args:
        answer: what the method is told that Redis has said.
    """

    def __init__(self, answer: Any = 1) -> None:
        self.answer = answer
        self.commands: list[Command] = []

    def call(self, *command: Argument) -> Any:
        """Note it."""
        self.commands.append(command)
        return self.answer


class _Sharing(AsyncQueue):
    """A queue whose waits for results share the connection of others.

    Args:
        name, client: as for `AsyncQueue`.
        waiter: gives what serves them.
    """

    def __init__(self, name: str, client: AsyncClient, waiter: Callable[[str], Awaitable[AsyncWaiter]]) -> None:
        super().__init__(name, client)
        self._shared = waiter

    async def waiter(self) -> AsyncWaiter:
        """Through which handles wait for results."""
        return await self._shared(self.name)


class Link:
    """One queue, for asyncio, and for who may block.

    Args:
        name: its name.
        pooled: sends its commands.
        client: the same for asyncio,
        blocking: and for who may block.
        waiter: gives, for a name, what serves those who wait for results.

    Raises:
        ConfigurationError: no queue can have this name.
    """

    def __init__(
        self,
        name: str,
        pooled: AsyncPooled,
        client: AsyncClient,
        blocking: Any,
        waiter: Callable[[str], Awaitable[AsyncWaiter]],
    ) -> None:
        self.name = name
        self.blocking = Queue(name, blocking)
        self.queue: AsyncQueue = _Sharing(name, client, waiter)
        self.pooled = pooled
        self.queue.store = AsyncStore(self.queue.keys, self.pooled, Durability(MEMORY))
        self.keys = self.queue.keys
        self.store = self.blocking.store  # never used to send anything but in a thread of its own: see `recorded`

        self._client = client
        self._durable: dict[tuple[str, float], AsyncQueue] = {}
        self._recorder = Recorder()
        self._recording = self.store.over(self._recorder)

    def durable(self, text: str, seconds: float) -> AsyncQueue:
        """The queue, with enqueues that wait for a disk or for replicas.

        Args:
            text: as `Queue` takes it.
            seconds: how long an enqueue waits at most.

        Raises:
            ConfigurationError: there is no such durability.
        """
        if text == MEMORY:
            return self.queue
        durability = Durability(text, seconds)
        found = self._durable.get((durability.text, seconds))
        if found is None:
            found = AsyncQueue(self.name, self._client, durability=durability.text, durability_timeout=seconds)
            if len(self._durable) >= _DURABLE:
                self._durable.clear()
            self._durable[durability.text, seconds] = found
        return found

    def recorded(self, method: Callable[[Store], object], answer: Any = 1) -> list[Command]:
        """The commands that a method of the store sends, for who sends them otherwise; `answer` is what the method is told."""
        self._recorder.answer, self._recorder.commands = answer, []
        method(self._recording)
        return self._recorder.commands

    async def call(self, method: Callable[[Store], object], answer: Any = 1) -> Any:
        """Send the command that a method of the store sends, and return the reply; `answer` is what the method is told."""
        (command,) = self.recorded(method, answer)
        (reply,) = await self.batch([command])
        if isinstance(reply, RedisError):
            raise await explained_async(reply, self.pooled, self.keys, _names(command)) from reply
        return reply

    def post(self, *commands: Command) -> None:
        """Send commands of whose replies nobody needs to know."""
        task = asyncio.ensure_future(self.batch(commands))
        _posted.add(task)
        task.add_done_callback(_done)

    async def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once; an error reply comes as an exception."""
        if not commands:
            return []
        replies = await self.pooled.batch(*commands)
        for position, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                command = commands[position]
                (replies[position],) = await self.pooled.batch(_BY_SHA[str(command[1])].with_source(command))
        return replies


def _names(command: Command) -> list[str]:
    return [each for each in command if isinstance(each, str)]


class Links:
    """The queues of one Redis. Those that were asked for last are kept.

    Args:
        url: where Redis is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.blocking = connect(url)
        self.client, self.clients = clients_for(url)
        self._wire = None if is_cluster(self.client) else Wire(self.clients, "delayed")
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._waiters: OrderedDict[int, AsyncWaiter] = OrderedDict()
        self._closing: set[asyncio.Future[None]] = set()  # of those that were there

    def __getitem__(self, name: str) -> Link:
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = Link(name, self.pooled(name), self.client, self.blocking, self.waiter)
            if len(self._links) > _MOST:
                self._links.popitem(last=False)
        else:
            self._links.move_to_end(name)
        return link

    def pooled(self, key: str) -> AsyncPooled:
        """What sends commands about a key."""
        return self._wire or AsyncPooled(self.clients, key)

    async def waiter(self, name: str) -> AsyncWaiter:
        """What serves those who wait for results of a queue, and of all others; on a cluster, of those in its slot."""
        place = place_of(self.client, name)
        waiter = self._waiters.get(place)
        if waiter is None:
            waiter = self._waiters[place] = AsyncWaiter(self.pooled(name).client, name)
        self._waiters.move_to_end(place)
        if len(self._waiters) > _WAITERS:
            self._close_idle(waiter)
        return waiter

    def _close_idle(self, wanted: AsyncWaiter) -> None:
        """Close the connection that has not been waited over for the longest time, if nobody does now."""
        for place, each in self._waiters.items():
            if each.idle and each is not wanted:
                del self._waiters[place]
                closing = asyncio.ensure_future(each.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
                return

    async def aclose(self) -> None:
        """Close all connections."""
        for waiter in list(self._waiters.values()):
            await waiter.aclose()
        if self._closing:
            await asyncio.wait(self._closing)
        for link in list(self._links.values()):  # what ends meanwhile may ask for one more
            await link.queue.aclose()
        if self._wire is not None:
            await self._wire.aclose()
        await self.clients.close()
        self.blocking.close()
