"""A workflow as it is put together: sets of nodes, and the gates between them."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Self, cast

from ..errors import InvalidTask
from ..task.task import GoTask, PyTask, Task

MODES = {"stop": "a", "stop_now": "x", "continue": "e", "any": "q", "failure": "n"}  # of gates, as flow_join.lua knows them
WHOLE = ("stop", "stop_now", "continue", "any")  # policies of a workflow, besides a quorum
QUORUMS = "qpz"  # modes that need so many successes; with `p` and `z` all, where they are fewer; `z` is that of the whole
_MOST_TARGETS = 100  # sets behind one gate; where there are more, several gates stand side by side
_DEEPEST = 16  # specifications within each other
_NOT_HERE = ("at", "after", "rate_key")  # options of tasks that wait for an instant


class Quorum(NamedTuple):
    """An edge that needs so many successes among the nodes before it; `or_all`: or those of all, where they are fewer."""

    need: int
    or_all: bool = False

    def __str__(self) -> str:
        return f"quorum:{self.need}"


Policy = Literal["stop", "stop_now", "continue", "any"] | Quorum
When = Policy | Literal["failure"]


def quorum(need: int) -> Quorum:
    """What `when=` and `on_failure=` take if so many successes among the nodes before will do.

    Raises:
        InvalidTask: it is no number above 0.
    """
    if type(need) is not int or need < 1:
        raise InvalidTask(f"a quorum is a number of nodes above 0, not {need!r}")
    return Quorum(need)


def policy_in(text: str) -> Policy:
    """The policy of a workflow, as it is stored; what no version of ours has written is `stop`."""
    name, _, need = text.partition(":")
    if name == "quorum" and need.isdecimal() and int(need) > 0:
        return Quorum(int(need))
    return cast("Policy", text) if text in WHOLE else "stop"


class Block:
    """Nodes with the same predecessors and successors: one, or the members of a group.

    Args:
        number: its own, in the workflow.
        tasks: what its nodes do, in their order; for a map the one call that is made with each element.
        queue: where they go, by its name.
        kind: `t` for tasks, `m` for a map, `w` for a wait, `c` for callbacks.
        label: what people call it.
    """

    __slots__ = (
        "after", "edges", "first", "gates", "kind", "label", "many", "number", "outs", "previous", "queue", "size", "tasks",
        "wait",
    )  # fmt: skip

    def __init__(self, number: int, tasks: Sequence[Task], queue: str, kind: str = "t", label: str = "") -> None:
        self.number, self.tasks, self.queue, self.kind = number, tasks, queue, kind
        self.label = label or (tasks[0].func_path if tasks else "")
        self.size = 1 if kind in "mw" else len(tasks)
        self.first = 0  # index of its first node
        self.gates = 0  # that it waits for
        self.outs: list[Gate] = []
        self.many = False  # it is a group: whoever comes after it finds a list
        self.previous: tuple[bool, list[Block]] | None = None  # whose results it finds, and whether as a list
        self.after: list[tuple[Block, When]] = []  # what it was said to come after,
        self.edges: list[tuple[Block, When]] = []  # and does
        self.wait: tuple[int, str] | None = None  # milliseconds, or 0, and the name of a signal, or ''

    @property
    def empty(self) -> bool:
        """Whether it is a group without members."""
        return not self.size


class Gate:
    """What lets sets of nodes go on, or skips them, as others have ended.

    Args:
        number: its own, in the workflow.
        mode: a character of `MODES` or `QUORUMS`.
        need: how many successes (or failures) it needs; 0 for all.
        sources: the sets before it.
    """

    __slots__ = ("mode", "need", "number", "sources", "targets")

    def __init__(self, number: int, mode: str, need: int, sources: list[Block]) -> None:
        self.number, self.mode, self.need = number, mode, need
        self.sources: list[Block] = []
        self.targets: list[Block] = []
        self.put_behind(sources)

    def put_behind(self, sources: list[Block]) -> None:
        """These are the sets before it, and no others."""
        for each in self.sources:
            each.outs.remove(self)
        self.sources = sources
        for each in sources:
            each.outs.append(self)


class Ref(NamedTuple):
    """Nodes of a workflow that is being put together, for `after=`."""

    blocks: tuple[Block, ...]
    mode: When | None = None

    def when(self, when: When) -> Self:
        """The same, with a policy of its own for the edges that come from it."""
        return self._replace(mode=when)

    @property
    def many(self) -> bool:
        """Whether what comes after it finds a list."""
        return len(self.blocks) != 1 or self.blocks[0].many


class Graph:
    """Sets of nodes, and the gates between them.

    Args:
        policy: what edges do that have no policy of their own.
        base: the numbers from which on its sets, its gates and its nodes are counted.
    """

    def __init__(self, policy: Policy = "stop", base: tuple[int, int, int] = (0, 0, 0)) -> None:
        if not isinstance(policy, Quorum) and policy not in WHOLE:
            raise InvalidTask(f"on_failure is one of {', '.join(WHOLE)}, or quorum(k), not {policy!r}")
        self.policy: Policy = policy
        self.blocks: list[Block] = []
        self.gates: list[Gate] = []
        self._base = base
        self._last: Gate | None = None  # behind the last sets: see `close`
        self._shared: dict[tuple[str, int, tuple[int, ...]], Gate] = {}

    def block(self, tasks: Sequence[Task], queue: str, kind: str = "t", label: str = "") -> Block:
        """A new set of nodes."""
        checked = None
        for task in tasks:
            if not isinstance(task, PyTask | GoTask):
                raise InvalidTask(f"a workflow is made of calls such as f.s(1), PyTask and GoTask, not of {task!r:.200}")
            if task.options is not checked:  # many tasks share them
                checked = task.options
                _check(task)
        made = Block(self._base[0] + len(self.blocks), tasks, queue, kind, label)
        self.blocks.append(made)
        return made

    def connect(self, block: Block, after: Iterable[Ref], when: When | None = None) -> None:
        """Let a set wait for those before it. A group without members is none of them: in its place stands what is before it.

        Raises:
            InvalidTask: that is nothing to wait for.
        """
        refs = list(after)
        if when is not None:
            _mode_of(when)
        for ref in refs:
            self._check_ref(ref)
        sources = [each for ref in refs for each in ref.blocks]
        if sources:
            many = len(refs) > 1 or any(ref.many for ref in refs)
            block.previous = (many, sources)
        block.after = [(each, ref.mode or when or self.default) for ref in refs for each in ref.blocks]
        for each, mode in block.after:
            block.edges += each.edges if each.empty else [(each, mode)]
        by_mode: dict[When, list[Block]] = {}
        for each, mode in block.edges if not block.empty else ():
            by_mode.setdefault(mode, []).append(each)
        for mode, some in by_mode.items():
            gate = self._gate(mode, list({each.number: each for each in some}.values()))
            gate.targets.append(block)
            block.gates += 1

    @property
    def default(self) -> When:
        """What edges do of which nothing is said. (That all is stopped is for the whole to see to.)"""
        if self.policy == "any" or isinstance(self.policy, Quorum):
            return Quorum(1 if self.policy == "any" else self.policy.need, or_all=True)
        return "stop" if self.policy == "stop_now" else self.policy

    def _check_ref(self, ref: Ref) -> None:
        if not isinstance(ref, Ref):
            raise InvalidTask(f"after= and over= take what flow.add, flow.map and flow.wait return, not {ref!r:.200}")
        for each in ref.blocks:
            at = each.number - self._base[0]
            if not 0 <= at < len(self.blocks) or self.blocks[at] is not each:
                raise InvalidTask(f"{each.label or 'a node'} is of another workflow: nodes wait for those of their own")

    def _gate(self, when: When, sources: list[Block]) -> Gate:
        mode, need = _mode_of(when)
        key = (mode, need, tuple(each.number for each in sources))
        found = self._shared.get(key)
        if found is None or len(found.targets) >= _MOST_TARGETS:
            found = self._shared[key] = Gate(self._base[1] + len(self.gates), mode, need, sources)
            self.gates.append(found)
        return found

    def number(self) -> int:
        """Give each node its index. Returns how many there are, callbacks among them."""
        at = self._base[2]
        for block in self.blocks:
            block.first = at
            at += block.size
        return at - self._base[2]

    def close(self, ends: list[Block]) -> None:
        """Where the policy is a quorum, let those decide whether the whole has failed that nothing comes after. For one that
        has failed stands what handles that, if there is such a set."""
        if not isinstance(self.default, Quorum) or not ends:
            return
        need, handlers = self.default.need, [gate.targets[0] for each in ends for gate in each.outs if gate.mode == "n"]
        if handlers and all(each.kind != "m" for each in ends):
            need = min(need, sum(each.size for each in ends))
        if self._last is None:
            self._last = Gate(self._base[1] + len(self.gates), "z", need, [])
            self.gates.append(self._last)
        self._last.need = need
        self._last.put_behind(list(dict.fromkeys([*ends, *handlers])))

    def ends(self) -> list[Block]:
        """The sets that nothing comes after, but for what handles a failure; and no such handler."""
        handlers: set[int] = set()
        for each in self.blocks:
            if each.edges and all(mode == "failure" or source.number in handlers for source, mode in each.edges):
                handlers.add(each.number)
        return [
            each
            for each in self.blocks
            if each.kind != "c"
            and not each.empty
            and each.number not in handlers
            and all(gate.mode in "nz" for gate in each.outs)
        ]


def _mode_of(when: When) -> tuple[str, int]:
    """The mode of a gate, and how many nodes it needs; 0 for all."""
    if isinstance(when, Quorum):
        return "p" if when.or_all else "q", when.need
    if when not in MODES:
        raise InvalidTask(f"when= is one of {', '.join(MODES)}, or quorum(k), not {when!r}")
    return MODES[when], int(MODES[when] in "qn")


def too_deep(depth: int) -> None:
    """Refuse what is nested too deeply.

    Raises:
        InvalidTask: it is.
    """
    if depth >= _DEEPEST:
        raise InvalidTask(f"groups and chains may be nested to a depth of {_DEEPEST}")


def _check(task: Task) -> None:
    for name in _NOT_HERE if task.options is not None else ():
        if getattr(task.options, name) is not None:
            raise InvalidTask(
                f"{task.func_path}: {name} is for tasks that are enqueued at once; let the workflow wait: flow.wait(timeout=…)"
            )
