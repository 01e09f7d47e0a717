"""Measure 4b: how long tasks wait while a worker has half of what it can do, and a small group's beside a very long one's."""

import json
import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import redis

from delayed import PyTask, Queue
from delayed.task.options import Options as TaskOptions

from .kinds import KINDS, QUEUE
from .measure_idle import latencies, percentile
from .options import Options, Progress
from .placement import server
from .result import Result, number, spread
from .timed import Times, program

_TICK = 0.001  # seconds between two enqueues
_DRAINED = 20_000


class _Way(NamedTuple):
    """How a worker runs tasks."""

    label: str
    function: str
    options: Mapping[str, int]


_WAYS = (
    _Way("serial", "timed:stamp", {}),
    _Way("coroutines, --async-tasks 100", "timed:coroutine_stamp", KINDS["async"].worker),
    _Way("threads, --threads 8", "timed:stamp", KINDS["threads"].worker),
)


class _Found(NamedTuple):
    """What one run has found."""

    full: float  # tasks/s
    load: float  # tasks/s that were enqueued then
    waits: list[float]  # µs


def _drain(queue: Queue, times: Times, path: str) -> float:
    """Tasks/s of a worker that is there, and has many to do."""
    queue.enqueue_many(PyTask(path, (i,)) for i in range(_DRAINED))
    for i in range(_DRAINED):
        times.wait(i, 60)
    begins = sorted(times[i] for i in range(_DRAINED))
    return (_DRAINED - 1) * 1e9 / (begins[-1] - begins[0])


def _waits(queue: Queue, times: Times, path: str, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Enqueue at a `rate` for so long. Returns the rate that was reached, and µs from each enqueue to the first line."""
    count = int(rate * seconds)
    enqueued: list[int] = []
    began = time.monotonic()
    while len(enqueued) < count:
        due = min(int((time.monotonic() - began) * rate), count)
        numbers = range(_DRAINED + len(enqueued), _DRAINED + due)
        enqueued += [time.monotonic_ns()] * len(numbers)
        queue.enqueue_many(PyTask(path, (i,)) for i in numbers)
        time.sleep(_TICK)
    reached = count / (time.monotonic() - began)
    waits = [(times.wait(_DRAINED + i) - at) / 1000 for i, at in enumerate(enqueued)]
    return reached, waits[count // 10 :]  # the first ones find cold caches


def _one_run(client: redis.Redis, url: str, way: _Way, seconds: float) -> _Found:
    client.flushall()
    queue = Queue(QUEUE, client)
    with Times(_DRAINED + int(200_000 * seconds)) as times, program("timed.py", [json.dumps(way.options), QUEUE], url, times):
        full = _drain(queue, times, way.function)
        return _Found(full, *_waits(queue, times, way.function, min(full / 2, 200_000), seconds))


def _small_beside_large(client: redis.Redis, url: str, large: int, count: int) -> list[float]:
    """Microseconds that each task of a small group waits, one after the other, while a large group has work for longer."""
    client.flushall()
    queue = Queue(QUEUE, client)
    theirs = TaskOptions(group="large")
    queue.enqueue_many(PyTask.with_options("timed:stamp", (count,), None, None, theirs) for _ in range(large))
    ours = TaskOptions(group="small")
    with Times(count + 1) as times, program("timed.py", ["{}", QUEUE], url, times):
        times.wait(count)
        found = latencies(times, lambda i: queue.enqueue(PyTask.with_options("timed:stamp", (i,), None, None, ours)), count)
    if not client.exists(queue.keys.processing, queue.keys.queue):
        raise AssertionError("the large group had too few tasks: the small one was alone in the end")
    return found


def measure_load(options: Options, progress: Progress) -> list[Result]:
    """At half of the load, and beside a large group."""
    columns = ("tasks of a worker", "drain, tasks/s", "load, tasks/s", "wait p50, µs", "wait p99, µs")
    result = Result("load", "Waits at half of what a worker drains", columns)
    large, seconds = options.scaled(1_000_000), 1.0 if options.quick else 3.0
    with server() as embedded, embedded.client() as client:
        found: dict[str, list[_Found]] = {way.label: [] for way in _WAYS}
        for run in range(options.runs):
            for way in _WAYS:
                progress(f"waits under load, run {run + 1} of {options.runs}: {way.label}")
                found[way.label].append(_one_run(client, embedded.url, way, seconds))
        progress("a small group beside a large one")
        small = _small_beside_large(client, embedded.url, large, options.scaled(1000))
    for label, runs in found.items():
        late = [percentile(one.waits, 0.99) for one in runs]
        middles = spread([statistics.median(one.waits) for one in runs])
        result.rows.append(
            (label, spread([one.full for one in runs]), spread([one.load for one in runs]), middles, spread(late))
        )
        result.values[label] = late
        result.want(f"p99 under 3 ms, {label}", statistics.median(late) / 1000, 3, " ms")
    late_small = percentile(small, 0.99)
    label = f"a small group's beside {number(large)} of another"
    result.rows.append((label, "", "", number(statistics.median(small)), number(late_small)))
    result.values["small group"] = small
    result.want("p99 of a small group's wait under 20 ms", late_small / 1000, 20, " ms")
    return [result]
