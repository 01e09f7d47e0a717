"""Workers whose tasks write down when they began, and the file in which they do."""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import placement
from .drain import last_words

_SETTLE = 0.3  # seconds


class Times:
    """A mapped file with the nanoseconds of CLOCK_MONOTONIC at which each task began, 0 for those that have not."""

    def __init__(self, count: int) -> None:
        descriptor, name = tempfile.mkstemp(prefix="bench-")
        os.ftruncate(descriptor, 8 * count)
        self._view = memoryview(mmap.mmap(descriptor, 8 * count)).cast("q")
        os.close(descriptor)
        self.path = Path(name)

    def __getitem__(self, index: int) -> int:
        return int(self._view[index])

    def wait(self, index: int, seconds: float = 20) -> int:
        """When task `index` began, as soon as it has."""
        deadline = time.monotonic() + seconds
        while not self[index]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"task {index} did not begin in {seconds} s")
            time.sleep(0.0002)
        return self[index]

    def check(self, count: int) -> None:
        """That each of the first `count` tasks, of `timed:once`, ran exactly once; a repetition has a moment to show.

        Raises:
            AssertionError: they did not.
        """
        time.sleep(_SETTLE)
        missing = sum(not self[i] for i in range(count))
        repeated = sum(self[i] < 0 for i in range(count))
        if missing or repeated:
            raise AssertionError(f"of {count} tasks {missing} did not run, and {repeated} ran more than once")

    def __enter__(self) -> "Times":
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink()


@contextlib.contextmanager
def program(script: str, arguments: Sequence[str], url: str, times: Times) -> Iterator[subprocess.Popen[bytes]]:
    """A script of bench/peers, in our own environment, on the core of the measured process."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        variables = {
            "BENCH_REDIS": url,
            "BENCH_MARKS": str(times.path),
            "PYTHONPATH": f"{placement.ROOT}:{placement.PEERS}",
        }
        process = placement.start([sys.executable, str(placement.PEERS / script), *arguments], variables, log)
        try:
            yield process
            if process.poll() is not None:
                raise RuntimeError(f"{script} ended: {last_words(log)}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
