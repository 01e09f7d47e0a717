"""Puts off tasks that a worker cannot run now and another one may, and slows the worker down."""

from dataclasses import dataclass

from ..base.clock import monotonic
from ..base.escape import escaped
from ..base.text import clipped, summary
from ..logger import logger

PATIENCE = 600.0  # seconds that a task waits for a worker that can run it
_EVERY = 60.0  # seconds between two lines about one function
_MOST = 1000  # functions that are told apart
_MANY = 10  # tasks in a row: then there is something wrong with this worker, or with the queue
_FIRST, _LONGEST = 0.05, 1.0  # seconds that it rests then


@dataclass
class _Told:
    at: float  # monotonic time of the last line
    count: int = 0  # tasks since


class Deferral:
    """How long tasks wait that one worker cannot run, what it says of them, and how long it rests.

    Args:
        seconds: how long they wait; 0: not at all.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.count = 0  # tasks that were put off
        self._told: dict[tuple[str, str], _Told] = {}
        self._row = 0  # tasks that were put off since the last that was not
        self._rest = 0.0
        self._seen = (0, 0)

    def put_off(self, path: str, cause: str, detail: str) -> None:
        """A task waits: say so, but not of each."""
        self.count += 1
        moment = monotonic()
        last = self._told.get((path, cause))
        if last is not None and moment - last.at < _EVERY:
            last.count += 1
            return
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[path, cause] = _Told(moment)
        more = f" ({last.count} more since the last line)" if last is not None and last.count else ""
        first = clipped(escaped(summary(detail)), 500)
        logger.warning(
            "Task %s cannot be run by this worker now, %s: %s; it waits for one that can, for %g s at most%s",
            escaped(path), cause, first, self.seconds, more,
        )  # fmt: skip

    def rest(self, finished: int) -> float:
        """Seconds to rest before more is taken, after so many tasks in all: a worker that meets nothing but tasks which it
        cannot run leaves them to others."""
        ended, unready = finished - self._seen[0], self.count - self._seen[1]
        self._seen = (finished, self.count)
        if ended or unready:
            self._row = self._row + unready if ended <= unready else 0
            self._rest = min(_LONGEST, self._rest * 2 or _FIRST) if self._row >= _MANY else 0.0
        return self._rest if unready else 0.0
