"""A wall clock that can be set, for programs that are started with its environment: what a step of a server's clock does.

    with settable_clock() as clock, clock.redis() as server:
        clock.step(3600)

or, in one, `with settable(folder) as (server, clock)`.

A small library, which needs a C compiler, stands between the program and the system's clock. Monotonic time is not touched.
"""

import contextlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from delayed.redis.embedded import EmbeddedRedis

from .servers import OPEN

VARIABLE = "DELAYED_TEST_CLOCK"  # the file with the microseconds by which the clock is ahead
_CACHED = 0.002  # seconds: Valkey looks at the clock once a millisecond, and counts the processor's ticks in between
_AHEAD = struct.Struct("=q")
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("DELAYED_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (page != MAP_FAILED) ahead = page;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, at);
  if (result || !ahead || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  int64_t nanoseconds = at->tv_nsec + *ahead % 1000000 * 1000;
  at->tv_sec += *ahead / 1000000 + nanoseconds / 1000000000;
  at->tv_nsec = nanoseconds % 1000000000;
  if (at->tv_nsec < 0) {
    at->tv_nsec += 1000000000;
    at->tv_sec -= 1;
  }
  return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


class Clock:
    """The clock of the programs that have its `environment`.

    Args:
        library: what stands between them and the system's clock.
        file: where it reads by how much it is ahead.
    """

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(_AHEAD.pack(0))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), _AHEAD.size)
        self.file = file
        self.environment = {"LD_PRELOAD": str(library), VARIABLE: str(file)}

    @property
    def ahead(self) -> float:
        """Seconds by which it is ahead of this process's clock; negative if it is behind."""
        return ahead(self._page)

    def set(self, ahead: float) -> None:
        """Let it be so many seconds ahead of ours; below 0: behind. Servers follow it when this returns."""
        self._page[:] = _AHEAD.pack(round(ahead * 1e6))
        time.sleep(_CACHED)

    def step(self, seconds: float) -> None:
        """Set it forward by so many seconds, or back if they are negative."""
        self.set(self.ahead + seconds)

    @contextlib.contextmanager
    def redis(self, port: int | None = None, folder: Path | None = None) -> Iterator[EmbeddedRedis]:
        """A private Redis that has this clock, on a port of the loopback interface, with its files in `folder`."""
        server = EmbeddedRedis(folder, port, options=OPEN)
        with patch.dict(os.environ, self.environment):
            server.start()
        try:
            yield server
        finally:
            server.stop()


def ahead(page: bytes | mmap.mmap) -> float:
    """Seconds, from what stands in a clock's file."""
    return float(_AHEAD.unpack(page[:])[0]) / 1e6


@contextlib.contextmanager
def settable_clock() -> Iterator[Clock]:
    """A clock that is right at first.

    Raises:
        RuntimeError: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("a clock that can be set needs a C compiler: install gcc")
    with tempfile.TemporaryDirectory(prefix="delayed-clock-") as folder:
        source, library = Path(folder, "clock.c"), Path(folder, "clock.so")
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
        yield Clock(library, Path(folder, "ahead"))


@contextlib.contextmanager
def settable(folder: Path, port: int | None = None) -> Iterator[tuple[EmbeddedRedis, Clock]]:
    """A private Redis with its files in `folder`, and its clock."""
    with settable_clock() as clock, clock.redis(port, folder / "redis") as server:
        yield server, clock
