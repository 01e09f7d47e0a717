"""Reads dead letters from their stream."""

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import Reason
from ..queue.queue import Queue
from ..redis.command import pairs
from ..redis.keys import LETTER
from ..task.decode import headers_of, path_of
from ..task.headers import any_id_in, id_in, milliseconds_in
from ..task.hidden import said_of

_FIRST, _PAGE = 100, 1000  # letters that are read at first, which mostly is enough, and then at once


class DeadLetter(NamedTuple):
    """A task that will not run again by itself."""

    id: str
    time: float  # seconds since 1970
    task: str  # function path
    reason: str
    detail: str
    worker: str  # who buried it: the last worker, but for lost tasks, of which a sweeper says this
    data: bytes

    @property
    def task_id(self) -> str | None:
        """The id of the task, if it has one."""
        return any_id_in(headers_of(self.data))

    @property
    def tracked_id(self) -> str | None:
        """The same, if Redis keeps the task's state."""
        return id_in(headers_of(self.data))

    @property
    def said(self) -> str:
        """Its detail as it may be shown: the type of the exception alone, where the arguments of its function are hidden."""
        return said_of(self.task, self.detail)

    @property
    def attempts(self) -> int | None:
        """How often it was tried; None for a task without headers, in which that is not counted."""
        headers = headers_of(self.data)
        begun = self.reason in (Reason.FAILED, Reason.TIMED_OUT, Reason.LOST)
        return milliseconds_in(headers, "attempt") + begun if headers else None


def dead_letters(
    queue: Queue, count: int | None = None, reason: str | None = None, *, after: str | None = None
) -> Iterator[DeadLetter]:
    """The dead letters of a queue, newest first.

    Args:
        queue: the queue.
        count: how many at most.
        reason: only those with this reason.
        after: only those that come after the one with this id, which are older.
    """
    last, size = "+" if after is None else f"({after}", _FIRST
    while count is None or count > 0:
        page = queue.store.call("XREVRANGE", queue.keys.dead, last, "-", "COUNT", size)
        for entry_id, fields in page:
            letter = letter_of(entry_id, fields)
            if reason in (None, letter.reason) and (count is None or count > 0):
                count = None if count is None else count - 1
                yield letter
        if len(page) < size:
            return
        last, size = f"({page[-1][0].decode()}", _PAGE


def dead_letter(queue: Queue, entry_id: str) -> DeadLetter | None:
    """One dead letter, if it is there."""
    found = queue.store.call("XRANGE", queue.keys.dead, entry_id, entry_id)
    return letter_of(*found[0]) if found else None


def letter_of(entry: bytes, fields: list[bytes]) -> DeadLetter:
    """The dead letter that an entry of the stream is."""
    entry_id = entry.decode()
    named = pairs(fields)
    data, *texts = (named.get(name.encode(), b"") for name in LETTER)
    reason, detail, worker = (text.decode(errors="replace") for text in texts)
    return DeadLetter(entry_id, int(entry_id.partition("-")[0]) / 1000, path_of(data), reason, detail, worker, data)
