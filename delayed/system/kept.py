"""A program that runs beside this process for as long as it lives, and is started again when it ends."""

import os
import select
import threading
from collections.abc import Callable

from ..base.clock import monotonic
from ..base.pauses import pause_before_another
from ..logger import logger
from .child import ChildProcess
from .process import describe_status

_FIRST, _LONGEST = 0.5, 30.0  # seconds before it is started again
_LIVED = 10.0  # seconds: then it had not failed at its start
_TICK = 1.0


class KeptProcess:
    """A child process that is started again, with growing pauses, when it ends. Whoever owns it calls `tend` now and then.

    Args:
        name: what the log calls it.
        start: starts it.
    """

    def __init__(self, name: str, start: Callable[[], ChildProcess]) -> None:
        self._name, self._start = name, start
        self._child: ChildProcess | None = None
        self._started = self._next_start = 0.0
        self._failures = 0

    def tend(self) -> None:
        """Start it if it does not run and its time has come. It does not wait and does not raise."""
        now = monotonic()
        if self._child is not None and self._child.ended:
            status = self._child.wait()
            self._child = None
            self._failures = 0 if now - self._started > _LIVED else self._failures + 1
            pause = pause_before_another(self._failures + 1, _FIRST, _LONGEST)
            self._next_start = now + pause
            logger.error("The %s ended: %s; starting it again in %.1f s", self._name, describe_status(status), pause)
        if self._child is None and now >= self._next_start:
            self._started = now
            try:
                self._child = self._start()
            except OSError as error:
                self._next_start = now + _LONGEST
                logger.error("Cannot start the %s, trying again in %g s: %s", self._name, _LONGEST, error)

    def fileno(self) -> int:
        """A descriptor that becomes readable when it has ended; -1 if it does not run."""
        return -1 if self._child is None else self._child.fileno()

    def stop(self) -> None:
        """End it, and wait for that."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def forget(self) -> None:
        """In a process that was forked: it is the parent's."""
        if self._child is not None:
            self._child.forget()
            self._child = None


class Keeper(threading.Thread):
    """Tends a process in a thread, inside `with`."""

    def __init__(self, kept: KeptProcess) -> None:
        super().__init__(name="delayed-keeper", daemon=True)
        self._kept = kept
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> None:
        self._kept.tend()
        self.start()

    def __exit__(self, *_: object) -> None:
        os.close(self._writer)
        self.join()
        os.close(self._reader)
        self._kept.stop()

    def run(self) -> None:
        """See `threading.Thread`."""
        while True:
            poll = select.poll()
            poll.register(self._reader, select.POLLIN)
            if self._kept.fileno() >= 0:
                poll.register(self._kept.fileno(), select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(_TICK * 1000)}
            if self._reader in ready:
                return
            self._kept.tend()
