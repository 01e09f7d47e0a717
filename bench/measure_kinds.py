"""Measure 0: kinds of tasks as people use them, directly and through added latency, beside the peers that keep results."""

import statistics
from dataclasses import dataclass, field
from functools import partial

from tests.support.proxy import proxy

from .contenders import OURS, Contender, keeping_results, of_kind
from .drain import Failed
from .installs import NotInstallable, install
from .kind_run import Found, KindRun, Row
from .kinds import GO_KINDS, KINDS, PLAIN, RESULT
from .options import Options, Progress
from .placement import server
from .result import Result, number, spread

TITLE = "Kinds of tasks, one worker process"
_COLUMNS = ("kind: system", "enqueue/s", "many/s", "drain/s", "of plain", "Redis µs", "commands", "bytes waiting")
DRAIN = _COLUMNS.index("drain/s")
_NOTES = (
    "Enqueued by one process, one by one and many at once. Of plain: the drain's share of our plain tasks' in the same",
    "language (of Python's for peers). For each task: Redis's CPU while it is drained, commands of clients from an enqueue of",
    "its own to its end, bytes of Redis's memory while it waits. `group` and `key` have 50 of each; `async` has",
    "`--async-tasks 100`, `threads` has `--threads 8`. Peers keep results as we do.",
    "",
    "**Checked**: each task ran once; the number of results and their sum; nothing is left held, waiting or dead.",
)
_QUICK_PEERS = ("huey",)
_FAR_PEERS = ("huey", "dramatiq", "taskiq")  # through latency, where runs of each take long
_TRIAL, _PEERS_TRIAL, _FAR_TRIAL = 2000, 300, 200  # tasks that are enqueued one by one
_LEAST, _MOST = 200, 60_000  # tasks of a run, which should take so many
_SECONDS = 0.7
_PEERS_TRIES = 3  # saq's worker may abort a job while it starts, which is then without a result


@dataclass
class _Seen:
    """All runs of one row."""

    row: Row
    trials: list[Found] = field(default_factory=list)  # enqueued one by one
    runs: list[Found] = field(default_factory=list)  # many at once
    failure: str = ""

    @property
    def drain(self) -> float:
        """Tasks/s."""
        return statistics.median(one.drain for one in self.runs)

    @property
    def many(self) -> float:
        """Tasks/s that are enqueued many at once."""
        return statistics.median(one.enqueue for one in self.runs)

    @property
    def cpu(self) -> float:
        """µs of Redis's CPU for a task."""
        return statistics.median(one.redis for one in self.runs)

    @property
    def commands(self) -> float:
        """For a task."""
        return statistics.median(one.commands for one in self.trials)

    @property
    def memory(self) -> float:
        """Bytes for a waiting task."""
        return statistics.median(one.memory for one in self.runs)

    def cells(self, plain: "_Seen | None") -> tuple[str, ...]:
        """A row of the table."""
        if self.failure or not self.runs:
            return (self.row.label, f"failed: {self.failure[:200]}", *[""] * (len(_COLUMNS) - 2))
        return (
            self.row.label,
            spread([one.enqueue for one in self.trials]),
            spread([one.enqueue for one in self.runs]),
            spread([one.drain for one in self.runs]),
            f"{self.drain / plain.drain:.0%}" if plain is not None and plain.runs else "",
            number(self.cpu),
            number(self.commands),
            number(self.memory),
        )


def _peers(options: Options, far: bool) -> list[Contender]:
    names = _QUICK_PEERS if options.quick else _FAR_PEERS if far else None
    return [peer for peer in keeping_results() if names is None or peer.name in names]


def _rows(options: Options, far: bool) -> list[Row]:
    """In the order of the table. Our plain tasks come first and, for a fair ratio, once more at the end."""
    names = [name for name in KINDS if not options.kinds or name in (PLAIN, *options.kinds)]
    rows = []
    for name in names:
        rows.append(Row(name, of_kind(name, go=False)))
        if name in GO_KINDS:
            rows.append(Row(name, of_kind(name, go=True)))
        if name == RESULT:
            rows += [Row(name, peer) for peer in _peers(options, far)]
    return [*rows, rows[0]] if len(rows) > 1 else rows


def _measure(one: _Seen, run: KindRun, seconds: float, far: bool) -> None:
    """One by one, which also tells how many there should be, then many."""
    ours = one.row.contender.name == OURS
    few = _FAR_TRIAL if far else _TRIAL if ours else _PEERS_TRIAL
    for tries_left in reversed(range(1 if ours else _PEERS_TRIES)):
        try:
            install(one.row.contender)
            trial = run(one.row, few, one_by_one=True)
            many = run(one.row, round(min(max(trial.drain * seconds, _LEAST), _MOST)))
        except (Failed, NotInstallable) as error:
            one.failure = "" if tries_left else str(error)
        else:
            one.trials.append(trial)
            one.runs.append(many)
            return


def _plain_of(one: Row, seen: dict[str, _Seen]) -> _Seen | None:
    return seen.get(Row(PLAIN, of_kind(PLAIN, go=one.contender.name == OURS and not one.contender.python)).label)


def _targets(result: Result, seen: dict[str, _Seen]) -> None:
    found = {one.row.kind: one for one in seen.values() if one.row.contender == of_kind(one.row.kind, go=False) and one.runs}
    if PLAIN not in found:
        return
    plain, wish = found[PLAIN], partial(result.want, unit=" %", least=True)
    for name, one in found.items():
        kind = KINDS[name]
        if kind.drain:
            wish(f"{name}: drain at least {kind.drain:.0%} of plain", 100 * one.drain / plain.drain, 100 * kind.drain)
        if kind.many:
            wish(f"{name}: enqueue_many at least {kind.many:.0%} of plain", 100 * one.many / plain.many, 100 * kind.many)
    result.want("plain: at most 1.5 µs of Redis's CPU", plain.cpu, 1.5, " µs")
    if RESULT not in found:
        return
    results = found[RESULT]
    result.want("result: at most 8 µs of Redis's CPU", results.cpu, 8, " µs")
    result.want("result: at most 4 commands", results.commands, 4)
    result.want("result: at most 200 bytes while it waits", results.memory, 200, " bytes")
    peers = [one.drain for one in seen.values() if one.row.contender.name != OURS and one.row.contender.python and one.runs]
    if peers:
        result.want("result: at least 10 times the fastest Python peer", results.drain / max(peers), 10, " times", least=True)


def _at(milliseconds: int, options: Options, progress: Progress, run: KindRun) -> Result:
    """The table at one latency."""
    far = milliseconds > 0
    title = f"{TITLE}, through a proxy that adds {milliseconds} ms to a round trip" if far else TITLE
    result = Result(f"kinds-{milliseconds}ms", title, _COLUMNS)
    rows, seen = _rows(options, far), dict[str, _Seen]()
    for number_of_run in range(options.runs):
        for row in rows:
            one = seen.setdefault(row.label, _Seen(row))
            if not one.failure:
                progress(f"kinds at {milliseconds} ms, run {number_of_run + 1} of {options.runs}: {row.label}")
                _measure(one, run, _SECONDS / (2 if options.quick else 1), far)
    result.rows = [one.cells(_plain_of(one.row, seen)) for one in seen.values()]
    for label, one in seen.items():
        for what in ("enqueue", "drain", "redis", "memory"):
            result.values[f"{label}, {what}"] = [getattr(found, what) for found in one.runs]
    if not far:
        result.notes += _NOTES
        _targets(result, seen)
    return result


def measure_kinds(options: Options, progress: Progress) -> list[Result]:
    """Directly and, unless it has to be quick, through a proxy that adds 1 ms."""
    with server() as embedded, embedded.client() as client:
        assert embedded.port
        near = _at(0, options, progress, KindRun(client, embedded.port, embedded.url))
        if options.quick:
            return [near]
        with proxy(embedded.port, 0.0005) as between:  # on Redis's core, too
            return [near, _at(1, options, progress, KindRun(client, embedded.port, between.url))]
