"""The history of a queue: what it keeps, and the form of its entries. See docs/protocol.md, section 7h."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgpack

from ..base.checks import is_number, is_whole
from ..base.clock import monotonic
from ..errors import ConfigurationError
from ..redis.keys import HISTORY
from ..redis.store import Store
from .waiting import Place

DAYS, BYTES = 30.0, 64 << 20  # that a history keeps, if nothing else is said
WORDS = ("off", "failures", "all")
_LONGEST = 200  # characters of what is said of a task
_LOOK = 60.0  # seconds between two looks whether there is too much
_SAMPLE = 50  # entries by which their size is judged, at each end
_BESIDE = 40  # bytes that Redis keeps for an entry beside its fields, about


class Keeping(NamedTuple):
    """What the history of a queue keeps."""

    on: bool = True
    share: float = 0.0  # of the tasks that succeed: from 0, only others, to 1, all
    days: float = DAYS
    size: int = BYTES  # bytes of Redis's memory, about

    @property
    def record(self) -> str:
        """As `keep` takes it."""
        if not self.on:
            return "off"
        return {0.0: "failures", 1.0: "all"}.get(self.share, f"{self.share:g}")

    @classmethod
    def of(cls, fields: Sequence[bytes]) -> "Keeping":
        """As the names and values, in turn, of the control hash say it. What makes no sense is as if it were not there."""
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        record, days, size = (found.get(name.encode()) for name in HISTORY)
        share = {None: 0.0, b"off": 0.0, b"failures": 0.0, b"all": 1.0}.get(record, _number(record))
        return cls(
            record != b"off",
            share if share is not None and 0 <= share <= 1 else 0.0,
            _number(days) or DAYS,
            int(_number(size) or BYTES),
        )


def _number(text: bytes | None) -> float | None:
    try:
        number = float(text or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def keeping(queue: Place) -> Keeping:
    """What the history of a queue keeps now."""
    return kept_by(queue.store.call("HMGET", queue.keys.control, *HISTORY))


def kept_by(values: Sequence[bytes | None]) -> Keeping:
    """What the values of the fields `HISTORY` say."""
    known = ((name.encode(), value) for name, value in zip(HISTORY, values, strict=True) if value is not None)
    return Keeping.of([part for pair in known for part in pair])


def keep(queue: Place, record: str | float | None = None, *, days: float | None = None, size: int | None = None) -> Keeping:
    """Say what the history of a queue keeps from now on; what is not given stays as it is. Workers learn of it with their
    beat.

    Args:
        queue: the queue.
        record: `off`, `failures` (whatever does not succeed), `all`, or a number between 0 and 1: that share of the
            successes.
        days: for how long.
        size: how many bytes of Redis's memory it may take, about.

    Raises:
        ConfigurationError: that is nothing to keep.
    """
    if record is not None and record not in WORDS and not (is_number(record) and 0 < float(record) <= 1):
        raise ConfigurationError(f"a history keeps {', '.join(WORDS)}, or a share of the successes above 0, not {record!r}")
    if days is not None and not (is_number(days) and 0 < days < math.inf):
        raise ConfigurationError(f"a history keeps days above 0, not {days!r}")
    if size is not None and (not is_whole(size) or size < 1):
        raise ConfigurationError(f"a history keeps a number of bytes above 0, not {size!r}")
    given = zip(HISTORY, (record, days, size), strict=True)
    if chosen := [part for name, value in given if value is not None for part in (name, str(value))]:
        queue.store.call("HSET", queue.keys.control, *chosen)
    return keeping(queue)


class HistoryEvent(NamedTuple):
    """One thing that has happened to a task, as a history tells it. What is not known is None or empty."""

    time: float  # seconds since 1970; of a success without an id about when
    outcome: str  # a name of `OUTCOMES`
    task: str  # function path
    id: str = ""
    attempt: int | None = None
    waited: float | None = None  # seconds between the enqueue and the beginning
    seconds: float | None = None  # that the function ran
    said: str = ""  # the error, in one line
    by: str = ""  # host:pid
    share: float = 1.0  # of what is like this, so much is kept
    entry: str = ""  # of the stream


OUTCOMES = {
    "succeeded": "its function returned",
    "retried": "the attempt failed; another follows",
    "failed": "the last attempt failed; it is a dead letter",
    "buried": "it could not be run, or was lost too often; it is a dead letter",
    "expired": "it was too late to begin",
    "cancelled": "it was cancelled",
    "cancel": "somebody asked a running task to stop",
    "removed": "an operator removed it while it waited",
    "deferred": "no worker could run it; it waits",
    "lost": "its worker died or lost its lease; it went back",
    "superseded": "its lease was lost while it ran",
    "died": "a supervised worker died; `said` tells of what",
    "unwritten": "successes of a killed worker of which no more is known: `attempt` says how many",
}


def event(
    moment: float,
    outcome: str,
    task: str,
    identity: str | None = None,
    *,
    attempt: int = -1,
    waited: float | None = None,
    seconds: float | None = None,
    said: str = "",
) -> list[Any]:
    """An event as it is packed."""
    wait = -1 if waited is None else max(0, round(waited * 1000))
    ran = -1 if seconds is None else round(seconds * 1e6)
    return [int(moment * 1000), outcome, task, identity or "", attempt, wait, ran, said[:_LONGEST]]


def packed(place: str, plain: dict[str, list[int]], events: Sequence[Sequence[Any]], share: float) -> bytes:
    """An entry.

    Args:
        place: who says it.
        plain: of successes without an id: function path → microseconds that each ran.
        events: the others.
        share: how many of the successes are kept.
    """
    batch = [place, plain, events] if share in (0.0, 1.0) else [place, plain, events, share]
    data: bytes = msgpack.packb(batch, unicode_errors="surrogateescape")
    return data


def unpacked(entry: str, batch: bytes) -> Iterator[HistoryEvent]:
    """The events of an entry, the first that happened first. What another program has written says nothing."""
    try:
        place, plain, events, *rest = msgpack.unpackb(batch, unicode_errors="surrogateescape", strict_map_key=False)
        share = float(rest[0]) if rest else 1.0
        found = [_event(each, str(place), share, entry) for each in events]
        moment = int(entry.partition("-")[0]) / 1000
        for task, times in plain.items() if isinstance(plain, dict) else ():
            found += [
                HistoryEvent(moment, "succeeded", str(task), seconds=ran / 1e6, by=str(place), share=share, entry=entry)
                for ran in times
            ]
    except Exception:  # msgpack raises a dozen types
        return
    yield from sorted(found, key=lambda each: each.time)


def _event(parts: Iterable[Any], place: str, share: float, entry: str) -> HistoryEvent:
    milliseconds, outcome, task, identity, attempt, waited, ran, said = parts
    return HistoryEvent(
        milliseconds / 1000,
        str(outcome),
        str(task),
        str(identity),
        None if attempt < 1 else int(attempt),
        None if waited < 0 else waited / 1000,
        None if ran < 0 else ran / 1e6,
        str(said),
        place,
        share if outcome == "succeeded" else 1.0,
        entry,
    )


class HistoryBound:
    """Keeps the history of one queue within its bounds; writers see to its days, too.

    Args:
        store: the queue.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.look_at = monotonic() + _LOOK

    def keep(self) -> int:
        """Remove the oldest entries that are too many or too old, if it is time to look. Returns how many."""
        if monotonic() < self.look_at:
            return 0
        self.look_at = monotonic() + _LOOK
        call, key = self._store.call, self._store.keys.history
        count = int(call("XLEN", key))
        if not count:
            return 0
        keeping = kept_by(call("HMGET", self._store.keys.control, *HISTORY))
        seconds, microseconds = map(int, call("TIME"))
        oldest = int((seconds + microseconds / 1e6 - keeping.days * 86400) * 1000)
        removed = int(call("XTRIM", key, "MINID", "~", max(oldest, 0)))
        sample = [*call("XREVRANGE", key, "+", "-", "COUNT", _SAMPLE), *call("XRANGE", key, "-", "+", "COUNT", _SAMPLE)]
        size = sum(_BESIDE + sum(map(len, fields)) for _, fields in sample) / max(1, len(sample))
        most = max(1, int(keeping.size / max(size, _BESIDE)))
        return removed + (int(call("XTRIM", key, "MAXLEN", "~", most)) if count > most else 0)
