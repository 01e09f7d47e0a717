"""Measure 3: what a producer pays."""

import statistics
import time
from collections.abc import Callable

import redis

from delayed import PyTask, Queue
from delayed.redis.scripts import SCRIPTS

from .options import Options, Progress
from .placement import WORK_CORE, on_core, server
from .result import Result, number, spread

_BLOCK = 200  # calls of one kind before the other kind has its turn: short, so that both meet the same moments


def _time(call: Callable[[int], object], first: int, count: int) -> float:
    began = time.perf_counter()
    for i in range(first, first + count):
        call(i)
    return time.perf_counter() - began


def _one_by_one(client: redis.Redis, count: int) -> tuple[float, float]:
    """Seconds for each `Queue.enqueue`, and for each bare call of the same script."""
    queue = Queue("bench", client)
    queue.enqueue(PyTask("tasks:noop", (0,)))
    data = PyTask("tasks:noop", (1000,)).serialize()
    digest = SCRIPTS["enqueue"].sha
    kinds: tuple[Callable[[int], object], ...] = (
        lambda i: queue.enqueue(PyTask("tasks:noop", (i,))),
        lambda _: client.evalsha(digest, 2, "bench", "bench_noti", data),
    )
    totals = [0.0, 0.0]
    for first in range(0, count, _BLOCK):
        for which, call in enumerate(kinds):
            totals[which] += _time(call, first, _BLOCK)
    return totals[0] / count, totals[1] / count


def measure_enqueue(options: Options, progress: Progress) -> list[Result]:
    """One by one against a bare round trip, and many at once."""
    count, many = options.scaled(10_000), options.scaled(500_000)
    ratios, singles, bares, rates = [], [], [], []
    with server() as embedded, embedded.client() as client, on_core(WORK_CORE):
        for run in range(options.runs):
            progress(f"enqueue, run {run + 1} of {options.runs}")
            client.flushall()
            ours, bare = _one_by_one(client, count)
            ratios.append(ours / bare)
            singles.append(ours * 1e6)
            bares.append(bare * 1e6)
            client.flushall()
            queue = Queue("bench", client)
            began = time.perf_counter()
            queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(many))
            rates.append(many / (time.perf_counter() - began))
            if queue.len() != many:
                raise AssertionError(f"{queue.len()} tasks wait instead of {many}")
    result = Result("enqueue", "Enqueue", ("what", "found"))
    result.rows = [
        ("enqueue, µs", spread(singles)),
        ("a bare EVALSHA by redis-py, µs", spread(bares)),
        ("the ratio", spread(ratios)),
        (f"enqueue_many of {number(many)}, tasks/s", spread(rates)),
    ]
    result.values = {"enqueue": singles, "bare": bares, "ratio": ratios, "many": rates}
    result.want("enqueue within 1.3 times a bare EVALSHA", statistics.median(ratios), 1.3, " times")
    result.want("enqueue_many at least 300,000 tasks/s", statistics.median(rates), 300_000, " tasks/s", least=True)
    return [result]
