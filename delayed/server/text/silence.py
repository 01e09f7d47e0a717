"""Clients who say nothing: whether they are still there."""

import asyncio
import contextlib
import socket
from typing import Any

_PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))  # seconds of silence, between questions; how many


def notice_loss(transport: asyncio.BaseTransport) -> None:
    """Have the system ask whether the client's is there, and end the connection if it is not, some two minutes later."""
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # it has ended already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
