"""Measure 10: the kinds of tasks that people really use, each beside plain ones of the same run."""

import os
from dataclasses import dataclass, field

import redis

from tests.support.servers import info

from .contenders import OURS, Contender
from .drain import Drained, Failed, drain
from .options import Options, Progress
from .placement import server
from .result import Result, number

# What bench/peers/kinds.py knows, and about how many a second are drained.
KINDS = {
    "plain": 60_000, "plain, supervised": 100_000, "an id": 40_000, "timeout": 30_000, "retry, backoff": 30_000,
    "group": 20_000, "limit": 30_000, "tracked": 15_000, "result": 15_000, "unique": 4_000, "concurrency key": 4_000,
    "coroutine": 20_000, "coroutine, result": 10_000, "thread": 25_000, "thread, result": 10_000,
}  # fmt: skip
_ENQUEUE = 0.6  # of what plain ones reach, of tasks with options and no state
_SHARES = {  # of what plain ones reach when they are drained
    "an id": 0.75, "timeout": 0.75, "retry, backoff": 0.75, "group": 0.4, "limit": 0.4, "concurrency key": 0.4, "result": 0.25,
    "coroutine": 0.25, "coroutine, result": 0.12, "thread": 0.25,
}  # fmt: skip


@dataclass
class Row:
    """One kind, or a peer, measured once."""

    count: int
    client: redis.Redis
    enqueued: float = 0.0  # tasks/s, of enqueue_many
    memory: float = 0.0  # bytes of a waiting task
    processor: float = 0.0  # µs of Redis for each task that is drained
    bytes_in: float = 0.0  # to Redis, likewise
    before: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        """Redis is empty."""
        self.before = self._now()

    def filled(self, said: str) -> None:
        """All tasks wait."""
        now = self._now()
        self.memory = (now["memory"] - self.before["memory"]) / self.count
        self.enqueued = float(said) if said.replace(".", "").isdigit() else 0.0
        self.before = now

    def end(self) -> None:
        """All have ended."""
        now = self._now()
        self.processor = 1e6 * (now["processor"] - self.before["processor"]) / self.count
        self.bytes_in = (now["bytes"] - self.before["bytes"]) / self.count

    def _now(self) -> dict[str, float]:
        cpu = info(self.client, "cpu")
        return {
            "memory": float(info(self.client, "memory")["used_memory"]),
            "processor": float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]),
            "bytes": float(info(self.client, "stats")["total_net_input_bytes"]),
        }


def _contender(kind: str) -> Contender:
    return Contender(OURS, kind, KINDS[kind], ("fill", kind), ("work", kind), "kinds.py")


def _measured(one: Contender, client: redis.Redis, url: str, count: int) -> tuple[Row, Drained]:
    client.flushall()
    row = Row(count, client)
    row.begin()
    drained = drain(one, client, url, count, filled=row.filled)
    row.end()
    states = client.keys("bench_task_*") if "result" in one.label or "tracked" in one.label else []
    assert not states or len(states) == count, f"{len(states)} of {count} states"
    held: int = client.hlen("bench_processing")
    assert held == 0, f"{held} tasks are still held"
    return row, drained


def measure_kinds(options: Options, progress: Progress) -> list[Result]:
    """Each kind in turns, several times; of each the best run, as whatever else the machine does only makes it slower."""
    columns = ("kind", "enqueue_many/s", "drained/s", "of plain", "Redis µs", "bytes to Redis", "memory, waiting")
    result = Result("kinds", "Kinds of tasks (one worker process; drained: of plain ones in the same run)", columns)
    os.environ["BENCH_RESULTS"] = "1"  # of the peers
    peer = Contender("huey", "results, 1 thread", 2_500, ("fill",), ("work", "thread", "1"), "peer_huey.py", "huey")
    best: dict[str, tuple[Row, Drained]] = {}
    with server() as embedded, embedded.client() as client:
        for _ in range(options.runs):
            for one in (*map(_contender, KINDS), peer):
                progress(f"kinds: {one.label}")
                try:
                    found = _measured(one, client, embedded.url, max(2000, round(one.rate * options.seconds / 2)))
                except Failed as error:
                    result.notes.append(f"{one.label}: {error}")
                    continue
                name = one.variant if one.name == OURS else one.label
                if name not in best or found[1].rate > best[name][1].rate:
                    best[name] = found
    plain = best["plain"]
    for name, (row, drained) in best.items():
        share = drained.rate / plain[1].rate
        enqueued = number(row.enqueued) if row.enqueued else "–"
        rest = (number(row.processor), number(row.bytes_in), number(row.memory))
        result.rows.append((name, enqueued, number(drained.rate), f"{share:.2f}", *rest))
        result.values[name] = [row.enqueued, drained.rate, row.processor, row.bytes_in, row.memory]
        if name in _SHARES:
            result.want(f"{name}: at least {_SHARES[name]:g} of plain", share, _SHARES[name], least=True)
    for name in ("an id", "timeout", "retry, backoff"):
        if name in best:
            result.want(
                f"{name}: enqueued at {_ENQUEUE:g} of plain", best[name][0].enqueued / plain[0].enqueued, _ENQUEUE, least=True
            )
    return [result]
