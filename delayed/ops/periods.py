"""What was counted of a queue within a period: in all, of each function, and step by step."""

from collections.abc import Iterable
from typing import NamedTuple

from ..base.clock import now
from ..queue.queue import Queue
from ..redis.statistics import TIERS, Tier, summed
from .statistics import Counted, Row, rows_of

_TIERS = {tier.name.removesuffix("s"): tier for tier in TIERS}


class Period(NamedTuple):
    """A period that is shown."""

    name: str
    by: str  # what a row is about
    seconds: float


PERIODS = {
    each.name: each
    for each in (
        Period("hour", "minute", 3600.0),
        Period("day", "hour", 86_400.0),
        Period("week", "hour", 7 * 86_400.0),
        Period("quarter", "day", 90 * 86_400.0),
    )
}


class Counts(NamedTuple):
    """What was counted within a period."""

    period: Period
    all: Counted
    functions: dict[str, Counted]  # since `since`, those with the most attempts first
    others: Counted  # likewise, of those that had no place in the rows
    times: Counted  # of all functions since `since`: how long attempts ran, and waited
    since: float | None  # when the rows with `functions` and `times` begin, which are none of minutes; None without rows
    steps: list[tuple[float, Counted]]  # all steps of the period, also those without tasks, the oldest first
    step: int  # seconds


def counts(queue: Queue, period: Period) -> Counts:
    """What workers have counted within the period, up to now, by three commands. Rows of minutes have no room for all
    functions, and none for histograms: in the last hour these are of the hour that goes on and the one before."""
    coarse = "hour" if period.by == "minute" else period.by
    by_grain = rows_of(queue, tuple(dict.fromkeys((period.by, coarse))), period.seconds)
    found, detailed = by_grain[0], by_grain[-1]
    functions = {name: _sum(row.functions[name] for row in detailed if name in row.functions) for name in _names(detailed)}
    ordered = dict(sorted(functions.items(), key=lambda each: (-each[1].started, each[0])))
    tier, times = _TIERS[period.by], _sum(row.all for row in detailed)
    since = detailed[0].start if detailed else None
    all_of_it, steps = _sum(row.all for row in found), _steps(found, tier, period.seconds)
    named = summed(each.counts for each in functions.values())
    others = Counted({field: max(0, count - named.get(field, 0)) for field, count in times.counts.items()})
    return Counts(period, all_of_it, ordered, others, times, since, steps, tier.seconds)


def _names(found: list[Row]) -> set[str]:
    return {name for row in found for name in row.functions}


def _sum(several: Iterable[Counted]) -> Counted:
    return Counted(summed(each.counts for each in several))


def _steps(found: list[Row], tier: Tier, seconds: float) -> list[tuple[float, Counted]]:
    known = {row.start: row.all for row in found}
    last = max((*known, now() // tier.seconds * tier.seconds))
    times = [last - back * tier.seconds for back in reversed(range(int(seconds // tier.seconds)))]
    return [(time, known.get(time) or Counted({})) for time in times]
