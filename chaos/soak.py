"""`scripts/soak`: full load for a long time, and whether anything grows: memory, descriptors, threads, keys."""

import argparse
import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import redis

from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from tests.support.servers import info, open_redis, pid

from .events import SUPERVISOR
from .fleet import CHILDREN, Fleet, go_programs
from .member import Member, eventually
from .options import Options
from .slopes import Slope, fit, sparkline
from .strips import strips

# What counts as growth, per hour, beside noise: pages that are touched late, a connection more.
_LEAST = {"RSS, MB": 5.0, "descriptors": 4.0, "threads": 2.0, "keys": 20.0, "used memory, MB": 3.0, "waiting": math.inf}
_WARM_UP = 0.4  # share of the time that is not judged: pools fill, pages are touched
_DEPTH = 20_000
_STARTING = 60  # seconds in which everything must have begun: only then the first sample is taken
Series = dict[tuple[str, str], list[float]]


class Soak:
    """One run of `seconds`, with a sample every `step` seconds."""

    def __init__(self, server: EmbeddedRedis, folder: Path, seconds: float, step: float) -> None:
        assert server.port is not None
        self._server, self._seconds, self._step = server, seconds, step
        options = Options(depth=_DEPTH, ttl=10, beat=3, sweep=5, stormy=False, troubles=frozenset())
        self._fleet = Fleet(options, server.port, folder, Path(os.devnull), go=go_programs())
        self._fleet.members = [member for member in self._fleet.members if member.gate is None]
        self.times: list[float] = []
        self.series: Series = {}
        self.executed = 0
        self._late: list[str] = []  # who had not begun when the samples did

    def run(self, say: Callable[[str], None]) -> None:
        """Start everything, take the samples, stop everything."""
        try:
            for member in self._fleet.members:
                member.start()
            with self._server.client() as client:
                if not eventually(lambda: not self._idle(client), _STARTING):
                    self._late = self._idle(client)
                names = self._processes(pid(self._server))
                began = time.monotonic()
                while (now := time.monotonic() - began) < self._seconds:
                    self.times.append(now)
                    self._sample(names)
                    self._add("Redis", "keys", client.dbsize())
                    self._add("Redis", "waiting", sum(client.llen(name) for name in self._fleet.queues))
                    self._add("Redis", "used memory, MB", info(client, "memory")["used_memory"] / 1e6)
                    say(f"{now:.0f} of {self._seconds:.0f} s")
                    time.sleep(self._step)
                self.executed = sum(_succeeded(Queue(queue, client)) for queue in self._fleet.queues)
        finally:
            for member in self._fleet.members:
                member.stop(30)
            self._fleet.proxies.close()

    def _idle(self, client: redis.Redis) -> list[str]:
        """Who has not begun yet."""
        queues = [Queue(name, client) for name in self._fleet.queues]
        idle = [f"supervisor {each.pid}" for each in self._fleet.of(SUPERVISOR) if len(each.children()) < CHILDREN]
        return [*idle, *(f"the workers of {queue.name}" for queue in queues if not _succeeded(queue))]

    def _processes(self, redis: int) -> dict[str, psutil.Process]:
        processes = {"Redis": psutil.Process(redis)}
        for number, member in enumerate(self._fleet.members, 1):
            processes[f"{number} {self._label(member)}"] = psutil.Process(member.pid)
            children = member.children() if member.kind == SUPERVISOR else []
            processes |= {f"{number}.{place} child": psutil.Process(pid) for place, pid in enumerate(children, 1)}
        return processes

    @staticmethod
    def _label(member: Member) -> str:
        return "go sweeper" if "delayed-sweeper" in member.command()[0] else member.kind

    def _add(self, name: str, what: str, value: float) -> None:
        self.series.setdefault((name, what), []).append(value)

    def _sample(self, processes: dict[str, psutil.Process]) -> None:
        for name, process in processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                with process.oneshot():
                    self._add(name, "RSS, MB", process.memory_info().rss / 1e6)
                    self._add(name, "threads", process.num_threads())
                self._add(name, "descriptors", process.num_fds())

    def slopes(self) -> dict[tuple[str, str], Slope]:
        """A line through the samples after the warm-up."""
        first = sum(moment < _WARM_UP * self._seconds for moment in self.times)
        return {key: fit(self.times[first:], values[first:]) for key, values in self.series.items()}

    @property
    def faults(self) -> list[str]:
        """Processes that did not begin in time, or did not live through it."""
        ended = [fault for member in self._fleet.members for fault in member.faults]
        gone = {name for (name, _), values in self.series.items() if len(values) < len(self.times)}
        late = [f"{who} had not begun after {_STARTING} s" for who in self._late]
        return [*late, *ended, *(f"{name} ended" for name in sorted(gone))]


def _succeeded(queue: Queue) -> int:
    return sum(process.get("succeeded", 0) for process in inspect(queue).processes)


def report(soak: Soak) -> list[str]:
    """Print a picture; returns what grows."""
    wrong = list(soak.faults)
    for (name, what), slope in sorted(soak.slopes().items(), key=lambda item: (item[0][1], item[0][0])):
        grows = slope.grows(_LEAST[what])
        if grows:
            wrong.append(f"{name}: {what} grow by {slope.per_hour:.1f} per hour")
        line = sparkline(soak.series[name, what])
        print(f"{what:16} {name:14} {slope.mean:9.1f} {slope.per_hour:+9.2f} ± {slope.uncertainty:.2f} per hour  {line}")
    print(f"{soak.executed:,} tasks ended")
    return wrong


def main() -> int:
    """Run it; 1 if something grows."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--step", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the picture as SVG")
    arguments = parser.parse_args()
    terminal = sys.stdout.isatty()
    with tempfile.TemporaryDirectory() as folder, open_redis() as embedded:
        soak = Soak(embedded, Path(folder), 60 * arguments.minutes, arguments.step)
        soak.run(lambda text: print(f"\r\033[K{text}", end="", flush=True) if terminal else None)
    print()
    wrong = report(soak)
    if arguments.write:
        arguments.write.write_text(strips(soak.times, soak.series))
    print(*wrong or ["Nothing grows."], sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
