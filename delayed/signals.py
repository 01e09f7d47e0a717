"""Signals as bytes on a descriptor, for as long as a context lasts.

The handlers do nothing. What counts is the byte that the interpreter's C-level handler writes: it arrives even while the
main thread is inside a C extension that runs no Python code.
"""

import contextlib
import signal
import socket
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import Self

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})  # finish what runs, give back the rest
INSIST = frozenset({signal.SIGTERM, signal.SIGINT})  # the second of these means now
NOW = signal.SIGQUIT  # give back everything and leave
DUMP = signal.SIGUSR1  # log what every thread is doing


def _nothing(signum: int, frame: FrameType | None) -> None:
    """A handler: the default action must not happen, and the byte is already written."""


class SignalPipe:
    """Takes over the signals of a worker or a sweeper inside `with`, and restores them after it.

    Outside the main thread, where Python allows no handlers, it takes over nothing and never becomes readable.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[signal.Signals, object] = {}
        self._wakeup_before = -1
        self.installed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in (*STOP, NOW, DUMP):
                self._before[number] = signal.signal(number, _nothing)
            self.installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self.installed:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal() itself returned
            signal.set_wakeup_fd(self._wakeup_before)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal has arrived."""
        return self._reader.fileno()

    def read(self) -> list[signal.Signals]:
        """The signals that have arrived since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            return [signal.Signals(number) for number in self._reader.recv(64)]
        return []


def dump_threads() -> str:
    """The stack of every thread, for the log."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
