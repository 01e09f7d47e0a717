"""Measure 13: what histories cost, and a scrape of a hundred queues."""

from collections.abc import Mapping

import redis

from delayed import PyTask, Queue
from delayed.base.clock import monotonic
from delayed.ops.exporter import Exporter

from .contenders import of_kind
from .kind_run import Found, KindRun, Row
from .kinds import PLAIN, RESULT
from .options import Options, Progress
from .placement import WORK_CORE, on_core, server
from .result import Result, number, spread

_QUEUES, _SCRAPES = 100, 30
_RUNS = 7  # of each: what is looked for is small
_LEAST, _MOST = 10_000, 150_000  # tasks of a run, which takes a second otherwise
_TRIAL = 5000
_RECORDS = ("off", "failures", "all")  # failures: what a history keeps if nothing is said


def _rounds(run: KindRun, kind: str, options: Options, progress: Progress) -> Mapping[str, list[Found]]:
    """Drains with each kind of history, in turns."""
    row = Row(kind, of_kind(kind, go=False))
    count = round(min(max(run(row, _TRIAL).drain, _LEAST), _MOST))
    found: dict[str, list[Found]] = {record: [] for record in _RECORDS}
    for number_of_run in range(options.runs if options.quick else _RUNS):
        for record in _RECORDS:
            progress(f"eyes, run {number_of_run + 1}: {kind}, history {record}")
            found[record].append(run(row, options.scaled(count), history=record))
    return found


def _scrapes(client: redis.Redis) -> list[float]:
    """Milliseconds of each scrape of queues that have tasks, workers' counts aside."""
    client.flushall()
    names = [f"queue-{index}" for index in range(_QUEUES)]
    for name in names:
        Queue(name, client).enqueue_many(PyTask("m:f", (index,)) for index in range(10))
    found = []
    for _ in range(_SCRAPES):
        exporter = Exporter(client, names)  # a new one has no page that is good enough
        begun = monotonic()
        status, _, body = exporter.page("/metrics")
        found.append((monotonic() - begun) * 1000)
        assert status == 200, body
        assert body.count(b"delayed_queue_tasks") >= _QUEUES, body[:500]
    return found


def measure_eyes(options: Options, progress: Progress) -> list[Result]:
    """The best of each: what disturbs only adds."""
    result = Result("eyes", "Histories and scrapes", ("", "drain/s", "Redis µs", "worker µs"))
    with server() as embedded, embedded.client() as client:
        run = KindRun(client, embedded.port or 0, embedded.url)
        for kind in (PLAIN, RESULT):
            found = _rounds(run, kind, options, progress)
            for record, some in found.items():
                rates = [each.drain for each in some]
                costs = (number(min(each.redis for each in some)), number(min(each.worker for each in some)))
                result.rows.append((f"{kind}, history {record}", spread(rates), *costs))
                result.values[f"{kind} {record}"] = rates
            _want(result, kind, found)
        progress("eyes: scrapes")
        with on_core(WORK_CORE):
            scrapes = sorted(_scrapes(client))
    middle = scrapes[len(scrapes) // 2]
    result.rows.append((f"a scrape of {_QUEUES} queues: {number(middle)} ms, {number(scrapes[-1])} at most", "", "", ""))
    result.notes = [
        "",
        "The best of all runs for µs. The workers' statistics are always on; so are they in all other sections.",
    ]
    result.want(f"a scrape of {_QUEUES} queues in 20 ms", middle, 20, " ms")
    return [result]


def _want(result: Result, kind: str, found: Mapping[str, list[Found]]) -> None:
    best = {record: max(each.drain for each in some) for record, some in found.items()}
    least = {record: min(each.redis for each in some) for record, some in found.items()}
    for record in _RECORDS[1:]:
        share = best[record] / best["off"] * 100
        result.want(f"{kind}: with history {record} at least 95 % of the drain without", share, 95, " %", least=True)
        result.want(f"{kind}: history {record} at most 1 µs of Redis's CPU", least[record] - least["off"], 1, " µs")
