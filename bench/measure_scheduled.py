"""Measure 9: how late tasks begin that wait for their time, and what a million of them costs the others."""

import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import redis

from delayed import PyTask, Queue
from delayed.base.ids import token
from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from tests.support.servers import info

from .measure_growth import slowest_command
from .measure_idle import latencies, percentile
from .options import Options, Progress
from .placement import WORK_CORE, on_core, server
from .result import Result, number, spread
from .timed import Times, program

_WINDOW = 60  # tasks that wait at once …
_SOONEST, _LATEST = 0.5, 4.5  # … and become due in so many seconds
_FAR = 10 * 86400  # seconds: those that shall not become due
_CHUNK = 10_000
_LOGGED = 200  # µs from which on a command is slow enough to be looked at


@contextlib.contextmanager
def _at_work(client: redis.Redis, url: str, times: Times, sweeper: bool = True) -> Iterator[None]:
    """A worker, and a sweeper, as they come."""
    with contextlib.ExitStack() as stack:
        if sweeper:
            stack.enter_context(program("sweep.py", ["bench"], url, times))
        stack.enter_context(program("timed.py", ["bench"], url, times))
        deadline = time.monotonic() + 20
        while client.hlen("bench_workers") < 1 + sweeper:
            if time.monotonic() > deadline:
                raise TimeoutError("worker and sweeper are not in the register after 20 s")
            time.sleep(0.01)
        yield


# Lateness


def _submit(queue: Queue, i: int, seconds: float) -> int:
    """Enqueue task i, half of them by `at` and half by `after`. Returns when it is due, in ns of CLOCK_MONOTONIC."""
    since = time.monotonic_ns() - time.time_ns()
    if i % 2:
        present = time.time_ns() + since
        queue.enqueue(PyTask("timed:once", (i,), after=seconds))
        return present + round(seconds * 1000) * 1_000_000
    moment = time.time() + seconds
    queue.enqueue(PyTask("timed:once", (i,), at=moment))
    return round(moment * 1000) * 1_000_000 + since


def _lateness(client: redis.Redis, url: str, count: int, sweeper: bool) -> list[float]:
    """Milliseconds from the moment when each task is due to its first line; nothing else is to be done."""
    client.flushall()
    queue, rng, due = Queue("bench", client), random.Random(1), list[int]()
    with Times(count) as times, _at_work(client, url, times, sweeper):
        for first in range(0, count, _WINDOW):
            tasks = range(first, min(first + _WINDOW, count))
            due += [_submit(queue, i, rng.uniform(_SOONEST, _LATEST)) for i in tasks]
            for i in tasks:
                times.wait(i)
        times.check(count)
        return [(times[i] - due[i]) / 1e6 for i in range(count)]


def _lateness_of_schedule(client: redis.Redis, url: str, count: int) -> list[float]:
    """The same for the occurrences of a schedule that fires every second."""
    client.flushall()
    schedules = Schedules(Queue("bench", client))
    with Times(count + 20) as times, _at_work(client, url, times):
        since = time.monotonic_ns() - time.time_ns()
        first = schedules.now() // 1000 + 1
        schedules.put("every second", Entry(Cron("* * * * * *"), PyTask("timed:tick", (first,)).serialize()))
        times.wait(count - 1, count + 20)
        schedules.remove("every second")
        times.check(count)
        return [(times[i] - since) / 1e6 - (first + i) * 1000 for i in range(count)]


def _measure_lateness(options: Options, progress: Progress) -> Result:
    count, ticks = options.scaled(300), 6 if options.quick else 120
    with server() as embedded, embedded.client() as client:
        progress("lateness, with a sweeper")
        found = {"at and after": _lateness(client, embedded.url, count, sweeper=True)}
        progress("lateness of a schedule")
        found["every second, by cron"] = _lateness_of_schedule(client, embedded.url, ticks)
        progress("lateness, without a sweeper")
        found["at and after, no sweeper"] = _lateness(client, embedded.url, count, sweeper=False)
    columns = ("how late tasks begin, one worker and one sweeper", "tasks", "p50, ms", "p99, ms", "longest, ms")
    result = Result("scheduled", "Tasks that wait for their time", columns)
    for label, values in found.items():
        marks = (number(percentile(values, share)) for share in (0.5, 0.99, 1.0))
        result.rows.append((label, number(len(values)), *marks))
        result.values[label] = values
    result.want("p99 of at and after at most 50 ms", percentile(found["at and after"], 0.99), 50, " ms")
    result.want("p99 of the schedule at most 50 ms", percentile(found["every second, by cron"], 0.99), 50, " ms")
    return result


# A long schedule


@dataclass
class _Found:
    """One run with so many tasks in the schedule."""

    drain: float  # tasks/s
    submit: float  # tasks/s
    latency: float  # µs
    slowest: float  # ms
    memory: float  # bytes of Redis for each task in the schedule


def _fill(client: redis.Redis, count: int) -> None:
    """Tasks that are due in some days, as `submit.lua` stores them."""
    rng, present = random.Random(1), round(time.time() * 1000)
    for first in range(0, count, _CHUNK):
        due = {}
        for i in range(first, min(first + _CHUNK, count)):
            member = token().encode() + PyTask("timed:once", (i,)).serialize()
            due[member] = present + _FAR * 1000 + rng.randrange(_FAR * 1000)
        client.zadd("bench_scheduled", due)


def _beside(client: redis.Redis, url: str, scheduled: int, options: Options) -> _Found:
    """Plain tasks, and tasks that are added, beside so many in the schedule."""
    client.flushall()
    before = info(client, "memory")["used_memory"]
    _fill(client, scheduled)
    memory = (info(client, "memory")["used_memory"] - before) / max(scheduled, 1)
    queue = Queue("bench", client)
    client.config_set("slowlog-log-slower-than", _LOGGED)
    client.slowlog_reset()
    submitted, drained, begun = options.scaled(5000), options.scaled(50_000), options.scaled(500)
    with on_core(WORK_CORE):
        began = time.perf_counter()
        for i in range(submitted):
            queue.enqueue(PyTask("timed:once", (i,), after=_FAR + i % 1000))
        submit = submitted / (time.perf_counter() - began)
    if client.zcard("bench_scheduled") != scheduled + submitted:
        raise AssertionError(f"{client.zcard('bench_scheduled')} tasks are scheduled, not {scheduled + submitted}")
    slowest = slowest_command(client)
    with Times(drained) as times:
        queue.enqueue_many(PyTask("timed:once", (i,)) for i in range(drained))
        client.slowlog_reset()  # a thousand tasks in one command are meant to take a while
        with _at_work(client, url, times):
            times.wait(drained - 1, 60)
            times.check(drained)
        rate = (drained - 1) / ((times[drained - 1] - times[0]) / 1e9)
    with Times(begun) as times, _at_work(client, url, times):
        found = latencies(times, lambda i: queue.enqueue(PyTask("timed:once", (i,))), begun)
        times.check(begun)
    return _Found(rate, submit, statistics.median(found), max(slowest, slowest_command(client)), memory)


def _measure_long(options: Options, progress: Progress) -> Result:
    long, runs = 100_000 if options.quick else 1_000_000, 1 if options.quick else options.runs
    founds: dict[int, list[_Found]] = {0: [], long: []}
    with server() as embedded, embedded.client() as client:
        for run in range(runs):
            for scheduled, several in founds.items():
                progress(f"{scheduled:,} in the schedule, run {run + 1} of {runs}")
                several.append(_beside(client, embedded.url, scheduled, options))
    columns = (
        "tasks in the schedule",
        "drain, tasks/s",
        "enqueue with after, tasks/s",
        "idle latency p50, µs",
        "longest command, ms",
    )
    result = Result("scheduled", "Beside a long schedule", columns)
    middles = []
    for scheduled, several in founds.items():
        drain, submit, latency = ([getattr(one, name) for one in several] for name in ("drain", "submit", "latency"))
        middles.append([statistics.median(values) for values in (drain, submit, latency)])
        slowest = max(one.slowest for one in several)
        result.rows.append((f"{scheduled:,}", spread(drain), spread(submit), spread(latency), number(slowest)))
        result.values[f"{scheduled}"] = [*drain, *submit, *latency]
    none, many = middles
    result.want("drain slower by 1.5 times at most", none[0] / many[0], 1.5, " times")
    result.want("enqueue with after slower by 1.5 times at most", none[1] / many[1], 1.5, " times")
    result.want("idle latency longer by 1.5 times at most", many[2] / none[2], 1.5, " times")
    result.want("no command over 5 ms", max(one.slowest for one in founds[long]), 5, " ms")
    memory = statistics.median(one.memory for one in founds[long])
    result.notes = [f"A no-op with one small integer takes {number(memory)} bytes of Redis's memory in the schedule."]
    return result


def measure_scheduled(options: Options, progress: Progress) -> list[Result]:
    """Lateness, and the price of a long schedule."""
    return [_measure_lateness(options, progress), _measure_long(options, progress)]
