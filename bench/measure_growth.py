"""Measure 8: does it stay as fast when much waits, when many leases live, and with many queues?"""

import statistics
import time
from dataclasses import dataclass
from typing import NamedTuple, cast

import redis

from delayed import PyTask, Queue

from .measure_idle import latencies
from .options import Options, Progress
from .placement import server
from .result import Result, number
from .timed import Times, program

_DRAINED = 20_000
_CHUNK = 1000


class Situation(NamedTuple):
    """What a worker is put into."""

    label: str
    queues: int
    waiting: int
    leases: int  # live ones of other workers


@dataclass
class Found:
    """One situation."""

    label: str
    rate: float  # tasks/s
    latency: float  # µs, or 0 where a worker cannot be idle
    slowest: float  # ms


def _leases(client: redis.Redis, count: int) -> None:
    """Live leases of other workers, each with a task."""
    for first in range(0, count, _CHUNK):
        names = [f"bench_lease_other_{i}" for i in range(first, first + _CHUNK)]
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.set(name, "other", px=3_600_000)
            pipe.hset("bench_processing", mapping=dict.fromkeys(names, b"\x91\xacother:noop"))
            pipe.execute()


def slowest_command(client: redis.Redis) -> float:
    """Milliseconds of the longest command since the last look; 0 if none was as slow as the log's threshold of 1 ms."""
    entries = cast(list[dict[str, int]], client.slowlog_get(1000))
    client.slowlog_reset()
    return max((entry["duration"] for entry in entries), default=0) / 1000


def _rate(client: redis.Redis, url: str, names: list[str], waiting: int) -> float:
    """Tasks/s over the first 20,000 of `waiting` tasks, spread over the queues."""
    each = waiting // len(names)
    with Times(waiting) as times:
        for place, name in enumerate(names):
            indices = range(place * each, (place + 1) * each)
            Queue(name, client).enqueue_many(PyTask("timed:stamp", (i,)) for i in indices)
        client.slowlog_reset()
        with program("timed.py", names, url, times):
            last = _DRAINED - 1
            times.wait(last, 60)
        began, ended = times[0], times[last]
        return last / ((ended - began) / 1e9)


def _situation(client: redis.Redis, url: str, situation: Situation, count: int) -> Found:
    label, queues, waiting, leases = situation
    names = ["bench"] if queues == 1 else [f"bench{i}" for i in range(queues)]
    client.flushall()
    _leases(client, leases)
    rate = _rate(client, url, names, waiting)
    client.unlink(*names, *(f"{name}_noti" for name in names))
    slowest = slowest_command(client)
    queue = Queue(names[-1], client)
    with Times(count) as times, program("timed.py", names, url, times):
        found = latencies(times, lambda i: queue.enqueue(PyTask("timed:stamp", (i,))), count)
        time.sleep(0.2)
    return Found(label, rate, statistics.median(found), max(slowest, slowest_command(client)))


def _situations(options: Options) -> list[Situation]:
    sizes = [Situation("20,000 waiting", 1, _DRAINED, 0), Situation("10⁵ waiting", 1, 100_000, 0)]
    if options.huge:
        sizes.append(Situation("10⁷ waiting", 1, 10_000_000, 0))
    more = [
        Situation("10⁵ live leases", 1, _DRAINED, 100_000),
        Situation("10 queues", 10, _DRAINED, 0),
        Situation("100 queues", 100, _DRAINED, 0),
    ]
    return sizes + more


def measure_growth(options: Options, progress: Progress) -> list[Result]:
    """Drain rate, idle latency and longest script in several situations."""
    columns = ("situation", "drain, tasks/s", "idle latency p50, µs", "longest command, ms")
    result = Result("growth", "Growth (20,000 tasks drained)", columns)
    founds: list[Found] = []
    runs = 1 if options.quick else options.runs
    with server() as embedded, embedded.client() as client:
        all_runs: dict[str, list[Found]] = {}
        for run in range(runs):
            for situation in _situations(options):
                progress(f"growth, run {run + 1} of {runs}: {situation.label}")
                one = _situation(client, embedded.url, situation, options.scaled(500))
                all_runs.setdefault(situation.label, []).append(one)
    for label, several in all_runs.items():
        middle = Found(
            label,
            statistics.median(one.rate for one in several),
            statistics.median(one.latency for one in several),
            max(one.slowest for one in several),
        )
        founds.append(middle)
        slowest = f"{middle.slowest:.1f}" if middle.slowest else "under 1"
        result.rows.append((label, number(middle.rate), number(middle.latency), slowest))
        result.values[label] = [one.rate for one in several] + [one.latency for one in several]
    first = founds[0]
    result.want("drain slower by 1.5 times at most", first.rate / min(one.rate for one in founds), 1.5, " times")
    result.want("idle latency longer by 1.5 times at most", max(one.latency for one in founds) / first.latency, 1.5, " times")
    result.want("no script over 5 ms", max(one.slowest for one in founds), 5, " ms")
    return [result]
