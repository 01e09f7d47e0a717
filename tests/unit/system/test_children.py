"""Processes that are begun and seen to without waiting, whatever the kernel refuses."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest

from delayed.system.children import UNKNOWN, Child, Children, image
from delayed.system.signals import SignalPipe
from tests.conftest import eventually

NONE_LEFT = OSError(errno.EMFILE, "Too many open files")


@pytest.fixture
def children() -> Iterator[Children]:
    with SignalPipe():
        each = Children()
        yield each
        each.close()


def stay() -> NoReturn:
    while True:
        signal.pause()


def end() -> NoReturn:
    os._exit(7)


def tidied(children: Children) -> bool:
    children.tidy(())
    return not children._left


def test_an_end_is_seen_once(children: Children) -> None:
    child = children.begin(end)
    statuses: list[int] = []

    def ended() -> bool:
        status = child.status()
        statuses.extend([] if status is None else [status])
        return status is not None

    eventually(ended)
    assert [os.waitstatus_to_exitcode(status) for status in statuses] == [7]
    assert child.status() == UNKNOWN
    child.send(signal.SIGTERM)  # it has ended: nothing happens
    child.close()
    child.send(signal.SIGTERM)


def test_the_spare_descriptor_is_for_the_moment_in_which_there_is_no_other(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = os.pidfd_open, [NONE_LEFT]

    def opened(pid: int) -> int:
        if refusals:
            raise refusals.pop()
        return real(pid)

    monkeypatch.setattr(os, "pidfd_open", opened)
    spare = children._spare
    child = children.begin(stay)
    assert child.fileno() == spare
    assert children._spare == -1
    children.abandon(child)
    eventually(lambda: tidied(children))
    assert children._spare >= 0


def test_a_child_without_a_descriptor_is_killed_and_reaped_and_that_is_an_error(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def refused(pid: int) -> int:
        begun.append(pid)
        raise NONE_LEFT

    monkeypatch.setattr(os, "pidfd_open", refused)
    with pytest.raises(OSError, match="Too many open files"):
        children.begin(stay)
    eventually(lambda: tidied(children))
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)


def test_orphans_are_reaped_but_not_the_children_that_others_wait_for(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is process 1; the first of the dead is one of ours."""
    monkeypatch.setattr(children, "_adopts", True)
    ours, orphan = os.fork(), 0
    if not ours:
        os._exit(7)
    os.waitid(os.P_PID, ours, os.WEXITED | os.WNOWAIT)
    orphan = os.fork()
    if not orphan:
        os._exit(8)
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
    children.tidy({ours})
    assert os.waitstatus_to_exitcode(Child(ours, -1).status() or 0) == 7
    children.tidy({ours})
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, 0)


def test_a_fork_keeps_the_image_and_exec_does_not(children: Children) -> None:
    child = children.begin(stay)
    assert image(child.pid) == image(os.getpid()) is not None
    children.abandon(child)
    eventually(lambda: tidied(children))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        eventually(lambda: image(other.pid) not in (None, image(os.getpid())))  # once it has become the other program
    assert image(child.pid) is None
