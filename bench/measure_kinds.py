"""Measure 0: kinds of tasks as people use them, directly and through added latency, beside the peers that keep results."""

from tests.support.proxy import proxy

from .contenders import OURS, Contender, keeping_results, of_kind
from .drain import Failed
from .installs import NotInstallable, install
from .kind_run import KindRun, Row
from .kind_targets import COLUMNS, Seen, want_of_kinds
from .kinds import GO_KINDS, KINDS, PLAIN, RESULT
from .options import Options, Progress
from .placement import server
from .result import Result

TITLE = "Kinds of tasks, one worker process"
_NOTES = (
    "Enqueued by one process, one by one and many at once. Of plain: the drain's share of our plain tasks' in the same",
    "language (of Python's for peers). For each task: the CPU of Redis and of the worker while it is drained, commands of",
    "clients from an enqueue of its own to its end, bytes of Redis's memory while it waits. `group` and `key` have 50 of",
    "each; `limit` is one of 1,000 for the queue; `priority` has three queues; `async` has `--async-tasks 100`, `threads`",
    "has `--threads 8`. Peers keep results as we do.",
    "",
    "**Checked**: each task ran once; the number of results and their sum; nothing is left held, waiting or dead.",
)
_QUICK_PEERS = ("huey",)
_FAR_PEERS = ("huey", "dramatiq", "taskiq", "asynq")  # through latency, where runs of each take long
_TRIAL, _PEERS_TRIAL, _FAR_TRIAL = 2000, 300, 200  # tasks that are enqueued one by one
_LEAST, _MOST = 200, 150_000  # tasks of a run, which should take so many
_SECONDS = 0.7
_PEERS_TRIES = 3  # saq's worker may abort a job while it starts, which is then without a result


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


def _measure(one: Seen, run: KindRun, seconds: float, far: bool) -> None:
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


def _plain_of(one: Row, seen: dict[str, Seen]) -> Seen | None:
    return seen.get(Row(PLAIN, of_kind(PLAIN, go=one.contender.name == OURS and not one.contender.python)).label)


def _at(milliseconds: int, options: Options, progress: Progress, run: KindRun) -> Result:
    """The table at one latency."""
    far = milliseconds > 0
    title = f"{TITLE}, through a proxy that adds {milliseconds} ms to a round trip" if far else TITLE
    result = Result(f"kinds-{milliseconds}ms", title, COLUMNS)
    rows, seen = _rows(options, far), dict[str, Seen]()
    runs = 1 if far or options.quick else options.runs
    for number_of_run in range(runs):
        for row in rows:
            one = seen.setdefault(row.label, Seen(row))
            if not one.failure:
                progress(f"kinds at {milliseconds} ms, run {number_of_run + 1} of {runs}: {row.label}")
                _measure(one, run, _SECONDS / (2 if options.quick else 1), far)
    result.rows = [one.cells(_plain_of(one.row, seen)) for one in seen.values()]
    for label, one in seen.items():
        for what in ("enqueue", "drain", "redis", "worker", "memory"):
            result.values[f"{label}, {what}"] = [getattr(found, what) for found in one.runs]
    if not far:
        result.notes += _NOTES
        want_of_kinds(result, seen)
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
