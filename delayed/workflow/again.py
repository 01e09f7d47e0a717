"""Lets a workflow that has ended go on: what its nodes and gates are from then on."""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Literal, NamedTuple, Protocol, Self

from ..base.ids import node_id
from ..dead_letters.letter import dead_letters
from ..errors import InvalidTask, UnknownTask
from ..queue.node import queues_in
from ..queue.queue import Queue
from ..redis.keys import home_of
from ..redis.scripts import Argument
from ..redis.store import Store
from .carry import Carrier
from .layout import BAD, NodeSet
from .pages import run_id

RetryMode = Literal["failed_only", "failed_and_downstream", "all"]
_FAILED = frozenset(b"fxc")
_FINAL = tuple(each.encode() for each in f"s{BAD}")
_MODES = ("failed_only", "failed_and_downstream", "all")
_PAGE = 1000
_SOME = 100  # tasks that are looked for at once: each look goes through the queue
_TALLIES = {"f": "failed", "x": "expired", "c": "cancelled", "k": "skipped"}


class Gate(NamedTuple):
    """What lets sets of nodes go on, as it is stored."""

    mode: str
    need: int
    targets: list[int]
    before: str  # how it was decided: s, d, k or ''
    maps: list[int]  # sets before it whose nodes may not be made yet

    @classmethod
    def of(cls, record: str, before: str) -> Self:
        """As it is stored."""
        mode, need, targets, *maps = record.split(" ")
        numbers = [[int(each) for each in some.split(",") if each != "-"] for some in (targets, *maps)]
        return cls(mode, int(need), numbers[0], before, numbers[1] if maps else [])

    def fails(self, decided: str) -> bool:
        """Whether the workflow has failed with that."""
        return decided == "d" and self.mode in ("q", "z")


class Tally(NamedTuple):
    """What has become of the nodes before a gate: how many of how many succeeded, did not, and were skipped."""

    size: int
    good: int
    bad: int
    skipped: int
    unmade: bool  # the nodes of a map are not known yet
    failed: bool  # some node of the workflow has


class _Run(Protocol):
    flow: str
    queue: Any

    def sets(self) -> Iterator[tuple[int, NodeSet, str]]: ...


class _Plan:
    """What a workflow is from now on."""

    def __init__(self, store: Store, run: _Run) -> None:
        self._store, self._flow = store, run.flow
        key = store.keys.flow(run.flow)
        self.sets = {number: found for number, found, _ in run.sets()}
        marks = store.call("GET", store.keys.marks(run.flow)) or b""
        top = max((found.first + found.size for found in self.sets.values()), default=0)
        self.marks = bytearray(marks.ljust(top, b"\0"))
        numbers = sorted({gate for found in self.sets.values() for gate in found.outs})
        self.gates: dict[int, Gate] = {}
        for at in range(0, len(numbers), _PAGE):
            some = numbers[at : at + _PAGE]
            records = store.call("HMGET", key, *(f"{kind}{each}" for each in some for kind in "gd"))
            for number, record, decided in zip(some, records[::2], records[1::2], strict=True):
                self.gates[number] = Gate.of(record.decode(), (decided or b"").decode())
        self.entries: list[str] = []
        self.fields: dict[str, str] = {}
        self.gone: list[str] = []
        self.again: dict[int, list[int]] = {}  # set → indices of its nodes that run again, or for the first time
        self.undone: dict[int, list[int]] = {}  # set that is not released yet → indices of its nodes that had ended
        self._sources: dict[int, list[int]] = {number: [] for number in numbers}
        for number, found in self.sets.items():
            for each in found.outs:
                self._sources[each].append(number)

    def failed(self) -> set[int]:
        """The sets with nodes that have failed, expired or been cancelled."""
        return _failed(self.sets, self.marks)

    def cancelled(self) -> dict[int, list[int]]:
        """The nodes that were cancelled, by their places in their sets: their tasks may still wait."""
        found = {
            number: [at for at in range(each.size) if self.marks[each.first + at] == b"c"[0]]
            for number, each in self.sets.items()
            if each.kind == "t"
        }
        return {number: some for number, some in found.items() if some}

    def downstream(self, numbers: set[int]) -> set[int]:
        """All that comes after these sets."""
        seen: set[int] = set()
        waiting = deque(numbers)
        while waiting:
            for gate in self.sets[waiting.popleft()].outs:
                for target in self.gates[gate].targets:
                    if target not in seen:
                        seen.add(target)
                        waiting.append(target)
        return seen

    def make(self, reset: set[int], keep_decided: bool) -> None:
        """Run the sets in `reset` anew, and of the others what has not succeeded."""
        behind = dict.fromkeys(self.sets, 0)  # gates before it that are not judged yet
        for gate in self.gates.values():
            for target in gate.targets:
                behind[target] += 1
        missing = {number: len(some) for number, some in self._sources.items()}
        unsatisfied, doomed = dict(behind), dict.fromkeys(self.sets, 0)
        ready = deque(number for number, count in behind.items() if not count)
        while ready:
            number = ready.popleft()
            found = self.sets[number]
            self._set(number, found, unsatisfied[number], doomed[number], whole=number in reset)
            for each in found.outs:
                missing[each] -= 1
                if missing[each]:
                    continue
                decided = self._judge(each, keep_decided)
                for target in self.gates[each].targets:
                    behind[target] -= 1
                    unsatisfied[target] -= decided == "s"
                    doomed[target] += decided in ("d", "k")
                    if not behind[target]:
                        ready.append(target)
        self._count()

    def _set(self, number: int, found: NodeSet, unsatisfied: int, doomed: int, *, whole: bool) -> None:
        if found.kind == "c":
            return
        span = range(found.first, found.first + found.size)
        self.fields[f"w{number}"], self.fields[f"x{number}"] = str(unsatisfied), str(doomed)
        if unsatisfied:
            self.undone[number] = [index for index in span if self.marks[index] not in b"\0k"]
            for index in span:
                self.marks[index] = b"k"[0] if doomed else 0
            return
        wanted = [index for index in span if whole or self.marks[index] != b"s"[0]]
        self.again[number] = wanted
        if len(wanted) == len(span) or found.kind != "t":
            for index in wanted:
                self.marks[index] = 0
            if wanted:
                self.entries.append(f"i{number}")
            return
        for index in wanted:
            self.marks[index] = b"q"[0]
        for _, some in groupby(enumerate(wanted), lambda pair: pair[1] - pair[0]):
            run = [index for _, index in some]
            self.entries.append(f"R{number} {run[0] - found.first} {len(run)}")

    def anew(self) -> Iterator[tuple[int, list[int]]]:
        """The sets, and the indices of their nodes of whose ends nothing holds any more."""
        yield from self.again.items()
        yield from self.undone.items()

    def _judge(self, number: int, keep_decided: bool) -> str:
        gate = self.gates[number]
        before = [self.sets[each] for each in self._sources[number]]
        marks = b"".join(self.marks[found.first : found.first + found.size] for found in before)
        tally = tallied(gate, marks, self.sets, self.marks)
        decided = verdict(gate, tally)
        if any(each in self.undone and not self.sets[each].size for each in self._sources[number]):
            decided = ""  # a map over nothing: it has no member that is still to end
        if keep_decided and gate.before == "s":
            decided = "s"
        self.fields[f"o{number}"], self.fields[f"b{number}"], self.fields[f"k{number}"] = map(str, tally[1:4])
        if decided:
            self.fields[f"d{number}"] = decided
        else:
            self.gone.append(f"d{number}")
        return decided

    def _count(self) -> None:
        counts = dict.fromkeys(_TALLIES.values(), 0)
        left = failures = 0
        for found in self.sets.values():
            if found.kind == "c":
                continue
            marks = self.marks[found.first : found.first + found.size]
            for mark, name in _TALLIES.items():
                counts[name] += marks.count(mark.encode())
            left += marks.count(0) + marks.count(b"q")
            failures += 0 if "h" in found.flags else sum(marks.count(each) for each in b"fxc")
        failures += sum(gate.fails(self.fields.get(f"d{number}", "")) for number, gate in self.gates.items())
        self.fields |= {name: str(count) for name, count in (counts | {"left": left, "failures": failures}).items()}


def _failed(sets: Mapping[int, NodeSet], marks: bytes | bytearray) -> set[int]:
    """The sets with nodes that have failed, expired or been cancelled."""
    return {
        number
        for number, found in sets.items()
        if found.kind != "c" and _FAILED.intersection(marks[found.first : found.first + found.size])
    }


def tallied(gate: Gate, before: bytes, sets: Mapping[int, NodeSet], marks: bytes | bytearray) -> Tally:
    """That, from the marks of the nodes before it, and from all sets and marks."""
    maps = [sets[each] for each in gate.maps if each in sets and sets[each].kind == "m"]
    unmade = any(marks[found.first : found.first + 1] not in _FINAL for found in maps)
    failed = gate.mode == "z" and bool(_failed(sets, marks))
    return Tally(len(before), before.count(b"s"), sum(map(before.count, BAD.encode())), before.count(b"k"), unmade, failed)


def verdict(gate: Gate, tally: Tally) -> str:
    """As `judge` in lua/flow_join.lua."""
    size, good, bad, skipped, unmade, failed = tally
    if gate.mode in "ax":
        return "d" if bad else "s" if good == size else ""
    if gate.mode == "e":
        return "s" if good + bad == size else ""
    if gate.mode == "n":
        return "s" if bad - skipped >= gate.need else "d" if good + skipped > size - gate.need else ""
    need = gate.need if gate.mode == "q" or unmade else min(gate.need, size)
    if good >= need:
        return "s"
    if unmade or bad <= size - need:
        return ""
    return "d" if gate.mode == "p" or (bad > skipped if gate.mode == "q" else failed) else "k"


def run_again(run: _Run, mode: RetryMode) -> int:
    """Let a workflow that has ended go on; see `Run.retry`."""
    if mode not in _MODES:
        raise InvalidTask(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
    store: Store = run.queue.store
    keys = store.keys
    state, ended, queues = store.call("HMGET", keys.flow(run.flow), "state", "ended", "queues")
    if state is None:
        raise UnknownTask(f"no workflow {run_id(run.flow)} is known in {keys.queue!r}")
    if ended is None:
        raise InvalidTask(f"workflow {run_id(run.flow)} has not ended: it is {state.decode()}; wait until it has")
    plan = _Plan(store, run)
    failed = plan.failed()
    if not failed and mode != "all":
        raise InvalidTask(f"nothing in workflow {run_id(run.flow)} has failed; mode='all' runs it all again")
    reset = set(plan.sets) if mode == "all" else plan.downstream(failed) if mode == "failed_and_downstream" else set[int]()
    cancelled = plan.cancelled()
    plan.make(reset, keep_decided=mode == "failed_only")
    _take_back(run, store, plan, queues_in(queues), cancelled)
    _forget(run, store, plan, queues_in(queues))
    gone = [*plan.gone, *(f"r{index}" for _, some in plan.anew() for index in some)]
    fields: list[Argument] = [part for pair in plan.fields.items() for part in pair]
    names = (keys.flow(run.flow), keys.marks(run.flow), keys.joins(run.flow), keys.flow_outbox, keys.flow_ids)
    words = (run.flow, ended, len(gone), len(fields), bytes(plan.marks), *gone, *fields, *plan.entries, "j0")
    if not store.add("flow_again", (*names, keys.task(run_id(run.flow))), words):
        raise InvalidTask(f"somebody else has just let workflow {run_id(run.flow)} go on")
    return int(plan.fields["left"])


def _take_back(run: _Run, store: Store, plan: _Plan, queues: list[str], cancelled: dict[int, list[int]]) -> None:
    """Remove the tasks of cancelled nodes that still stand where they waited: else they would run beside those that are
    enqueued now."""
    carrier = Carrier(store)
    for number, offsets in cancelled.items():
        found = plan.sets[number]
        keys = home_of(queues[found.queue - 1])
        assert keys is not None  # it was one when the workflow was made
        place = store.at(keys) if store.reaches(keys.queue) else store.pooled_at(keys)
        for at in range(0, len(offsets), _SOME):
            some = offsets[at : at + _SOME]
            states = place.states([node_id(run.flow, found.first + offset) for offset in some], ("data", "place"))
            waiting = {keys.queue: [carrier.tasks(run.flow, found, number, offset, 1)[0] for offset in some]}
            for offset, state in zip(some, states, strict=True):
                if isinstance(state, list | tuple) and None not in state:
                    member = node_id(run.flow, found.first + offset).encode() + state[0]
                    waiting.setdefault(state[1].decode(errors="surrogateescape"), []).append(member)
            for where, members in waiting.items():
                if where in (keys.queue, keys.scheduled) or keys.owns_waits(where):
                    place.remove(where, members)
    carrier.carry(run.flow)  # it hears of each once more, and has heard of it before


def _forget(run: _Run, store: Store, plan: _Plan, queues: list[str]) -> None:
    """What says that nodes have ended which run again, or wait again: their states, and their dead letters."""
    for number, again in plan.anew():
        queue = home_of(queues[plan.sets[number].queue - 1])
        assert queue is not None  # it was one when the workflow was made
        states = [queue.task(node_id(run.flow, index)) for index in again]
        for at in range(0, len(states), _PAGE):
            store.call("UNLINK", *states[at : at + _PAGE])
    for name in queues:
        place = run.queue if name == run.queue.name else Queue(name, run.queue.conn)
        ids = [letter.id for letter in dead_letters(place) if (letter.tracked_id or "").startswith(run.flow)]
        for at in range(0, len(ids), _PAGE):
            place.store.call("XDEL", place.keys.dead, *ids[at : at + _PAGE])
