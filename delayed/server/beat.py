"""What the register says of the server for each queue from which it hands out tasks, and what operators want of that."""

import asyncio
import contextlib

import msgpack

from ..base.clock import monotonic, now
from ..queue.limits import Limits
from ..redis.command import RedisError, ResponseError
from ..redis.store_taking import Due
from .links import Link
from .tally import Tally

BEAT = 3.0  # seconds between two beats, as of a worker
TTL = 10.0  # seconds that the entry in the register lives after one
_SERVED = 60.0  # seconds between two times that the queue is registered as served


class Beat:
    """The server as a worker of one queue.

    Args:
        link: the queue.
        holder: the name of this process.
        place: host:pid.
    """

    def __init__(self, link: Link, holder: str, place: str) -> None:
        self._link, self._holder = link, holder
        about = {"kind": "worker", "language": "http", "place": place, "queues": [link.name], "started": now(), "ttl": TTL}
        self._about = about | {"running": None, "running_for": None}
        self.counts = {"succeeded": 0, "retried": 0, "failed": 0}  # tasks that have ended here
        self.tally = Tally(link, place)
        self.users = 0  # who count something now
        self.limits = Limits()
        self.grouped = False  # groups may have tasks waiting
        self._next = self._serve_at = 0.0  # monotonic times
        self._lock = asyncio.Lock()

    @property
    def idle(self) -> bool:
        """Whether nothing is counted, or was and is not sent yet."""
        return not self.users and self.tally.idle

    async def learn(self) -> None:
        """Beat, if it is time to."""
        if monotonic() < self._next:
            return
        async with self._lock:
            if monotonic() < self._next:
                return
            about = msgpack.packb({**self._about, **self.counts}, unicode_errors="surrogateescape")
            flags, *fields = await self._link.call(lambda store: store.beat(self._holder, TTL, about), [0])
            self.limits = Limits.of(fields)
            self.grouped = self.grouped or bool(flags & 1)
            self.tally.told(fields, await self._link.queue.ask_time() - monotonic())
            if monotonic() >= self._serve_at:
                self._serve_at = monotonic() + _SERVED
                await self._link.batch(self._link.recorded(lambda store: store.serve()))
            self._next = monotonic() + BEAT

    async def feed(self, most: int) -> None:
        """Let the groups take turns, if there are any."""
        if self.grouped:
            names = await self._link.call(lambda store: store.grouped(most), [])
            self.grouped = bool(names)
            if names:
                digests = [each.decode(errors="surrogateescape") for each in names]
                await self._link.queue.store.turn(digests, most)

    async def due(self) -> bool:
        """Move what is due to the queue. Whether tasks wait there."""
        store = self._link.store
        found: Due = await asyncio.to_thread(store.due, [self._link.keys])
        return found.first is not None

    async def end(self) -> None:
        """The server serves the queue no more."""
        await self.tally.close()
        own = self._link.keys.lease(self._holder)
        if self._next:
            with contextlib.suppress(RedisError, ResponseError):
                await self._link.batch([("HDEL", self._link.keys.workers, own), ("UNLINK", own)])
