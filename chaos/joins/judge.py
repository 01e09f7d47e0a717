"""Compares what the nodes have noted, and what stands in Redis, with what the workflows are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from delayed.errors import UnknownTask
from delayed.queue.queue import Queue
from delayed.workflow import FlowStatus, Run
from delayed.workflow.pages import digest_of

from ..notes import BEGUN, ENDED, Note, Writer
from .graphs import Plan, Set, Spec, unique
from .kinds import FAILED, KILLED, SUBMITTED, WRONG
from .model import Life, Model

_LATE = 2_000_000_000  # ns after a node's end in which the kill of its process may have kept that from Redis
_ORPHANED = 1_000_000_000  # ns after the kill of a supervisor in which a process of its own may still begin something
_FINAL = frozenset("sfkcx")
_ENDS = ("succeeded", "failed", "cancelled")


class Execution(NamedTuple):
    """One execution of one node."""

    writer: Writer
    begin: int
    end: int | None


@dataclass
class Verdict:
    """What was found."""

    graphs: int = 0  # that are there
    unborn: int = 0  # whose creator died, and nobody submitted them again
    nodes: int = 0
    executed: int = 0
    states: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    suicides: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    repeats: int = 0
    checked: int = 0  # nodes of which it was checked that they were not early
    lost: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """What must not be."""
        kinds = {
            "LOST": self.lost,
            "EARLY": self.early,
            "TWICE": self.twice,
            "NO FINAL STATE": self.unended,
            "WRONG": self.wrong,
        }
        return [f"{name}: {len(some)}, such as {'; '.join(some[:5])}" for name, some in kinds.items() if some]


class Judge:
    """The verdict on one storm.

    Args:
        plan: which workflows there were.
        seed: of the storm.
        queue: their home.
        notes: what the nodes and creators noted.
        kills: of the storm: process id, and the moment.
    """

    def __init__(self, plan: Plan, seed: int, queue: Queue, notes: Iterable[Note], kills: Sequence[tuple[int, int]]) -> None:
        self._plan, self._seed, self._queue = plan, seed, queue
        self.verdict = Verdict()
        self._executions: dict[int, list[Execution]] = defaultdict(list)
        self._deaths: dict[int, list[int]] = defaultdict(list)
        self._submitted: set[int] = set()
        for pid, moment in kills:
            self._deaths[pid].append(moment)
        self._read(notes)

    def _read(self, notes: Iterable[Note]) -> None:
        running: dict[tuple[int, Writer], int] = {}
        for note in notes:
            if note.kind == BEGUN:
                running[note.task, note.writer] = len(self._executions[note.task])
                self._executions[note.task].append(Execution(note.writer, note.moment, None))
            elif note.kind in (ENDED, FAILED):
                some, at = self._executions[note.task], running[note.task, note.writer]
                some[at] = some[at]._replace(end=note.moment)
            elif note.kind == KILLED:
                self._deaths[note.writer.pid].append(note.moment)
                self.verdict.suicides[("before", "in the middle of", "after")[note.task]] += 1
            elif note.kind == WRONG:
                self.verdict.early.append(f"node {note.task} did not find the results of all before it")
            elif note.kind == SUBMITTED:
                self._submitted.add(note.task)

    def run(self) -> Verdict:
        """All workflows, one after the other."""
        for number in range(self._plan.total):
            self._judge(self._plan.build(number).spec)
        for node, some in self._executions.items():
            self._repeats(node, some)
        self.verdict.executed = len(self._executions)
        return self.verdict

    def _repeats(self, node: int, some: list[Execution]) -> None:
        repeats = len(some) - 1
        if repeats:
            self.verdict.repeats += repeats
            explained = sum(self._died_of(each) for each in some)
            if repeats > explained:
                self.verdict.twice.append(f"node {node}, {len(some)} times: {self._history(some[-5:])}")

    def _died_of(self, each: Execution) -> bool:
        """Whether its process, or the supervisor of that, was killed in it, or so soon after it that Redis may not know."""
        until = None if each.end is None else each.end + _LATE
        moments = [(moment, 0) for moment in self._deaths[each.writer.pid]]
        moments += [(moment, _ORPHANED) for moment in self._deaths[each.writer.parent]]
        return any(each.begin <= moment + more and (until is None or moment <= until) for moment, more in moments)

    def _history(self, some: list[Execution]) -> str:
        return ", ".join(f"{each.writer.pid} {each.begin / 1e9:.4f} to {(each.end or 0) / 1e9:.4f}" for each in some)

    def _found(self, spec: Spec) -> tuple[Run | None, FlowStatus | None]:
        """What has become of it; None if nothing is known."""
        key = self._queue.keys.unique_by(digest_of(unique(self._seed, spec.number)))
        owner = self._queue.store.call("GET", key)
        if owner is None:
            return None, None
        run = Run(self._queue, owner.decode())
        try:
            return run, run.status()
        except UnknownTask:
            return run, None

    def _judge(self, spec: Spec) -> None:
        found, lives = self.verdict, self._lives(spec)
        run, status = self._found(spec)
        if run is None or status is None:
            found.unborn += 1
            if lives or spec.first in self._submitted:
                found.lost.append(f"workflow {spec.number} is gone, of which {len(lives)} nodes ran")
            return
        found.graphs += 1
        found.nodes += status.total
        found.states[status.state] += 1
        marks = self._marks(run)
        flat = [mark for some in marks for mark in some]
        if status.state not in _ENDS or status.left or set(flat) - _FINAL:
            found.unended.append(f"workflow {spec.number} ({run.id}) is {status.state}, {status.left} left")
            return
        if (spec.cancelled and status.state == "cancelled") or (spec.policy == "stop_now" and status.state == "failed"):
            self._stopped(spec, lives, marks)
            return
        model = Model(spec, lives)
        model.call_backs()
        found.lost += model.found.lost
        found.early += model.found.early
        found.wrong += model.found.wrong
        found.checked += model.found.checked
        if status.state != model.state():
            found.wrong.append(f"workflow {spec.number} ({run.id}) is {status.state}, not {model.state()}")
        for number, (expected, actual) in enumerate(zip(model.marks, marks, strict=False)):
            if expected != actual:
                found.wrong.append(
                    f"workflow {spec.number} ({run.id}), set {number}: {''.join(actual)}, not {''.join(expected)}"
                )

    def _stopped(self, spec: Spec, lives: Mapping[int, Life], marks: list[list[str]]) -> None:
        """Of one that was stopped in the middle only that is known: what has succeeded has run, what is skipped has not."""
        for number, (one, some) in enumerate(zip(spec.sets, marks, strict=False)):
            for at, mark in enumerate(some if one.kind == "t" else ()):
                life = lives.get(one.first + at)
                if (mark == "s" and (life is None or not life.ends)) or (mark == "k" and life is not None):
                    self.verdict.wrong.append(f"workflow {spec.number}, set {number}, node {at}: {mark}, but {life}")
        for event, node in spec.callbacks.items():
            if event == "complete" and node not in lives:
                self.verdict.lost.append(f"workflow {spec.number}: its complete callback")
        self._order(spec, lives)

    def _order(self, spec: Spec, lives: Mapping[int, Life]) -> None:
        """None of them was early, as far as edges say that need all before them to succeed."""
        for number, one in enumerate(spec.sets):
            begun = min((min(lives[each].begins) for each in _nodes(one) if each in lives), default=None)
            if begun is None:
                continue
            for gate in one.gates:
                for before in gate.sources if gate.mode == "a" else ():
                    for each in _nodes(spec.sets[before]):
                        self.verdict.checked += 1
                        if each not in lives or not lives[each].ends or min(lives[each].ends) > begun:
                            self.verdict.early.append(
                                f"workflow {spec.number}, set {number} began before node {each} had ended"
                            )

    def _marks(self, run: Run) -> list[list[str]]:
        """Of each set but the callbacks."""
        text = (self._queue.store.call("GET", self._queue.keys.marks(run.flow)) or b"").decode("latin-1")
        return [
            list(text[found.first : found.first + found.size].ljust(found.size, "\0"))
            for _, found, _ in run.sets()
            if found.kind != "c"
        ]

    def _lives(self, spec: Spec) -> dict[int, Life]:
        lives = {}
        for node in range(spec.size):
            some = self._executions.get(spec.first + node)
            if some:
                lives[node] = Life([each.begin for each in some], [each.end for each in some if each.end is not None])
        return lives


def _nodes(one: Set) -> range:
    return range(0) if one.kind == "w" else range(one.first, one.first + len(one.acts))
