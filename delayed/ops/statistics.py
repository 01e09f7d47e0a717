"""The statistics of a queue: what its workers have counted, and of which minute, hour or day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..base.checks import as_time
from ..base.escape import escaped
from ..errors import ConfigurationError
from ..queue.queue import Queue
from ..redis.command import ResponseError
from ..redis.statistics import (
    RUN,
    TIERS,
    WAIT,
    Counts,
    Histogram,
    Tier,
    entry_of,
    histogram,
    keys_between,
    outcomes,
    row_of,
)
from .overview import looks, server_time
from .reading import asked

_HEAD = "started  succeeded  retried  failed  buried  cancelled  expired  mean run  95 % below"
_NAMES = {tier.name.removesuffix("s"): tier for tier in TIERS} | {tier.name: tier for tier in TIERS}


@dataclass(frozen=True)
class Counted:
    """What was counted of one function, or of all."""

    counts: Counts

    @property
    def outcomes(self) -> dict[str, int]:
        """How many attempts ended in which way. `superseded` ones have been counted as something else, too."""
        return outcomes(self.counts)

    @property
    def started(self) -> int:
        """Attempts that have ended: the sum of the outcomes."""
        found = self.outcomes
        return sum(found.values()) - found["superseded"]

    @property
    def run(self) -> Histogram:
        """For how long they ran."""
        return histogram(self.counts, RUN)

    @property
    def mean_run(self) -> float | None:
        """Seconds that an attempt ran on average; None if that is not known. A minute has the sum of the seconds, and no
        histogram: there the attempts that began are those that succeeded, were retried or failed."""
        run, ends = self.run, self.outcomes
        began = run.tasks or ends["succeeded"] + ends["retried"] + ends["failed"]
        return run.seconds / began if began and (run.tasks or RUN in self.counts) else None

    @property
    def wait(self) -> Histogram:
        """How long tasks with a date waited; it is known of all functions together only."""
        return histogram(self.counts, WAIT)


@dataclass(frozen=True)
class Totals:
    """What was counted since the queue exists."""

    all: Counted
    functions: dict[str, Counted] = field(default_factory=dict)
    numbers: dict[int, str] = field(default_factory=dict)  # by which rows know the functions


class Sums(NamedTuple):
    """What has become of a queue's tasks, by numbers that agree while nothing runs:
    `enqueued` = `completed` + `failed` + `cancelled` + `expired` + `waiting` + `held`, and
    `started` = `completed` + `retried` + `failed` + `cancelled` + `expired` + `recovered`."""

    enqueued: int  # those that have ended and those that are there; a dead letter that waits again is one more
    started: int  # attempts that have ended
    retried: int  # attempts after which the task waits for another
    recovered: int  # attempts that ended with their worker, likewise
    failed: int  # tasks that became dead letters
    completed: int  # that succeeded
    cancelled: int  # that a worker met as cancelled
    expired: int  # that a worker met too late
    waiting: int  # wherever: in the queue, its groups, its schedule, for keys
    held: int  # that workers have
    dead: int  # dead letters that are there


class Standing(Protocol):
    """How many tasks a queue has, and how many were lost: a `QueueView`, say."""

    @property
    def pending(self) -> int:
        """Those that wait, wherever."""

    @property
    def running(self) -> int:
        """Those that workers hold."""

    @property
    def dead(self) -> int:
        """Dead letters."""

    @property
    def recovered(self) -> int:
        """Lost tasks that were put back,"""

    @property
    def buried(self) -> int:
        """and those that were buried, since the queue exists."""


class Row(NamedTuple):
    """A minute, an hour or a day."""

    start: float  # seconds since 1970
    all: Counted
    functions: dict[str, Counted]


def totals_of(reply: Any) -> Totals:
    """What stands in the key with the totals."""
    found = {path.decode(errors="surrogateescape"): entry_of(entry) for path, entry in _fields(reply).items()}
    _, total = found.pop("", (0, {}))
    functions = {path: Counted(counts) for path, (_, counts) in sorted(found.items())}
    return Totals(Counted(total), functions, {number: path for path, (number, _) in found.items()})


def _fields(reply: Any) -> dict[bytes, bytes]:
    """A hash, as RESP2 or RESP3 has it."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def all_in(entry: bytes | None) -> Totals:
    """What the entry of all functions in that key says."""
    return Totals(Counted({} if entry is None else entry_of(entry)[1]))


def totals(queue: Queue) -> Totals:
    """What its workers have counted since the queue exists."""
    return totals_of(queue.store.call("HGETALL", queue.keys.stats_total))


def sums(total: Totals, view: Standing) -> Sums:
    """What the workers have counted, beside what is there."""
    ends = total.all.outcomes
    completed = max(0, ends["succeeded"] - ends["superseded"])  # the end of an attempt whose lease was lost counts for nothing
    failed = ends["failed"] + ends["buried"] + view.buried
    ended = completed + failed + ends["cancelled"] + ends["expired"]
    return Sums(
        enqueued=ended + view.pending + view.running,
        started=ended + ends["retried"] + view.recovered,
        retried=ends["retried"],
        recovered=view.recovered,
        failed=failed,
        completed=completed,
        cancelled=ends["cancelled"],
        expired=ends["expired"],
        waiting=view.pending,
        held=view.running,
        dead=view.dead,
    )


def sums_of(queues: Sequence[Queue]) -> Iterator[tuple[Queue, Sums]]:
    """What `sums` says of each of these queues, which are on one server: four commands for all of them, or on a cluster
    for each. A queue that cannot be read, as another program uses one of its keys, is left out."""
    try:
        totals_alone = asked(queues, lambda queue: [("HGET", queue.keys.stats_total, "")])
        for queue, view, (counts,) in zip(queues, looks(queues), totals_alone, strict=True):
            yield queue, sums(all_in(counts), view)
    except ResponseError:
        half = len(queues) // 2
        for some in (queues[:half], queues[half:]) if half else ():
            yield from sums_of(some)


def sums_line(found: Sums) -> str:
    """The numbers with their names, in a line."""
    return "  ".join(f"{name} {number:,}" for name, number in found._asdict().items())


def rows(queue: Queue, by: str = "hour", since: float = 86_400.0) -> list[Row]:
    """The rows of the last `since` seconds in which something was counted, the oldest first, by three commands.

    Raises:
        ConfigurationError: there are no such rows.
    """
    return rows_of(queue, (by,), since)[0]


def rows_of(queue: Queue, grains: Sequence[str], since: float) -> list[list[Row]]:
    """As `rows`, by each of several grains of time, by three commands all the same.

    Raises:
        ConfigurationError: there are no such rows.
    """
    for by in grains:
        if by not in _NAMES:
            raise ConfigurationError(f"statistics are kept by minute, hour and day, and not by {by!r}")
    names, now = totals(queue).numbers, server_time(queue)
    spans = [(tier, now - min(since, tier.kept)) for tier in (_NAMES[by] for by in grains)]
    keys = [(tier, number) for tier, first in spans for number in keys_between(tier, first, now)]
    (replies,) = asked([queue], lambda _: [("HGETALL", queue.keys.stats_of(tier.name, number)) for tier, number in keys])
    found = [
        (tier, row) for (tier, number), reply in zip(keys, replies, strict=True) for row in _rows(reply, tier, number, names)
    ]
    return [[row for tier, row in found if tier is wanted and row.start + tier.seconds > first] for wanted, first in spans]


def _rows(reply: Any, tier: Tier, number: int, names: dict[int, str]) -> Iterator[Row]:
    places = {int(place): text for place, text in _fields(reply).items() if place.isdigit()}
    for place in sorted(places):
        counts = row_of(places[place])
        functions = {names[each]: Counted(counts[each]) for each in counts if each in names}
        yield Row((number * tier.rows + place) * float(tier.seconds), Counted(counts.get(0, {})), functions)


def shown(counted: Counted) -> dict[str, Any]:
    """The counts, as JSON has them."""
    return {"started": counted.started, **counted.outcomes, **times(counted)}


def times(counted: Counted) -> dict[str, float | None]:
    """How long attempts ran and waited, as JSON has it."""
    run, wait = counted.run, counted.wait
    found = {"run_mean": counted.mean_run, "run_p95": _finite(run.quantile(0.95)), "wait_mean": wait.mean}
    return {**found, "wait_p95": _finite(wait.quantile(0.95))}


def _finite(bound: float | None) -> float | None:
    return None if bound == float("inf") else bound


def lines(found: list[Row], function: str | None = None) -> Iterator[str]:
    """The rows, as a table."""
    yield f"{'since':25}  {_HEAD}"
    for row in found:
        counted = row.all if function is None else row.functions.get(function)
        if counted is not None:
            yield f"{as_time(row.start):25}  {_line(counted)}"


def summary(what: str, found: dict[str, Counted]) -> Iterator[str]:
    """Counts by name, as a table."""
    yield f"{what:40}  {_HEAD}"
    for name, counted in found.items():
        yield f"{escaped(name):40}  {_line(counted)}"


def _line(counted: Counted) -> str:
    ends, mean_run = counted.outcomes, counted.mean_run
    numbers = f"{counted.started:7}  {ends['succeeded']:9}  {ends['retried']:7}  {ends['failed']:6}  {ends['buried']:6}"
    p95 = counted.run.quantile(0.95)
    mean = "-" if mean_run is None else f"{mean_run:.3f} s"
    below = "-" if p95 is None else "more" if p95 == float("inf") else f"{p95:g} s"
    return f"{numbers}  {ends['cancelled']:9}  {ends['expired']:7}  {mean:>8}  {below:>10}"
