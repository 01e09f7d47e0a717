"""What the peers of `scripts/joins` have in common: notes of what ran, and a SIGKILL before the n-th packet that goes to Redis
once the member that is named has ended."""

import os
import signal
import socket
import time

URL = os.environ["JOINS_REDIS"]
_NOTES, _DIE_AT, _MEMBER = (
    os.environ["JOINS_NOTES"],
    int(os.environ.get("JOINS_DIE_AT", "0")),
    int(os.environ.get("JOINS_MEMBER", "2")),
)
_PORT = int(URL.rpartition(":")[2].partition("/")[0])
_sent = [-1]  # packets since then


def note(words):
    with open(_NOTES, "a") as file:
        file.write(f"{words} {time.monotonic_ns()} {os.getpid()}\n")


def member(number):
    """A member of the group: the last one takes a while, so that it is the last."""
    note(f"begin {number}")
    time.sleep(0.05 if number else 0.01)
    note(f"end {number}")
    if number == _MEMBER:
        _sent[0] = 0
    return number


def callback():
    note(f"callback {_sent[0]}")
    _sent[0] = -1


def count(connection):
    if _sent[0] < 0:
        return
    try:
        if connection.getpeername()[1] != _PORT:
            return
    except (OSError, IndexError, TypeError):
        return
    _sent[0] += 1
    if _sent[0] == _DIE_AT:
        note("killed 0")
        os.kill(os.getpid(), signal.SIGKILL)


def _counted(method):
    def sending(self, *arguments):
        count(self)
        return method(self, *arguments)

    return sending


socket.socket.sendall = _counted(socket.socket.sendall)
socket.socket.send = _counted(socket.socket.send)
