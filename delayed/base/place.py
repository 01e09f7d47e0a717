"""Names this process for humans, as workers are named in the register."""

import os
import socket


def place() -> str:
    """host:pid."""
    return f"{socket.gethostname()}:{os.getpid()}"
