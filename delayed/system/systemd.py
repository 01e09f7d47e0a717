"""Notifies systemd (`Type=notify`): one datagram for each message.

The protocol is that of sd_notify(3): newline-separated assignments, sent to the socket that NOTIFY_SOCKET names; a leading
'@' stands for the NUL of an abstract socket. Without NOTIFY_SOCKET everything here does nothing.
"""

import errno
import os
import socket

from ..base.clock import monotonic
from ..logger import logger

_SILENCE = 60.0  # seconds between two lines that it does not work


class ServiceManager:
    """Notifies the service manager that started this process of its state.

    Args:
        silent: no, it does not: another part of the process does.
    """

    def __init__(self, *, silent: bool = False) -> None:
        address = "" if silent else os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000 if mine and address else 0.0
        """Seconds after which the manager kills a service that has not called `alive`; 0 = never."""

        self._socket = self._opened()
        self._silent_until = 0.0

    def _opened(self) -> socket.socket | None:
        """Opened at the start, as there may be no descriptor left when something has to be said."""
        if not self._address:
            return None
        try:
            datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return None
        datagrams.setblocking(False)
        return datagrams

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        self._socket = self._socket or self._opened()
        says: object = "no descriptor is left"
        try:
            if self._socket is not None:
                self._socket.sendto("\n".join(assignments).encode(), self._address)
                return
        except OSError as error:  # the manager's socket is full or gone, or a task has closed ours: the task matters more
            says = error
            if self._socket is not None and error.errno == errno.EBADF:
                self._socket.detach()
                self._socket = None
        if monotonic() >= self._silent_until:
            self._silent_until = monotonic() + _SILENCE
            logger.warning("Could not notify the service manager: %s", says)

    def close(self) -> None:
        """Say no more."""
        self._address = ""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self.close()

    def ready(self, status: str) -> None:
        """We take tasks from now on."""
        self._send("READY=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """We have begun to stop."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The watchdog may wait for another period."""
        self._send("WATCHDOG=1")
