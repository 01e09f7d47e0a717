"""What systemd wants to know (`Type=notify`): one datagram for each message.

The protocol is that of sd_notify(3): newline-separated assignments, sent to the socket that NOTIFY_SOCKET names; a leading
'@' stands for the NUL of an abstract socket. Without NOTIFY_SOCKET everything here does nothing.
"""

import os
import socket

from .logger import logger


class Notifier:
    """Tells the service manager that started us how we are."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000 if mine and address else 0.0
        """Seconds after which the manager kills a service that has not called `alive`; 0 = never."""

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
                datagrams.setblocking(False)
                datagrams.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:  # the manager's socket is full or gone: the task matters more
            logger.warning("Could not notify the service manager: %s", error)

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
