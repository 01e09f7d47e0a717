"""What the runs of each row have found, and which of our targets that reaches."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from .contenders import OURS, of_kind
from .kind_run import Found, Row
from .kinds import ASYNC_RESULT, GO_KINDS, KINDS, PLAIN, RESULT, SUPERVISED, TRACKED
from .result import Result, number, spread

COLUMNS = ("kind: system", "enqueue/s", "many/s", "drain/s", "of plain", "Redis µs", "worker µs", "commands", "bytes waiting")
DRAIN = COLUMNS.index("drain/s")


@dataclass
class Seen:
    """All runs of one row."""

    row: Row
    trials: list[Found] = field(default_factory=list)  # enqueued one by one
    runs: list[Found] = field(default_factory=list)  # many at once
    failure: str = ""

    @property
    def drain(self) -> float:
        """Tasks/s."""
        return statistics.median(one.drain for one in self.runs)

    @property
    def many(self) -> float:
        """Tasks/s that are enqueued many at once."""
        return statistics.median(one.enqueue for one in self.runs)

    @property
    def cpu(self) -> float:
        """µs of Redis's CPU for a task."""
        return statistics.median(one.redis for one in self.runs)

    @property
    def commands(self) -> float:
        """For a task."""
        return statistics.median(one.commands for one in self.trials)

    @property
    def memory(self) -> float:
        """Bytes for a waiting task."""
        return statistics.median(one.memory for one in self.runs)

    def cells(self, plain: "Seen | None") -> tuple[str, ...]:
        """A row of the table."""
        if self.failure or not self.runs:
            return (self.row.label, f"failed: {self.failure[:200]}", *[""] * (len(COLUMNS) - 2))
        return (
            self.row.label,
            spread([one.enqueue for one in self.trials]),
            spread([one.enqueue for one in self.runs]),
            spread([one.drain for one in self.runs]),
            f"{self.drain / plain.drain:.0%}" if plain is not None and plain.runs else "",
            number(self.cpu),
            number(statistics.median(one.worker for one in self.runs)),
            number(self.commands),
            number(self.memory),
        )


def want_of_kinds(result: Result, seen: Mapping[str, Seen]) -> None:
    """Compare with what we want of each kind."""
    found = {one.row.kind: one for one in seen.values() if one.row.contender == of_kind(one.row.kind, go=False) and one.runs}
    if PLAIN not in found:
        return
    for name, one in found.items():
        _shares(result, name, one, found[PLAIN])
    for name in (each + how for each in (TRACKED, RESULT) for how in ("", SUPERVISED)):
        if name in found:
            _states(result, name, found[name])
    _redis(result, found)
    _peers(result, seen, found)
    _go(result, seen, found)


def _shares(result: Result, name: str, one: Seen, plain: Seen) -> None:
    kind, share = KINDS[name], partial(result.want, unit=" %", least=True)
    if kind.drain:
        share(f"{name}: drain at least {kind.drain:.0%} of plain", 100 * one.drain / plain.drain, 100 * kind.drain)
    if kind.many:
        share(f"{name}: enqueue_many at least {kind.many:.0%} of plain", 100 * one.many / plain.many, 100 * kind.many)
    if kind.rate:
        result.want(f"{name}: drain at least {kind.rate:,} tasks/s", one.drain, kind.rate, " tasks/s", least=True)


def _states(result: Result, name: str, one: Seen) -> None:
    result.want(f"{name}: enqueue_many at least 100,000 tasks/s", one.many, 100_000, " tasks/s", least=True)
    result.want(f"{name}: at most 8 µs of Redis's CPU", one.cpu, 8, " µs")
    result.want(f"{name}: at most 4 commands", one.commands, 4)
    result.want(f"{name}: at most 200 bytes while it waits", one.memory, 200, " bytes")


def _redis(result: Result, found: Mapping[str, Seen]) -> None:
    supervised = PLAIN + SUPERVISED
    for name in (PLAIN, supervised):
        if name in found:
            result.want(f"{name}: at most 1.5 µs of Redis's CPU", found[name].cpu, 1.5, " µs")
    if supervised in found and found[supervised].cpu:
        times = found[PLAIN].cpu / found[supervised].cpu
        result.want(
            "a core of Redis carries 2 times as many plain tasks of supervised workers", times, 2, " times", least=True
        )


def _peers(result: Result, seen: Mapping[str, Seen], found: Mapping[str, Seen]) -> None:
    peers = {one.row.contender.name: one.drain for one in seen.values() if one.row.contender.name != OURS and one.runs}
    python = [rate for name, rate in peers.items() if name != "asynq"]
    times = partial(result.want, limit=10, unit=" times", least=True)
    for name in (RESULT, RESULT + SUPERVISED):
        if name in found and python:
            times(f"{name}: at least 10 times the fastest Python peer", found[name].drain / max(python))
    if ASYNC_RESULT in found and "taskiq" in peers:
        times(f"{ASYNC_RESULT}: at least 10 times taskiq", found[ASYNC_RESULT].drain / peers["taskiq"])
    go = seen.get(Row(RESULT, of_kind(RESULT, go=True)).label)
    if go is not None and go.runs and "asynq" in peers:
        times(f"{RESULT}: Go at least 10 times asynq", go.drain / peers["asynq"])


def _go(result: Result, seen: Mapping[str, Seen], found: Mapping[str, Seen]) -> None:
    for name in GO_KINDS:
        one = seen.get(Row(name, of_kind(name, go=True)).label)
        if name in found and one is not None and one.runs:
            result.want(f"{name}: Go at least 2 times Python", one.drain / found[name].drain, 2, " times", least=True)
