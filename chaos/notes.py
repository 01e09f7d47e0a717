"""What tasks and producers note, outside of Redis: records of one size in one file, each appended by a single write.

Their size divides a page: a write that a SIGKILL cuts short, which happens at the end of a page, is cut between two records.
"""

import os
import struct
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PATH = "DELAYED_STORM_NOTES"  # environment variable
BEGUN, ENDED, SENDING, SENT = 1, 2, 3, 4
CANCELLING, CANCELLED, UNTOLD = 5, 6, 7  # `cancel` is called; it said that the task had not begun; its result does not say so
LIMITED = 8  # the task has a concurrency key
EXPIRED, LATE = 9, 10  # it became a dead letter, as it was too late; it began although it was too late
REFUSED = 11  # it could not be cancelled, as Redis had no memory left
SPOILED, BURIED = 12, 13  # a middleware of the application raised; the task became a dead letter for that
GO = 16  # is added by Go workers
# What consumers of a server note beside that: an end was confirmed; it was late, by the consumer's own clock; it was refused
# though it was not. And producers: the number that a server has given to a task; that the task has the id of `identity_of`.
CONFIRMED, OVERDUE, TURNED_AWAY, NUMBERED, IDENTIFIED = 32, 33, 34, 35, 36
_RECORD = struct.Struct("<IIIIQQ")
_PAGE = 4096
assert _PAGE % _RECORD.size == 0


class Writer(NamedTuple):
    """A process that wrote notes. A process id comes back after a while; with its start it does not."""

    pid: int
    parent: int
    started: int  # CLOCK_MONOTONIC, in nanoseconds, as all moments here


class Note(NamedTuple):
    """One record."""

    task: int
    writer: Writer
    kind: int
    moment: int
    go: bool


@cache
def _file(path: str, _pid: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@cache
def _writer(pid: int) -> Writer:
    return Writer(pid, os.getppid(), time.monotonic_ns())


def note(kind: int, *tasks: int) -> None:
    """Append a record for each of the tasks."""
    pid = os.getpid()
    _, parent, started = _writer(pid)
    moment = time.monotonic_ns()
    data = b"".join(_RECORD.pack(task, pid, parent, kind, moment, started) for task in tasks)
    os.write(_file(os.environ[PATH], pid), data)


def read(path: Path, position: int = 0) -> Iterator[Note]:
    """The records from number `position` on."""
    with path.open("rb") as file:
        file.seek(position * _RECORD.size)
        while data := file.read(_RECORD.size * 4096):
            whole = len(data) - len(data) % _RECORD.size
            for task, pid, parent, kind, moment, started in _RECORD.iter_unpack(data[:whole]):
                go = GO <= kind < 2 * GO
                yield Note(task, Writer(pid, parent, started), kind - GO if go else kind, moment, go)
            if whole < len(data):
                return
