"""Measure 7: do quick tasks wait behind slow ones? Two workers, tasks of 0.1 ms among tasks of 2 s, against a schedule that
knows everything at once."""

import contextlib
import heapq
import random
import time
from collections.abc import Sequence

from delayed import PyTask, Queue

from .measure_idle import percentile
from .options import Options, Progress
from .placement import server
from .result import Result, spread
from .timed import Times, program

_QUICK, _SLOW = 0.0001, 2.0  # seconds
_WORKERS = 2
_ROUND_TRIP = 0.0001  # seconds that the ideal worker needs for each task besides


def ideal(durations: Sequence[float]) -> list[float]:
    """When each task begins if the next one always goes to the worker that is free first."""
    free = [0.0] * _WORKERS
    begins = []
    for duration in durations:
        at = heapq.heappop(free)
        begins.append(at)
        heapq.heappush(free, at + duration + _ROUND_TRIP)
    return begins


def _one_run(url: str, durations: Sequence[float]) -> list[float]:
    """Seconds from the moment when both workers were idle and all tasks came, to the beginning of each task."""
    count = len(durations)
    with Times(count + 2 * _WORKERS) as times, contextlib.ExitStack() as stack:
        for _ in range(_WORKERS):
            stack.enter_context(program("timed.py", ["bench"], url, times))
        queue = Queue("bench", url)
        for i in range(count, count + 2 * _WORKERS):  # both are up when two tasks that overlap have begun
            queue.enqueue(PyTask("timed:stamp", (i, 0.2)))
        for i in range(count, count + 2 * _WORKERS):
            times.wait(i)
        time.sleep(1)
        began = time.monotonic_ns()
        queue.enqueue_many(PyTask("timed:stamp", (i, duration)) for i, duration in enumerate(durations))
        return [(times.wait(i, sum(durations) + 30) - began) / 1e9 for i in range(count)]


def measure_queueing(options: Options, progress: Progress) -> list[Result]:
    """Wait of the quick tasks."""
    count = 250 if options.quick else 500
    late, best = [], []
    with server() as embedded, embedded.client() as client:
        for run in range(1 if options.quick else options.runs):
            progress(f"quick tasks among slow ones, run {run + 1}")
            client.flushall()
            dice = random.Random(run)
            slow = set(dice.sample(range(count), count // 50))
            durations = [_SLOW if i in slow else _QUICK for i in range(count)]
            quick = [i for i in range(count) if i not in slow]
            begins, wanted = _one_run(embedded.url, durations), ideal(durations)
            late.append(percentile([begins[i] for i in quick], 0.99))
            best.append(percentile([wanted[i] for i in quick], 0.99))
    result = Result("queueing", "Quick tasks (0.1 ms) among slow ones (2 %, of 2 s), two workers", ("what", "found"))
    result.rows = [
        ("p99 of the quick tasks' wait, s", spread(late)),
        ("the same in the ideal schedule, s", spread(best)),
    ]
    result.values = {"wait": late, "ideal": best}
    result.want(
        "p99 of the wait within 1.1 times the ideal", max(a / b for a, b in zip(late, best, strict=True)), 1.1, " times"
    )
    return [result]
