"""Measure 5: what a task costs Redis: commands, bytes, memory."""

import tempfile
import time
from pathlib import Path

import redis

from delayed import GoTask, PyTask, Queue
from tests.support.servers import info

from .contenders import CONTENDERS, Contender
from .drain import worker
from .installs import install
from .marks import Marks
from .monitor import Monitor
from .options import Options, Progress
from .placement import server
from .result import Result, number

LABELS = ("ours, Python", "ours, Go, concurrency 10")


def _drain(one: Contender, client: redis.Redis, url: str, count: int) -> None:
    """Enqueue one by one and drain in bulk."""
    queue = Queue("bench", client)
    for i in range(count):
        queue.enqueue(PyTask("marks:mark", (i,)) if one.python else GoTask("bench.Mark", (i,)))
    with Marks(count) as marks, tempfile.TemporaryDirectory() as folder:
        with worker(one, url, marks.path, Path(folder) / "log"):
            deadline = time.monotonic() + 60
            while marks.done() < count and time.monotonic() < deadline:
                time.sleep(0.01)
        wrong = marks.verdict()
        if wrong:
            raise AssertionError(wrong)


def _memory(client: redis.Redis, count: int) -> float:
    """Bytes for each waiting task."""
    client.flushall()
    client.memory_purge()
    before = info(client, "memory")["used_memory"]
    Queue("bench", client).enqueue_many(PyTask("tasks:noop", (7,)) for _ in range(count))
    time.sleep(0.2)
    return float((info(client, "memory")["used_memory"] - before) / count)


def measure_costs(options: Options, progress: Progress) -> list[Result]:
    """Commands and bytes for enqueue one by one and drain in bulk; memory while waiting."""
    count = options.scaled(50_000)
    columns = ("worker", "commands/task", "bytes to Redis/task", "bytes from Redis/task")
    result = Result("costs", "What a task costs Redis (enqueued one by one, drained in bulk)", columns)
    with server() as embedded, embedded.client() as client:
        assert embedded.port
        for one in CONTENDERS:
            if one.label not in LABELS:
                continue
            progress(f"costs: {one.label}")
            install(one)
            client.flushall()
            before = info(client, "stats")
            _drain(one, client, embedded.url, count)
            after = info(client, "stats")
            read, written = (
                (after[name] - before[name]) / count for name in ("total_net_input_bytes", "total_net_output_bytes")
            )
            with Monitor(client, embedded.port) as monitor:
                _drain(one, client, embedded.url, count)
            commands = monitor.total / count
            result.rows.append((one.label, f"{commands:.3f}", number(read), number(written)))
            result.values[one.label] = [commands, read, written]
            result.want(f"at most 2.2 commands for a task, {one.label}", commands, 2.2)
        progress("memory of waiting tasks")
        memory = _memory(client, options.scaled(100_000))
    result.values["memory"] = [memory]
    result.want("at most 40 bytes of Redis's memory for a waiting no-op with one small integer", memory, 40, " bytes")
    return [result]
