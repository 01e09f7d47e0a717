"""`delayed demo`: hashes real files while it kills workers, and counts what was lost."""

import hashlib
import os
import random
import signal
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click
import msgpack

from ..base.clock import monotonic
from ..ops.info import inspect
from ..queue.queue import Queue
from ..redis.command import Client
from ..redis.connect import connect
from ..redis.embedded import EmbeddedRedis
from ..system.child import python
from ..task.task import GoTask, PyTask, Task

QUEUE, GO_QUEUE = "demo", "demo-go"
GO_TASK = "main.Sha256File"  # of interop/cmd/delayed-worker
RESULTS = "demo:digests"


# A lease shorter than the default, so that the demonstration need not wait for ten seconds after each kill.
_TTL, _BEAT, _SWEEP = 2.0, 0.5, 1.0  # seconds
_SAID = 10  # seconds within which a sweeper says what it has done
_AT_ONCE = 1_000  # results that are read together
_SILENCE = 60  # seconds without a result after which something must be wrong


class Outcome(NamedTuple):
    """The result of a demonstration."""

    files: int
    by_go: int
    size: int  # bytes
    seconds: float
    kills: int
    recovered: int
    lost: int
    wrong: int
    repeated: int


@cache
def _redis() -> Client:
    return connect(os.environ["DELAYED_REDIS_URL"])


def digest(path: str) -> None:
    """The task: append path, size and SHA-256 of a file to a list in Redis."""
    size, sha256 = _measure(path)
    _redis().rpush(RESULTS, msgpack.packb([path, size, sha256], unicode_errors="surrogateescape"))


def _measure(path: str) -> tuple[int, str]:
    with Path(path).open("rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def run_demo(folder: Path | None, workers: int, kills: int, go_worker: Path | None = None) -> bool:
    """Run it, print a table, and return whether every file was digested right.

    Args:
        folder: whose files to hash, with its sub-folders; None for Python's standard library.
        workers: how many worker processes.
        kills: how many of them to kill, one at a time.
        go_worker: the program `delayed-worker` of the Go module; one of it hashes every other file.
    """
    paths = sorted(_files(folder or Path(sysconfig.get_path("stdlib"))))
    if not paths:
        raise click.ClickException(f"there is no readable file in {folder}")
    with EmbeddedRedis() as server, tempfile.TemporaryFile() as log, _Fleet(server, workers, go_worker, log) as fleet:
        for queue, tasks in zip(fleet.queues, _tasks(paths, server.url, len(fleet.queues)), strict=True):
            queue.enqueue_many(tasks)
        outcome = _collect(fleet, paths, kills)
        if outcome.lost:
            log.seek(0)
            click.echo(log.read().decode(errors="replace")[-4000:], err=True)
    _print(outcome)
    return outcome.lost == outcome.wrong == 0


def _files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("site-packages", "__pycache__")]
        for name in names:
            path = Path(place, name)
            if path.is_file() and os.access(path, os.R_OK):
                yield str(path)


class _Fleet:
    """Worker processes and a sweeper."""

    def __init__(self, server: EmbeddedRedis, workers: int, go_worker: Path | None, log: BinaryIO) -> None:
        names = [QUEUE, GO_QUEUE] if go_worker else [QUEUE]
        self.queues = [Queue(name, server.client()) for name in names]
        self._environment = {**os.environ, "DELAYED_REDIS_URL": server.url}
        self._environment.pop("DELAYED_REDIS_URL_FILE", None)
        self._log = log
        beat = [f"--keep-alive-interval={_BEAT}", f"--keep-alive-timeout={_TTL}"]
        self._commands = [python("delayed", "worker", QUEUE, f"--allow={__name__}:*", *beat)] * workers
        if go_worker:
            self._commands.append([str(go_worker), "-queues", GO_QUEUE, "-beat", f"{_BEAT}s", "-ttl", f"{_TTL}s"])
        self._workers = [self._start(command) for command in self._commands]
        self._sweeper = self._start(python("delayed", "sweeper", *names, f"--interval={_SWEEP}"))

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def kill_one(self) -> bool:
        """SIGKILL a worker in mid-task, as the kernel does when memory is short, and start another in its place.

        Returns:
            False if no worker had a task at the moment.
        """
        for index in random.sample(range(len(self._workers)), len(self._workers)):
            worker = self._workers[index]
            worker.send_signal(signal.SIGSTOP)  # so that what is seen now is still so when it dies
            held = [lease for queue in self.queues for lease in inspect(queue).leases]
            if any(lease.held_by.endswith(f":{worker.pid}") for lease in held):
                worker.kill()
                worker.wait()
                self._workers[index] = self._start(self._commands[index])
                return True
            worker.send_signal(signal.SIGCONT)
        return False

    def __enter__(self) -> "_Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        processes = [*self._workers, self._sweeper]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()


def _tasks(paths: list[str], url: str, languages: int) -> list[list[Task]]:
    """A task for each file: those for Python, and (of two languages) every other one for Go."""
    python_tasks: list[Task] = [PyTask(f"{__name__}:digest", (path,)) for path in paths[::languages]]
    go_tasks: list[Task] = [GoTask(GO_TASK, (path, url, RESULTS)) for path in paths[1::2]]
    return [python_tasks, go_tasks][:languages]


def _collect(fleet: _Fleet, paths: list[str], kills: int) -> Outcome:
    """Read the results as they come, kill workers meanwhile, and compare with what we find ourselves."""
    began = monotonic()
    # Kills are spread evenly over the results.
    due = [round(len(paths) * (number + 1) / (kills + 1)) for number in range(kills)]
    results: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    with click.progressbar(length=len(paths), label="Hashing") as bar:
        while len(results) < len(paths):
            replies = _next(fleet.queues[0])
            if not replies:
                break
            for path, size, sha256 in (msgpack.unpackb(reply, unicode_errors="surrogateescape") for reply in replies):
                counts[path] += 1
                if path not in results:
                    results[path] = size, sha256
                    bar.update(1)
            if due and len(results) >= due[0] and fleet.kill_one():
                due.pop(0)
    seconds = monotonic() - began
    wrong = sum(results[path] != _measure(path) for path in results)
    return Outcome(
        files=len(paths),
        by_go=len(paths) // 2 if len(fleet.queues) > 1 else 0,
        size=sum(size for size, _ in results.values()),
        seconds=seconds,
        kills=kills - len(due),
        recovered=_recovered(fleet.queues, kills - len(due)),
        lost=len(paths) - len(results),
        wrong=wrong,
        repeated=sum(counts.values()) - len(counts),
    )


def _recovered(queues: list[Queue], kills: int) -> int:
    """How many tasks were put back, for each kill one at least. The sweeper says so a moment after it has done it."""
    deadline = monotonic() + _SAID
    while (count := sum(inspect(queue).recovered for queue in queues)) < kills and monotonic() < deadline:
        queues[0].store.call("BLPOP", RESULTS, 0.1)
    return count


def _next(queue: Queue) -> list[bytes]:
    """All results that are there; nothing if there is none for too long. It waits for a second at a time, as clients have
    deadlines of their own, and takes all, so that a kill comes as soon as its share of the results is there."""
    deadline = monotonic() + _SILENCE
    while monotonic() < deadline:
        first: list[bytes] | None = queue.store.call("BLPOP", RESULTS, 1)
        if first is not None:
            return [first[1], *(queue.store.call("LPOP", RESULTS, _AT_ONCE) or ())]
    return []


def _print(outcome: Outcome) -> None:
    rows = [
        ("files", f"{outcome.files:,}"),
        ("of them by Go", f"{outcome.by_go:,}"),
        ("bytes", f"{outcome.size:,}"),
        ("tasks/s", f"{outcome.files / outcome.seconds:,.0f}"),
        ("killed workers", str(outcome.kills)),
        ("recovered tasks", str(outcome.recovered)),
        ("lost", str(outcome.lost)),
        ("wrong digests", str(outcome.wrong)),
        ("repeated", str(outcome.repeated)),
    ]
    for name, value in rows:
        click.echo(f"{name:16} {value:>16}")
