"""One run of one kind of task by one system: enqueue, drain, check, and what all that cost Redis."""

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from delayed.redis.keys import Keys
from tests.support.servers import info

from .contenders import OURS, Contender
from .drain import SETTLE, Failed, fill, run, watch, worker
from .kinds import KINDS
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
    memory: float  # bytes of the server's memory for a waiting task
    commands: float  # of clients for a task, from enqueue to end; 0 if not counted


class _Cpu:
    """The seconds of CPU that the server uses from `start` to `stop`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._first = 0.0

    def _now(self) -> float:
        used = info(self._client, "cpu")
        return float(used["used_cpu_sys"] + used["used_cpu_user"])

    def start(self) -> None:
        self._first = self._now()

    def stop(self) -> float:
        return self._now() - self._first


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

    def __call__(self, row: Row, count: int, one_by_one: bool = False) -> Found:
        """Enqueue `count` tasks, many at once or one by one, drain them, and check that each ran once and has its result, and
        that nothing of them is left.

        Args:
            row: of what kind, and by whom.
            count: how many.
            one_by_one: enqueue so, and count commands. That costs time: the rate of the drain is a lower bound.

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
                drain, cpu = self._drain(row.contender, marks, log)
            if wrong := marks.verdict():
                raise Failed(wrong)
            seconds = json.loads(notes.read_text())["seconds"]
            self._check(row, count, environment, log)
        commands = 0 if monitor is None else sum(n for name, n in monitor.commands.items() if name not in _CONNECTING)
        return Found(count / seconds, drain, cpu * 1e6, memory / count, commands / count)

    def _used(self) -> int:
        time.sleep(_LAST)  # the buffers of the connections that were there are gone then
        return int(info(self._client, "memory")["used_memory"])

    def _drain(self, contender: Contender, marks: Marks, log: Path) -> tuple[float, float]:
        """Tasks/s, and seconds of Redis's CPU for a task."""
        meter = _Cpu(self._client)
        with worker(contender, self._through, marks.path, log) as process:
            drained = watch(marks, process, log, meter.start)
            time.sleep(_LAST)
            cpu = meter.stop() / drained.tasks if drained.tasks else 0.0
            time.sleep(SETTLE)
        return drained.rate, cpu

    def _check(self, row: Row, count: int, environment: Mapping[str, str], log: Path) -> None:
        """That nothing is held, waiting or buried, and that the results are those of the tasks."""
        if row.contender.name == OURS:
            keys, client = Keys("bench"), self._client
            left = [client.hlen(keys.processing), client.llen(keys.queue), client.xlen(keys.dead)]
            if any(left):
                raise Failed("{} tasks are still held, {} wait, and {} are dead".format(*left))
        kind = KINDS[row.kind]
        if not kind.states:
            return
        run(row.contender, row.contender.check, environment, log)
        notes: dict[str, Any] = json.loads(Path(environment["BENCH_NOTES"]).read_text())
        wanted = {"results": count, "sum": count * (count - 1) // 2 if kind.returns else count}
        if notes != wanted:
            raise Failed(f"the results are {notes} instead of {wanted}")
