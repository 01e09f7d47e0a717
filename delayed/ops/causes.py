"""Counts dead letters by their cause, within a budget."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from ..base.text import clipped, summary
from ..dead_letters.cause import Cause, cause_of
from ..dead_letters.letter import DeadLetter, letter_of
from ..dead_letters.search import Search, looked_through
from ..queue.queue import Queue
from .reading import asked

LOOKED_AT = 10_000  # dead letters, if nothing else is said
_LEAST = 10  # dead letters of each of many queues
_LONGEST = 500  # characters of an example


@dataclass(frozen=True, slots=True)
class Causes:
    """The dead letters of a queue by their cause."""

    queue: str
    causes: tuple["CauseView", ...]  # the most frequent first
    looked_at: int  # dead letters, from the newest
    total: int  # that there are

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CauseView:
    """Dead letters with one cause."""

    id: str
    task: str  # function path
    reason: str
    says: str  # the newest of them
    count: int
    first: float  # seconds since 1970
    last: float
    letter: str  # id of the newest


def causes(queue: Queue, wanted: Search | None = None, look_at: int = LOOKED_AT) -> Causes:
    """Count the dead letters that fit, from the newest, by cause."""
    wanted = wanted or Search()
    found = counted_by_cause(queue.name, islice(looked_through(queue, wanted), look_at), 0, wanted)
    return replace(found, total=max(found.looked_at, int(queue.store.call("XLEN", queue.keys.dead))))


def causes_of_all(queues: Sequence[Queue], look_at: int) -> list[Causes]:
    """As `causes`, of those of the queues that have dead letters, by two commands. So many letters are looked at in all."""
    sizes = [size for (size,) in asked(queues, lambda queue: [("XLEN", queue.keys.dead)])]
    filled = {queue.name: size for queue, size in zip(queues, sizes, strict=True) if size}
    some = [queue for queue in queues if queue.name in filled]
    share = max(_LEAST, look_at // max(1, len(some)))
    pages = asked(some, lambda queue: [("XREVRANGE", queue.keys.dead, "+", "-", "COUNT", share)])
    return [
        counted_by_cause(queue.name, (letter_of(*entry) for entry in page), filled[queue.name])
        for queue, (page,) in zip(some, pages, strict=True)
    ]


def counted_by_cause(queue: str, letters: Iterable[DeadLetter], total: int, wanted: Search | None = None) -> Causes:
    """Dead letters of a queue that has so many in `total`, those of them that fit by their cause."""
    wanted = wanted or Search()
    found: dict[str, tuple[Cause, list[int], DeadLetter, DeadLetter]] = {}
    looked = 0
    for letter in letters:
        looked += 1
        if wanted.fits(letter):
            cause = cause_of(letter)
            _, count, newest, _ = found.get(cause.id, (cause, [0], letter, letter))
            count[0] += 1
            found[cause.id] = (cause, count, newest, letter)
    views = [
        CauseView(
            cause.id,
            cause.task,
            cause.reason,
            clipped(summary(newest.said), _LONGEST),
            count,
            oldest.time,
            newest.time,
            newest.id,
        )
        for cause, (count,), newest, oldest in found.values()
    ]
    ordered = tuple(sorted(views, key=lambda each: (-each.count, -each.last)))
    return Causes(queue, ordered, looked, max(total, looked))
