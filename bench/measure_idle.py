"""Measure 4: how soon an idle worker begins, and what its idling costs."""

import statistics
import time
from collections.abc import Callable

import psutil
import redis

from delayed import PyTask, Queue

from .monitor import Monitor
from .options import Options, Progress
from .placement import server
from .result import Result, spread
from .timed import Times, program

_PAUSE = 0.003  # seconds between two tasks: time enough for the worker to be idle again


def latencies(times: Times, enqueue: Callable[[int], object], count: int) -> list[float]:
    """Microseconds from the call that enqueues task i to its first line."""
    found = []
    for i in range(count):
        began = time.monotonic_ns()
        enqueue(i)
        found.append((times.wait(i) - began) / 1000)
        time.sleep(_PAUSE)
    return found[count // 10 :]  # the first ones find cold caches


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _ours(client: redis.Redis, url: str, count: int) -> list[float]:
    client.flushall()
    queue = Queue("bench", client)
    with Times(count) as times, program("timed.py", ["bench"], url, times):
        return latencies(times, lambda i: queue.enqueue(PyTask("timed:stamp", (i,))), count)


def _least(client: redis.Redis, url: str, count: int) -> list[float]:
    client.flushall()
    script = client.register_script("redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('RPUSH', KEYS[2], '1')")
    with Times(count) as times, program("wakeup.py", [], url, times):
        return latencies(times, lambda i: script(keys=["bench", "bench_noti"], args=[i]), count)


def _idling(client: redis.Redis, port: int, url: str, seconds: float) -> tuple[float, float]:
    """Commands per second and share of a core of an idle worker."""
    client.flushall()
    with Times(1) as times, program("timed.py", ["bench"], url, times) as process:
        time.sleep(3)
        watched = psutil.Process(process.pid)
        before = sum(watched.cpu_times()[:2])
        with Monitor(client, port) as monitor:
            time.sleep(seconds)
        return monitor.total / seconds, (sum(watched.cpu_times()[:2]) - before) / seconds


def measure_idle(options: Options, progress: Progress) -> list[Result]:
    """Latency of an idle worker and its price."""
    count = options.scaled(1500)
    middles, lates, ratios, least = [], [], [], []
    with server() as embedded, embedded.client() as client:
        assert embedded.port
        for run in range(options.runs):
            progress(f"idle latency, run {run + 1} of {options.runs}")
            bare = _least(client, embedded.url, count)
            ours = _ours(client, embedded.url, count)
            middles.append(statistics.median(ours))
            lates.append(percentile(ours, 0.99))
            least.append(statistics.median(bare))
            ratios.append(middles[-1] / least[-1])
        progress("an idle worker")
        commands, cpu = _idling(client, embedded.port, embedded.url, 12)
    result = Result("idle", "An idle worker", ("what", "found"))
    result.rows = [
        ("enqueue to first line, p50, µs", spread(middles)),
        ("enqueue to first line, p99, µs", spread(lates)),
        ("one BLPOP wake-up and one script, p50, µs", spread(least)),
        ("commands/s", spread([commands])),
        ("CPU, % of a core", spread([100 * cpu])),
    ]
    result.values = {"p50": middles, "p99": lates, "least": least, "ratio": ratios, "commands": [commands], "cpu": [cpu]}
    result.want("p50 within 1.5 times a wake-up and a script", statistics.median(ratios), 1.5, " times")
    result.want("p99 under 2 ms", statistics.median(lates) / 1000, 2, " ms")
    result.want("under 2 commands/s", commands, 2, "/s")
    result.want("no measurable CPU (under 0.5 % of a core)", 100 * cpu, 0.5, " %")
    return [result]
