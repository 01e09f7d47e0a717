"""The statistics of a queue, as they stand in Redis: what workers count of its functions, by minute, hour and day.

An entry is an array of numbers in MessagePack. docs/protocol.md, section 7f, describes it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgpack

DAY = 86400
FUNCTIONS = 200  # that are told apart; lua/count.lua says it, too
OUTCOMES = ("succeeded", "retried", "failed", "buried", "cancelled", "expired", "superseded")  # fields 1 to 7
ENDS = range(1, 7)  # the fields of the outcomes but superseded, which were counted as something else, too
DEAD = (3, 4, 6)  # the fields of those after which the task is a dead letter: failed, buried, expired
BOUNDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0)  # seconds, of the buckets of a histogram
RUN = len(OUTCOMES) + 1  # the field with the milliseconds that tasks ran; the buckets follow
WAIT = RUN + len(BOUNDS) + 2  # likewise, that they waited
_LAST = WAIT + len(BOUNDS) + 1

Counts = dict[int, int]  # field → amount


class Tier(NamedTuple):
    """One of the grains of time."""

    name: str  # in the keys
    seconds: int  # that a row is about
    rows: int  # in a key
    kept: int  # seconds

    def key(self, moment: float) -> int:
        """The number in the key."""
        return int(moment // (self.seconds * self.rows))

    def row(self, moment: float) -> int:
        """The field in it."""
        return int(moment // self.seconds) % self.rows


TIERS = (Tier("minutes", 60, 60, 2 * DAY), Tier("hours", 3600, 24, 14 * DAY), Tier("days", DAY, 30, 400 * DAY))


class Histogram(NamedTuple):
    """How long tasks ran, or waited."""

    seconds: float  # of all
    buckets: tuple[int, ...]  # tasks up to each of BOUNDS, above the one before, and those above the last

    @property
    def tasks(self) -> int:
        """How many tasks."""
        return sum(self.buckets)

    @property
    def mean(self) -> float | None:
        """Seconds; None without tasks."""
        return self.seconds / self.tasks if self.tasks else None

    def quantile(self, share: float) -> float | None:
        """A bound below which this share of the tasks lies; None without tasks, infinity above the last bound."""
        left = share * self.tasks
        for bound, tasks in zip((*BOUNDS, float("inf")), self.buckets, strict=True):
            left -= tasks
            if tasks and left <= 0:
                return bound
        return None


def histogram(counts: Mapping[int, int], first: int) -> Histogram:
    """The one whose fields begin at `first`: RUN or WAIT."""
    fields = range(first + 1, first + len(BOUNDS) + 2)
    return Histogram(counts.get(first, 0) / 1000, tuple([counts.get(field, 0) for field in fields]))


def outcomes(counts: Mapping[int, int]) -> dict[str, int]:
    """How many attempts ended in which way."""
    return {name: counts.get(field, 0) for field, name in enumerate(OUTCOMES, 1)}


def summed(several: Iterable[Mapping[int, int]]) -> Counts:
    """All of them together."""
    total: Counts = {}
    for counts in several:
        for field, amount in counts.items():
            total[field] = total.get(field, 0) + amount
    return total


def packed(counts: Mapping[int, int]) -> bytes:
    """Fields and amounts in turn, as a worker hands them to the script; empty for none."""
    pairs = [each for field in sorted(counts) if counts[field] > 0 for each in (field, counts[field])]
    found: bytes = msgpack.packb(pairs) if pairs else b""
    return found


def numbers(text: bytes) -> list[int]:
    """The numbers in an entry or a row; none, if it is another program's."""
    try:
        found = msgpack.unpackb(text)
    except (ValueError, msgpack.UnpackException):
        return []
    return found if type(found) is list and {int}.issuperset(map(type, found)) else []


def entry_of(text: bytes) -> tuple[int, Counts]:
    """One field of the key with the totals: the number by which rows know the function, and its counts."""
    values = numbers(text)
    return (values[0] if values else 0), _pairs(values[2:])


def row_of(text: bytes) -> dict[int, Counts]:
    """One row: the number of each function → its counts; 0 has the sum, also of functions that had no place."""
    values, found, at = numbers(text), dict[int, Counts](), 0
    while at + 1 < len(values):
        end = at + 2 + max(0, values[at + 1])
        found[values[at]] = _pairs(values[at + 2 : end])
        at = end
    return found


def _pairs(values: Sequence[int]) -> Counts:
    """Fields and amounts in turn."""
    return {field: amount for field, amount in zip(values[::2], values[1::2], strict=False) if 0 < field <= _LAST}


def keys_between(tier: Tier, since: float, until: float) -> Iterator[int]:
    """The numbers of the keys with the rows of this time."""
    yield from range(tier.key(since), tier.key(until) + 1)
