"""What Prometheus is told of queues."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..base.checks import is_whole
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..redis.keys import STATS
from ..redis.places import scored
from ..redis.statistics import DEAD, RUN, WAIT, Counts
from ..worker.scoreboard import description
from .exposition import Family, Sample, Sum, labels
from .processes import number_in
from .scrape import LIMITS, Scraped, Server, scraped, server_of
from .statistics import Totals, sums, totals_of

_ABOUT = {  # name → type, what it is
    "queue_tasks": ("gauge", "Tasks in a queue, by state."),
    "queue_oldest_seconds": (
        "gauge",
        "For how long the next task has waited, if it has a date, the first in the schedule is late, or a task has run.",
    ),
    "queue_enqueued": ("gauge", "Tasks that have ended and that are there, since the queue exists; a purge takes some away."),
    "queue_started": ("gauge", "Attempts that have ended, also with their worker, since the queue exists."),
    "queue_groups": ("gauge", "Groups with waiting tasks."),
    "queue_paused": ("gauge", "Whether nothing is taken from the queue."),
    "queue_limit": ("gauge", "The limits of a queue."),
    "tasks_total": ("counter", "Attempts, by how they ended."),
    "tasks_superseded_total": ("counter", "Attempts whose lease was lost while they ran."),
    "tasks_recovered_total": ("counter", "Tasks of dead workers that were put back."),
    "tasks_buried_total": ("counter", "Tasks that sweeps buried."),
    "queue_run_seconds": ("histogram", "For how long attempts ran."),
    "queue_wait_seconds": ("histogram", "For how long tasks that have a date waited for their first attempt."),
    "task_run_seconds": ("summary", "For how long attempts of a function ran."),
    "task_dead_total": ("counter", "Tasks of a function that became dead letters."),
    "workers": ("gauge", "Processes in the register."),
    "worker_slots": ("gauge", "Tasks that may run at once, in the workers that say so."),
    "worker_busy": ("gauge", "Tasks that run."),
    "worker_resident_bytes": ("gauge", "Memory of the workers."),
    "workflows": (
        "gauge",
        "Workflows whose home is the queue: those that go on, and those that have ended and are remembered.",
    ),
    "dead_oldest_seconds": ("gauge", "Age of the oldest dead letter."),
    "schedule_next_timestamp_seconds": ("gauge", "When each of the next schedules of a queue is due."),
    "clock_skew_seconds": ("gauge", "How far the clock of Redis is ahead of the exporter's, within half a round trip."),
    "redis_round_trip_seconds": ("gauge", "How long one question to Redis took."),
    "redis_up": ("gauge", "Whether Redis answers."),
}
Found = dict[str, list[Sample]]


def metrics(queues: Sequence[Queue]) -> list[Family]:
    """The metrics of these queues, which are on one server. If that does not answer, there is only `redis_up`, with 0."""
    found: Found = defaultdict(list)
    try:
        if queues:
            server = server_of(queues[0])
            for each in scraped(queues):
                _tell(each, server.now, found)
            _tell_server(server, found)
    except RedisError:
        found.clear()
        found["redis_up"].append(Sample("", 0))
    else:
        found["redis_up"].append(Sample("", 1))
    return [Family(name, *about, found[name]) for name, about in _ABOUT.items()]


def _tell_server(server: Server, found: Found) -> None:
    _add(found, "clock_skew_seconds", "", server.ahead)
    _add(found, "redis_round_trip_seconds", "", server.round_trip)


def _tell(each: Scraped, moment: float, found: Found) -> None:
    name = labels(queue=each.queue.name)
    for state, count in (
        ("waiting", each.waiting), ("grouped", each.grouped), ("for_keys", each.for_keys), ("scheduled", each.scheduled),
        ("held", each.held), ("dead", each.letters),
    ):  # fmt: skip
        _add(found, "queue_tasks", f'{name},state="{state}"', count)
    _add(found, "queue_groups", name, each.groups)
    _add(found, "queue_oldest_seconds", f'{name},state="waiting"', each.waited(moment))
    _add(found, "queue_oldest_seconds", f'{name},state="scheduled"', _lateness(each.first, moment))
    for key, metric in zip(STATS, ("tasks_recovered_total", "tasks_buried_total"), strict=True):
        shown = f'{name},reason="lost"' if key == "buried" else name
        _add(found, metric, shown, _number((each.stats or [0, 0])[STATS.index(key)] or 0))
    _tell_control(name, each.control, found)
    total = totals_of(each.total or {})
    _tell_counts(name, total, found)
    if each.is_whole:
        all_of_it = sums(total, each)
        _add(found, "queue_enqueued", name, all_of_it.enqueued)
        _add(found, "queue_started", name, all_of_it.started)
    _tell_processes(name, each, found)
    _tell_flows(name, each, found)
    if each.letter:
        _add(found, "dead_oldest_seconds", name, max(0.0, moment - int(each.letter[0][0].partition(b"-")[0]) / 1000))
    for schedule, due in _next(each.cron).items():
        _add(found, "schedule_next_timestamp_seconds", f"{name},{schedule}", due / 1000)


def _next(reply: Any) -> dict[str, float]:
    """The label of a schedule → when it is due. Names that no label can tell apart are one: the first counts."""
    found: dict[str, float] = {}
    for schedule, due in scored(reply or []):
        found.setdefault(labels(schedule=schedule.decode(errors="surrogateescape")), due)
    return found


def _tell_flows(name: str, each: Scraped, found: Found) -> None:
    if each.flows is not None and each.flows_going is not None:
        _add(found, "workflows", f'{name},state="running"', each.flows_going)
        _add(found, "workflows", f'{name},state="ended"', max(0, each.flows - each.flows_going))


def _tell_control(name: str, control: Any, found: Found) -> None:
    paused, *limits = control or [None] * 3
    _add(found, "queue_paused", name, int(paused is not None))
    for kind, limit in zip(LIMITS, limits, strict=True):
        _add(found, "queue_limit", f'{name},kind="{kind}"', _number(limit) if limit else None)


def _tell_counts(name: str, total: Totals, found: Found) -> None:
    for outcome, count in total.all.outcomes.items():
        if outcome == "superseded":
            _add(found, "tasks_superseded_total", name, count)
        else:
            _add(found, "tasks_total", f'{name},outcome="{outcome}"', count)
    others = _of_function(total.all.counts)
    for function, counted in total.functions.items():
        own = _of_function(counted.counts)
        _tell_function(f"{name},{labels(task=function)}", own, found)
        others = _Function(*(max(0, all_of_it - part) for all_of_it, part in zip(others, own, strict=True)))
    if others.dead or others.tasks:
        _tell_function(f'{name},task="other"', others, found)
    if total.all.counts:
        found["queue_run_seconds"].append(Sample(name, total.all.run))
        found["queue_wait_seconds"].append(Sample(name, total.all.wait))


class _Function(NamedTuple):
    """What is told of one function."""

    milliseconds: int
    tasks: int
    dead: int


def _of_function(counts: Counts) -> _Function:
    tasks = sum([count for field, count in counts.items() if RUN < field < WAIT])
    return _Function(counts.get(RUN, 0), tasks, sum([counts.get(field, 0) for field in DEAD]))


def _tell_function(shown: str, function: _Function, found: Found) -> None:
    found["task_run_seconds"].append(Sample(shown, Sum(function.milliseconds / 1000, function.tasks)))
    found["task_dead_total"].append(Sample(shown, function.dead))


def _tell_processes(name: str, each: Scraped, found: Found) -> None:
    said = [description(about) for about in each.about]
    workers = [about for about in said if about.get("kind") == "worker"]
    by_language: dict[str, list[dict[str, Any]]] = {}
    for about in workers:
        by_language.setdefault(str(about.get("language")), []).append(about)
    for language in sorted(by_language):
        some, shown = by_language[language], f"{name},{labels(language=language)}"
        found["workers"].append(Sample(f'{name},kind="worker",{labels(language=language)}', len(some)))
        busy = [about["in_flight"] if is_whole(about.get("in_flight")) else bool(about.get("running")) for about in some]
        _add(found, "worker_busy", shown, sum(map(int, busy)))
        _add(found, "worker_resident_bytes", shown, sum(_whole(some, "rss")))
        if slots := list(_whole(some, "slots")):
            _add(found, "worker_slots", shown, sum(slots))
    if sweepers := sum(about.get("kind") == "sweeper" for about in said):
        found["workers"].append(Sample(f'{name},kind="sweeper",language=""', sweepers))
    if each.held is not None:
        runs = [seconds for about in workers if (seconds := number_in(about, "running_for")) is not None]
        longest = max(runs, default=None) if each.held else 0.0
        _add(found, "queue_oldest_seconds", f'{name},state="held"', longest)


def _whole(said: Sequence[dict[str, Any]], field: str) -> Iterator[int]:
    return (about[field] for about in said if is_whole(about.get(field)))


def _add(found: Found, metric: str, shown: str, value: float | None) -> None:
    if value is not None:
        found[metric].append(Sample(shown, value))


def _lateness(first: Any, moment: float) -> float:
    return max([0.0, *(moment - score / 1000 for _, score in scored(first or []))])


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except ValueError:  # another program's
        return None
