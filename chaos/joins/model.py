"""What must have become of a workflow: from its spec, and from what its nodes have noted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .graphs import ADD, FAIL, Gate, Set, Spec

_GOOD, _BAD, _SKIPPED = "s", "f", "k"


class Life(NamedTuple):
    """What one node has noted."""

    begins: list[int]
    ends: list[int]  # each with a result, or by raising as it should


NOBODY = Life([], [])


@dataclass
class Found:
    """What is wrong with one workflow."""

    lost: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # states
    checked: int = 0  # nodes that ran, of which it was checked that they were not early


class Model:
    """One workflow that was not stopped in the middle: what must be of each node follows from the spec.

    Args:
        spec: what it is.
        lives: what its nodes have noted, by their numbers, counted from 0 in the workflow.
    """

    def __init__(self, spec: Spec, lives: Mapping[int, Life]) -> None:
        self._spec, self._lives = spec, lives
        self.marks: list[list[str]] = []  # of each set, of each node
        self._moments: list[list[int]] = []  # at which each of them can have ended, at the earliest
        self._beside: dict[int, int] = {}  # of a set whose node has added some: when the last of these can have ended
        self.unhandled: list[int] = []  # such moments of failures that nothing provides for
        self.found = Found()
        gates = [*(gate for one in spec.sets for gate in one.gates), *filter(None, (spec.last,))]
        self._quorums = {gate for gate in gates if gate.mode in "qz"}
        counted = {each for gate in gates if gate.mode in "qn" for each in gate.sources}
        handled = range(len(spec.sets)) if spec.last else counted
        for number, one in enumerate(spec.sets):
            self._set(number, one, number in handled)

    def _set(self, number: int, one: Set, handled: bool) -> None:
        judged = [self._gate(gate) for gate in one.gates]
        doomed = [moment for good, moment in judged if not good]
        size = len(one.acts)
        if doomed:
            self.marks.append([_SKIPPED] * (1 if one.kind == "m" else size))
            self._moments.append([min(doomed)] * len(self.marks[-1]))
            return
        ready = max((moment for _, moment in judged), default=0)
        acts = self._mapped(one) if one.kind == "m" else one.acts
        self.marks.append([_BAD if act == FAIL else _GOOD for act in acts])
        if one.kind == "w":
            self._moments.append([ready + int(one.wait[0] * 1e9)])
        else:
            self._moments.append([self._ran(one.first + at, ready, f"set {number}, node {at}") for at in range(len(acts))])
        if not handled:
            pairs = zip(self.marks[-1], self._moments[-1], strict=True)
            self.unhandled += [moment for mark, moment in pairs if mark == _BAD]
        if ADD in one.acts:
            self._added(one, ready, number)

    def _mapped(self, one: Set) -> list[str]:
        return one.acts

    def _ran(self, node: int, ready: int, what: str) -> int:
        """A node that must have run, and not before it was ready. Returns when it had ended, at the earliest."""
        life = self._lives.get(node, NOBODY)
        if not life.ends:
            self.found.lost.append(f"workflow {self._spec.number}, {what} (node {node})")
            return 0
        self.found.checked += 1
        if min(life.begins) < ready:
            early = (ready - min(life.begins)) / 1e6
            self.found.early.append(f"workflow {self._spec.number}, {what}: {early:.3f} ms")
        return min(life.ends)

    def _added(self, one: Set, ready: int, number: int) -> None:
        """A group of two, and one node after it, which counts beside the adder for whoever waits for that."""
        first, second = (self._ran(one.added + at, ready, f"set {number}, added {at}") for at in range(2))
        last = self._ran(one.added + 2, max(first, second), f"set {number}, added 2")
        self._beside[number] = last

    def _states(self, number: int, mode: str) -> list[tuple[str, int]]:
        """How the nodes of a set have ended, and when at the earliest. If it was behind a quorum to which nodes were added,
        it may have counted as skipped before: nobody knows since when."""
        found = list(zip(self.marks[number], self._moments[number], strict=True))
        gates = [gate for gate in self._spec.sets[number].gates if gate.mode in "qp"]
        if not any(each in self._beside for gate in gates for each in gate.sources):
            return found
        return [(mark, 0 if mode == "e" or mark != _GOOD else moment) for mark, moment in found]

    def _gate(self, gate: Gate) -> tuple[bool, int]:
        """Whether it is satisfied, and since when, at the earliest."""
        own = [state for each in gate.sources for state in self._states(each, gate.mode)]
        states = own + [(_GOOD, self._beside[each]) for each in gate.sources if each in self._beside]
        good = sorted(moment for mark, moment in states if mark == _GOOD)
        bad = sorted(moment for mark, moment in states if mark != _GOOD)
        if gate.mode == "a":
            return (False, bad[0]) if bad else (True, max(good, default=0))
        if gate.mode == "e":
            return True, max([*good, *bad], default=0)
        failed = sorted(moment for mark, moment in states if mark == _BAD)  # what was skipped has not
        rest = sorted(moment for mark, moment in states if mark != _BAD)
        wanted, unwanted = (failed, rest) if gate.mode == "n" else (good, bad)
        need = min(gate.need, len(states)) if gate.mode in "pz" else gate.need
        if len(wanted) >= need:
            return True, wanted[need - 1] if need else 0
        # It may have been given up before some were added.
        return False, unwanted[max(0, min(len(own) - need, len(unwanted) - 1))] if unwanted else 0

    def state(self) -> str:
        """Of the workflow."""
        return "failed" if self.unhandled or self._missed() else "succeeded"

    def _missed(self) -> list[int]:
        """Since when, at the earliest, a quorum could not be reached any more, as nodes have failed, which is a failure of its
        own; of each."""
        ill = {number for number, marks in enumerate(self.marks) if _BAD in marks}
        some = [gate for gate in self._quorums if (ill if gate.mode == "z" else ill.intersection(gate.sources))]
        return [moment for reached, moment in map(self._gate, some) if not reached]

    def call_backs(self) -> None:
        """That those have run which should, after what they are for."""
        all_ended = max((moment for some in (*self._moments, self._beside.values()) for moment in some), default=0)
        state = self.state()
        for event, node in self._spec.callbacks.items():
            due = event == "complete" or (event == "success") == (state == "succeeded")
            if due:
                ready = all_ended if event != "failure" else min([*self.unhandled, *self._missed()], default=0)
                self._ran(node, ready, f"its {event} callback")
            elif node in self._lives:
                self.found.wrong.append(f"workflow {self._spec.number}: its {event} callback ran, but it has {state}")
