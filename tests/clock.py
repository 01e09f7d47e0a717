"""A Redis whose clock can be set."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from delayed.embedded import EmbeddedRedis

SOURCE = Path(__file__).parent / "clock.c"


class Clock:
    """The wall clock of a server.

    Args:
        file: says by how many seconds it is ahead.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, ahead: int) -> None:
        """Let it be so many seconds ahead of ours; below 0: behind."""
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self._file)  # it is never half written


def library(folder: Path) -> Path:
    """What LD_PRELOAD needs, compiled into `folder`."""
    built = folder / "clock.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    return built


@contextlib.contextmanager
def settable(folder: Path, port: int | None = None) -> Iterator[tuple[EmbeddedRedis, Clock]]:
    """A private Redis with its files in `folder`, and its clock."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder / "ahead")
    before = dict(os.environ)
    os.environ |= {"LD_PRELOAD": str(library(folder)), "CLOCK_FILE": str(folder / "ahead")}  # the server inherits them
    server = EmbeddedRedis(folder / "redis", port)
    try:
        server.start()
    finally:
        for name in ("LD_PRELOAD", "CLOCK_FILE"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
    try:
        yield server, clock
    finally:
        server.stop()
