"""Reads a workflow for people: its sets of nodes, how many of each are in which state, and what each waits for."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ..base.ids import index_of, node_id
from ..errors import ResultError, UnknownTask
from ..queue.queue import Queue
from ..redis.command import Command
from ..task.hidden import said_of
from ..task.result import value_of
from ..workflow.carry import Carrier
from ..workflow.layout import MARKS
from ..workflow.pages import run_id
from ..workflow.run import FlowStatus, NodeStatus, Run
from .reading import asked

_PAGE = 1000  # sets, or gates, in one question
_SPAN = 1 << 20  # marks, likewise
_LEAST = 10  # workflows of each of many queues
_ASKED = 100  # nodes of which it is asked whether they run
_KINDS = {"t": "task", "m": "map", "w": "wait", "c": "callback"}
_CALLBACKS = {"on_success": "success", "on_complete": "the end", "on_failure": "the first failure"}


class Edge(NamedTuple):
    """What a set waits for: nodes before it."""

    mode: str  # all, ended, some or failed
    need: int  # how many of them have to succeed, or to fail; 0 for all
    sets: list[int]  # whose nodes these are
    decided: str  # satisfied, never or ''


class SetView(NamedTuple):
    """A set of nodes: those of a group, or a single one."""

    number: int
    label: str  # its function, or what it was called
    kind: str  # task, map, wait or callback
    queue: str
    first: int  # index of its first node
    size: int
    counts: dict[str, int]  # how many nodes are in each state
    edges: list[Edge]
    calls_for: str  # of callbacks: after what

    @property
    def before(self) -> list[int]:
        """The sets that come before it."""
        return sorted({number for edge in self.edges for number in edge.sets})


class FlowView(NamedTuple):
    """A workflow at one moment. What it consists of and how it stands was not read in one instant."""

    id: str
    queue: str  # its home
    status: FlowStatus
    policy: str
    sets: list[SetView]


def found_run(queues: Iterable[Queue], identity: str) -> Run | None:
    """The workflow with this id, or with a node of this id, whose home is one of the queues."""
    for queue in queues:
        run = Run(queue, identity)
        if queue.store.call("EXISTS", queue.keys.flow(run.flow)):
            return run
    return None


def view(run: Run) -> FlowView:
    """A workflow, read in pages: one question for a thousand sets, and one for a million nodes.

    Raises:
        UnknownTask: nothing is known of it.
    """
    status = run.status()
    call, key = run.queue.store.call, run.queue.keys.flow(run.flow)
    policy, *called = call("HMGET", key, "policy", *_CALLBACKS)
    calls = {int(number): text for number, text in zip(called, _CALLBACKS.values(), strict=True) if number is not None}
    sets = list(run.sets())
    gates = _gates(run, sets)
    names = Carrier(run.queue.store).queues(run.flow)
    marks = _marks(run, max((found.first + found.size for _, found, _ in sets), default=0))
    views = [
        SetView(
            number,
            label,
            _KINDS.get(found.kind, found.kind),
            names[found.queue - 1] if 0 < found.queue <= len(names) else "",
            found.first,
            found.size,
            _counted(marks[found.first : found.first + found.size]),
            gates.get(number, []),
            calls.get(number, ""),
        )
        for number, found, label in sets
    ]
    return FlowView(run.id, run.queue.name, status, (policy or b"").decode(errors="replace"), views)


def _gates(run: Run, sets: list[Any]) -> dict[int, list[Edge]]:
    """What each set waits for."""
    sources: dict[int, list[int]] = {}
    for number, found, _ in sets:
        for gate in found.outs:
            sources.setdefault(gate, []).append(number)
    wanted, edges = sorted(sources), dict[int, list[Edge]]()
    sizes = {number: found.size for number, found, _ in sets}
    for at in range(0, len(wanted), _PAGE):
        some = wanted[at : at + _PAGE]
        records = run.queue.store.call(
            "HMGET", run.queue.keys.flow(run.flow), *(f"{kind}{gate}" for gate in some for kind in "gd")
        )
        for gate, record, decided in zip(some, records[::2], records[1::2], strict=True):
            mode, need, targets = (record or b"a 0 -").decode().split(" ")[:3]
            if mode == "p" and int(need) >= sum(sizes[each] for each in sources[gate]):
                mode, need = "a", "0"
            word = {"a": "all", "x": "all", "e": "ended", "q": "some", "p": "some", "n": "failed"}.get(mode, mode)
            edge = Edge(word, int(need), sources[gate], {b"s": "satisfied", b"d": "never", b"k": "never"}.get(decided, ""))
            for target in targets.split(","):
                if target != "-":
                    edges.setdefault(int(target), []).append(edge)
    return edges


def _marks(run: Run, size: int) -> bytes:
    key = run.queue.keys.marks(run.flow)
    pages = [run.queue.store.call("GETRANGE", key, at, min(at + _SPAN, size) - 1) for at in range(0, size, _SPAN)]
    return b"".join(page.ljust(min(_SPAN, size - at * _SPAN), b"\0") for at, page in enumerate(pages))


def _counted(marks: bytes) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for mark, state in MARKS.items():
        if mark and (count := marks.count(mark.encode())):
            counts[state] += count
    return dict(counts)


def single_states(run: Run, sets: Iterable[SetView], most: int = _ASKED) -> dict[int, str]:
    """Number of a set of one node → whether it runs, and where, or why it has failed. The first hundred, or as many as `most`
    says, are asked, all of one queue at once."""
    chosen = [each for each in sets if each.size == 1 and {"released", "failed"} & each.counts.keys()][:most]
    nodes = [
        (each.number, NodeStatus(node_id(run.flow, each.first), each.first, each.label, each.queue, next(iter(each.counts))),
         each.kind == "wait")
        for each in chosen
    ]  # fmt: skip
    queues: dict[str, Queue] = {run.queue.name: run.queue}
    questions: dict[str, list[tuple[int, Command]]] = {}
    for number, node, is_wait in nodes:
        if (question := _question(run, node, is_wait)) is not None:
            queue, command = question
            questions.setdefault(queue.name, []).append((number, command))
            queues.setdefault(queue.name, queue)
    some = [queues[name] for name in questions]
    replies = asked(some, lambda queue: [command for _, command in questions[queue.name]])
    known = {
        number: reply
        for queue, found in zip(some, replies, strict=True)
        for (number, _), reply in zip(questions[queue.name], found, strict=True)
    }
    return {number: _said(node, is_wait, known.get(number)) for number, node, is_wait in nodes}


def all_single_states(run: Run, sets: Sequence[SetView]) -> dict[int, str]:
    """As `single_states`, of all of them, in pages."""
    states = dict[int, str]()
    for at in range(0, len(sets), _PAGE):
        states |= single_states(run, sets[at : at + _PAGE], _PAGE)
    return states


def says(run: Run, node: NodeStatus, *, is_wait: bool = False) -> str:
    """The state of a node in words: where it runs, or why it has failed."""
    question = _question(run, node, is_wait)
    if question is None:
        return _said(node, is_wait, None)
    queue, command = question
    return _said(node, is_wait, queue.store.call(*command))


def _question(run: Run, node: NodeStatus, is_wait: bool) -> tuple[Queue, Command] | None:
    """What is asked to say more of a node, and in which queue."""
    if node.state == "failed":
        return run.queue, ("HGET", run.queue.keys.flow(run.flow), f"r{node.number}")
    if node.state == "released" and not is_wait and run.queue.store.reaches(node.queue):
        queue = Queue(node.queue, run.queue.conn)
        return queue, ("HMGET", queue.keys.task(node.id), "state", "worker")
    return None


def _said(node: NodeStatus, is_wait: bool, reply: Any) -> str:
    if node.state == "failed":
        return f"failed: {why}" if (why := _error(reply)) else "failed"
    if node.state == "released" and is_wait:
        return "waits"
    if node.state == "released" and reply is not None:
        state, worker = reply
        if state is None:
            return "queued"
        place = f" on {worker.decode(errors='replace')}" if worker and state == b"running" else ""
        return f"{state.decode(errors='replace')}{place}"
    return node.state


def with_errors(run: Run, nodes: Iterable[NodeStatus]) -> Iterator[tuple[NodeStatus, str | None]]:
    """Nodes with what they said, if they have failed, read in pages."""
    rest = iter(nodes)
    while page := list(islice(rest, _PAGE)):
        failed = [node.number for node in page if node.state == "failed"]
        words = ("HMGET", run.queue.keys.flow(run.flow), *(f"r{number}" for number in failed))
        said = dict(zip(failed, map(_error, run.queue.store.call(*words)), strict=True)) if failed else {}
        yield from ((node, said.get(node.number)) for node in page)


def _error(found: bytes | None) -> str:
    """What is shown of it. A node is known by what it was called, and not by its function: where the arguments of some are
    hidden, of all nodes only the type is shown."""
    try:
        text = "" if found is None else str(value_of(found, "") or "")
    except ResultError as error:
        text = str(error)
    return said_of("", text)


class NodeView(NamedTuple):
    """A node, and where it stands in its workflow."""

    run: Run
    name: str  # of the workflow
    node: NodeStatus
    set: SetView
    says: str  # its state, in words
    after: str  # what it waits for, or waited for


def node_of(run: Run, identity: str) -> NodeView | None:
    """The node that has this id; None if that is the workflow's own, or no node has it.

    Raises:
        UnknownTask: nothing is known of the workflow.
    """
    flow, index = view(run), index_of(identity)
    found = next((each for each in flow.sets if each.first <= index < each.first + each.size), None)
    if found is None:
        return None
    mark = run.queue.store.call("GETRANGE", run.queue.keys.marks(run.flow), index, index).decode("latin-1")
    node = NodeStatus(identity, index, found.label, found.queue, MARKS.get(mark, "waiting"))
    text = says(run, node, is_wait=found.kind == "wait")
    return NodeView(run, flow.status.name, node, found, text, after_text(found, {each.number: each for each in flow.sets}))


def after_text(found: SetView, sets: dict[int, SetView]) -> str:
    """What a set waits for, in words."""
    return "; ".join(_edge_text(edge, sets) for edge in found.edges)


def _edge_text(edge: Edge, sets: dict[int, SetView]) -> str:
    names = ", ".join(f"[{number}] {sets[number].label}" for number in edge.sets[:5] if number in sets)
    more = f" and {len(edge.sets) - 5} more" if len(edge.sets) > 5 else ""
    return f"{edge_words(edge, sets)} {names}{more}".strip()


def edge_words(edge: Edge, sets: dict[int, SetView]) -> str:
    """The policy of an edge, in words."""
    nodes = sum(sets[number].size for number in edge.sets if number in sets)
    many = nodes > 1
    match edge.mode:
        case "ended":
            return "after the end of"
        case "some":
            return f"after {edge.need} of {nodes} of" if edge.need > 1 else "after any of"
        case "failed":
            return "if one fails of" if many else "if it fails:"
    return "after"


def list_runs(found: Iterator[Run], state: str | None) -> Iterator[tuple[Run, FlowStatus]]:
    """Workflows with their status, of those in a state if one is given; what is gone meanwhile is passed over."""
    for run in found:
        try:
            status = run.status()
        except UnknownTask:
            continue
        if state is None or status.state == state:
            yield run, status


def runs_of_all(queues: Sequence[Queue], state: str | None, most: int, look_at: int) -> list[tuple[Run, FlowStatus]]:
    """Workflows of several queues, those that go on first, by two commands, or a few more if the queues are hundreds.

    Args:
        queues: their homes.
        state: only those in this state.
        most: how many.
        look_at: how many are looked at, at most.
    """
    share = max(_LEAST, look_at // max(1, len(queues)))
    words = ("+inf", "-inf", "LIMIT", 0, share)
    pages = asked(queues, lambda queue: [("ZREVRANGEBYSCORE", queue.keys.flow_ids, *words)])
    found = {
        queue.name: [Run(queue, run_id(flow.decode(errors="replace"))) for flow in page]
        for queue, (page,) in zip(queues, pages, strict=True)
    }
    replies = asked(queues, lambda queue: [run.asks_status() for run in found[queue.name]])
    known = [
        (run, status)
        for queue, statuses in zip(queues, replies, strict=True)
        for run, reply in zip(found[queue.name], statuses, strict=True)
        if (status := FlowStatus.of(reply)) is not None and state in (None, status.state)
    ]
    known.sort(key=lambda each: (each[1].ended is not None, -(each[1].ended or each[1].created)))
    return known[:most]
