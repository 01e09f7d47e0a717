"""What a process says, through a pipe. While nobody reads it, as when a terminal is stopped or a collector hangs, it is full,
and whoever writes has to wait."""

import contextlib
import fcntl
import os
from pathlib import Path

_SIZE = 16384  # bytes that the pipe holds
_PAGE = 4096


class Output:
    """A pipe to a log.

    Args:
        log: the file to which all goes that is read.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _SIZE)
        self.blocked = False

    def read(self) -> None:
        """Read what there is, if that may be read."""
        if self.blocked:
            return
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._reader, _SIZE)
            with self._log.open("ab") as log:
                log.write(data)

    def block(self) -> None:
        """From now on nobody reads, and no byte more goes in."""
        self.blocked = True
        # By a way of its own, as what does not wait here must wait there.
        filler = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            for size in (_PAGE, 1):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        os.write(filler, b"\n" * size)
        finally:
            os.close(filler)

    def unblock(self) -> None:
        """Somebody reads again."""
        self.blocked = False

    def close(self) -> None:
        """It is needed no more."""
        self.unblock()
        self.read()
        os.close(self._reader)
        os.close(self.writer)
