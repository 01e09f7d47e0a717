"""One cell of the matrix: a producer, a worker and a sweeper on a queue of their own, through one scenario."""

import contextlib
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgpack
import redis

from delayed.task.task import GoTask, PyTask

from .agents import FUNCTIONS, Agent, Order, order

PATIENCE = 40.0  # seconds that anything may take; what takes longer counts as lost
SENTINEL = "sentinel"
ECHOES = 5
WAITING = 2


@dataclass(frozen=True)
class Cell:
    """Who takes part."""

    scenario: str
    producer: Agent
    worker: Agent
    sweeper: Agent

    @property
    def ours(self) -> bool:
        return self.producer.ours and self.worker.ours and self.sweeper.ours


@dataclass
class Outcome:
    """What happened to the tasks of a cell."""

    lost: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    unreleased: int = 0  # tasks still held by a worker that has nothing to do
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """The processes of a cell, and what their tasks say in Redis."""

    def __init__(self, cell: Cell, client: redis.Redis, url: str, folder: Path) -> None:
        self.cell = cell
        self.name = f"m{secrets.token_hex(6)}"
        self.key = f"r{self.name}"
        self.seen: Counter[str] = Counter()
        self.killed = 0  # workers, each with a task that had begun
        self.let_go = False  # tasks that have begun are let go on
        self.wrong: list[str] = []
        self._client: Any = client  # its types know text as well as bytes
        self._url = url
        self._log = folder / f"{self.name}.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._keys = {f"{self.key}:began": "began", f"{self.key}:ended": "ended", self.key: "echo"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def start(self, what: str) -> subprocess.Popen[bytes]:
        """A `work` or a `sweep` process."""
        agent = self.cell.worker if what == "work" else self.cell.sweeper
        process = agent.start(self._url, self._log, what, self.name)
        self._processes.append(process)
        return process

    def order(self, function: str, *args: object) -> Order:
        return order(self.name, self.cell.worker.language, function, *args)

    def echo(self, word: object) -> Order:
        return self.order("echo", {"str": self.key}, {"str": str(word)})

    def hold(self) -> Order:
        return self.order("hold", {"str": self.key})

    def produce(self, *orders: Order) -> None:
        if refused := self.cell.producer.produce(self._url, orders):
            self.wrong.append(f"refused: {refused}")

    def until(self, goal: Callable[[], bool]) -> bool:
        """Wait for what the tasks do. False if it does not come to pass in time."""
        deadline = time.monotonic() + PATIENCE
        while not goal():
            if time.monotonic() > deadline:
                return False
            popped = self._client.blpop(list(self._keys), 1)
            if popped:
                self._note(popped[0].decode(), popped[1])
        return True

    def _note(self, key: str, value: bytes) -> None:
        what = self._keys[key]
        self.seen[msgpack.unpackb(value) if what == "echo" else what] += 1
        if what == "began" and self.let_go:
            self._client.rpush(f"{self.key}:go", 1)

    def release(self) -> None:
        """Let the task that is held, and all later ones, go on."""
        self.let_go = True
        self._client.rpush(f"{self.key}:go", 1)

    def waiting(self) -> int:
        return int(self._client.llen(self.name))

    def held(self) -> int:
        return int(self._client.hlen(f"{self.name}_processing"))

    def failed(self) -> bool:
        """Whether the failing task has failed: ours keep a dead letter, theirs log it."""
        return bool(self._client.xlen(f"{self.name}_dead")) or b"as it was told to" in self._log.read_bytes()

    def eventually(self, check: Callable[[], bool], seconds: float = 5) -> bool:
        """For what nobody announces."""
        deadline = time.monotonic() + seconds
        while not check():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def settle(self) -> None:
        """Wait until the sweeper has been round once more and all is quiet.

        A task under a lease that does not exist comes back with everything else that a sweeper finds lost, and runs after it.
        """
        key, words = self.key, self.seen
        path = FUNCTIONS[self.cell.worker.language]["echo"]
        task = (PyTask if self.cell.worker.language == "python" else GoTask)(path, (key, SENTINEL))
        self._client.hset(f"{self.name}_processing", f"{self.name}_lease_gone", task.serialize())
        if not self.until(lambda: words[SENTINEL] > 0):
            self.wrong.append("the sweeper brought nothing back")
        kept = 0 if self.cell.worker.ours or self.cell.worker.language == "python" else 1
        while True:
            if not self.eventually(lambda: not self.waiting() and self.held() <= kept):
                self.wrong.append(f"{self.waiting()} tasks wait and {self.held()} are held at the end")
            if not self._hears(0.3 if kept else 0.01):  # what is held may have been released or not: then listen
                break

    def _hears(self, seconds: float) -> bool:
        """Whether tasks have said something more by then. A task that has begun may end."""
        popped = self._client.blpop(list(self._keys), seconds)
        if popped:
            self._note(popped[0].decode(), popped[1])
            self.until(lambda: self.seen["began"] - self.killed <= self.seen["ended"])
        return bool(popped)


def normal(bench: Bench) -> dict[str, int]:
    """Tasks come, are run, and one of them fails, while a sweeper looks on."""
    bench.start("sweep")
    bench.start("work")
    bench.produce(*(bench.echo(number) for number in range(ECHOES - 1)), bench.order("fail"), bench.echo(ECHOES - 1))
    bench.until(lambda: all(bench.seen[str(number)] for number in range(ECHOES)))
    bench.settle()
    bench.seen["fail"] = int(bench.eventually(bench.failed, 0.2))
    return {**{str(number): 1 for number in range(ECHOES)}, "fail": 1, SENTINEL: 1}


def _with_one_held(bench: Bench) -> subprocess.Popen[bytes]:
    bench.start("sweep")
    worker = bench.start("work")
    bench.produce(bench.hold(), *(bench.echo(number) for number in range(WAITING)))
    if not bench.until(lambda: bench.seen["began"] > 0):
        bench.wrong.append("the worker takes nothing")
    return worker


def _all_run(bench: Bench) -> None:
    bench.until(lambda: bench.seen["ended"] > 0 and all(bench.seen[str(number)] for number in range(WAITING)))
    bench.settle()


def killed(bench: Bench) -> dict[str, int]:
    """The worker is killed in mid-task; the sweeper brings the task back, and a new worker runs it."""
    _with_one_held(bench).kill()
    bench.killed = 1
    bench.start("work")
    bench.until(lambda: bench.seen["began"] > 1)
    bench.release()
    _all_run(bench)
    return {"began": 2, "ended": 1, **{str(number): 1 for number in range(WAITING)}, SENTINEL: 1}


def graceful(bench: Bench) -> dict[str, int]:
    """The worker is asked to stop in mid-task: it finishes the task, and the others wait for a new worker."""
    worker = _with_one_held(bench)
    worker.send_signal(bench.cell.worker.stop_signal)
    try:
        worker.wait(0.3)
        bench.wrong.append("the worker left its task")
    except subprocess.TimeoutExpired:
        bench.release()
    try:
        if status := worker.wait(PATIENCE):
            bench.wrong.append(f"exit status {status}")
    except subprocess.TimeoutExpired:
        bench.wrong.append("the worker does not stop")
    bench.until(lambda: bench.seen["ended"] > 0)
    if bench.waiting() < WAITING:
        bench.wrong.append(f"only {bench.waiting()} tasks wait after the stop")
    bench.start("work")
    _all_run(bench)
    return {"began": 1, "ended": 1, **{str(number): 1 for number in range(WAITING)}, SENTINEL: 1}


SCENARIOS: dict[str, Callable[[Bench], dict[str, int]]] = {"normal": normal, "killed": killed, "graceful": graceful}


def run(cell: Cell, client: redis.Redis, url: str, folder: Path) -> Outcome:
    """Take a cell through its scenario, and count."""
    began = time.monotonic()
    with Bench(cell, client, url, folder) as bench:
        wanted = SCENARIOS[cell.scenario](bench)
        seen = bench.seen
        return Outcome(
            lost={what: count - seen[what] for what, count in wanted.items() if seen[what] < count},
            repeated={what: seen[what] - wanted.get(what, 0) for what in seen if seen[what] > wanted.get(what, 0)},
            unreleased=bench.held(),
            wrong=bench.wrong,
            seconds=time.monotonic() - began,
        )
