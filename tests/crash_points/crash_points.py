"""Processes that die at a chosen byte of what they send to Redis.

A forked child carries out an operation with real sockets; what it sends is counted, and at one command it kills itself with
SIGKILL: before the command, in the middle of writing it, or when it is written and its reply waits to be read.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, NoReturn

import hiredis

from delayed.redis.scripts import SCRIPTS
from tests.support.waiting import explained

PATIENCE = 30  # seconds after which a child that hangs is ended by its own alarm
_SHAS = {script.sha: script.name for script in SCRIPTS.values()}
_REPLY = 2.0  # seconds to wait for a reply that ought to come
_NO_REPLY = 0.05  # seconds to wait for one that need not (a blocking command)
_SENDALL = socket.socket.sendall


class Moment(StrEnum):
    """When, at a command, the process dies."""

    BEFORE = "before"
    MIDDLE = "middle"
    AFTER = "after"


class Cut(NamedTuple):
    """Where a process dies."""

    number: int  # of the command, from 0
    moment: Moment


class Report(NamedTuple):
    """What a child did."""

    killed: bool
    status: int  # its exit status
    commands: list[str]  # that it sent in whole, in order
    last: bytes  # the command at which it died


def split(data: bytes) -> list[bytes]:
    """The commands in `data`, in the Redis protocol."""
    commands, position = [], 0
    while position < len(data):
        start = position
        end = data.index(b"\r\n", position)
        count, position = int(data[position + 1 : end]), end + 2
        for _ in range(count):
            end = data.index(b"\r\n", position)
            position = end + 2 + int(data[position + 1 : end]) + 2
        commands.append(data[start:position])
    return commands


def words(command: bytes) -> list[bytes]:
    """The words of one command."""
    reader = hiredis.Reader()
    reader.feed(command)
    found: list[bytes] = reader.gets()  # a command is written as an array reply is
    return found


def describe(command: bytes) -> str:
    """`HDEL`, `CLIENT REPLY ON`, `EVALSHA take` …"""
    first, *others = (word[:40].decode(errors="replace") for word in words(command)[:3])
    if first in ("EVALSHA", "EVAL"):
        script = others[0] if first == "EVALSHA" else next(s.sha for s in SCRIPTS.values() if s.source == words(command)[1])
        return f"{first} {_SHAS[script]}"
    return " ".join([first, *others]) if first == "CLIENT" else f"{first} {others[0]}" if first == "SCRIPT" else first


class Counter:
    """Counts what is sent, and kills the process at the cut.

    Args:
        cut: where; None for nowhere.
        everything: count also the loading of scripts. The greetings of redis-py are never counted: they differ between its
            versions, and change nothing.
        report: a file that gets a line for each command.
    """

    def __init__(self, cut: Cut | None, everything: bool, report: Path) -> None:
        self.names: list[str] = []
        self.hooks: dict[str, Callable[[], None]] = {}  # called when a command of this name has been sent
        self._cut = cut
        self._everything = everything
        self._report = report.open("wb", buffering=0)
        self._last = report.with_suffix(".last")
        self._lock = threading.Lock()
        self._silent: set[int] = set()  # sockets without replies
        self._unseen = threading.local()

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """What this thread sends meanwhile is not part of the operation."""
        self._unseen.on = True
        yield
        self._unseen.on = False

    def _counts(self, name: str) -> bool:
        if name.startswith("SCRIPT"):
            return self._everything
        return name.startswith("CLIENT REPLY") or not name.startswith(("CLIENT", "HELLO", "AUTH", "SELECT", "PING"))

    def sendall(self, sock: socket.socket, data: bytes) -> None:
        """In the place of `socket.socket.sendall`."""
        if getattr(self._unseen, "on", False):
            _SENDALL(sock, data)
            return
        called: list[Callable[[], None]] = []
        with self._lock:
            position = 0
            for command in split(data):
                name = describe(command)
                if name.startswith("CLIENT REPLY"):
                    (self._silent.add if name.endswith("OFF") else self._silent.discard)(id(sock))
                if self._counts(name):
                    if self._cut is not None and self._cut.number == len(self.names):
                        self._die(sock, data[:position], command)
                    self.names.append(name)
                    self._report.write(f"{name}\n".encode())
                    called += [self.hooks[name]] if name in self.hooks else []
                position += len(command)
            _SENDALL(sock, data)
        for hook in called:
            hook()

    def _die(self, sock: socket.socket, before: bytes, command: bytes) -> NoReturn:
        assert self._cut is not None
        part = {Moment.BEFORE: 0, Moment.MIDDLE: len(command) // 2, Moment.AFTER: len(command)}[self._cut.moment]
        self._last.write_bytes(command)
        if before or part:
            _SENDALL(sock, before + command[:part])
        if self._cut.moment is Moment.AFTER and id(sock) not in self._silent:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            poll.poll((_NO_REPLY if command.startswith(b"*3\r\n$5\r\nBLPOP") else _REPLY) * 1000)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


def in_child(operation: Callable[[Counter], None], cut: Cut | None, everything: bool, folder: Path) -> Report:
    """Carry out `operation` in a forked child that dies at `cut`."""
    report = folder / "report"
    last = report.with_suffix(".last")
    last.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads of a test process do not matter to the child
        pid = os.fork()
    if pid == 0:
        _be_child(operation, Counter(cut, everything, report), folder / "log")
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return Report(
        killed,
        os.waitstatus_to_exitcode(status),
        report.read_text().splitlines(),
        last.read_bytes() if last.exists() else b"",
    )


def _be_child(operation: Callable[[Counter], None], counter: Counter, log: Path) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        socket.socket.sendall = lambda sock, data, *_: counter.sendall(sock, bytes(data))  # type: ignore[method-assign]
        operation(counter)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def wait_for(check: Callable[[], object], what: str) -> None:
    """For the child, which has nobody to tell it: until `check` is true. A failure says which values it saw last."""
    deadline = time.monotonic() + PATIENCE / 2
    while not check():
        if time.monotonic() > deadline:
            found, saw = explained(check)
            assert found, f"{what}\n{saw}"
            return
        time.sleep(0.0005)
