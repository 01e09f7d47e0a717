"""Limits after which a worker process is replaced."""

import sys

from ..base.clock import monotonic
from ..system.process import resident_size

_WEIGHING = 1.0  # seconds between two looks at the memory that the process has


class Recycling:
    """The limits of one worker process.

    Args:
        max_tasks: how many tasks it runs; None for any number.
        max_rss: how many bytes of memory it may have between two tasks; likewise.
    """

    def __init__(self, max_tasks: int | None, max_rss: int | None) -> None:
        self._max_tasks, self._max_rss = max_tasks, max_rss
        self._next_weighing = 0.0
        self.due = False  # it was over a limit

    def left(self, finished: int) -> int:
        """How many more tasks it may run."""
        return sys.maxsize if self._max_tasks is None else self._max_tasks - finished

    def is_out(self, finished: int) -> bool:
        """Whether it is over a limit, after so many tasks."""
        if self.left(finished) <= 0:
            self.due = True
        elif self._max_rss is not None and monotonic() >= self._next_weighing:
            self._next_weighing = monotonic() + _WEIGHING
            self.due = resident_size() > self._max_rss
        return self.due
