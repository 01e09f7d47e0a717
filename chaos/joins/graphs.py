"""Random workflows: what they are, as the judge sees it, and the same put together by our API.

A `Spec` knows nothing of how a workflow is stored. Its sets of nodes stand in the order in which the API numbers them, and
each node has a number of its own, which its executions note.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from delayed.queue.queue import Queue
from delayed.task.task import GoTask, PyTask, Task
from delayed.workflow import Flow, Group, Ref, chain, linked, on, quorum
from delayed.workflow.graph import Policy, Quorum

from .recorder import Recorder

OK, FAIL, RETRY, LIST, ADD = "ok", "fail", "retry", "list", "add"
QUEUE, GO_QUEUE = "storm", "storm-go"
_ADDED = 3  # nodes that one node adds: a group of two, and one after both
_ACTS, _ACT_WEIGHTS = (OK, FAIL, RETRY), (80, 8, 12)
_GO_ACTS, _GO_WEIGHTS = (OK, FAIL), (92, 8)
_POLICIES: tuple[Policy, ...] = ("stop", "continue", "stop_now", "any", quorum(2))
_POLICY_WEIGHTS = (40, 28, 12, 10, 10)
Kind = Literal["t", "m", "w"]


class Gate(NamedTuple):
    """What a set waits for: a mode, and the sets. `a`: all succeed, `e`: all end, `q`: so many succeed, `p`: so many or all,
    `n`: so many fail; `z`: as `p`, what the whole needs."""

    mode: str
    need: int
    sources: tuple[int, ...]


@dataclass
class Set:
    """Nodes beside each other."""

    kind: Kind
    first: int  # number of its first node, counted from 0 in its workflow
    acts: list[str]  # of each node
    gates: list[Gate] = field(default_factory=list)
    many: bool = False
    before: tuple[int, ...] = ()  # the sets whose results a node finds
    wait: tuple[float, str] = (0.0, "")
    added: int = -1  # number of the first node that a node of it adds
    go: bool = False


@dataclass
class Spec:
    """One workflow."""

    number: int
    first: int  # of its nodes' numbers, in all workflows
    policy: Policy
    sets: list[Set] = field(default_factory=list)
    size: int = 0  # numbers that it takes
    callbacks: dict[str, int] = field(default_factory=dict)  # event → number of the node
    cancelled: bool = False  # somebody will cancel it
    signals: set[str] = field(default_factory=set)  # that somebody will send
    last: Gate | None = None  # that of those which nothing comes after: whether the whole has failed if they have


class _Place(NamedTuple):
    """Nodes that something may come after: in the spec, and in the flow."""

    sets: tuple[int, ...]
    ref: Ref | None
    many: bool


class Builder:
    """Makes one workflow of a seed, twice: once to be judged, and, if there is a queue, once to be submitted.

    Args:
        number: of the workflow.
        first: number of its first node.
        seed: of the storm.
        queue: its home.
        record: it is not to be submitted by this program: `flow` is a `Recorder` of what another one has to do.
        go: some nodes are Go tasks.
        width: members of one large group; 0 for a random graph.
        most: nodes of a random graph.
    """

    def __init__(
        self,
        number: int,
        first: int,
        seed: int,
        queue: Queue | None,
        *,
        record: bool = False,
        go: bool = False,
        width: int = 0,
        most: int = 200,
    ) -> None:
        self._rng = random.Random(seed * 1_000_003 + number)
        self._go, self._most, self._width = go, most, width
        policy: Policy = self._rng.choices(_POLICIES, _POLICY_WEIGHTS)[0] if not width else "continue"
        self.spec = Spec(number, first, policy)
        self.flow: Flow | Recorder | None = None
        self._flow: Any = self._options(queue, seed, policy, record=record)
        self._refs: list[_Place] = []
        (self._large if width else self._random)()
        self.spec.last = self._last()

    def _options(self, queue: Queue | None, seed: int, policy: Any, *, record: bool) -> Flow | Recorder | None:
        names = [name for name in ("success", "complete", "failure") if self._width or self._rng.random() < 0.4]
        self.spec.callbacks = {name: self._numbers(1) for name in names}
        if queue is None and not record:
            return None
        made = {name: [self._call(at, OK, 0, -1, -1)] for name, at in self.spec.callbacks.items()}
        calls: Any = {f"then_{name}": some for name, some in made.items()}
        name, key = f"graph {self.spec.number}", unique(seed, self.spec.number)
        if queue is None:
            self.flow = Recorder(name, policy, key, **calls)
        else:
            self.flow = Flow(queue, name, on_failure=policy, unique=key, join=True, **calls)
        return self.flow

    def _numbers(self, count: int) -> int:
        self.spec.size += count
        return self.spec.size - count

    # Nodes

    def _call(self, number: int, act: str, value: int, found: int, good: int, *, added: int = -1, go: bool = False) -> Task:
        microseconds = self._rng_time(number)
        place = self.spec.first + number
        if go:
            return GoTask("main.ExecuteAndFail" if act == FAIL else "main.Execute", (place, microseconds))
        more = self.spec.first + added if added >= 0 else -1
        retry = 100 if act == RETRY else None
        return PyTask("chaos.joins.tasks:node", (place, act, value, microseconds, found, good, more), retry=retry)

    def _rng_time(self, number: int) -> int:
        """Most take no time, some a little; the same each time."""
        some = random.Random(self.spec.first + number)
        return some.randint(500, 20_000) if not self._width and some.random() < 0.15 else 0

    def _set(self, kind: Kind, acts: list[str], gates: list[Gate], before: Sequence[_Place], *, numbers: int = 0) -> Set:
        made = Set(kind, self._numbers(numbers or len(acts)), acts, gates)
        made.before = tuple(each for place in before for each in place.sets)
        if ADD in acts:
            made.added = self._numbers(_ADDED)
        self.spec.sets.append(made)
        return made

    def _act(self) -> str:
        return self._rng.choices(_ACTS, _ACT_WEIGHTS)[0]

    def _expectation(self, made: Set) -> tuple[int, int]:
        """How many nodes it finds, and, if all of them must have succeeded, how many have returned something: else -1."""
        sets = [self.spec.sets[each] for each in made.before]
        adders = sum(ADD in each.acts for each in sets)  # of each it finds the last node that this has added, too
        whole = all(gate.mode == "a" for gate in made.gates)
        if not sets or any(each.kind == "m" for each in sets) or (adders and not whole):
            return -1, -1
        count = sum(len(each.acts) for each in sets) + adders
        valued = sum(len(each.acts) for each in sets if each.kind == "t" and not each.go) + adders
        return count, valued if whole else -1

    def _tasks(self, made: Set) -> list[Any]:
        expected = self._expectation(made)
        calls: list[Any] = [
            self._call(made.first + at, act, at, *expected, added=made.added if act == ADD else -1, go=made.go)
            for at, act in enumerate(made.acts)
        ]
        return [on(GO_QUEUE, each) for each in calls] if made.go else calls

    # Parts: chains and groups within each other

    def _part(self, depth: int) -> Any:
        kind = self._rng.choices(("one", "group", "chain", "linked"), (4, 3, 2, 1))[0] if depth < 4 else "one"
        if kind == "one":
            return "go" if self._go and self._rng.random() < 0.25 else self._act()
        count = self._rng.randint(1, 5)
        if kind == "linked":
            return ("linked", [self._act()], [OK] * self._rng.randint(0, 2), [OK] * self._rng.randint(0, 2))
        if kind == "group" and self._rng.random() < 0.3:
            return ("group", [self._act() for _ in range(self._rng.randint(2, 30))])
        return (kind, [self._part(depth + 1) for _ in range(count)])

    def _lay(self, part: Any, before: Sequence[_Place], gates: list[Gate]) -> tuple[Any, _Place]:
        """The part as the API takes it, and where it ends."""
        if isinstance(part, str):
            return self._leaves([part], before, gates, many=False)
        if part[0] == "chain":
            made, place = list[Any](), None
            for each in part[1]:
                call, place = self._lay(each, before, gates)
                made.append(call)
                before, gates = [place], [self._gate(None, [place])]
            assert place is not None
            return chain(*made), place
        if part[0] == "linked":
            call, place = self._lay(part[1][0], before, gates)
            then = [self._lay(each, [place], [self._gate("stop", [place])])[0] for each in part[2]]
            orelse = [self._lay(each, [place], [self._gate("failure", [place])])[0] for each in part[3]]
            return linked(call, on_success=then, on_error=orelse), place
        return self._group(part[1], before, gates)

    def _group(self, parts: list[Any], before: Sequence[_Place], gates: list[Gate]) -> tuple[Any, _Place]:
        made, places, some = list[Any](), list[_Place](), list[str]()

        def close() -> None:
            if some:
                call, place = self._leaves(list(some), before, gates, many=True)
                made.extend(call.parts)
                places.append(place)
                some.clear()

        for each in parts:
            if not isinstance(each, str):
                close()
                call, place = self._lay(each, before, gates)
                made.append(call)
                places.append(place)
                continue
            if some and (some[0] == "go") != (each == "go"):
                close()
            some.append(each)
        close()
        sets = tuple(each for place in places for each in place.sets)
        if len(sets) == 1:
            self.spec.sets[sets[0]].many = True
        return Group(tuple(made)), _Place(sets, None, True)

    def _leaves(self, acts: list[str], before: Sequence[_Place], gates: list[Gate], *, many: bool) -> tuple[Any, _Place]:
        go = acts[0] == "go"
        made = self._set("t", self._rng.choices(_GO_ACTS, _GO_WEIGHTS, k=len(acts)) if go else acts, gates, before)
        made.go = go
        calls = self._tasks(made)
        place = _Place((len(self.spec.sets) - 1,), None, many)
        return (Group(tuple(calls)) if many else calls[0]), place

    # Edges

    def _gate(self, when: Any, places: Sequence[_Place]) -> Gate:
        sources = tuple(dict.fromkeys(each for place in places for each in place.sets))
        if when is None and (need := _needed(self.spec.policy)):
            return Gate("p", need, sources)
        when = self.spec.policy if when is None else when
        modes = {"stop": "a", "stop_now": "a", "continue": "e", "any": "q", "failure": "n"}
        return Gate(modes.get(when, "q"), when.need if isinstance(when, Quorum) else 1, sources)

    def _last(self) -> Gate | None:
        """What decides of the whole, if its policy is a quorum."""
        handlers, before, instead = set[int](), set[int](), dict[int, int]()
        for number, one in enumerate(self.spec.sets):
            if one.gates and all(gate.mode == "n" or handlers.issuperset(gate.sources) for gate in one.gates):
                handlers.add(number)
            for gate in one.gates:
                if gate.mode != "n":
                    before.update(gate.sources)
                else:
                    instead |= {each: number for each in gate.sources if each not in instead}
        ends = [number for number in range(len(self.spec.sets)) if number not in before | handlers]
        need, others = _needed(self.spec.policy), tuple(dict.fromkeys(instead[each] for each in ends if each in instead))
        if others and all(self.spec.sets[each].kind != "m" for each in ends):
            need = min(need, sum(len(self.spec.sets[each].acts) for each in ends))
        return Gate("z", need, tuple(dict.fromkeys((*ends, *others)))) if need and ends else None

    def _edges(self) -> tuple[list[_Place], Any, list[Gate]]:
        """What something comes after, and by which policies."""
        if not self._refs or self._rng.random() < 0.15:
            return [], None, []
        places = self._rng.sample(self._refs[-8:], min(len(self._refs[-8:]), self._rng.choice((1, 1, 2, 3))))
        size = sum(len(self.spec.sets[each].acts) for place in places for each in place.sets)
        known = all(self.spec.sets[each].kind != "m" for place in places for each in place.sets)
        need = quorum(self._rng.randint(1, max(1, size)))
        when = self._rng.choices((None, "stop", "continue", "any", need if known else None), (50, 10, 20, 8, 8))[0]
        return places, when, [self._gate(when, places)]

    def _random(self) -> None:
        nodes = self._rng.choice((5, 20, 60, self._most))
        while self.spec.size < nodes * 0.8:
            kind = self._rng.choices(("part", "map", "wait", "add"), (80, 8, 7, 5))[0]
            {"part": self._add_part, "map": self._add_map, "wait": self._add_wait, "add": self._add_adder}[kind]()
            if self._depth() >= 12:
                self._refs.clear()
        self.spec.cancelled = self._rng.random() < 0.05

    def _depth(self) -> int:
        depths: list[int] = []
        for made in self.spec.sets:
            depths.append(1 + max((depths[each] for gate in made.gates for each in gate.sources), default=0))
        return max(depths, default=0)

    def _put(self, call: Any, places: Sequence[_Place], when: Any, end: _Place) -> None:
        ref = None
        if self._flow is not None:
            after = [place.ref for place in places if place.ref is not None]
            ref = self._flow.add(call, after=after or None, when=when)
        self._refs.append(end._replace(ref=ref))

    def _add_part(self) -> None:
        places, when, gates = self._edges()
        call, end = self._lay(self._part(0), places, gates)
        self._put(call, places, when, end)

    def _add_adder(self) -> None:
        places, when, gates = self._edges()
        made = self._set("t", [ADD], gates, places)
        self._put(self._tasks(made)[0], places, when, _Place((len(self.spec.sets) - 1,), None, False))

    def _add_map(self) -> None:
        """Over a list that one node returns, or over the results of a group."""
        places, when, gates = self._edges()
        if self._rng.random() < 0.5:
            made = self._set("t", [f"{LIST}{self._rng.choice((0, 1, 3, 20))}"], gates, places)
            self._put(self._tasks(made)[0], places, when, _Place((len(self.spec.sets) - 1,), None, False))
            size = int(made.acts[0].removeprefix(LIST))
        else:
            size = self._rng.randint(2, 20)
            made = self._set("t", [self._act() for _ in range(size)], gates, places)
            self._put(Group(tuple(self._tasks(made))), places, when, _Place((len(self.spec.sets) - 1,), None, True))
        over = self._refs[-1]
        mapped = self._set("m", [OK] * size, [self._gate("stop", [over])], [over], numbers=size or 1)
        ref = None
        if self._flow is not None:
            assert over.ref is not None
            ref = self._flow.map(
                PyTask("chaos.joins.tasks:mapped", (self.spec.first + mapped.first,)), over=over.ref, when="stop"
            )
        self._refs.append(_Place((len(self.spec.sets) - 1,), ref, True))

    def _add_wait(self) -> None:
        """For a signal that comes, for one that never does, or for some time."""
        places, _, _ = self._edges()
        gates = [self._gate(None, places)] if places else []
        kind = self._rng.choice(("comes", "never", "time"))
        made = self._set("w", [FAIL if kind == "never" else OK], gates, places)
        name = f"go{len(self.spec.sets)}" if kind == "comes" else "never" if kind == "never" else ""
        made.wait = (0.0 if kind == "comes" else self._rng.choice((0.05, 0.5)), name)
        if kind == "comes":
            self.spec.signals.add(name)
        ref = None
        if self._flow is not None:
            after = [place.ref for place in places if place.ref is not None]
            ref = self._flow.wait(name, after=after or None, timeout=made.wait[0] or None)
        self._refs.append(_Place((len(self.spec.sets) - 1,), ref, False))

    def _large(self) -> None:
        """A group, and one node after it."""
        acts = [OK] * self._width
        for at in range(0, self._width, 1009):
            acts[at] = FAIL if self._rng.random() < 0.5 else RETRY
        made = self._set("t", acts, [], ())
        call, end = Group(tuple(self._tasks(made))), _Place((0,), None, True)
        self._put(call, [], None, end)
        call, end = self._leaves([OK], [end], [self._gate(None, [end])], many=False)
        self._put(call, [self._refs[0]], None, end)


def _needed(policy: Policy) -> int:
    """How many successes edges need in a workflow with that policy; 0 where it is none that counts them."""
    return policy.need if isinstance(policy, Quorum) else int(policy == "any")


def unique(seed: int, number: int) -> str:
    """The key by which a workflow is known."""
    return f"storm {seed} {number}"


class Plan:
    """Which workflows a storm has, and which numbers their nodes have."""

    def __init__(self, graphs: int, groups: Sequence[int], seed: int, *, go: bool, most: int) -> None:
        self._seed, self._go, self._most = seed, go, most
        self._widths = {}
        self.total = graphs + len(groups)
        step = max(1, self.total // (len(groups) + 1))
        for place, width in enumerate(groups):
            self._widths[min(self.total - 1, (place + 1) * step)] = width
        self.firsts: list[int] = []
        first = 1
        for number in range(self.total):
            self.firsts.append(first)
            first += self._widths.get(number, 0) + 16 * most + 100

    def is_large(self, number: int) -> bool:
        """Whether it is a large group."""
        return number in self._widths

    def build(self, number: int, queue: Queue | None = None, *, record: bool = False) -> Builder:
        """The workflow of this number."""
        width, first = self._widths.get(number, 0), self.firsts[number]
        return Builder(number, first, self._seed, queue, record=record, go=self._go, width=width, most=self._most)
