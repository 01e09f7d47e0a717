"""One run of one kind of task by one system: enqueue, drain, check, and what all that cost Redis."""

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from delayed import Queue
from delayed.queue.history import keep
from delayed.redis.keys import Keys
from tests.support.servers import info

from .contenders import OURS, Contender
from .drain import SETTLE, Drained, Failed, fill, run, watch, worker
from .kinds import KINDS, QUEUE
from .marks import Marks
from .monitor import Monitor

_CONNECTING = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FLUSHALL", "HELLO", "INFO", "MEMORY", "SCRIPT", "SELECT"}
)
_LAST = 0.05  # seconds that the last endings and results may take


@dataclass(frozen=True)
class Row:
    """One kind of task, and the system that has it."""

    kind: str
    contender: Contender

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return f"{self.kind}: {self.contender.label}"


@dataclass(frozen=True)
class Found:
    """What one run has found."""

    enqueue: float  # tasks/s
    drain: float  # tasks/s
    redis: float  # µs of the server's CPU for a task, while draining
    worker: float  # µs of the worker's
    memory: float  # bytes of the server's memory for a waiting task
    commands: float  # of clients for a task, from enqueue to end; 0 if not counted


class _Cpu:
    """Seconds of CPU since `start`: the server's, and those of a worker with its children."""

    def __init__(self, client: redis.Redis, worker: int) -> None:
        self._client = client
        self._worker = worker
        self._first = (0.0, 0.0)

    def _now(self) -> tuple[float, float]:
        used = info(self._client, "cpu")
        return float(used["used_cpu_sys"] + used["used_cpu_user"]), cpu_of(self._worker)

    def start(self) -> None:
        self._first = self._now()

    def stop(self) -> tuple[float, float]:
        now = self._now()
        return now[0] - self._first[0], now[1] - self._first[1]


def cpu_of(process: int) -> float:
    """Seconds that a process, and those that it has started, have used."""
    first = psutil.Process(process)
    return sum(sum(one.cpu_times()[:2]) for one in (first, *first.children(recursive=True)))


class KindRun:
    """Runs rows on one server.

    Args:
        client: of the server, which is emptied before each run.
        port: of the server.
        through: the URL where programs connect to.
    """

    def __init__(self, client: redis.Redis, port: int, through: str) -> None:
        self._client = client
        self._port = port
        self._through = through

    def __call__(self, row: Row, count: int, one_by_one: bool = False, history: str = "") -> Found:
        """Enqueue `count` tasks, many at once or one by one, drain them, and check that each ran once and has its result, and
        that nothing of them is left.

        Args:
            row: of what kind, and by whom.
            count: how many.
            one_by_one: enqueue so, and count commands. That costs time: the rate of the drain is a lower bound.
            history: what the history of the queue keeps, if not what it does by itself.

        Raises:
            Failed: some task did not run exactly once, or something else is not as it should be.
        """
        self._client.flushall()
        monitor = Monitor(self._client, self._port) if one_by_one else None
        with Marks(count) as marks, tempfile.TemporaryDirectory() as folder:
            notes, log = Path(folder) / "notes", Path(folder) / "log"
            environment = {
                "BENCH_REDIS": self._through,
                "BENCH_MARKS": str(marks.path),
                "BENCH_NOTES": str(notes),
                "BENCH_ONE_BY_ONE": "01"[one_by_one],
            }
            with monitor or nullcontext():
                before = self._used()
                fill(row.contender, self._through, marks, log, environment)
                memory = self._used() - before
                if limit := KINDS[row.kind].limit:
                    Queue(QUEUE, self._client).limit(concurrency=limit)
                if history:
                    keep(Queue(QUEUE, self._client), history)
                drained, cpu = self._drain(row.contender, marks, log)
            if wrong := marks.verdict():
                raise Failed(wrong)
            seconds = json.loads(notes.read_text())["seconds"]
            self._check(row, count, environment, log)
        commands = 0 if monitor is None else sum(n for name, n in monitor.commands.items() if name not in _CONNECTING)
        redis_cpu, worker_cpu = (each * 1e6 / max(drained.tasks, 1) for each in cpu)
        return Found(count / seconds, drained.rate, redis_cpu, worker_cpu, memory / count, commands / count)

    def _used(self) -> int:
        time.sleep(_LAST)  # the buffers of the connections that were there are gone then
        return int(info(self._client, "memory")["used_memory"])

    def _drain(self, contender: Contender, marks: Marks, log: Path) -> tuple[Drained, tuple[float, float]]:
        """And the seconds of CPU meanwhile: the server's and the worker's."""
        with worker(contender, self._through, marks.path, log) as process:
            meter = _Cpu(self._client, process.pid)
            drained = watch(marks, process, log, meter.start)
            time.sleep(_LAST)
            cpu = meter.stop()
            time.sleep(SETTLE)
        return drained, cpu

    def _check(self, row: Row, count: int, environment: Mapping[str, str], log: Path) -> None:
        """That nothing is held, waiting or buried, and that the results are those of the tasks."""
        kind, client = KINDS[row.kind], self._client
        for keys in map(Keys, kind.queues if row.contender.name == OURS else ()):
            left = [client.hlen(keys.processing), client.llen(keys.queue), client.xlen(keys.dead)]
            if any(left):
                raise Failed("{} tasks are still held, {} wait, and {} are dead".format(*left))
        if not kind.states:
            return
        run(row.contender, row.contender.check, environment, log)
        notes: dict[str, Any] = json.loads(Path(environment["BENCH_NOTES"]).read_text())
        wanted = {"results": count, "sum": count * (count - 1) // 2 if kind.returns else count}
        if notes != wanted:
            raise Failed(f"the results are {notes} instead of {wanted}")
