"""Real worker and sweeper processes for the tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests import ROOT

APPLICATION = ROOT / "tests" / "app"
LIVES = 3.0  # seconds that the leases of a worker live whose death is noticed soon: a busy machine holds processes up
SOON_DEAD = (f"--keep-alive-timeout={LIVES:g}", "--keep-alive-interval=0.2")
_PATIENCE = 90  # seconds that a process may take to begin or to end


class Process:
    """A process that tells us by systemd's protocol when it is ready."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], folder: Path, number: int, cwd: Path = APPLICATION
    ) -> None:
        self.log = folder / f"{number}.log"
        self._messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = folder / f"{number}.notify"
        self._messages.bind(str(address))
        self._messages.settimeout(0.1)
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                command,
                env={**os.environ, **environment, "NOTIFY_SOCKET": str(address)},
                stdout=log,
                stderr=log,
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def expect(self, message: str, seconds: float = _PATIENCE) -> None:
        """Wait for a message to the service manager that contains `message`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.popen.poll() is not None
            with contextlib.suppress(TimeoutError):
                if message in self._messages.recv(4096).decode():
                    return
                continue
            if ended:
                break
        raise AssertionError(f"no {message!r} in time; the process said:\n{self.log.read_text()}")

    def ready(self) -> Self:
        self.expect("READY=1")
        return self

    def send(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            self.popen.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.popen.wait(_PATIENCE)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.popen.kill()
        self.wait()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.popen.wait()
        self._messages.close()


class Fleet:
    """Processes that end with the test."""

    def __init__(self, url: str, folder: Path) -> None:
        self.environment = {"DELAYED_REDIS_URL": url, "PYTHONUNBUFFERED": "1"}
        self._folder = folder
        self.home = APPLICATION  # where they start
        self.processes: list[Process] = []

    def start(self, *command: str, **environment: str) -> Process:
        return self._start(command, self.home, environment)

    def _start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Process:
        variables = {**self.environment, **environment}
        process = Process(list(command), variables, self._folder, len(self.processes), folder)
        self.processes.append(process)
        return process

    def delayed(self, *arguments: str, folder: Path | None = None, **environment: str) -> Process:
        return self._start([sys.executable, "-m", "delayed", *arguments], folder or self.home, environment)

    def worker(self, *queues_and_options: str) -> Process:
        return self.delayed("worker", "--allow", "tasks:*", *queues_and_options).ready()

    def quick_worker(self, *queues_and_options: str) -> Process:
        """A worker whose death is noticed soon."""
        return self.worker(*SOON_DEAD, *queues_and_options)

    def sweeper(self, *queues_and_options: str) -> Process:
        return self.delayed("sweeper", "--interval=0.3", *queues_and_options).ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.close()
