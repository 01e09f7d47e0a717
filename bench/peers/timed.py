"""A Python worker of ours whose tasks write down when they began: `timed.py [options of the
worker, as JSON] <queue>...`.

Each task has eight bytes of the shared file for the CLOCK_MONOTONIC nanoseconds at its first line. A later task may take some
time, as real ones do.
"""

import gc
import json
import mmap
import os
import sys
import time

from delayed import Queue
from delayed.logger import setup_logger
from delayed.redis.connect import connect
from delayed.worker.worker import Worker

with open(os.environ["BENCH_MARKS"], "r+b") as _file:
    _times = memoryview(mmap.mmap(_file.fileno(), 0)).cast("q")


def stamp(i, seconds=0):
    _times[i] = time.monotonic_ns()
    if seconds >= 0.001:
        time.sleep(seconds)
    elif seconds:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass


async def coroutine_stamp(i):
    _times[i] = time.monotonic_ns()


def once(i):
    """As `stamp`, but a second execution is to be seen: -1."""
    _times[i] = -1 if _times[i] else time.monotonic_ns()


def tick(first):
    """The task of a schedule that fires every second: its place is the second that it is, counted from `first`."""
    once(int(time.time()) - first)


if __name__ == "__main__":
    setup_logger(log_level="INFO")
    client = connect(os.environ["BENCH_REDIS"])
    options, *names = sys.argv[1:] if sys.argv[1].startswith("{") else ("{}", *sys.argv[1:])
    gc.freeze()  # as `delayed worker` does
    Worker([Queue(name, client) for name in names], allow=["timed:*"], **json.loads(options)).run()
