"""Tells many clients what happens to tasks and processes: one read of Redis for all of them, however many there are."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..base.clock import monotonic, now
from ..base.text import traceback_of
from ..errors import ConfigurationError
from ..logger import logger
from ..ops.register import served
from ..ops.watch import Watch, Watched
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..redis.outage import OutageLog
from .forms import text
from .links import Links
from .mapping import write

_MOST, _BYTES = 1000, 1 << 20  # messages for one listener that it has not read, and their bytes
_LISTENERS = 1000
_QUEUES = 1000  # that are followed
_LOOK = 5.0  # seconds between two looks which queues are served
_PAUSE = 0.5  # seconds, where there is nothing to read
_ANY = "default"
_WHAT = "follow events"
Order = tuple[int, int]  # of an entry of a history


class TooMany(Exception):
    """No more listeners are let in."""


class Listener:
    """One client that hears what happens.

    Args:
        names: of the queues; None for all that are served.
        covers: which of these it may hear of.
    """

    def __init__(self, names: frozenset[str] | None, covers: Callable[[str], bool]) -> None:
        self.names, self._covers = names, covers
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: deque[tuple[str, Order | None, bytes]] = deque()
        self._size = 0
        self._newest: dict[str, bytes] = {}  # queue → its totals that it has not read
        self._missed = False
        self._woken = asyncio.Event()
        self._told: dict[str, Order] = {}  # queue → the last entry that it has heard of otherwise
        self.closed = False

    def hears(self, queue: str) -> bool:
        """Whether it is about this queue."""
        return self._covers(queue) if self.names is None else queue in self.names

    def put(self, queue: str, order: Order | None, message: bytes) -> None:
        """Something has happened. Who reads too slowly is told that something is missing, instead."""
        if order is not None and order <= self._told.get(queue, (-1, -1)):
            return
        self._waiting.append((queue, order, message))
        self._size += len(message)
        if len(self._waiting) > _MOST or self._size > _BYTES:
            self._waiting.clear()
            self._size, self._missed = 0, True
        self._woken.set()

    def update(self, queue: str, message: bytes) -> None:
        """The totals of a queue are others; who has not read the ones before needs them no more."""
        self._newest[queue] = message
        self._woken.set()

    def skip(self, told: dict[str, Order]) -> None:
        """It has heard of these entries, and all before them."""
        self._told = told
        kept = [each for each in self._waiting if each[1] is None or each[1] > told.get(each[0], (-1, -1))]
        self._waiting = deque(kept)
        self._size = sum(len(message) for *_, message in kept)

    async def messages(self, seconds: float) -> bytes:
        """What is there, at once or within so many seconds; nothing if nothing is, or if it is closed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()
        found = [*(message for *_, message in self._waiting), *self._newest.values()]
        self._waiting.clear()
        self._newest.clear()
        self._size = 0
        if self._missed:
            self._missed = False
            found.insert(0, gap())
        return b"".join(found)

    def close(self) -> None:
        """It hears no more, and waits no more for the beginning."""
        self.closed = True
        self._woken.set()
        if not self.ready.done():
            self.ready.set_result(None)


class Hub:
    """Follows the queues that somebody listens to.

    Args:
        links: the way to Redis.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self, names: Iterable[str] | None, covers: Callable[[str], bool]) -> Listener:
        """Hear of what happens from now on. See `Listener`.

        Raises:
            TooMany: there are too many listeners.
            RedisError: it cannot be followed.
        """
        if self._closed or len(self._listeners) >= _LISTENERS:
            raise TooMany
        listener = Listener(None if names is None else frozenset(names), covers)
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            await listener.ready
        except BaseException:
            self.leave(listener)
            raise
        return listener

    def leave(self, listener: Listener) -> None:
        """Somebody hears no more."""
        self._listeners.discard(listener)
        listener.close()

    async def close(self) -> None:
        """Nobody hears anything any more."""
        self._closed = True
        for each in list(self._listeners):
            self.leave(each)
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        following, outage = Following(self._links), OutageLog(self._links.blocking)
        while self._listeners:
            listeners = list(self._listeners)
            try:
                await asyncio.to_thread(following.follow, listeners)
                if new := [each for each in listeners if not each.ready.done()]:
                    self._tell(following.stats, new)
                _ready(listeners, None)
                self._tell(await asyncio.to_thread(following.read), self._listeners)
                if following.idle:
                    await asyncio.sleep(_PAUSE)
                outage.works(_WHAT)
            except RedisError as error:
                outage.failed(_WHAT, error)
                _ready(listeners, error)
                await asyncio.sleep(_PAUSE)
            except Exception as error:  # one entry that nobody can read ends nothing
                logger.error("The events could not be told\n%s", traceback_of(error))
                _ready(listeners, RedisError("the events could not be told"))
                await asyncio.sleep(_PAUSE)

    def _tell(self, found: Sequence[Watched], listeners: Iterable[Listener]) -> None:
        for each, message in formatted(found):
            for listener in listeners:
                if listener.hears(each.queue):
                    if each.stats is None:
                        listener.put(each.queue, order_of(each), message)
                    else:
                        listener.update(each.queue, message)


def _ready(listeners: Iterable[Listener], error: RedisError | None) -> None:
    for each in listeners:
        if not each.ready.done():
            if error is None:
                each.ready.set_result(None)
            else:
                each.ready.set_exception(error)


class Following:
    """The queues that are followed; for one thread at a time.

    Args:
        links: the way to Redis.
    """

    def __init__(self, links: Links) -> None:
        self._conn = links.blocking
        self._any: Queue | None = None
        self._watch = Watch(())
        self._followed: dict[str, Queue] = {}
        self._served: dict[str, str | None] = {}  # queue → since which entry it is followed
        self._look_at = 0.0
        self._looked: str | None = None  # what would have been an entry at the last look
        self._ordered = Ordered(self._watch)

    def follow(self, listeners: Iterable[Listener]) -> None:
        """Follow the queues that these listen to, and no others."""
        some = list(listeners)
        wanted: dict[str, str | None] = {name: None for each in some for name in each.names or ()}
        everything = [each for each in some if each.names is None]
        if everything:
            wanted |= {name: since for name, since in self._serving().items() if any(each.hears(name) for each in everything)}
        for name in [name for name in self._followed if name not in wanted]:
            self._watch.drop(self._followed.pop(name))
        for name, since in wanted.items():
            if name not in self._followed and len(self._followed) < _QUEUES:
                with contextlib.suppress(ConfigurationError):  # another program has written that name
                    queue = Queue(name, self._conn)
                    self._watch.add(queue, since)
                    self._followed[name] = queue

    def _serving(self) -> dict[str, str | None]:
        """The queues that are served; of one that is new, all is told since the look before."""
        if monotonic() >= self._look_at:
            self._any = self._any or Queue(_ANY, self._conn)
            seconds, microseconds = map(int, self._any.store.call("TIME"))
            names = served(self._any)
            self._served = {name: self._served.get(name, self._looked) for name in sorted(names)[:_QUEUES]}
            self._looked = f"{seconds * 1000 + microseconds // 1000}-0"
            self._look_at = monotonic() + _LOOK
        return self._served

    @property
    def stats(self) -> list[Watched]:
        """The totals of the queues, as they were told last: for those who listen only now."""
        return self._watch.stats

    @property
    def idle(self) -> bool:
        """Whether no queue is followed."""
        return not self._followed

    def read(self) -> list[Watched]:
        """What has happened."""
        return self._ordered.read(_PAUSE) if self._followed else []


class Ordered:
    """What is told later of tasks is not older.

    Args:
        watch: tells of each queue by itself.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._pending: list[Watched] = []

    def read(self, seconds: float) -> list[Watched]:
        """What has happened; waits for so long, if nothing has."""
        self._pending += self._watch.read(seconds)
        until = self._watch.told_until
        found = [each for each in self._pending if _moment(each)[0] < until]
        self._pending = [each for each in self._pending if _moment(each)[0] >= until]
        return sorted(found, key=_moment)


def _moment(each: Watched) -> tuple[float, str, int]:
    order = order_of(each)
    return (-1, each.queue, 0) if order is None else (order[0], each.queue, order[1])


def order_of(each: Watched) -> Order | None:
    """The entry that tells of an event; None for what no entry tells of."""
    return None if each.event is None else order(each.event.entry)


def order(entry: str) -> Order:
    """An entry of a history, as entries follow each other."""
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


def formatted(found: Sequence[Watched]) -> Iterator[tuple[Watched, bytes]]:
    """As server-sent events. The last event of an entry has its id: who goes on from there has heard all of it."""
    for position, each in enumerate(found):
        following = found[position + 1] if position + 1 < len(found) else None
        is_last = following is None or (following.queue, order_of(following)) != (each.queue, order_of(each))
        lines = b"event: %b\n" % each.kind.encode()
        if each.event is not None and is_last:
            lines += b"id: %b\n" % each.event.entry.encode()
        with contextlib.suppress(ValueError):  # another program has written a number that is none
            yield each, lines + b"data: %b\n\n" % write(each.as_dict())


def gap(queue: str = "") -> bytes:
    """What is told if something may be missing."""
    about = {"kind": "gap", "time": now()} | ({"queue": text(queue)} if queue else {})
    return b"event: gap\ndata: %b\n\n" % write(about)
