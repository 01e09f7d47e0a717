"""How a workflow is stored: the fields of its hash, as `lua/flow_join.lua` reads them. See docs/protocol.md, section 7e."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import msgpack

from ..base.ids import node_id
from ..task.options import Options
from ..task.result import NODE_STATES
from ..task.task import Task
from .graph import QUORUMS, Block, Gate, Graph, Quorum

LISTED = 1000  # tasks of a set up to which each has a field; where there are more, they are in a list
MARKS = NODE_STATES
BAD = "fxck"  # of nodes that have ended without success


class NodeSet(NamedTuple):
    """A set of nodes, as it is stored."""

    first: int
    size: int
    queue: int  # which of the workflow's queues, counted from 1
    kind: str
    flags: str  # `h`: a failure is provided for; `b`: the tasks are in a list; `p`: they are not just put into the queue; `-`
    outs: tuple[int, ...]  # gates

    @classmethod
    def of(cls, text: bytes) -> Self:
        """As it is stored."""
        first, size, queue, kind, flags, outs = text.decode().split(" ")
        return cls(int(first), int(size), int(queue), kind, flags, tuple(map(int, outs.split(","))) if outs != "-" else ())

    def packed(self) -> str:
        """As it is stored."""
        outs = ",".join(map(str, self.outs)) or "-"
        return f"{self.first} {self.size} {self.queue} {self.kind} {self.flags} {outs}"


class Layout:
    """What is stored of a graph.

    Args:
        graph: whose nodes have their numbers.
        home: the queue that has the workflow's keys, by its name.
        flow: its id.
        queues: the names of the workflow's queues; those that are new are added.
    """

    def __init__(self, graph: Graph, home: str, flow: str, queues: list[str]) -> None:
        self._home, self._flow, self.queues = home, flow, queues
        self.trace: tuple[str, str] | None = None  # the context in which it is submitted: see `Options.trace`
        self._options: dict[tuple[int, int], Options] = {}  # of nodes, by those that the tasks have, and the set
        for block in graph.blocks:
            if block.queue not in queues:
                queues.append(block.queue)
        self.graph = graph

    def sets(self) -> Iterator[tuple[str, str]]:
        """The fields of the sets and gates."""
        for block in self.graph.blocks:
            yield f"s{block.number}", self._set(block).packed()
            yield f"l{block.number}", block.label
            if block.gates:
                yield f"w{block.number}", str(block.gates)
            if block.previous is not None:
                many, sources = block.previous
                yield f"p{block.number}", ("l" if many else "v") + _numbers(sources)
            if block.wait is not None:
                yield f"y{block.number}", f"{block.wait[0]} {block.wait[1]}"
        for gate in self.graph.gates:
            yield f"g{gate.number}", _gate(gate)
            yield f"n{gate.number}", str(sum(each.size for each in gate.sources))

    def _set(self, block: Block) -> NodeSet:
        flags = "h" if _handled(block.outs) or isinstance(self.graph.default, Quorum) else ""
        if block.size > LISTED:
            flags += "b"
        if any(_needs_more(task) for task in block.tasks):
            flags += "p"
        outs = tuple(gate.number for gate in block.outs)
        return NodeSet(block.first, block.size, self.queues.index(block.queue) + 1, block.kind, flags or "-", outs)

    def tasks(self, block: Block) -> Iterator[bytes]:
        """The tasks of a set, as they go to its queue."""
        for index, task in enumerate(block.tasks, block.first):
            yield self.task(task, block.number, index)

    def task(self, task: Task, number: int, index: int) -> bytes:
        """The task of one node."""
        options = self._options.get((id(task.options), number))
        if options is None:
            options = (task.options or Options()).as_node(self._home, number)
            if self.trace is not None:
                options = options.traced(*self.trace)
            self._options[id(task.options), number] = options
        return task.serialize_with(options, node_id(self._flow, index), None)


def _gate(gate: Gate) -> str:
    maps = [each for each in gate.sources if each.kind == "m" and gate.mode in QUORUMS]
    return " ".join((gate.mode, str(gate.need), _numbers(gate.targets) or "-", _numbers(maps))).rstrip()


def _numbers(blocks: Sequence[Block]) -> str:
    return ",".join(str(each.number) for each in blocks)


def _handled(outs: Sequence[Gate]) -> bool:
    """Whether the failure of a node is provided for, so that the workflow has not failed with it."""
    return any(gate.mode in "qn" for gate in outs)


def _needs_more(task: Task) -> bool:
    """Whether a task asks for more than a place in its queue."""
    options = task.options
    return options is not None and (options.group is not None or options.unique is not None)


def packed_queues(queues: Sequence[str]) -> bytes:
    """The names of a workflow's queues, as they are stored; see `queues_in`."""
    packed: bytes = msgpack.packb(list(queues), unicode_errors="surrogateescape")
    return packed


def texts(found: Sequence[bytes | None] | Mapping[bytes, bytes]) -> dict[str, str]:
    """Fields of a hash and their values, as text."""
    pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
    return {name.decode(): value.decode(errors="replace") for name, value in pairs if name is not None and value is not None}
