"""A small model of a workflow of four nodes: what each event makes of it, said without scripts, gates or keys of Redis.

Node 0 comes first, then 1 and 2 beside each other, and 3 waits for both. Node 4 is what one of them may add beside itself.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

ENDED, BAD = frozenset("sfck"), frozenset("fck")
OPEN = ("running", "cancelling")
_BESIDE = str.maketrans("12", "21")


class Diamond(NamedTuple):
    """A workflow at one moment."""

    marks: (
        str  # how each node is seen: `.` waits, `q` released, `s` succeeded, `f` failed, `c` cancelled, `k` skipped, `-` none
    )
    told: tuple[str, ...]  # what has happened and has not been carried on: a letter, its node, and how that has ended
    runs: str  # nodes that a worker has
    dead: str  # the node that is a dead letter
    ends: tuple[str, ...]  # what may be said again: the ends so far, but for one that a revival takes back
    left: tuple[str, ...]  # events that may still happen, each once
    flow: str  # the state of the workflow
    called: str  # callbacks: on `f`ailure, `c`ompletion, `s`uccess
    beside: str  # the node that has added one

    @classmethod
    def begun(cls, left: set[str]) -> Self:
        """Its first node has been released, and runs."""
        return cls("q...-", (), "0", "", (), tuple(sorted(left)), "running", "", "")

    @property
    def twin(self) -> Self:
        """The same with nodes 1 and 2 in each other's place."""
        told, ends = (tuple(each.translate(_BESIDE) for each in some) for some in (self.told, self.ends))
        runs, dead, beside = ("".join(sorted(each.translate(_BESIDE))) for each in (self.runs, self.dead, self.beside))
        marks = self.marks[0] + self.marks[2] + self.marks[1] + self.marks[3:]
        return self._replace(marks=marks, told=told, runs=runs, dead=dead, ends=tuple(sorted(ends)), beside=beside)

    def choices(self) -> Iterator[str]:
        """What may happen now."""
        for node in self.runs:
            yield f"end {node}"
            for event in ("fail", "stop", "add"):
                if event in self.left:
                    yield f"{event} {node}"
        if "cancel" in self.left:
            yield "cancel"
        if "revive" in self.left and self.dead:
            yield "revive"
        if "repeat" in self.left and self.ends:
            yield "repeat"
        if self.told:
            yield "step" if self.told[0] == "C" else "join"

    def after(self, what: str) -> Self:
        """What it becomes."""
        event, _, node = what.partition(" ")
        then = self._replace(left=tuple(each for each in self.left if each != event))
        if event == "join":
            return then._joined()
        if event == "step":  # what waits is told; what runs goes on to its end
            waiting = (f"k{number}" for number, mark in enumerate(self.marks) if mark == ".")
            return then._replace(told=(*self.told[1:], *waiting))
        if event in ("end", "fail", "stop"):
            entry = f"e{node}" + {"end": "s", "fail": "f", "stop": "c"}[event]
            ends, dead = tuple(sorted({*self.ends, entry})), node if event == "fail" else self.dead
            return then._replace(told=(*self.told, entry), ends=ends, dead=dead, runs=self.runs.replace(node, ""))
        if event == "revive":
            ends = tuple(each for each in self.ends if each != f"e{self.dead}f")
            runs = "".join(sorted(self.runs + self.dead))
            return then._replace(told=(*self.told, f"o{self.dead}"), ends=ends, dead="", runs=runs)
        if event == "add":
            if self.flow != "running":  # it is refused
                return then
            return then._replace(told=(*self.told, "i4"), marks=f"{self.marks[:4]}.", beside=node)
        return then._replace(told=(*self.told, *(self.ends if event == "repeat" else ("X",))))

    def _joined(self) -> Self:
        """What has been told is carried on, up to what is to be done in steps."""
        marks, flow = list(self.marks), self.flow
        place = self.told.index("C") if "C" in self.told else len(self.told)
        now, told = self.told[:place], self.told[place:]
        for kind, node, mark in ((entry[0], int(entry[1:2] or 0), entry[2:]) for entry in now):
            if kind == "X" and flow == "running":
                told, flow = ("C",), "cancelling"
            elif kind == "e" and marks[node] not in ENDED:
                marks[node] = mark
            elif kind == "o" and marks[node] in BAD:
                marks[node], flow = "q", flow if flow in OPEN else "running"
            elif kind in "ik" and marks[node] == ".":
                marks[node] = "q" if kind == "i" and flow == "running" else "c"
        for node, before in self._before():
            if marks[node] in ".k":
                found = {marks[each] for each in before}
                ready = "q" if flow == "running" else "c"
                marks[node] = "k" if found & BAD else ready if found == {"s"} else "."
        released = {str(node) for node, mark in enumerate(marks) if mark == "q" != self.marks[node] and f"o{node}" not in now}
        runs = "".join(sorted({*self.runs, *released}))
        return self._replace(marks="".join(marks), told=told, flow=flow, runs=runs)._called_back()

    def _before(self) -> Iterator[tuple[int, set[int]]]:
        """Each node that waits for others, and these: also what they have added."""
        for node, before in ((1, {0}), (2, {0}), (3, {1, 2})):
            yield node, before | {4} if self.beside and int(self.beside) in before else before

    def _called_back(self) -> Self:
        """Callbacks that are due, and the end."""
        failed, flow, called = not {"f", "c"}.isdisjoint(self.marks), self.flow, set(self.called)
        if failed and flow == "running":
            called.add("f")
        if flow in OPEN and not {".", "q"} & set(self.marks):
            flow = "cancelled" if flow == "cancelling" else "failed" if failed else "succeeded"
            called |= {"c", "s"} if flow == "succeeded" else {"c"}
        return self._replace(flow=flow, called="".join(sorted(called)))


def one_of(found: Diamond) -> Diamond:
    """The same for two that are each other's twins: what comes of the one comes of the other."""
    return min(found, found.twin)


def reachable(left: set[str]) -> tuple[int, int]:
    """How many different moments there are, of which twins are one, and how many ways lead from one to the next."""
    begun = one_of(Diamond.begun(left))
    seen, ahead, ways = {begun}, [begun], 0
    while ahead:
        now = ahead.pop()
        for what in now.choices():
            ways += 1
            then = one_of(now.after(what))
            if then not in seen:
                seen.add(then)
                ahead.append(then)
    return len(seen), ways
