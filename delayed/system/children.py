"""Child processes of a supervisor: starts, signals and reaps them.

Nothing here waits, and no step that fails ends the supervisor: it has other children.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Container
from contextlib import suppress
from typing import NoReturn

from .signals import waiting_in_child

UNKNOWN = 70 << 8  # the wait status of a child whose status somebody else has taken: as of one that ended by a defect
_PR_GET_CHILD_SUBREAPER = 37  # prctl(2)
_AT_A_TIME = 1000  # orphans
_STACK, _CODE = 25, 23  # in /proc/PID/stat, from the state on, counted from 0


class Child:
    """A child process."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._descriptor

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        with suppress(ProcessLookupError):
            if self._descriptor >= 0:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)  # ours as long as nobody has taken its status

    def status(self) -> int | None:
        """How it ended, as `os.waitpid` has it; None if it has not. Ask only once for a status."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return UNKNOWN
        return status if pid else None

    def close(self) -> None:
        """Give the descriptor up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Children:
    """Begins processes, and reaps those that nobody waits for."""

    def __init__(self) -> None:
        self._spare = -1  # a descriptor for a moment in which there is no other
        self._left: set[int] = set()  # processes that were killed, and have not ended yet
        self._adopts = adopts_orphans()
        self._save()

    def begin(self, be: Callable[[], NoReturn]) -> Child:
        """Fork a process that does `be`. Its signals wait until it has taken them over.

        Raises:
            OSError: a step failed, and there is no such process, or not for long.
        """
        with waiting_in_child():
            pid = os.fork()
            if not pid:
                be()
        try:
            return Child(pid, self._descriptor_of(pid))
        except OSError:
            self.abandon(Child(pid, -1))
            raise

    def _descriptor_of(self, pid: int) -> int:
        try:
            return os.pidfd_open(pid)
        except OSError:
            if self._spare < 0:
                raise
            os.close(self._spare)
            self._spare = -1
            return os.pidfd_open(pid)

    def abandon(self, child: Child) -> None:
        """Kill a child, and do not wait for its end."""
        with suppress(OSError):
            child.send(signal.SIGKILL)
        child.close()
        self._left.add(child.pid)

    def tidy(self, ours: Container[int]) -> None:
        """Take note of ends that nobody waits for: of what was abandoned, and, as process 1 of a container, of what tasks have
        left behind. Those of the children `ours` are for others to see."""
        self._save()
        for pid in list(self._left):
            if Child(pid, -1).status() is not None:
                self._left.discard(pid)
        if self._adopts:
            for _ in range(_AT_A_TIME):
                with suppress(ChildProcessError):
                    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended is not None and ended.si_pid not in ours:  # else its turn comes first
                        os.waitpid(ended.si_pid, os.WNOHANG)
                        continue
                break

    def _save(self) -> None:
        if self._spare < 0:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        """Give the spare descriptor up."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1


def adopts_orphans() -> bool:
    """Whether this process inherits the children of processes below it that end, as process 1 does, and has to reap them."""
    if os.getpid() == 1:
        return True
    answer = ctypes.c_int(0)
    with suppress(OSError, AttributeError):  # no such call here
        ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


def image(pid: int) -> tuple[bytes, ...] | None:
    """What tells the program of a process from another one: where its code and its stack begin. A fork keeps that, and exec
    does not. None if the system does not say. (Linux: proc(5), `stat`, which waits for no lock of the process.)"""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
        known = (fields[_CODE], fields[_CODE + 1], fields[_STACK])
    except (OSError, IndexError):
        return None
    return known if known[2] != b"0" else None
