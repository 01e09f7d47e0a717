"""The processes that the storm hits."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from delayed.worker.shutdown import EXIT_FORCED

from .events import GO_WORKER, SUPERVISOR, WORKER
from .notes import PATH
from .output import Output

ROOT = Path(__file__).parent.parent
STALE, ROUGH = "stale worker", "rough worker"
WORKERS = (SUPERVISOR, WORKER, GO_WORKER, STALE, ROUGH)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_STARTING = 30.0  # seconds until a process listens to signals; before, SIGTERM ends it at once
_libc = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Runs in the new process: it shall not outlive the storm."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Member:
    """A place for a process, in which another is started when one has ended, as a service manager does."""

    kind: str
    command: Callable[[], Sequence[str]]
    environment: dict[str, str]
    log: Path
    gate: int | None = None  # of the proxy through which it reaches Redis
    output: Output | None = None  # where it writes, if somebody has to read that
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    killed: bool = False  # by us
    stopped: bool = False  # for good
    busy: bool = False  # it is stopped, or cut off
    pids: list[int] = field(default_factory=list)  # of all processes that were in this place
    faults: list[str] = field(default_factory=list)  # ends that nobody had asked for

    def start(self) -> None:
        """Start it."""
        self.killed = False
        self.started = time.monotonic()
        if self.output is not None:
            self.output.unblock()
        with self.log.open("ab") as log:
            sink = log if self.output is None else self.output.writer
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment},
                stdout=sink,
                stderr=sink,
                cwd=ROOT,
                preexec_fn=_end_with_parent,
            )
        self.pids.append(self.process.pid)

    @property
    def pid(self) -> int:
        """Of the process that is, or was, in this place."""
        return self.pids[-1]

    def tend(self) -> None:
        """Replace the process if it has ended before it was stopped."""
        assert self.process is not None
        self.read()
        status = None if self.stopped else self.process.poll()
        if status is not None:
            if not self.killed:
                self.faults.append(f"{self.kind} {self.pid} ended by itself with {status}")
            self.start()

    def read(self) -> None:
        """Read what it says, if nobody else does."""
        if self.output is not None:
            self.output.read()

    def children(self) -> list[int]:
        """The worker processes of a supervisor."""
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def block(self) -> None:
        """Nobody reads what it says until it is started again, or `unblock`."""
        if self.output is not None:
            self.output.block()

    def unblock(self) -> None:
        """Somebody reads what it says."""
        if self.output is not None:
            self.output.unblock()

    def ask_to_end(self) -> None:
        """SIGTERM, to a process of which nothing is expected but that it ends."""
        assert self.process is not None
        self.killed = True
        self.process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.killed = True
        self.process.kill()

    def stop(self, seconds: float, beside: Sequence["Member"] = ()) -> None:
        """SIGTERM, and wait for the end. What those `beside` it say is read meanwhile: else one that was started just now may
        wait for that, and does not hear a SIGTERM yet."""
        assert self.process is not None
        if self.stopped:  # stale workers end before the others; how they did has been judged
            return
        self.stopped = True
        listened = _listens(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
        ended = self._ends(seconds, beside)
        status = self.process.wait()
        if not ended:
            return
        starting = status == -signal.SIGTERM and not (listened and time.monotonic() - self.started > _STARTING)
        blocked = self.output is not None and self.output.blocked and status == EXIT_FORCED
        if status and not (self.killed or starting or blocked):
            self.faults.append(f"{self.kind} {self.pid} ended with {status} after SIGTERM")

    def _ends(self, seconds: float, beside: Sequence["Member"]) -> bool:
        """Whether it ends by itself. Else it is killed."""
        process = self.process
        assert process is not None

        def ended() -> bool:
            for member in (self, *beside):
                member.read()
            return process.poll() is not None

        if eventually(ended, seconds):
            return True
        said = "" if self.output is None or not self.output.blocked else ", with its output blocked"
        self.faults.append(f"{self.kind} {self.pid} did not end in {seconds:g} s after SIGTERM{said}")
        process.kill()
        return False


def _listens(pid: int) -> bool:
    """Whether a process catches SIGTERM. One that waits for somebody to read what it says does not come to that."""
    try:
        fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    except OSError:  # it has ended
        return True
    return bool(int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


def send(pids: Sequence[int], number: signal.Signals) -> list[int]:
    """Send a signal to those that live. Returns them."""
    reached = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def left_over(notes: Path) -> list[int]:
    """Processes of this storm that still live; each of them has the name of the file of notes in its environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(PATH) == str(notes):
                found.append(process.pid)
    return found


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    """Whether `check` became true in time."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
