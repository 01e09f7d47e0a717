"""What Prometheus is told of queues: some commands for each, all in one round trip, however much waits in it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..base.checks import is_whole
from ..queue.queue import Queue
from ..redis.command import RedisError, is_cluster
from ..redis.keys import STATS
from ..redis.places import scored
from ..redis.scripts import Argument
from ..redis.statistics import DEAD, RUN, WAIT, Counts
from ..task.decode import headers_of
from ..task.headers import MOST
from ..worker.scoreboard import description
from .exposition import Family, Sample, Sum, labels
from .processes import MOST as MOST_PROCESSES
from .statistics import totals_of

_AT_ONCE = 100  # queues in a round trip
_LIMITS = ("concurrency", "rate")
_ABOUT = {  # name → type, what it is
    "queue_tasks": ("gauge", "Tasks in a queue, by state."),
    "queue_oldest_seconds": (
        "gauge",
        "For how long the next task has waited, if it has a date, or the first in the schedule is late.",
    ),
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
    "worker_busy": ("gauge", "Tasks that run."),
    "worker_resident_bytes": ("gauge", "Memory of the workers."),
    "dead_oldest_seconds": ("gauge", "Age of the oldest dead letter."),
    "schedule_next_timestamp_seconds": ("gauge", "When the next schedule of a queue is due."),
    "redis_up": ("gauge", "Whether Redis answers."),
}
Found = dict[str, list[Sample]]


def metrics(queues: Sequence[Queue]) -> list[Family]:
    """The metrics of these queues, which are on one server. If that does not answer, there is only `redis_up`, with 0."""
    found: Found = defaultdict(list)
    try:
        for queue, reply, moment in _asked(queues):
            _tell(queue, reply, moment, found)
    except RedisError:
        found.clear()
        found["redis_up"].append(Sample("", 0))
    else:
        found["redis_up"].append(Sample("", 1))
    return [Family(name, *about, found[name]) for name, about in _ABOUT.items()]


def commands(queue: Queue) -> list[tuple[Argument, ...]]:
    """What is asked of one queue: each takes the same time however much waits."""
    own = queue.keys
    return [
        ("LLEN", own.queue), ("ZCARD", own.scheduled), ("HLEN", own.processing), ("XLEN", own.dead), ("LLEN", own.groups),
        ("LINDEX", own.queue, 0), ("ZRANGE", own.scheduled, 0, 0, "WITHSCORES"), ("XRANGE", own.dead, "-", "+", "COUNT", 1),
        ("HMGET", own.stats, *STATS), ("HMGET", own.control, "paused", *_LIMITS), ("HGETALL", own.stats_total),
        ("ZRANGE", own.cron_due, 0, 0, "WITHSCORES"), ("HSCAN", own.workers, 0, "COUNT", MOST_PROCESSES), ("TIME",),
    ]  # fmt: skip


def _asked(queues: Sequence[Queue]) -> Iterator[tuple[Queue, list[Any], float]]:
    at_once = 1 if queues and is_cluster(queues[0].conn) else _AT_ONCE
    for first in range(0, len(queues), at_once):
        some = queues[first : first + at_once]
        replies = some[0].store.exchange(*(command for queue in some for command in commands(queue)))
        each = len(replies) // len(some)
        for place, queue in enumerate(some):
            *reply, time = replies[place * each : (place + 1) * each]
            seconds, microseconds = (0, 0) if isinstance(time, Exception) else time
            yield queue, [None if isinstance(one, Exception) else one for one in reply], int(seconds) + int(microseconds) / 1e6


def _tell(queue: Queue, reply: list[Any], moment: float, found: Found) -> None:
    waiting, scheduled, held, dead, groups, head, first, letter, stats, control, total, cron, about = reply
    name = labels(queue=queue.name)
    for state, count in (("waiting", waiting), ("scheduled", scheduled), ("held", held), ("dead", dead)):
        _add(found, "queue_tasks", f'{name},state="{state}"', count)
    _add(found, "queue_groups", name, groups)
    _add(found, "queue_oldest_seconds", f'{name},state="waiting"', _age(head, moment))
    _add(found, "queue_oldest_seconds", f'{name},state="scheduled"', _lateness(first, moment))
    for key, metric in zip(STATS, ("tasks_recovered_total", "tasks_buried_total"), strict=True):
        shown = f'{name},reason="lost"' if key == "buried" else name
        _add(found, metric, shown, _number((stats or [0, 0])[STATS.index(key)] or 0))
    _tell_control(name, control, found)
    _tell_counts(name, total or {}, found)
    _tell_processes(name, about[1][1::2] if about else [], found)
    if letter:
        _add(found, "dead_oldest_seconds", name, max(0.0, moment - int(letter[0][0].partition(b"-")[0]) / 1000))
    for _, due in scored(cron or []):
        _add(found, "schedule_next_timestamp_seconds", name, due / 1000)


def _tell_control(name: str, control: Any, found: Found) -> None:
    paused, *limits = control or [None] * 3
    _add(found, "queue_paused", name, int(paused is not None))
    for kind, limit in zip(_LIMITS, limits, strict=True):
        _add(found, "queue_limit", f'{name},kind="{kind}"', _number(limit) if limit else None)


def _tell_counts(name: str, reply: Any, found: Found) -> None:
    total = totals_of(reply)
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


def _tell_processes(name: str, about: Sequence[bytes], found: Found) -> None:
    said = [description(each) for each in about]
    workers = [each for each in said if each.get("kind") == "worker"]
    for language, count in sorted(Counter(str(each.get("language")) for each in workers).items()):
        found["workers"].append(Sample(f'{name},kind="worker",{labels(language=language)}', count))
    if sweepers := sum(each.get("kind") == "sweeper" for each in said):
        found["workers"].append(Sample(f'{name},kind="sweeper",language=""', sweepers))
    if workers:
        busy = [each["in_flight"] if is_whole(each.get("in_flight")) else bool(each.get("running")) for each in workers]
        _add(found, "worker_busy", name, sum(map(int, busy)))
        _add(found, "worker_resident_bytes", name, sum(each["rss"] for each in workers if is_whole(each.get("rss"))))


def _add(found: Found, metric: str, shown: str, value: float | None) -> None:
    if value is not None:
        found[metric].append(Sample(shown, value))


def _age(head: bytes | None, moment: float) -> float | None:
    if head is None:
        return 0.0
    enqueued = headers_of(head).get("enqueued")
    return max(0.0, moment - enqueued / 1000) if isinstance(enqueued, int) and 0 < enqueued < MOST else None


def _lateness(first: Any, moment: float) -> float:
    return max([0.0, *(moment - score / 1000 for _, score in scored(first or []))])


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except ValueError:  # another program's
        return None
