"""Measure 11: what a join costs: a group of 10⁵ with one task after it, and a long chain."""

import statistics
import time

import redis

from delayed import PyTask, Queue
from delayed.workflow import Run, chain, group
from tests.support.servers import info

from .options import Options, Progress
from .placement import server
from .result import Result, number
from .timed import Times, program

_GROUP, _CHAIN, _ENDS = 100_000, 10_000, 1000
_COLD = 20  # groups before those that are measured: the first ones load scripts and modules
_PATIENCE = 300  # seconds


def _members(count: int) -> list[PyTask]:
    return [PyTask("timed:stamp", (index,)) for index in range(count)]


def _processor(client: redis.Redis) -> float:
    """Seconds that Redis has used."""
    found = info(client, "cpu")
    return float(found["used_cpu_sys"] + found["used_cpu_user"])


def _drained(client: redis.Redis, url: str, times: Times, count: int, last: int, *, before: float) -> tuple[float, float]:
    """Seconds from the first of `count` members to the last that was enqueued, and those of Redis's processor since it had
    used `before`."""
    with program("timed.py", ["bench"], url, times):
        times.wait(last, _PATIENCE)
    spent = _processor(client) - before
    moments = [times[index] for index in range(count)]
    return (max(moments) - min(moments)) / 1e9, spent


def _plain(client: redis.Redis, url: str, count: int) -> tuple[float, float]:
    """Tracked tasks of no workflow."""
    client.flushall()
    with Times(count) as times:
        queue, before = Queue("bench", client), _processor(client)
        queue.enqueue_many(PyTask("timed:stamp", (index,), track=True) for index in range(count))
        return _drained(client, url, times, count, count - 1, before=before)


def _grouped(client: redis.Redis, url: str, count: int) -> tuple[float, float, float, float, float]:
    """A group: seconds to create it, ms of a status in the middle, seconds to drain it, those of Redis's processor, bytes
    of its state for a member."""
    client.flushall()
    with Times(count + 1) as times:
        queue = Queue("bench", client)
        members, before = _members(count), _processor(client)
        began = time.perf_counter()
        run = group(members).then(PyTask("timed:stamp", (count,))).submit(queue)
        created = time.perf_counter() - began
        looks = []
        for _ in range(9):
            began = time.perf_counter()
            run.status()
            looks.append((time.perf_counter() - began) * 1000)
        drained, spent = _drained(client, url, times, count, count, before=before)
        size = int(client.memory_usage(queue.store.keys.marks(run.flow)) or 0) + _hash(client, queue, run)
    return created, statistics.median(looks), drained, spent, size / count


def _hash(client: redis.Redis, queue: Queue, run: Run) -> int:
    """Bytes of the workflow's hash: a member has nothing in it that outlives its start but a result, if it has one."""
    return int(client.memory_usage(queue.store.keys.flow(run.flow), samples=0) or 0)


def _latencies(client: redis.Redis, url: str, count: int) -> list[float]:
    """Milliseconds from the begin of the last member of a group of 10, which returns at once, to that of the task after it."""
    client.flushall()
    queue = Queue("bench", client)
    found = []
    with Times(11 * (_COLD + count)) as times, program("timed.py", ["bench"], url, times):
        for at in range(0, 11 * (_COLD + count), 11):
            members = [PyTask("timed:stamp", (at + each,)) for each in range(10)]
            group(members).then(PyTask("timed:stamp", (at + 10,))).submit(queue)
            begun = times.wait(at + 10)
            found.append((begun - max(times[at + each] for each in range(10))) / 1e6)
    return sorted(found[_COLD:])


def _after_many(client: redis.Redis, url: str, count: int) -> float:
    """The same after a group of `count`."""
    client.flushall()
    queue = Queue("bench", client)
    with Times(count + 1) as times:
        group(_members(count)).then(PyTask("timed:stamp", (count,))).submit(queue)
        with program("timed.py", ["bench"], url, times):
            begun = times.wait(count, _PATIENCE)
        return (begun - max(times[index] for index in range(count))) / 1e6


def _chained(client: redis.Redis, url: str, count: int) -> tuple[float, int, int]:
    """A chain: nodes/s, and the bytes of its first and its last message."""
    client.flushall()
    queue = Queue("bench", client)
    with Times(count) as times:
        run = chain(*_members(count)).submit(queue)
        key = queue.store.keys.flow(run.flow)
        sizes = [len(queue.store.call("HGET", key, f"t{index}")) for index in (0, count - 1)]
        with program("timed.py", ["bench"], url, times):
            times.wait(count - 1, _PATIENCE)
        return count / ((times[count - 1] - times[0]) / 1e9), sizes[0], sizes[1]


def measure_joins(options: Options, progress: Progress) -> list[Result]:
    """Groups beside tracked tasks without one, in turns; then a chain."""
    count, runs = options.scaled(_GROUP), 2 if options.quick else max(3, options.runs)
    result = Result("joins", f"Joins: a group of {count:,}, and one task after it", ("", "found"))
    plain, grouped, late = [], [], []
    with server() as embedded, embedded.client() as client:
        url = embedded.url
        for run in range(runs):
            progress(f"joins, run {run + 1} of {runs}: tracked tasks")
            plain.append(_plain(client, url, count))
            progress(f"joins, run {run + 1} of {runs}: a group")
            grouped.append(_grouped(client, url, count))
            late.append(_after_many(client, url, count))
        progress("joins: last end to callback")
        latencies = _latencies(client, url, options.scaled(_ENDS))
        progress("joins: a chain")
        rate, first, last = _chained(client, url, options.scaled(_CHAIN))
    created, look, size = (min(each[place] for each in grouped) for place in (0, 1, 4))
    ratio = min(each[0] for each in plain) / min(each[2] for each in grouped)  # the best of each: what disturbs only adds
    spent = (min(each[3] for each in grouped) - min(each[1] for each in plain)) / count * 1e6
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    drains = (number(count / min(each[place] for each in some)) for some, place in ((plain, 0), (grouped, 2)))
    result.rows = [
        ("created, s", f"{created:.2f}"),
        ("status, ms", f"{look:.2f}"),
        ("tracked tasks drained/s, without and with a group", " and ".join(drains)),
        ("Redis's processor for a join, µs (from the enqueue to the end, more than for a tracked task)", number(spent)),
        ("state of a member, bytes", f"{size:.2f}"),
        ("last begin → task after it, p50 and p99, ms (groups of 10)", f"{p50:.2f} and {p99:.2f}"),
        (f"the same after {count:,}, ms", f"{min(late):.2f}"),
        (
            f"a chain of {options.scaled(_CHAIN):,}, nodes/s; bytes of its first and last message",
            f"{rate:,.0f}; {first}, {last}",
        ),
    ]
    result.values = {"plain": [each[0] for each in plain], "grouped": [each[2] for each in grouped], "latency": latencies}
    result.want("a group of 10⁵ is created in 1.5 s", created * _GROUP / count, 1.5, " s")
    result.want("status in 50 ms", look, 50, " ms")
    result.want("last end → callback, p99 5 ms", p99, 5, " ms")
    result.want("members drained at 90 % of plain tracked tasks", ratio * 100, 90, " %", least=True)
    result.want("at most 12 µs of Redis's processor for a join", spent, 12, " µs")
    result.want("at most 1.5 bytes of state for a member", size, 1.5, " bytes")
    result.want("messages of a chain have one size (the longest over the shortest)", last / first, 1.1)
    return [result]
