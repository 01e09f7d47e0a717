"""What a failover loses: a producer, two workers and a sweeper go on while the primary is killed.

Run as a program (`scripts/failover`), it measures each durability and writes the table of docs/operations.md.
"""

import argparse
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from delayed.errors import NotDurable
from delayed.ops.info import inspect
from delayed.ops.product import product_of
from delayed.queue.queue import Queue
from delayed.redis.command import RedisError
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests import ROOT
from tests.conftest import eventually

from .processes import Fleet
from .servers import Cluster, Sentinels

DOCUMENT = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- failovers: scripts/failover writes this -->", "<!-- end of failovers -->"
APPEND_ONLY = {"appendonly": "yes", "appendfsync": "always"}
CUT_OFF = 0.2  # seconds that a primary is without replicas before it dies, every second time
SOME, A_FEW = 50, 5  # tasks


class Result(NamedTuple):
    """What became of the tasks around one failover."""

    acknowledged: int  # whose enqueue returned
    not_durable: int  # whose enqueue raised NotDurable
    unknown: int  # whose enqueue raised another error
    lost: int  # acknowledged, and not executed
    repeated: int  # executions beyond the first
    resumed: float  # seconds from the new primary to the first execution of a task that was enqueued there


class Load:
    """A thread that enqueues numbered tasks, one at a time, as fast as it can."""

    def __init__(self, queue: Queue, log: Path) -> None:
        self._queue, self._log = queue, log
        self.acknowledged: list[int] = []
        self.not_durable: list[int] = []
        self.unknown: list[int] = []
        self.last_error: RedisError | None = None
        self._number = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._number += 1
            try:
                self._queue.enqueue(PyTask("tasks:log", (str(self._log), self._number)))
                self.acknowledged.append(self._number)
            except NotDurable:
                self.not_durable.append(self._number)
            except RedisError as error:
                self.last_error = error
                self.unknown.append(self._number)
                self._ended.wait(0.02)

    def more(self, count: int) -> int:
        """Wait until so many more tasks are on a primary. Returns the number of the last one. (After a failover a cluster with
        one replica has none, and no task is durable.)"""
        target = self._taken() + count
        try:
            eventually(lambda: self._taken() >= target, 60)
        except AssertionError as error:
            raise AssertionError(f"the producer stands still; the last error was {self.last_error!r}") from error
        return max(self.acknowledged[-1:] + self.not_durable[-1:])

    def _taken(self) -> int:
        return len(self.acknowledged) + len(self.not_durable)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def ran(log: Path) -> Counter[int]:
    """How often each task was executed."""
    data = log.read_bytes() if log.exists() else b""
    return Counter(int.from_bytes(data[at : at + 8]) for at in range(0, len(data), 8))


def fail_over(servers: Sentinels | Cluster, queue: Queue, log: Path, cut_off: float = 0) -> Result:
    """Kill the primary of `queue` under load, and wait until all that there is has been executed.

    Args:
        servers: where the queue, its workers and its sweeper are.
        queue: with the durability to measure.
        log: where `tasks:log` writes; a new file.
        cut_off: seconds for which the primary has no replicas before it dies.
    """
    with Load(queue, log) as load:
        load.more(SOME)
        if cut_off:
            _cut_off(servers, queue.name, cut_off)
        dead = servers.kill_primary(queue.name)
        named = time.monotonic()
        mark = load.more(1)
        eventually(lambda: ran(log)[mark] > 0, 60)
        resumed = time.monotonic() - named
        load.more(A_FEW)
    eventually(lambda: _is_empty(queue), 60)
    servers.restart(dead)
    times = ran(log)
    lost = sum(number not in times for number in load.acknowledged)
    counts = (len(load.acknowledged), len(load.not_durable), len(load.unknown))
    return Result(*counts, lost, sum(times.values()) - len(times), resumed)


def _cut_off(servers: Sentinels | Cluster, name: str, seconds: float) -> None:
    primary = servers.primary(name)
    assert primary is not None
    with primary.client() as client:
        client.execute_command("CLIENT KILL TYPE replica")
    time.sleep(seconds)  # the fault itself; a replica tries again once a second


def _is_empty(queue: Queue) -> bool:
    try:
        return inspect(queue)[1:4] == (0, 0, 0)
    except RedisError:
        return False


def serve(fleet: Fleet, name: str) -> None:
    """Two workers and a sweeper."""
    for _ in range(2):
        fleet.worker(name)
    fleet.delayed("sweeper", name).ready()


class Row(NamedTuple):
    """A line of the table."""

    kind: str
    durability: str
    results: list[Result]

    def line(self) -> str:
        sums = [sum(result[index] for result in self.results) for index in range(5)]
        resumed = statistics.median(result.resumed for result in self.results), max(result.resumed for result in self.results)
        cells = [
            self.kind,
            f"`{self.durability}`",
            str(len(self.results)),
            *(f"{each:,}" for each in sums),
            f"{resumed[0]:.1f} s, {resumed[1]:.1f} s",
        ]
        return f"| {' | '.join(cells)} |"


def measure(kind: str, durability: str, times: int) -> Row:
    """`times` failovers, every second one with a primary that had lost its replicas."""
    options = APPEND_ONLY if durability == "aof" else {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with (Sentinels if kind == "Sentinel" else Cluster)(path, options) as servers, Fleet(servers.url, path) as fleet:
            serve(fleet, "{q}")
            for number in range(times):
                queue = Queue("{q}", servers.url, durability=durability, durability_timeout=0.3)
                results.append(fail_over(servers, queue, path / f"ran{number}", CUT_OFF * (number % 2)))
                print(kind, durability, number, results[-1], flush=True)
    return Row(kind, durability, results)


def table(rows: list[Row], times: int) -> str:
    """The rows in Markdown."""
    with EmbeddedRedis() as server, server.client() as client:
        product, version = product_of(client.info("server"))
    return "\n".join(
        [
            BEGIN,
            f"`scripts/failover --times {times} --write`, {product} {version}:",
            "",
            "| | durability | failovers | acknowledged | `NotDurable` | other errors | lost | repeated | resumed |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(row.line() for row in rows),
            END,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="failovers for each line of the table")
    parser.add_argument("--kind", action="append", choices=["Sentinel", "Cluster"], help="repeatable; by default both")
    parser.add_argument("--write", action="store_true", help="write the table into docs/operations.md")
    arguments = parser.parse_args()
    kinds = arguments.kind or ["Sentinel", "Cluster"]
    rows = [measure(kind, durability, arguments.times) for kind in kinds for durability in ("memory", "aof", "replicas:1")]
    text = table(rows, arguments.times)
    print(text)
    if arguments.write:
        old = DOCUMENT.read_text()
        DOCUMENT.write_text(re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: text, old, flags=re.DOTALL))


if __name__ == "__main__":
    main()
