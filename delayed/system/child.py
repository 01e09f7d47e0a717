"""Child processes that end with their owner, however it ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

# $0 is the program, "$@" its arguments. Descriptor 3 is a pipe that only the owner holds open: `read` ends with it. SIGTERM is
# passed on; the shell's status is the program's.
_GUARD = """
exec 3<&0
"$0" "$@" 3<&- </dev/null & child=$!
{ read -r _ <&3; kill "$child" 2>/dev/null; } & reader=$!
wait "$child"; status=$?
kill "$reader" 2>/dev/null
exit "$status"
"""


class ChildProcess:
    """A program that gets SIGTERM when its owner ends, even by SIGKILL.

    It runs in a session of its own, so that a Ctrl-C in the owner's terminal does not reach it: its owner stops it.

    Args:
        command: the program and its arguments.
        environment: its environment; None for ours.
        output: where its standard output and standard error go; None for nowhere.
        umask: what its files lack; -1 for what ours lack.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        *,
        umask: int = -1,
    ) -> None:
        sink = subprocess.DEVNULL if output is None else output
        self._ended_reader, writer = os.pipe()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, *command],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,
            umask=umask,
            pass_fds=(writer,),
        )
        os.close(writer)  # the shell and the program have it: it ends with them

    def fileno(self) -> int:
        """A descriptor that becomes readable when the program has ended."""
        return self._ended_reader

    @property
    def ended(self) -> bool:
        """Whether the program has ended."""
        return self._shell.poll() is not None

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the program's exit status (128 + the signal's number if it was killed)."""
        self.ask()
        return self.wait()

    def ask(self) -> None:
        """Send SIGTERM, and do not wait."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program, and to what it has started in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, number)

    def forget(self) -> None:
        """In a process that was forked from its owner: close what would keep the program alive."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.returncode = 0  # it is not ours to wait for
        os.close(self._ended_reader)

    def wait(self) -> int:
        """Wait for the program to end by itself, and return its exit status."""
        status = self._shell.wait()
        if self._ended_reader >= 0:
            os.close(self._ended_reader)
            self._ended_reader = -1
        return status


def python(*arguments: str) -> list[str]:
    """The command that runs a module of this package with this interpreter."""
    return [sys.executable, "-m", *arguments]
