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
_NEAR = 0.01  # seconds by which what is left of a timer may differ from what should be
_MAIN = threading.main_thread().ident
_ALARM, _TIMER = int(signal.SIGALRM), int(signal.ITIMER_REAL)  # likewise without their enums
_warned: set[str] = set()  # functions whose timeout is not kept


class Alarm:
    """The timer of the main thread, for one task after another.

    Its handler is installed by the first task that has a timeout, and stays, as installing it costs more than the rest of such
    a task; where the application has a handler of its own, that comes back after each task. Between `keep` and `release` the
    timer stays set after a task, too, if it is still as it was set: the next task that ends its time later has no need to set
    it, as the handler looks whose time is over, and sets it again for that one.
    """

    def __init__(self) -> None:
        self._seconds = 0.0  # of the task that runs; 0 for none
        self._due = 0.0  # monotonic time at which it rings, or rang last
        self._handler = self._ring  # the same object each time
        self._before: object = None  # the application's handler, while a task runs
        self._keeping = False
        self._late = False  # a signal of a task that is over may be on its way
        self.armed = 0.0  # monotonic time for which the timer is set, at the latest that of `_due`; 0 if it is not

    @property
    def is_idle(self) -> bool:
        """Whether no task with a timeout runs."""
        return not self._seconds

    def keep(self) -> None:
        """Tasks follow one another: leave the timer set between them. Call `disarm` before what may use it otherwise."""
        self._keeping = True

    def release(self) -> None:
        """No task follows at once."""
        self._keeping = False
        if self.armed:
            self.disarm()

    def set(self, seconds: float, path: str) -> bool:
        """Ring in so many seconds. False in a thread that is not the main one: there a timeout is not kept, as the log says
        once for each function, whose `path` this is."""
        if threading.get_ident() != _MAIN:
            _warn_once(path, seconds)
            return False
        before = getsignal(_ALARM)
        if before is not self._handler:
            self._before = None if before == signal.SIG_DFL or _is_idle(before) else before
            self.armed = 0.0
            signal.signal(signal.SIGALRM, self._handler)
        self._due = due = monotonic() + seconds
        self._seconds = seconds
        if not 0 < self.armed <= due:  # asked last: the one that was set before may ring at any moment
            self._arm(due, seconds)
        return True

    def stop(self) -> None:
        """Do not ring any more."""
        self._seconds = 0.0
        if not (self._keeping and self.armed and self._before is None and self._is_as_set()):
            self.disarm()
        self._give_back()

    def _give_back(self) -> None:
        if self._before is not None:
            before, self._before = self._before, None
            signal.signal(signal.SIGALRM, before)  # type: ignore[arg-type]  # what signal.getsignal() returned

    def disarm(self) -> None:
        """No timer is set any more."""
        left, _ = signal.setitimer(_TIMER, 0)
        self._late = self._late or (self.armed > 0 and not left)
        self.armed = 0.0

    def _arm(self, due: float, seconds: float) -> None:
        signal.setitimer(_TIMER, seconds)
        self.armed = due  # not before: the one that was set until now may have rung

    def _is_as_set(self) -> bool:
        """Whether the task has left timer and handler as they were."""
        left, interval = signal.getitimer(_TIMER)
        near = abs(self.armed - monotonic() - left) < _NEAR
        return near and left > 0 and not interval and getsignal(_ALARM) is self._handler

    def _ring(self, _signum: int, _frame: FrameType | None) -> None:
        seconds, armed, late = self._seconds, self.armed, self._late
        self._late = False
        if not seconds:
            self._ring_for_nobody(late)
        elif (late or armed != self._due) and (left := self._due - monotonic()) > 0:  # meant for a task before this one
            self._arm(self._due, left)
        else:
            self._seconds = self.armed = 0.0
            self._give_back()
            raise TimedOut(f"it exceeded its timeout of {seconds:g} s")

    def _ring_for_nobody(self, late: bool) -> None:
        """No task with a timeout runs."""
        if self.armed and not signal.getitimer(_TIMER)[0]:  # it was still set
            self.armed = 0.0
        elif not late and monotonic() - self._due > _LATE:  # a timer of the task's own, which has no handler
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)


def _is_idle(handler: object) -> bool:
    """Whether this is the handler of a worker that was here before."""
    owner = getattr(handler, "__self__", None)
    return type(owner) is Alarm and owner.is_idle


def _warn_once(path: str, seconds: float) -> None:
    if path not in _warned:
        _warned.add(path)
        logger.warning(
            "Task %s has a timeout of %g s, which is not kept in a thread: make it `async def`, run it by a worker without "
            "--threads, or give it a hard_timeout",
            escaped(path),
            seconds,
        )
