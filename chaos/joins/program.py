"""A program that kills itself now and then: `python -m chaos.joins.program SHARE CALM COMMAND…`, with a command of `delayed`.

SHARE is how many of the packets that name a workflow it dies at, before, in the middle of, or after sending them; none once
the file CALM is there.
"""

import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from delayed.cli.main import run
from delayed.supervisor import supervisor

from ..notes import note
from .kinds import KILLED

_SENDALL = socket.socket.sendall
_LEAST, _MOST = 0.1, 1.0  # seconds that a process lives before it may die


class Suicide:
    """Kills the process at random packets.

    Args:
        share: of them.
        calm: the file that ends it.
        word: only packets with this.
        least: seconds that it lives before, at least; 0 for none.
    """

    def __init__(self, share: float, calm: str, word: bytes = b"_flow_", least: float = _LEAST) -> None:
        self._share, self._calm, self._word, self._least = share, Path(calm), word, least
        self._rng = random.SystemRandom()  # a fork has its own
        self._pid, self._from = 0, 0.0

    def sendall(self, connection: socket.socket, data: Any, *flags: Any) -> None:
        """In place of `socket.sendall`."""
        if self._word not in bytes(data) or not self._now():
            return _SENDALL(connection, data, *flags)
        how = self._rng.choice((0, len(data) // 2, len(data)))
        if how:
            _SENDALL(connection, memoryview(bytes(data))[:how], *flags)
        note(KILLED, how and 1 + (how == len(data)))
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    def _now(self) -> bool:
        if os.getpid() != self._pid:
            self._pid, self._from = (
                os.getpid(),
                time.monotonic() + (self._rng.uniform(self._least, _MOST) if self._least else 0),
            )
        return time.monotonic() > self._from and self._rng.random() < self._share and not self._calm.exists()

    def install(self) -> None:
        """From now on."""
        here = self

        def sendall(connection: socket.socket, data: Any, *flags: Any) -> None:
            here.sendall(connection, data, *flags)

        socket.socket.sendall = sendall  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _share, _calm, *sys.argv[1:] = sys.argv[1:]
    supervisor._LONGEST_PAUSE = 0.1  # those that kill themselves at once shall have a successor soon
    Suicide(float(_share), _calm).install()
    run()
