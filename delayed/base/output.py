"""A log handler that writes to a descriptor and never waits long for its reader."""

import logging
import os
import select
import stat
import time

from .clock import monotonic

_PATIENCE = 0.5  # seconds that a line may wait for its reader, or for another thread's; after one that did in vain: none
_PIECE = 4096  # bytes that a pipe takes in one step, if it takes any (PIPE_BUF)
_AGAIN = 0.005  # seconds


class OutputHandler(logging.Handler):
    """Writes lines to a descriptor. What cannot be written soon is dropped, and the next line that can be says how much that
    was: whoever logs may be the thread that keeps leases, or be about to end its process.

    Args:
        descriptor: where to.
        encoding: of the lines.
    """

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        super().__init__()
        self._descriptor, self._encoding = descriptor, encoding
        self._open()
        self.dropped = 0  # lines, since the last that said so
        self._blocked = False  # nobody read when we wrote last
        self._torn = b""  # what ends a line of which only the beginning was written

    def _open(self) -> None:
        """Open a pipe or a terminal once more, for ourselves: then it is not for others, too, that it does not block. (That
        there is room may no longer be true by the time that we write.)"""
        status = os.fstat(self._descriptor)
        self._file = (status.st_dev, status.st_ino)
        self._writer = self._descriptor
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode):
            try:
                self._writer = os.open(f"/proc/self/fd/{self._descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:  # it belongs to another user, or this is no Linux
                self._writer = self._descriptor

    def handle(self, record: logging.LogRecord) -> bool:
        """As the base class does it, but for a lock which nobody waits for without end."""
        passed = self.filter(record)
        if not passed:
            return False
        record = passed if isinstance(passed, logging.LogRecord) else record  # since Python 3.12 a filter may give another
        held = self.lock is not None and self.lock.acquire(timeout=_PATIENCE)
        try:
            self.emit(record)
        finally:
            if held and self.lock is not None:
                self.lock.release()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            line = self.format(record)
        except Exception as error:  # an argument that cannot be shown
            line = f"{record.levelname} {record.msg} ({type(error).__name__})"
        notice = f"({self.dropped} lines of this log are missing: nobody read them in time)\n" if self.dropped else ""
        text = self._torn + f"{notice}{line}\n".encode(self._encoding, "backslashreplace")
        if self._write(text, 0 if self._blocked else _PATIENCE):
            self.dropped, self._torn = 0, b""
        else:
            self.dropped += 1

    def _write(self, text: bytes, seconds: float) -> bool:
        """Whether it was possible within that time."""
        left, late = memoryview(text), monotonic() + seconds
        try:
            self._follow()
            poll = select.poll()
            poll.register(self._writer, select.POLLOUT)
            while left:
                self._blocked = not poll.poll(1000 * max(0.0, late - monotonic()))
                if self._blocked:
                    break
                left = left[self._written(left[:_PIECE]) :]
                if left and monotonic() > late:
                    self._blocked = True
                    break
        except OSError:  # the disk is full, or there is no reader any more
            self._blocked = False
        if 0 < len(left) < len(text):
            self._torn = b"\n"
        return not left

    def _written(self, piece: memoryview) -> int:
        try:
            return os.write(self._writer, piece)
        except BlockingIOError:  # somebody else was quicker
            time.sleep(_AGAIN)
            return 0

    def _follow(self) -> None:
        """Go where the descriptor leads by now, if somebody has redirected it; never into a connection that got its number."""
        status = os.fstat(self._descriptor)
        if (status.st_dev, status.st_ino) == self._file:
            return
        if stat.S_ISSOCK(status.st_mode):
            raise OSError("it is another connection's")
        if self._writer != self._descriptor:
            os.close(self._writer)
        self._open()
