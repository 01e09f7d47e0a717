"""Follows what happens to tasks of some queues, their totals, and who works on them, from one place."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.clock import monotonic, now
from ..queue.history import HistoryEvent, unpacked
from ..queue.queue import Queue
from ..redis.command import RedisError, ResponseError, is_cluster, pairs
from ..worker.scoreboard import description
from .history import event_as_dict
from .processes import entries
from .shown import event_shown
from .statistics import Sums, sums_of

_COUNT = 100  # entries of a queue in one read
_WAIT = 0.5  # seconds that one read waits
_LOOK = 1.0  # seconds between two looks at the registers, and at the totals
_AT_ONCE = 100  # queues whose totals are looked at; of more, each has its turn
KINDS = ("task", "stats", "came", "went", "lost", "gap")
_BEGINNING = b"0-0"  # what is before the first entry of a history


@dataclass(frozen=True, slots=True)
class Watched:
    """Something that has happened."""

    kind: str  # of KINDS; came, went, lost: a process; gap: events may be missing, as they were removed before they were read
    queue: str
    time: float  # seconds since 1970
    event: HistoryEvent | None = None  # of a task
    place: str = ""  # host:pid of a process
    process: str = ""  # worker or sweeper
    stats: Sums | None = None  # of a queue, once they are others

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        about = {"kind": self.kind, "queue": self.queue, "time": self.time, "place": self.place, "process": self.process}
        if self.event is not None:
            about["event"] = event_as_dict(self.event)
        if self.stats is not None:
            about["stats"] = self.stats._asdict()
        return {name: value for name, value in about.items() if value != ""}


class Watch:
    """What happens from now on. Tasks are told of as the history of their queue keeps them: see `history.keep`. What no
    history keeps, such as an enqueue, shows in `stats`: the totals of a queue, at most once a second, if they have changed.

    Args:
        queues: which, all on one server; on Redis Cluster it looks twice a second.
    """

    def __init__(self, queues: Sequence[Queue]) -> None:
        self._queues: dict[bytes, Queue] = {}
        self._cursors: dict[bytes, bytes] = {}
        self._gone: dict[bytes, int] = {}  # entries that were no more when an empty history began to be followed
        self._full: list[bytes] = []  # of whose histories the last read may have left something
        self._processes: dict[str, dict[str, dict[str, Any]]] = {}
        self._stats: dict[str, Watched] = {}  # queue → its totals, as they were told last
        self._turn = 0  # of the queue whose totals are next
        for queue in queues:
            self.add(queue)
        self._look_at = monotonic() + _LOOK

    def add(self, queue: Queue, since: str | None = None) -> None:
        """Follow a queue, too: from now on, or from behind the entry `since` of its history."""
        last = self._last(queue) if since is None else since.encode()
        self._processes[queue.name] = entries(queue)
        key = _key(queue)
        if since is None and last == _BEGINNING:
            self._gone[key] = _removed(queue)
        self._queues[key], self._cursors[key] = queue, last

    def drop(self, queue: Queue) -> None:
        """Follow a queue no more."""
        key = _key(queue)
        self._queues.pop(key, None)
        self._cursors.pop(key, None)
        self._gone.pop(key, None)
        self._processes.pop(queue.name, None)
        self._stats.pop(queue.name, None)

    def place(self, queue: Queue) -> str:
        """The entry of a queue's history up to which all has been told."""
        return self._cursors[_key(queue)].decode()

    @property
    def stats(self) -> list[Watched]:
        """The totals of each queue, as they were told last."""
        return list(self._stats.values())

    @property
    def told_until(self) -> float:
        """The milliseconds since 1970 up to which all events have been told, with the last read; infinite for all that there
        were then."""
        return min((_order(self._cursors[key])[0] for key in self._full if key in self._cursors), default=math.inf)

    def _last(self, queue: Queue) -> bytes:
        newest = queue.store.call("XREVRANGE", queue.keys.history, "+", "-", "COUNT", 1)
        last: bytes = newest[0][0] if newest else _BEGINNING
        return last

    def read(self, seconds: float = _WAIT) -> list[Watched]:
        """What has happened since the last read, a bounded part of it; waits for so long, if nothing has."""
        pages = self._pages(seconds)
        self._full = [key for key, page in pages if len(page) >= _COUNT]
        found = [each for key, page in pages for each in self._told(key, page)]
        if monotonic() >= self._look_at:
            self._look_at = monotonic() + _LOOK
            try:
                found += [each for queue in self._queues.values() for each in self._changes(queue)]
                found += self._totals()
            except RedisError:
                if not found:  # what has been found would not be read again
                    raise
        return found

    def __iter__(self) -> Iterator[Watched]:
        """What happens, for ever."""
        while True:
            yield from self.read()

    def _pages(self, seconds: float) -> list[tuple[bytes, list[Any]]]:
        some = list(self._queues.items())
        if not some:
            return []
        wait = max(1, round(min(seconds, _WAIT) * 1000))
        if not is_cluster(some[0][1].conn):
            return self._read(some, "BLOCK", wait)
        found = [page for each in some for page in self._read([each])]
        return found or self._read(some[:1], "BLOCK", wait)

    def _read(self, some: Sequence[tuple[bytes, Queue]], *words: str | int) -> list[tuple[bytes, list[Any]]]:
        keys = [queue.keys.history for _, queue in some]
        cursors = [self._cursors[key] for key, _ in some]
        reply = some[0][1].store.call("XREAD", "COUNT", _COUNT, *words, "STREAMS", *keys, *cursors)
        return list(pairs(reply).items()) if isinstance(reply, dict) else [(key, page) for key, page in reply or ()]

    def _told(self, key: bytes, page: list[Any]) -> Iterator[Watched]:
        queue = self._queues[key]
        if self._missed(queue, key, page[0][0]):
            yield Watched("gap", queue.name, now())
        for entry, fields in page:
            self._cursors[key] = entry
            for each in map(event_shown, unpacked(entry.decode(), pairs(fields).get(b"batch", b""))):
                if each.outcome == "died":
                    yield Watched("lost", queue.name, each.time, each, each.by, "worker")
                else:
                    yield Watched("task", queue.name, each.time, each, each.by)

    def _missed(self, queue: Queue, key: bytes, first: bytes) -> bool:
        """Whether entries may have been removed between the one that was read last and the `first` of a page."""
        cursor = self._cursors[key]
        if cursor == _BEGINNING:
            return _removed(queue) > self._gone.get(key, 0)
        oldest = queue.store.call("XRANGE", queue.keys.history, "-", "+", "COUNT", 1)
        return bool(oldest) and _order(cursor) < _order(oldest[0][0]) <= _order(first)  # what was read last is gone

    def _changes(self, queue: Queue) -> Iterator[Watched]:
        """Who has come or gone."""
        before, after = self._processes[queue.name], entries(queue)
        self._processes[queue.name] = after
        for lease, about in after.items():
            if lease not in before:
                yield _process("came", queue, about)
        for lease in [each for each in before if each not in after]:
            left = queue.store.call("HGET", queue.keys.workers, lease)  # one that stops strikes itself off
            kind = "went" if left is None else "lost"
            yield _process(kind, queue, before[lease] if left is None else description(left))

    def _totals(self) -> Iterator[Watched]:
        """The totals that are others than before, of the queues whose turn it is."""
        some = list(self._queues.values())
        chosen = [some[(self._turn + number) % len(some)] for number in range(min(_AT_ONCE, len(some)))]
        self._turn += len(chosen)
        for queue, found in sums_of(chosen):
            before = self._stats.get(queue.name)
            if before is None or before.stats != found:
                self._stats[queue.name] = Watched("stats", queue.name, now(), stats=found)
                yield self._stats[queue.name]


def _process(kind: str, queue: Queue, about: dict[str, Any]) -> Watched:
    return Watched(kind, queue.name, now(), place=str(about.get("place", "")), process=str(about.get("kind", "")))


def _removed(queue: Queue) -> int:
    """How many entries of a history are there no more; 0 before Redis 7, which does not say."""
    try:
        about = pairs(queue.store.call("XINFO", "STREAM", queue.keys.history))
    except ResponseError:  # there is no history
        return 0
    return int(about.get(b"entries-added", about[b"length"])) - int(about[b"length"])


def _key(queue: Queue) -> bytes:
    return queue.keys.history.encode(errors="surrogateescape")


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


def watch(queues: Sequence[Queue]) -> Iterator[Watched]:
    """What happens in these queues from now on: see `Watch`."""
    return iter(Watch(queues))
