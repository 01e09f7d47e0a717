"""Signals as bytes on a descriptor, for as long as a context lasts.

The handlers do nothing. What counts is the byte that the interpreter's C-level handler writes: it arrives even while the
main thread is inside a C extension that runs no Python code.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from functools import cache
from types import FrameType, TracebackType
from typing import Self, cast

from .exits import leave

STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})  # finish what runs, give back the rest
INSIST = frozenset({signal.SIGTERM, signal.SIGINT})  # the second of these means now
NOW = signal.SIGQUIT  # give back everything and leave
DUMP = signal.SIGUSR1  # log what every thread is doing
_TAKEN_OVER = (*sorted(STOP), NOW, DUMP)


def _nothing(signum: int, frame: FrameType | None) -> None:
    """A handler: the default action must not happen, and the byte is already written."""


_installed: list["SignalPipe"] = []
_awaited = False  # a new process shall let signals wait until its own pipe is there


@cache
def _restore_in_children() -> None:
    """From now on a child that a task forks has its parent's former handlers: it must obey signals, and not pass them on.
    Until it has them, signals wait."""

    def block() -> None:
        if _installed:
            signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN_OVER)

    def unblock() -> None:
        if _installed:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN_OVER)

    def in_child() -> None:
        for pipe in _installed:
            pipe.leave_to_parent()
        if not _awaited:
            unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=in_child)


@contextlib.contextmanager
def waiting_in_child() -> Iterator[None]:
    """Of a process that is forked here, signals wait until its first `SignalPipe`: it is to obey them, and not to die of them.
    The parent has a `SignalPipe`."""
    global _awaited  # noqa: PLW0603  # it passes through the fork
    _awaited = True
    try:
        yield
    finally:
        _awaited = False


def _end_waiting() -> None:
    """In a process that `waiting_in_child` was for."""
    global _awaited  # noqa: PLW0603  # likewise
    if _awaited:
        _awaited = False
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TAKEN_OVER)


class Stop(threading.Event):
    """A request to stop. While its context lasts, it is also readable, for those who wait for several things."""

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = -1, -1

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        writer, self._writer = self._writer, -1
        os.close(writer)
        os.close(self._reader)

    def fileno(self) -> int:
        """The descriptor that becomes readable with the request."""
        return self._reader

    def set(self) -> None:
        """Ask to stop. Safe from any thread, at any time, twice."""
        super().set()
        with contextlib.suppress(OSError):  # the context has just ended, or not begun
            os.write(self._writer, b"x")


class SignalPipe:
    """Takes over the signals of a worker or a sweeper inside `with`, and restores them after it.

    Outside the main thread, where Python allows no handlers, it takes over nothing and never becomes readable.
    """

    def __init__(self) -> None:
        self._reader: socket.socket
        self._writer: socket.socket
        self._before: dict[int, object] = {}
        self._wakeup_before = -1
        self.installed = False
        self.in_child = False  # we are in a copy of the process, which a task has forked

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        _restore_in_children()
        _installed.append(self)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _TAKEN_OVER}
            self._wakeup_before = signal.set_wakeup_fd(-1)
            self.installed = True
            self.arm()
            _end_waiting()
        return self

    def arm(self) -> None:
        """Take the signals over, also from a task that has changed what happens to them."""
        if self.installed:
            signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            for number in _TAKEN_OVER:
                if signal.getsignal(number) is not _nothing:
                    signal.signal(number, _nothing)

    def leave_to_parent(self) -> None:
        """Be no more than a child that a task has forked."""
        self.in_child = True
        self.restore()

    def leave_if_child(self, failure: BaseException | None) -> None:
        """A task's function has returned, or raised `failure`. In a child that the task has forked and that came back out of
        it, end that child: it must not work on its parent's connection."""
        if self.in_child:
            code: object = 1
            try:
                code = cast(SystemExit, failure).code if issubclass(type(failure), SystemExit) else int(failure is not None)
            finally:
                leave(code if type(code) is int else int(code is not None))

    def restore(self) -> None:
        """Give the signals back."""
        if self.installed:
            self.installed = False
            signal.set_wakeup_fd(self._wakeup_before)
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.getsignal() returned

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self in _installed:
            _installed.remove(self)
        self.restore()
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """The descriptor that becomes readable when a signal has arrived."""
        return self._reader.fileno()

    def read(self) -> list[signal.Signals]:
        """The signals that have arrived since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            return [signal.Signals(number) for number in self._reader.recv(64) if number in _TAKEN_OVER]
        return []


def dump_threads() -> str:
    """The stack of every thread, for the log."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
