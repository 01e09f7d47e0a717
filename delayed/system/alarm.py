"""The soft timeout of a plain function: a timer that raises `TimedOut` in the main thread."""

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # without its enum, which costs more than all the rest
from types import FrameType

from ..base.clock import monotonic
from ..base.escape import escaped
from ..errors import TimedOut
from ..logger import logger

_LATE = 1.0  # seconds that a signal may be late
_MAIN = threading.main_thread()
_warned: set[str] = set()  # functions whose timeout is not kept


class Alarm:
    """The timer of the main thread, for one task after another.

    Its handler is installed by the first task that has a timeout, and stays, as installing it costs more than the rest of such
    a task; where the application has a handler of its own, that comes back after each task.
    """

    def __init__(self) -> None:
        self._seconds = 0.0  # of the task that runs; 0 for none
        self._due = 0.0  # monotonic time at which it rings, or rang last
        self._handler = self._ring  # the same object each time
        self._before: object = None  # the application's handler, while a task runs

    def set(self, seconds: float, path: str) -> bool:
        """Ring in so many seconds. False in a thread that is not the main one: there a timeout is not kept, as the log says
        once for each function, whose `path` this is."""
        if threading.current_thread() is not _MAIN:
            _warn_once(path, seconds)
            return False
        before = getsignal(signal.SIGALRM)
        if before is not self._handler:
            self._before = None if before == signal.SIG_DFL else before
            signal.signal(signal.SIGALRM, self._handler)
        self._due = monotonic() + seconds
        self._seconds = seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return True

    def stop(self) -> None:
        """Do not ring any more."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._seconds = 0.0
        if self._before is not None:
            before, self._before = self._before, None
            signal.signal(signal.SIGALRM, before)  # type: ignore[arg-type]  # what signal.getsignal() returned

    def _ring(self, _signum: int, _frame: FrameType | None) -> None:
        seconds, self._seconds = self._seconds, 0.0
        if seconds:
            raise TimedOut(f"it exceeded its timeout of {seconds:g} s")
        if monotonic() - self._due > _LATE:  # a timer of the task's own, which has no handler
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)


def _warn_once(path: str, seconds: float) -> None:
    if path not in _warned:
        _warned.add(path)
        logger.warning(
            "Task %s has a timeout of %g s, which is not kept in a thread: make it `async def`, run it by a worker without "
            "--threads, or give it a hard_timeout",
            escaped(path),
            seconds,
        )
