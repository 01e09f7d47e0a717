"""The state of queues at one moment, in a bounded number of bounded commands. Whoever shows it only renders it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..base.clock import now
from ..queue.limits import Limits
from ..queue.queue import Queue
from ..redis.command import Command, ResponseError, pairs
from ..redis.keys import CONTROL, STATS
from ..redis.places import scheduled, scored
from ..redis.statistics import ENDS, TIERS, row_of
from ..task.decode import headers_of
from ..task.headers import number_in
from .ages import Since, is_dated
from .processes import Process, described, merged
from .reading import asked, read, sound
from .register import served

QUEUES = 200  # that an overview has, the latest served first
_HEADS = 10  # of the waiting tasks, from the first, that are asked how old they are
_NEXT = 100  # of the scheduled tasks, from the first, that are asked whether they are after a failed attempt
SETS = 10  # groups, and keys that tasks wait for, whose tasks are counted
_KINDS = ("worker", "sweeper")
MINUTES = TIERS[0]


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue at one moment. Each number is right by itself; they were not read in one instant."""

    queue: str
    waiting: int  # tasks in the queue itself
    groups: int  # groups with waiting tasks,
    grouped: int  # and tasks in them
    keys: int  # concurrency keys and unique keys for which tasks wait,
    for_keys: int  # and tasks that do
    scheduled: int  # tasks in the schedule; of them
    overdue: int  # those whose time has come, and nobody has moved them yet,
    retrying: int  # and those that are after a failed attempt
    running: int  # tasks that workers hold: they are executed, or next in hand
    dead: int  # dead letters
    oldest: float | None  # seconds that a task has waited since it was due; None if none of them tells
    workers: int  # living ones that are in the register
    sweepers: int
    recovered: int  # lost tasks, by sweepers, since the queue exists
    buried: int
    limits: Limits
    rate: float = 0.0  # attempts that ended, a second: in this minute and the one before
    at_least: tuple[str, ...] = ()  # the fields above that count only so many, and there may be more, or older ones

    @property
    def pending(self) -> int:
        """All tasks that wait, wherever."""
        return self.waiting + self.grouped + self.for_keys + self.scheduled

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return {**asdict(self), "limits": self.limits._asdict()}


@dataclass(frozen=True, slots=True)
class Overview:
    """Queues and the processes that serve them."""

    time: float  # seconds since 1970
    queues: tuple[QueueView, ...]
    processes: tuple[Process, ...]  # each once
    left_out: int = 0  # known queues that are not shown, as there are too many

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return {
            "time": self.time,
            "queues": [queue.as_dict() for queue in self.queues],
            "processes": [asdict(process) for process in self.processes],
            "left_out": self.left_out,
        }


def known(queue: Queue) -> list[str]:
    """The names of the queues that workers and sweepers have served in the last 90 days, the latest first. On a cluster: those
    with the hash tag of `queue`."""
    return list(served(queue))


def overview(queues: Iterable[Queue], most: int = QUEUES) -> Overview:
    """Look at queues.

    Args:
        queues: which, each once.
        most: how many of them.
    """
    chosen = list({queue.name: queue for queue in queues}.values())
    seen = observed_all(chosen[:most])
    found = ((view.queue, about) for view, described in seen for about in described)
    return Overview(now(), tuple(view for view, _ in seen), tuple(merged(found)), max(0, len(chosen) - most))


def observed(queue: Queue) -> tuple[QueueView, list[dict[str, Any]]]:
    """One queue, and what its living processes say of themselves."""
    return observed_all([queue])[0]


def observed_all(queues: Sequence[Queue]) -> list[tuple[QueueView, list[dict[str, Any]]]]:
    """As `observed`, of each queue: all of them by a few commands."""
    views, found = looks(queues), described(queues)
    return [
        (replace(view, **{f"{kind}s": sum(about.get("kind") == kind for about in said) for kind in _KINDS}), said)
        for view, said in zip(views, found, strict=True)
    ]


def look(queue: Queue) -> QueueView:
    """One queue, without its processes."""
    return looks([queue])[0]


def looks(queues: Sequence[Queue]) -> list[QueueView]:
    """As `look`, of each queue: all of them by three commands, or a few more if they are hundreds."""
    seen = [_Look(queue, replies) for queue, replies in zip(queues, read(queues, _first), strict=True)]
    by_name = {each.queue.name: each for each in seen}
    for each, replies in zip(seen, asked(queues, lambda queue: by_name[queue.name].second()), strict=True):
        each.learn(replies)
    for each, replies in zip(seen, asked(queues, lambda queue: by_name[queue.name].third()), strict=True):
        each.date(replies)
    return [each.view() for each in seen]


def _first(queue: Queue) -> list[Command]:
    keys = queue.keys
    return [
        ("TIME",), ("LLEN", keys.queue), ("LLEN", keys.groups), ("HLEN", keys.waited), ("ZCARD", keys.scheduled),
        ("HLEN", keys.processing), ("XLEN", keys.dead), ("HMGET", keys.control, *CONTROL), ("HMGET", keys.stats, *STATS),
        ("LRANGE", keys.queue, 0, _HEADS - 1), ("LRANGE", keys.groups, 0, SETS - 1),
        ("HSCAN", keys.waited, 0, "COUNT", SETS), ("ZRANGE", keys.scheduled, 0, _NEXT - 1, "WITHSCORES"),
    ]  # fmt: skip


class _Look:
    """What is known of one queue, question by question."""

    def __init__(self, queue: Queue, replies: Sequence[Any]) -> None:
        self.queue, time = queue, replies[0]
        found = sound(queue, _first(queue)[1:], replies[1:])
        self._moment = now() if isinstance(time, ResponseError) else int(time[0]) + int(time[1]) / 1e6
        self._counts, (control, stats, self._heads, groups, waited, first) = found[:6], found[6:]
        self._limits, self._stats = _limits(control), stats
        self._groups = groups_of(queue, groups)
        self._lines = lines_of(queue, waited)
        self._due = list(scored(first))
        self._overdue = self._grouped = self._for_keys = 0
        self._rate, self._oldest = 0.0, list[float]()
        self._since = Since(queue, ())
        self._first_ones: list[bytes] = []  # of the queue itself, and of the group whose turn is next

    def second(self) -> list[Command]:
        """How many tasks are overdue, in groups, for keys; the first task of the group whose turn is next; the rate."""
        keys, moment = self.queue.keys, self._moment
        commands: list[Command] = [("LLEN", group) for group in self._groups]
        commands += [("ZCARD", line) for line in self._lines]
        commands += [("LINDEX", group, 0) for group in self._groups[:1]]
        if self._due and self._due[0][1] <= moment * 1000:
            commands.append(("ZCOUNT", keys.scheduled, "-inf", round(moment * 1000)))
        minutes = [moment, moment - MINUTES.seconds]
        return commands + [("HGET", keys.stats_of(MINUTES.name, MINUTES.key(each)), MINUTES.row(each)) for each in minutes]

    def learn(self, replies: Sequence[Any]) -> None:
        """What `second` has asked."""
        *counts, this, last = replies
        groups, lines = len(self._groups), len(self._lines)
        self._grouped, self._for_keys = sum(counts[:groups]), sum(counts[groups : groups + lines])
        rest = counts[groups + lines :]
        of_group = [head for head in rest[: min(1, groups)] if head is not None]
        heads = [*self._heads, *of_group]
        self._first_ones = [*self._heads[:1], *of_group]
        self._overdue = sum(rest[min(1, groups) :])
        self._rate = (_ended(this) + _ended(last)) / (MINUTES.seconds + self._moment % MINUTES.seconds)
        self._oldest = [score / 1000 for _, score in self._due[:1]] if self._overdue else []
        self._since = Since(self.queue, heads)

    def third(self) -> list[Command]:
        """When the oldest task was due, if it is tracked: it may have been planned."""
        return self._since.question()

    def date(self, replies: Sequence[Any]) -> None:
        """What `third` has asked."""
        if (moment := self._since.moment(replies)) is not None:
            self._oldest.append(moment)

    def view(self) -> QueueView:
        """All of it."""
        waiting, groups, awaited, planned, running, dead = self._counts
        unsure = {
            "grouped": groups > SETS, "for_keys": awaited > SETS, "retrying": planned > len(self._due),
            "oldest": self._for_keys > 0 or not all(is_dated(headers_of(first)) for first in self._first_ones),
        }  # fmt: skip
        return QueueView(
            queue=self.queue.name, waiting=waiting, groups=groups, grouped=self._grouped, keys=awaited,
            for_keys=self._for_keys, scheduled=planned, overdue=self._overdue,
            retrying=sum(_failed_before(member) for member, _ in self._due), running=running, dead=dead,
            oldest=max(0.0, self._moment - min(self._oldest)) if self._oldest else None, workers=0, sweepers=0,
            recovered=int(self._stats[0] or 0), buried=int(self._stats[1] or 0), limits=self._limits, rate=self._rate,
            at_least=tuple(name for name, is_part in unsure.items() if is_part),
        )  # fmt: skip


def server_time(queue: Queue) -> float:
    """Seconds since 1970 by the server's clock; by ours, if we may not ask for that."""
    try:
        seconds, microseconds = queue.store.call("TIME")
        return int(seconds) + int(microseconds) / 1e6
    except ResponseError:
        return now()


def _ended(row: bytes | None) -> int:
    """Attempts that ended in a minute."""
    return sum([count for field, count in row_of(row or b"").get(0, {}).items() if field in ENDS])


def groups_of(queue: Queue, names: Iterable[bytes]) -> list[str]:
    """The lists of tasks of groups, which stand in `Keys.groups` by these names."""
    return [queue.keys.group(name.decode(errors="surrogateescape")) for name in names]


def lines_of(queue: Queue, waited: Any) -> list[str]:
    """The first of the sets of tasks that wait for keys, of those that an HSCAN of `Keys.waited` has found."""
    named = list(pairs(waited[1]).items())[:SETS]
    sought = (queue.keys.sought(name.decode(errors="surrogateescape"), what) for name, what in named)
    return [each[0] for each in sought if each is not None]


def _failed_before(member: bytes) -> bool:
    return number_in(headers_of(scheduled(member)[1]), "attempt") > 0


def _limits(control: Sequence[bytes | None]) -> Limits:
    fields = [
        part for name, value in zip(CONTROL, control, strict=True) if value is not None for part in (name.encode(), value)
    ]
    return Limits.of(fields)
