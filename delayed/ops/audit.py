"""The audit: what operators have done, in a bounded stream that all queues of a server share."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..base.checks import as_time
from ..base.text import clipped, summary
from ..errors import ConfigurationError, DelayedError
from ..logger import logger
from ..queue.queue import Queue
from ..redis.command import RedisError, is_cluster, pairs
from ..redis.keys import AUDIT_ENTRY, audit_of
from .tasks import TaskView

NAMES = (
    "queue.pause", "queue.resume", "queue.limit", "queue.purge", "queue.rename", "dead.retry", "dead.edit", "dead.delete",
    "task.cancel", "task.delete", "task.run", "task.move", "flow.cancel", "flow.retry", "flow.signal", "flow.delete",
    "cron.pause", "cron.resume", "cron.run", "cron.remove", "interest.add", "interest.remove", "fsck.repair", "job.stop",
)  # fmt: skip
KINDS = tuple(dict.fromkeys(name.partition(".")[0] for name in NAMES))  # of acts
KEPT = 10_000  # entries, about
LOOKED_AT = 10_000  # entries, if nothing else is said
_LONGEST = 500  # characters of a value
_PAGE = 500
_NAMED = 10  # things that an entry names; the others are counted


class Actor(NamedTuple):
    """Who does something, and from where."""

    who: str
    origin: str  # as `cli web1:4711` or `ui 10.0.0.7`


@dataclass(frozen=True, slots=True)
class Done:
    """What an act has done, for whoever shows it."""

    act: str  # as in the audit: `dead.retry`
    queue: str
    count: int  # letters, tasks, nodes, …
    says: str  # a sentence
    left: str = ""  # what could not be done, and why
    note: str = ""  # what should be known besides
    tasks: tuple[TaskView, ...] = ()  # of which the act says more than how many they were


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An act of an operator."""

    id: str
    time: float  # seconds since 1970
    who: str
    origin: str
    act: str
    queue: str
    what: str  # it was done to
    count: int
    result: str  # `done`, or what was left and why, or why it was refused

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Selects entries; an entry must match every field that is set.

    Args:
        queue: only acts on this queue.
        who: only those of this operator.
        act: only these: `dead.retry`, or all of a kind: `dead`.
        text: part of what it was done to, or of the result.
        since: seconds since 1970: not those before.

    Raises:
        ConfigurationError: there is no such act.
    """

    queue: str | None = None
    who: str | None = None
    act: str | None = None
    text: str | None = None
    since: float | None = None

    def __post_init__(self) -> None:
        if self.act not in (None, *NAMES, *KINDS):
            raise ConfigurationError(f"there is no act {self.act!r:.100}; these there are: {', '.join(NAMES)}")

    def fits(self, entry: AuditEntry) -> bool:
        """Whether this entry is one of them."""
        return (
            self.queue in (None, entry.queue)
            and self.who in (None, entry.who)
            and (self.act is None or entry.act == self.act or entry.act.startswith(f"{self.act}."))
            and (self.text is None or self.text in entry.what or self.text in entry.result)
            and (self.since is None or entry.time >= self.since)
        )


class AuditPage(NamedTuple):
    """Entries that were found, the newest first, and how far that looked."""

    entries: tuple[AuditEntry, ...]
    looked_at: int
    more: str  # where to go on: the `before` of the next page; empty: there are no others


def audited(queue: Queue, by: Actor, act: str, what: str, do: Callable[[], Done]) -> Done:
    """Do something, and write to the audit what came of it, also if it was refused."""
    try:
        done = do()
    except (DelayedError, RedisError) as error:
        write(queue, by, act, what, result=f"refused: {error}")
        raise
    write(queue, by, act, what, count=done.count, result=done.left or "done")
    return done


def write(queue: Queue, by: Actor, act: str, what: str, *, count: int = 0, result: str) -> None:
    """Write an entry. That Redis refuses it (its rules may forbid this key) is logged, and undoes nothing."""
    texts = (by.who, by.origin, act, queue.name, what, str(count), summary_of(result))
    values = [clipped(text, _LONGEST).encode(errors="backslashreplace") for text in texts]
    fields = [part for pair in zip(AUDIT_ENTRY, values, strict=True) for part in pair]
    try:
        queue.store.call("XADD", _key(queue), "MAXLEN", "~", KEPT, "*", *fields)
    except RedisError as error:
        logger.warning("%s: %s by %s could not be written to the audit: %s", queue.name, act, by.who, error)


def summary_of(result: str) -> str:
    """A result in one line."""
    lines = result.strip().split("\n")
    return lines[0] if len(lines) == 1 else summary(result)


def read(
    queue: Queue, wanted: AuditFilter | None = None, count: int = 50, before: str = "", look_at: int = LOOKED_AT
) -> AuditPage:
    """The newest entries that fit.

    Args:
        queue: any queue of the server; on a cluster the audit of those with its hash tag is read.
        wanted: which; None for all.
        count: how many at most.
        before: the id of an entry: only older ones.
        look_at: how many are looked at, at most.
    """
    wanted, found, looked, last = wanted or AuditFilter(), list[AuditEntry](), 0, before
    for entry in _entries(queue, before):
        if looked == look_at or len(found) == count:
            return AuditPage(tuple(found), looked, last)
        if wanted.since is not None and entry.time < wanted.since:
            break
        looked, last = looked + 1, entry.id
        if wanted.fits(entry):
            found.append(entry)
    return AuditPage(tuple(found), looked, "")


def _entries(queue: Queue, before: str) -> Iterator[AuditEntry]:
    last = f"({before}" if before else "+"
    while page := queue.store.call("XREVRANGE", _key(queue), last, "-", "COUNT", _PAGE):
        yield from (_entry(*each) for each in page)
        last = f"({page[-1][0].decode()}"
        if len(page) < _PAGE:
            return


def _entry(identity: bytes, fields: list[bytes]) -> AuditEntry:
    named = pairs(fields)
    who, origin, act, queue, what, count, result = (
        named.get(name.encode(), b"").decode(errors="replace") for name in AUDIT_ENTRY
    )
    entry_id, number = identity.decode(), 0
    with contextlib.suppress(ValueError):
        number = int(count)
    return AuditEntry(entry_id, int(entry_id.partition("-")[0]) / 1000, who, origin, act, queue, what, number, result)


def _key(queue: Queue) -> str:
    return audit_of(queue.name, is_cluster(queue.conn))


def named(things: Sequence[object]) -> str:
    """Things by their names, if they are few; else the first of them."""
    shown = ", ".join(map(str, things[:_NAMED]))
    return shown if len(things) <= _NAMED else f"{shown} and {len(things) - _NAMED:,} more"


def chosen(wanted: object) -> str:
    """A filter, by the fields that are set."""
    fields = asdict(wanted) if not isinstance(wanted, dict) else wanted  # type: ignore[call-overload]
    said = [f"{name}={_shown(name, value)}" for name, value in fields.items() if value not in (None, False, "")]
    return ", ".join(said) or "all"


def _shown(name: str, value: object) -> object:
    return as_time(value) if name in ("since", "until") and isinstance(value, int | float) else value
