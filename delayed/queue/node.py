"""Nodes of workflows, for whoever has their ids: what their workflow says of them, read and cancelled by its keys.

A node has no state of its own before it begins, and what it has returned stands in its workflow. What asks for that are
generators of commands, which get the reply to each: the same for both kinds of queues.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeVar

import msgpack

from ..base.ids import FLOW, index_of, is_id, node_id
from ..errors import InvalidTask, TaskCancelled
from ..redis.keys import Keys, home_of
from ..redis.places import STATE_KEPT
from ..redis.scripts import SCRIPTS, Argument
from ..task.result import CANCELLED, NODE_STATES, OUTCOME, State, success
from .status import Status
from .waits import Answer, NotYet, Over, answer_in, undecided

T = TypeVar("T")
Steps = Generator[tuple[Argument, ...], Any, T]
_PAGE = 1000  # sets of nodes that are read at once
_ENTRIES = 500  # of what has happened, that one call of the join deals with
_AS_TASK = {"waiting": State.QUEUED, "released": State.QUEUED, "skipped": State.CANCELLED}
_WAITS = "it waits for those before it in its workflow"
_SKIPPED = "it was skipped, as those before it have not succeeded"


class Node(NamedTuple):
    """Where it stands what has become of the node with this id, if the workflow has its home here, and there is one."""

    identity: str
    flow: str  # the workflow
    place: int  # among its nodes: its index
    key: str  # of the workflow
    marks: str  # likewise

    @property
    def questions(self) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
        """The two commands that ask."""
        fields = ("HMGET", self.key, "state", "next", f"r{self.place}")
        return ("GETRANGE", self.marks, self.place, self.place), fields

    def state(self, mark: bytes, fields: list[bytes | None]) -> str | None:
        """What the replies say; None if there is no such node, or, as the one of a map, no more."""
        state, count, result = fields
        if state is None or not (count or b"").isdigit() or self.place >= int(count or 0) or result == b"":
            return None
        return NODE_STATES.get(mark.decode("latin-1"), "waiting")

    def answer(self, own: Answer, mark: bytes, fields: list[bytes | None]) -> Answer:
        """How it has ended, where the state of its task says `own`."""
        state, result = self.state(mark, fields), fields[2]
        if state is None:
            return own
        if state in ("waiting", "released"):
            return NotYet
        if result is not None:
            return result
        if state == State.SUCCEEDED:
            return success(None, kept=True)
        return TaskCancelled(f"node {self.identity}: {_SKIPPED}") if state == "skipped" else Over(state.encode(), None)

    def outcome(self, mark: bytes, fields: list[bytes | None]) -> list[bytes | None] | None:
        """State, error and result, as the state of a task that has become the same would have them; None if there is none."""
        state, result = self.state(mark, fields), fields[2]
        if state is None:
            return None
        if result is None and state == State.SUCCEEDED:
            result = success(None, kept=True)
        return [(_AS_TASK.get(state) or State(state)).encode(), None, result]


def node_of(keys: Keys, identity: str) -> Node | None:
    """The node that an id may be of, if the queue with these keys is the home of its workflow."""
    if not is_id(identity) or (index := index_of(identity)) < 0:
        return None
    flow = identity[:FLOW]
    return Node(identity, flow, index, keys.flow(flow), keys.marks(flow))


def outcome(keys: Keys, identity: str) -> Steps[Answer]:
    """Ask how a task has ended."""
    own, node = answer_in((yield ("HMGET", keys.task(identity), *OUTCOME))), node_of(keys, identity)
    if node is None or not undecided(own):
        return own
    mark, fields = (yield node.questions[0]), (yield node.questions[1])
    return node.answer(own, mark, fields)


def status(keys: Keys, identity: str) -> Steps[Status | None]:
    """Ask where the node is; None if there is none."""
    node = node_of(keys, identity)
    if node is None:
        return None
    state = node.state((yield node.questions[0]), (yield node.questions[1]))
    if state is None:
        return None
    error, waits = _SKIPPED if state == "skipped" else "", _WAITS if state == "waiting" else ""
    return Status(_AS_TASK.get(state) or State(state), None, None, None, "", None, error, waits, None, None, "")


def cancel(keys: Keys, identity: str, near: Callable[[str], bool]) -> Steps[State | Keys | None]:
    """Cancel the node, and carry its workflow on. Returns in which state it was; or the queue in which its task is to be
    cancelled, if scripts for this one cannot touch its keys; None if there is none.

    Args:
        keys: of the home of its workflow.
        identity: its id.
        near: whether scripts may touch the keys of the queue with this name.

    Raises:
        InvalidTask: it waits together with others of a group, which only begin together.
    """
    node = node_of(keys, identity)
    state = node.state((yield node.questions[0]), (yield node.questions[1])) if node is not None else None
    found = (yield from _set_of(node)) if node is not None and state in ("waiting", "released") else None
    if node is None or state is None or found is None:
        return None if state is None else _AS_TASK.get(state) or State(state)
    names = queues_in((yield ("HGET", node.key, "queues")))
    if state == "waiting" and found.size > 1:
        raise InvalidTask(
            f"node {identity} is one of {found.size} that begin together and wait: cancel workflow "
            f"{node_id(node.flow, -1)}, or wait"
        )
    place = home_of(names[found.queue - 1]) if 0 < found.queue <= len(names) else None
    if state == "waiting" or found.kind in ("m", "w") or place is None:
        entry = f"k{found.number}" if state == "waiting" else f"e{found.number} {node.place} c"
        told = (node.key, keys.joins(node.flow), keys.flow_outbox, keys.flow_due)
        yield SCRIPTS["flow_tell"].evaluate(told, (node.flow, entry, "", "", ""))
    elif near(place.queue):
        asked = (node.marks, keys.joins(node.flow), keys.flow_outbox, place.task(identity))
        words = (node.flow, CANCELLED, STATE_KEPT, found.number, node.place)
        yield SCRIPTS["flow_cancel"].evaluate(asked, words)
    else:
        return place
    yield from carry(keys, node.flow, near)
    return State.QUEUED


def carry(keys: Keys, flow: str, near: Callable[[str], bool]) -> Steps[None]:
    """Let what has happened in a workflow be seen at once; what that leaves to do, workers and sweepers do."""
    names = queues_in((yield ("HGET", keys.flow(flow), "queues")))
    yield SCRIPTS["flow_join"].evaluate(joined(keys, flow, names, near), (flow, _ENTRIES))


def queues_in(packed: bytes | None) -> list[str]:
    """The names of a workflow's queues, as they are stored."""
    found = msgpack.unpackb(packed, unicode_errors="surrogateescape") if packed else []
    return [str(each) for each in found]


class _Set(NamedTuple):
    number: int
    size: int
    queue: int  # which of those of the workflow, counted from 1
    kind: str


def _set_of(node: Node) -> Steps[_Set | None]:
    """To which set of its workflow it belongs."""
    count = int((yield ("HGET", node.key, "sets")) or 0)
    for at in range(0, count, _PAGE):
        numbers = range(at, min(at + _PAGE, count))
        for number, record in zip(numbers, (yield ("HMGET", node.key, *(f"s{each}" for each in numbers))), strict=True):
            if record is None:  # of what somebody was about to add there may be a gap
                continue
            first, size, queue, kind, *_ = record.decode().split(" ")
            if int(first) <= node.place < int(first) + int(size):
                return _Set(number, int(size), int(queue), kind)
    return None


def joined(keys: Keys, flow: str, names: list[str], near: Callable[[str], bool]) -> tuple[str, ...]:
    """The keys that `flow_join` gets, of a workflow with queues of these names: the first of them, as many as it may touch."""
    found = [keys.flow(flow), keys.marks(flow), keys.joins(flow), keys.flow_outbox, keys.flow_ids, keys.flow_due]
    found += [keys.task(node_id(flow, -1)), keys.wake]
    for name in names:
        if not near(name):
            break
        found += [name, f"{name}_noti"]
    return tuple(found)


def asked(steps: Steps[T], call: Callable[..., Any]) -> T:
    """What the generator returns, when its commands are sent by `call`."""
    reply: Any = None
    try:
        while True:
            reply = call(*steps.send(reply))
    except StopIteration as ended:
        returned: T = ended.value
        return returned


async def asked_async(steps: Steps[T], call: Callable[..., Awaitable[Any]]) -> T:
    """As `asked`, for asyncio."""
    reply: Any = None
    try:
        while True:
            reply = await call(*steps.send(reply))
    except StopIteration as ended:
        returned: T = ended.value
        return returned
