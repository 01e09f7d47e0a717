"""Drain: tasks/s of one worker process that finds the queue full, and the check that each task ran exactly once."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from . import placement
from .contenders import Contender
from .installs import NotInstallable, command, directory, install, variables
from .marks import Marks

_POLL = 0.005  # seconds between two looks at the marks
_STALL = 20.0  # seconds without progress that end a run
SETTLE = 0.3  # seconds that a repetition has to show itself after the last task


class Failed(Exception):
    """A run did not do what it should; the message says what."""


@dataclass(frozen=True)
class Drained:
    """One run."""

    tasks: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds


@contextlib.contextmanager
def worker(contender: Contender, url: str, marks: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process of `contender`, stopped at the end as an operator would, and killed if that does not help."""
    started = placement.start(
        command(contender, contender.work),
        {"BENCH_REDIS": url, "BENCH_MARKS": str(marks), **variables(contender)},
        log,
        directory(contender),
    )
    try:
        yield started
    finally:
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(patience)
        started.wait()


def fill(contender: Contender, url: str, marks: Marks, log: Path, more: Mapping[str, str] | None = None) -> None:
    """Enqueue a task for each mark. `more` is for its environment."""
    by = contender.fill_with or contender
    install(by)
    run(by, [*contender.fill, str(marks.count)], {"BENCH_REDIS": url, "BENCH_MARKS": str(marks.path), **(more or {})}, log)


def run(contender: Contender, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Run a program of `contender` to its end.

    Raises:
        Failed: it did not succeed.
    """
    program = placement.start(
        command(contender, arguments), {**environment, **variables(contender)}, log, directory(contender)
    )
    if program.wait(300):
        raise Failed(f"{' '.join(arguments)} failed: {last_words(log)}")


def last_words(log: Path) -> str:
    """The last line that a process wrote."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def drain(contender: Contender, client: redis.Redis, url: str, count: int, through: str | None = None) -> Drained:
    """Fill the queue with `count` tasks and let one worker process run them.

    Args:
        contender: who.
        client: of the Redis that it uses, which is emptied.
        url: where that is.
        count: how many tasks.
        through: where the worker connects to, if not directly.

    Raises:
        Failed: some task did not run exactly once, or the worker stood still.
    """
    try:
        install(contender)
    except NotInstallable as error:
        raise Failed(f"cannot be installed: {error}") from error
    client.flushall()
    with Marks(count) as marks, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        fill(contender, url, marks, log)
        with worker(contender, through or url, marks.path, log) as process:
            result = watch(marks, process, log)
            time.sleep(SETTLE)
        wrong = marks.verdict()
        if wrong:
            raise Failed(wrong)
        return result


def watch(marks: Marks, process: subprocess.Popen[bytes], log: Path, started: Callable[[], object] = lambda: None) -> Drained:
    """Look at the marks until all are there. The clock begins when the first ones are, as starting up is not measured; then
    `started` is called."""
    first = before = 0
    began = moved = time.perf_counter()
    while True:
        done = marks.done()
        moment = time.perf_counter()
        if done > before:
            if not first:
                first, began = done, moment
                started()
            before, moved = done, moment
        if done == marks.count:
            return Drained(done - first, max(moment - began, 1e-9))
        if moment - moved > _STALL or (process.poll() is not None and marks.done() == done):
            raise Failed(f"it stopped after {done} of {marks.count} tasks: {last_words(log)}")
        time.sleep(_POLL)
