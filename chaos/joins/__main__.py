"""`scripts/chaos --joins`: kills workers, supervisors, sweepers and creators of workflows, and accounts for every node."""

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import redis

from delayed.errors import UnknownTask
from delayed.queue.queue import Queue
from delayed.workflow import Run, runs
from tests.support.servers import open_redis

from ..events import GO_WORKER, PRODUCER, SUPERVISOR, SWEEPER, WORKER
from ..fleet import go_programs
from ..member import Member, send
from ..notes import PATH, read
from .creator import plan_of
from .graphs import GO_QUEUE, QUEUE
from .judge import Judge
from .kinds import KILLED, SUBMITTED
from .report import lines, write

_IN_GO = 2  # which of the creators is a program in Go, if there is Go
_PATIENCE = 120.0  # seconds without progress after which what has not ended counts as stuck
_TIMES = ["--keep-alive-timeout=3", "--keep-alive-interval=0.5", "--dequeue-timeout=0.5", "--grace=5", "--limit=1000"]
_WEIGHTS = {"child": 60, SUPERVISOR: 5, WORKER: 10, SWEEPER: 15, PRODUCER: 5}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos --joins", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute")
    parser.add_argument("--graphs", type=int, help="random workflows (2,000; with --quick 60)")
    parser.add_argument("--nodes", type=int, default=200, help="the most nodes of one (200)")
    parser.add_argument("--groups", type=int, nargs="*", help="sizes of large groups (50 of 10,000, and one of 100,000)")
    parser.add_argument("--kills", type=int, help="at least so many (5,000; with --quick 0)")
    parser.add_argument(
        "--share", type=float, default=0.05, help="of what is said about workflows that a process dies at (0.05)"
    )
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between two kills from outside, on average (0.3)")
    parser.add_argument("--deadline", type=float, help="seconds after which no more is submitted (10,800; with --quick 120)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    parser.add_argument("--go", action="store_true", help="Go nodes and a creator in Go, too")
    parser.add_argument("--write", action="store_true", help="bring docs/reliability.md up to date")
    parser.add_argument("--keep", action="store_true", help="keep notes and logs even if all is well")
    found = parser.parse_args()
    quick = found.quick
    found.graphs = found.graphs if found.graphs is not None else 60 if quick else 2000
    found.groups = found.groups if found.groups is not None else [3000] if quick else [*[10_000] * 50, 100_000]
    found.deadline = found.deadline if found.deadline is not None else 120.0 if quick else 10_800.0
    found.kills = found.kills if found.kills is not None else 0 if quick else 5000
    return found


class Storm:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path, port: int) -> None:
        self._options, self._folder, self._port = options, folder, port
        self.notes, self._calm = folder / "notes", folder / "calm"
        self.notes.touch()
        self._words = ",".join(map(str, (options.graphs, options.seed, int(options.go), options.nodes, *options.groups)))
        self.plan = plan_of(self._words)
        self.kills: list[tuple[int, int]] = []
        self.kinds: Counter[str] = Counter()
        self.faults: list[str] = []
        self._rng = random.Random(options.seed)
        self._position = self._suicides = self._submitted = 0
        self.members = self._fleet()

    def _fleet(self) -> list[Member]:
        queues = [QUEUE, GO_QUEUE] if self._options.go else [QUEUE]
        worker = ["worker", QUEUE, "--allow=chaos.joins.tasks:*", *_TIMES]
        sweeper = ["sweeper", *queues, "--interval=1", "--limit=1000"]
        found = [
            self._member(SUPERVISOR, self._program(*worker, "--concurrency=2", "--preload=chaos.joins.tasks"))
            for _ in range(2)
        ]
        found += [self._member(WORKER, self._program(*worker))]
        found += [self._member(SWEEPER, self._program(*sweeper)) for _ in range(2)]
        folder = go_programs() if self._options.go else None
        if self._options.go:
            assert folder is not None, "Go is not installed"
            times = ["-ttl", "3s", "-beat", "0.5s", "-dequeue-timeout", "500ms"]
            found += [self._member(GO_WORKER, [str(folder / "delayed-worker"), "-queues", GO_QUEUE, *times]) for _ in range(2)]
        creator, self._creators = [sys.executable, "-m", "chaos.joins.creator"], 3 if self._options.go else 2
        for first in range(self._creators):
            program = [str(folder / "flow-creator")] if folder is not None and first == _IN_GO else []
            words = [str(first), str(self._creators), self._words, str(self._calm), *program]
            found.append(self._member(PRODUCER, [*creator, *words]))
        return found

    def _program(self, *command: str) -> list[str]:
        return [sys.executable, "-m", "chaos.joins.program", str(self._options.share), str(self._calm), *command]

    def _member(self, kind: str, command: list[str]) -> Member:
        number = len(list(self._folder.glob("*.log")))
        log = self._folder / f"{number}-{kind.replace(' ', '-')}.log"
        log.touch()
        variables = {PATH: str(self.notes), "DELAYED_REDIS_URL": f"redis://127.0.0.1:{self._port}/0", "PYTHONUNBUFFERED": "1"}
        return Member(kind, lambda: command, variables, log)

    def run(self, queue: Queue) -> None:
        """From calm to calm."""
        for member in self.members:
            member.start()
        try:
            self._rage()
            self._calm.touch()
            self._settle(queue)
            for kinds in ((PRODUCER,), (SUPERVISOR, WORKER, GO_WORKER), (SWEEPER,)):
                for member in self.members:
                    if member.kind in kinds:
                        member.stop(30)
        finally:
            for member in self.members:
                member.kill()
                member.stop(10)
        self.faults += [fault for member in self.members for fault in member.faults]

    def _tend(self) -> None:
        """Start again what has ended: what killed itself has said so."""
        for member in self.members:
            assert member.process is not None
            if not member.killed and not member.stopped and member.process.poll() == -signal.SIGKILL:
                member.killed = True
            member.tend()

    def _count(self) -> None:
        for note in read(self.notes, self._position):
            self._position += 1
            self._suicides += note.kind == KILLED
            self._submitted += note.kind == SUBMITTED

    def _rage(self) -> None:
        began = next_kill = next_count = time.monotonic()
        while True:
            now = time.monotonic()
            self._tend()
            if now >= next_kill:
                next_kill = now + self._options.pause * self._rng.uniform(0.5, 1.5)
                self._strike()
            if now >= next_count:
                next_count = now + 1
                self._count()
                kills = len(self.kills) + self._suicides
                if int(now - began) % 10 == 0:
                    print(f"{now - began:.0f} s: {self._progress(kills)}", flush=True)
                if self._all_submitted() and kills >= self._options.kills:
                    return
                if now - began > self._options.deadline:
                    wanted = f"at least {self._options.kills:,} kills"
                    self.faults.append(
                        f"NOT DONE in {self._options.deadline:g} s: {self._progress(kills)}; {wanted} were to be"
                    )
                    return
            time.sleep(0.01)

    def _progress(self, kills: int) -> str:
        return f"{self._submitted:,} of {self.plan.total:,} workflows submitted, {kills:,} kills"

    def _all_submitted(self) -> bool:
        """Whether the creators have done all."""
        need = [len(range(first, self.plan.total, self._creators)) for first in range(self._creators)]
        done = [Path(f"{self._calm}.{first}") for first in range(self._creators)]
        return all(path.exists() and int(path.read_text() or 0) >= count for path, count in zip(done, need, strict=True))

    def _strike(self) -> None:
        (what,) = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        some = [
            member for member in self.members if member.kind == (SUPERVISOR if what == "child" else what) and not member.killed
        ]
        if what == WORKER:
            some += [member for member in self.members if member.kind == GO_WORKER and not member.killed]
        if not some:
            return
        member = self._rng.choice(some)
        pids = member.children() if what in ("child", PRODUCER) else []
        pid = self._rng.choice(pids) if pids else member.pid
        moment = time.monotonic_ns()
        if pid == member.pid:
            if what == "child":
                return
            member.kill()
        elif not send([pid], signal.SIGKILL):
            return
        self.kinds[what] += 1
        self.kills.append((pid, moment))

    def _settle(self, queue: Queue) -> None:
        """No more kills: all must end by itself, but for waits of which the signals have not been sent."""
        print("waiting for the rest", flush=True)
        last, since = (-1, -1), time.monotonic()
        until = since + _PATIENCE + self._options.deadline
        signalled: set[int] = set()
        while time.monotonic() < min(since + _PATIENCE, until):
            self._tend()
            alive = list(runs(queue, ended=False))
            if not alive and not queue.store.call("ZCARD", queue.keys.flow_due):
                return
            for run in alive:
                with contextlib.suppress(UnknownTask):  # its creator died, and it has been removed
                    self._signal(run, signalled)
            now = (len(alive), self.notes.stat().st_size)
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        due = queue.store.call("ZCARD", queue.keys.flow_due)
        some = ", ".join(run.id for run in alive[:9])
        self.faults.append(f"NOT ENDED: {len(alive)} workflows, {due} waits, such as {some}")

    def _signal(self, run: Run, done: set[int]) -> None:
        number = int(run.status().name.rpartition(" ")[2] or 0)
        if number not in done and run.status().state != "building":
            done.add(number)
            for name in self.plan.build(number).spec.signals:
                run.signal(name)


def _left(client: redis.Redis, queue: Queue) -> list[str]:
    """Keys of workflows that nothing should be left of."""
    keys = queue.keys
    found = [name for name in (keys.flow_outbox, keys.processing, keys.queue, keys.flow_due) if client.exists(name)]
    return found + [key.decode() for key in client.scan_iter(match=f"{QUEUE}_flow_joins_*", count=1000)]


def main() -> int:
    """Run it; 1 if a join was lost, early or twice, or something has no final state."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="delayed-joins-"))
    print(f"seed {options.seed}, notes and logs in {folder}", flush=True)
    began = time.monotonic()
    with open_redis() as server, server.client() as client:
        assert server.port is not None
        storm, queue = Storm(options, folder, server.port), Queue(QUEUE, client)
        storm.run(queue)
        (folder / "kills.json").write_text(json.dumps(storm.kills))
        print("judging", flush=True)
        verdict = Judge(storm.plan, options.seed, queue, read(storm.notes), storm.kills).run()
        left = _left(client, queue)
    wrong = [*verdict.failures, *storm.faults, *([f"LEFT OVER: {', '.join(left[:9])}"] if left else [])]
    rows = lines(verdict, storm.kinds, time.monotonic() - began)
    print(*(f"{name:72} {value}" for name, value in rows), sep="\n")
    print(*wrong or ["All is well."], sep="\n")
    if options.write:
        write(rows, options.seed, go=options.go)
    if not (wrong or options.keep):
        shutil.rmtree(folder)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
