"""What the checks of workers and producers share."""

import contextlib
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from delayed.dead_letters.letter import DeadLetter, dead_letters
from delayed.queue.queue import Queue
from delayed.task.task import GoTask, PyTask
from tests.support.waiting import explained

from .agents import FUNCTIONS, Agent

PATIENCE = 30.0  # seconds


class Failed(Exception):
    """A check failed; the message says what was seen."""


class Trial:
    """A queue, and the worker under test on it."""

    def __init__(self, agent: Agent, client: redis.Redis, url: str, log: Path) -> None:
        self.client: Any = client  # its types know text as well as bytes
        self.queue = Queue(f"q{secrets.token_hex(4)}", client)
        self.name = self.queue.name
        self.key = f"r{self.name}"
        self._agent, self._url, self._log = agent, url, log
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """A worker process."""
        process = self._agent.start(self._url, self._log, self.name)
        self._processes.append(process)
        return process

    def task(self, function: str, *args: Any, retry: int = 0) -> bytes:
        """The bytes of a task."""
        path = FUNCTIONS[self._agent.language].get(function, function)
        if self._agent.language == "python":
            return PyTask(path, args, retry=retry).serialize()
        return GoTask(path, args[0] if len(args) == 1 else args or None).serialize()

    def put(self, *tasks: bytes, notified: bool = True) -> None:
        """Enqueue bytes, whatever they are."""
        self.client.rpush(self.name, *tasks)
        if notified:
            self.client.rpush(self.queue.keys.noti, *["1"] * len(tasks))

    def echoes(self, number: int) -> bytes:
        return self.task("echo", self.key, number)

    def hold(self) -> subprocess.Popen[bytes]:
        """A worker in mid-task."""
        process = self.start()
        self.put(self.task("hold", self.key))
        self.popped("began", "the worker does not begin the task")
        return process

    def go(self) -> None:
        self.client.rpush(f"{self.key}:go", 1)

    def popped(self, what: str, otherwise: str) -> bytes:
        """The next element of a list that the tasks write to."""
        key = f"{self.key}:{what}" if what else self.key
        for _ in range(round(PATIENCE)):
            reply: Any = self.client.blpop([key], 1)
            if reply:
                return bytes(reply[1])
            if self.ended():
                break
        raise Failed(otherwise)

    def ended(self) -> bool:
        """Whether no worker runs any more."""
        return all(process.poll() is not None for process in self._processes)

    def letters(self, count: int) -> list[DeadLetter]:
        """The dead letters, oldest first, as soon as there are `count`."""
        wait(lambda: self.client.xlen(self.queue.keys.dead) >= count or self.ended(), f"there are not {count} dead letters")
        found = list(dead_letters(self.queue))[::-1]
        if not found:
            raise Failed("there is no dead letter, and the worker has ended")
        return found

    def idle(self) -> None:
        """Nothing waits and nothing is held."""
        wait(
            lambda: not self.client.exists(self.name, self.queue.keys.processing),
            lambda: f"{self.queue.len()} tasks wait and {self.client.hgetall(self.queue.keys.processing)} is held at the end",
        )

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@contextlib.contextmanager
def trial(agent: Agent, client: redis.Redis, url: str, log: Path) -> Iterator[Trial]:
    """A queue for one check; its processes end with it."""
    made = Trial(agent, client, url, log)
    try:
        yield made
    finally:
        made.close()


def wait(check: Callable[[], object], otherwise: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """Until `check` is true; a failure says which values it saw last."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            found, saw = explained(check)
            if found:
                return
            raise Failed(f"{otherwise if isinstance(otherwise, str) else otherwise()}\n{saw}")
        time.sleep(0.01)


def equal(found: object, wanted: object, what: str) -> None:
    """Fail unless they are."""
    if found != wanted:
        raise Failed(f"{what}: {found!r:.500}, and not {wanted!r:.500}")


def status(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a worker that was asked to stop."""
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed("the worker does not stop") from None
