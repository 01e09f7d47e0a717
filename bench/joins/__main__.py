"""`scripts/joins`: kills a worker at each packet that it sends to Redis once the last member of a group has ended, and counts
how often what comes after the group is called."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import redis

from delayed import __version__
from tests.support.servers import open_redis

from ..placement import ROOT

_PEERS, _CACHE = ROOT / "bench" / "peers" / "joins", ROOT / ".cache" / "joins"
_DOCUMENT = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- what follows is written by scripts/joins -->\n", "<!-- what precedes is written by scripts/joins -->\n"
_STARTING = 60.0  # seconds in which the callback, or the kill, must come
_SETTLING = 1.5  # seconds in which a second call must come
_MOST = 60  # packets that an ending may have


@dataclass(frozen=True)
class System:
    """One contender."""

    label: str
    script: str
    packages: tuple[str, ...] = ()  # of a venv of its own
    npm: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    patience: float = 30.0  # seconds after a kill in which the callback must come

    @property
    def home(self) -> Path:
        """Where it is installed."""
        return _CACHE / self.script.removeprefix("peer_").partition(".")[0]

    def install(self) -> str:
        """Make its venv. Returns its version."""
        if self.npm:
            self.home.mkdir(parents=True, exist_ok=True)
            if not (self.home / "node_modules" / self.npm.split()[-1]).exists():
                subprocess.run(
                    ["npm", "install", "--silent", "--no-fund", "--no-audit", *self.npm.split()], cwd=self.home, check=True
                )
            found = subprocess.run(
                ["node", "-p", f"require('{self.npm.split()[0]}/package.json').version"],
                cwd=self.home,
                check=True,
                capture_output=True,
            )
            return found.stdout.decode().strip()
        if not self.packages:
            return __version__
        python = self.home / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(self.home)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *self.packages], check=True)
        name = self.packages[0].partition("[")[0].partition("=")[0]
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        return subprocess.run([str(python), "-c", code], check=True, capture_output=True).stdout.decode().strip()

    def command(self, word: str) -> list[str]:
        """`fill`, or `work`."""
        if self.npm:
            return ["node", str(_PEERS / self.script), word]
        python = str(self.home / "bin" / "python") if self.packages else sys.executable
        return [python, str(_PEERS / self.script), word]


SYSTEMS = (
    System("delayed", "ours.py"),
    System("huey, chord", "peer_huey.py", ("huey==3.5.4", "redis")),
    System("dramatiq, group callback", "peer_dramatiq.py", ("dramatiq[redis]",)),
    System("streaQ, then", "peer_streaq.py", ("streaq",)),
    System("Celery, chord", "peer_celery.py", ("celery[redis]",)),
    System("Celery, chord, acks_late", "peer_celery.py", ("celery[redis]",), variables={"JOINS_LATE": "1"}, patience=60),
    System("RQ, depends_on", "peer_rq.py", ("rq",), patience=100),
    System("BullMQ, flow", "peer_bullmq.mjs", npm="bullmq ioredis"),
)


@dataclass
class Run:
    """One group, and one kill."""

    killed: bool
    called: int
    early: bool
    packets: int  # from the end of the last member to the callback, if nobody was killed

    @property
    def verdict(self) -> str:
        """What it counts as."""
        return "early" if self.early else "never" if not self.called else "once" if self.called == 1 else "more than once"


class Bench:
    """Runs of one system, some beside each other.

    Args:
        system: which.
        port: of Redis.
        member: at the end of which the worker is killed: 2 is the last.
    """

    def __init__(self, system: System, port: int, member: int) -> None:
        self._system, self._port, self._member = system, port, member
        self._lock = threading.Lock()
        self._free = list(range(15))

    def run(self, die_at: int) -> Run:
        """A kill before the packet of this number; 0 for none."""
        with self._lock:
            database = self._free.pop()
        try:
            with tempfile.TemporaryDirectory(prefix="joins-") as folder, redis.Redis(port=self._port, db=database) as client:
                client.flushdb()
                return self._run(die_at, Path(folder) / "notes", database)
        finally:
            with self._lock:
                self._free.append(database)

    def _run(self, die_at: int, notes: Path, database: int) -> Run:
        notes.touch()
        subprocess.run(
            self._system.command("fill"),
            env=self._environment(notes, database, 0),
            cwd=self._folder,
            check=True,
            capture_output=True,
            timeout=_STARTING,
        )
        worker = self._start(notes, database, die_at)
        try:
            self._await(notes, ("callback", "killed"), _STARTING)
            if killed := "killed" in notes.read_text():
                self._end(worker)
                worker = self._start(notes, database, 0)
                self._await(notes, ("callback",), self._system.patience)
            time.sleep(_SETTLING)
        finally:
            self._end(worker)
        lines = [line.split() for line in notes.read_text().splitlines()]
        called = [line for line in lines if line[0] == "callback"]
        return Run(
            killed, len(called), any(self._early(lines, int(line[2])) for line in called), int(called[0][1]) if called else 0
        )

    def _early(self, lines: list[list[str]], moment: int) -> bool:
        """Whether a member had not ended then, or was running again."""
        members = {"2"} if "streaq" in self._system.script else {"0", "1", "2"}
        ended = {line[1] for line in lines if line[0] == "end" and int(line[2]) < moment}
        return ended != members

    @property
    def _folder(self) -> Path:
        return self._system.home if self._system.npm else _PEERS

    def _environment(self, notes: Path, database: int, die_at: int) -> dict[str, str]:
        more = {
            "JOINS_REDIS": f"redis://127.0.0.1:{self._port}/{database}",
            "JOINS_NOTES": str(notes),
            "JOINS_DIE_AT": str(die_at),
        }
        paths = {"PYTHONPATH": f"{_PEERS}:{ROOT}" if not self._system.packages else str(_PEERS)}
        return {
            **os.environ,
            **paths,
            **more,
            "JOINS_MEMBER": str(self._member),
            "PYTHONWARNINGS": "ignore",
            **self._system.variables,
        }

    def _start(self, notes: Path, database: int, die_at: int) -> "subprocess.Popen[bytes]":
        with (notes.parent / "log").open("ab") as log:
            return subprocess.Popen(
                self._system.command("work"),
                env=self._environment(notes, database, die_at),
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, worker: "subprocess.Popen[bytes]") -> None:
        """With all of its processes: a kill of one is a kill of all."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def _await(self, notes: Path, words: tuple[str, ...], seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not any(word in notes.read_text() for word in words):
            time.sleep(0.02)


def _measure(system: System, port: int, runs: int, member: int, beside: int) -> tuple[Counter[str], Counter[str], int]:
    """Counts of controls and of kills, and how many packets an ending has."""
    bench = Bench(system, port, member)
    with ThreadPoolExecutor(beside) as pool:
        controls = list(pool.map(bench.run, [0] * max(3, runs // 10)))
        packets = max((each.packets for each in controls), default=0)
        while packets < 0 and bench.run(1 - packets).killed:  # the callback runs in a process of its own, and cannot know it
            packets -= 1
        packets = abs(packets)
        numbers = [1 + at % max(1, min(packets, _MOST)) for at in range(runs)]
        found = [each for each in pool.map(bench.run, numbers) if each.killed]
    return Counter(each.verdict for each in controls), Counter(each.verdict for each in found), packets


def main() -> int:
    """Measure all, or those that are named; 1 if ours was not called once each time."""
    parser = argparse.ArgumentParser(prog="scripts/joins", description=__doc__)
    parser.add_argument("--runs", type=int, default=24, help="kills of each of the others (24)")
    parser.add_argument("--ours", type=int, default=200, help="kills of ours (200)")
    parser.add_argument("--only", nargs="*", default=[], help="words of the systems to measure")
    parser.add_argument("--beside", type=int, default=4, help="runs beside each other (4)")
    parser.add_argument(
        "--member", type=int, default=2, choices=(0, 2), help="at whose end: the last one's (2), or the first one's (0)"
    )
    parser.add_argument("--write", action="store_true", help="bring docs/reliability.md up to date")
    options = parser.parse_args()
    names = ("once", "never", "more than once", "early")
    rows: list[tuple[str, ...]]
    rows, wrong = [("", "packets", "controls called once", "kills", *names)], False
    with open_redis(options={"databases": "16"}) as server:
        assert server.port is not None
        for system in SYSTEMS:
            if options.only and not any(word.lower() in system.label.lower() for word in options.only):
                continue
            version = system.install()
            runs = options.ours if system.script == "ours.py" else options.runs
            controls, found, packets = _measure(system, server.port, runs, options.member, options.beside)
            label = system.label.partition(",")
            row = (
                f"{label[0]} {version}{label[1]}{label[2]}",
                str(packets),
                f"{controls['once']} of {controls.total()}",
                str(found.total()),
                *(str(found[name]) for name in names),
            )
            rows.append(row)
            print("  ".join(cell.ljust(14) for cell in row), flush=True)
            wrong |= system.script == "ours.py" and found["once"] != found.total()
    if options.write:
        table = ["| " + " | ".join(row) + " |" for row in rows]
        table.insert(1, "| --- " + "| ---: " * (len(rows[0]) - 1) + "|")
        before, _, rest = _DOCUMENT.read_text().partition(_BEGIN)
        _DOCUMENT.write_text(before + _BEGIN + "\n" + "\n".join(table) + "\n\n" + _END + rest.partition(_END)[2])
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
