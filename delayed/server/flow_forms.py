"""Workflows as clients write them, and as they read them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..base.ids import node_id
from ..errors import InvalidTask
from ..queue.node import queues_in
from ..queue.queue import Queue
from ..redis.keys import Keys
from ..redis.store import Store
from ..task.headers import Member
from ..workflow.carry import sources
from ..workflow.compose import Flow, Group, On, on
from ..workflow.graph import Policy, Quorum, Ref, When, quorum
from ..workflow.layout import MARKS, NodeSet
from ..workflow.run import FlowStatus, NodeStatus, Run
from .access import Grant
from .flow_schemas import CALL
from .forms import task_of, text
from .look import outcome

_KINDS = ("function", "group", "map", "wait")
_OF_PARTS = ("label", "on_success", "on_error", "after", "when")
_OF_KINDS = {"function": (*CALL, *_OF_PARTS), "group": _OF_PARTS, "wait": ("after",), "map": ("label", "over", "when")}
_PATIENCE = 60.0  # seconds between two pages of one that is large: all of it is here, so only a killed server takes as long
_EVENTS = ("then_success", "then_complete", "then_failure")


class FlowForm:
    """A workflow that a client describes, as its schema says.

    Args:
        body: what the client has sent.
        home: the queue that has the workflow's keys.
        grant: what the client may do.
        unique: the key, if the client has given one.
        once: by which the request is known that it came with, if it may be repeated.
        trace: the trace context of its tasks.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        home: Queue,
        grant: Grant,
        unique: str | None,
        *,
        once: str = "",
        trace: tuple[str, str] | None = None,
    ) -> None:
        self._body, self._grant = body, grant
        self._home = home
        self._unique, self._once, self._trace = unique, once, trace
        self._refs: list[Ref] = []
        self._names: dict[str, Ref] = {}

    def flow(self) -> Flow:
        """The workflow, which has not been submitted.

        Raises:
            InvalidTask: there can be none such.
            Problem: the client may not have it.
        """
        body = self._body
        callbacks: dict[str, Any] = {name: self._calls(body.get(name, ())) for name in _EVENTS}
        flow = Flow(
            self._home, body.get("name", ""), on_failure=_policy(body.get("on_failure", "stop")), unique=self._unique,
            keep=body.get("keep", 86400.0), **callbacks,
        )  # fmt: skip
        flow.once, flow.trace, flow.patience = self._once, self._trace, _PATIENCE
        for number, node in enumerate(body["nodes"]):
            try:
                ref = self._add(flow, node)
            except InvalidTask as error:
                raise InvalidTask(f"nodes[{number}]: {error}") from None
            self._refs.append(ref)
            if name := node.get("name", ""):
                if name in self._names:
                    raise InvalidTask(f"nodes[{number}]: another node is called {name!r:.100}, too")
                self._names[name] = ref
        return flow

    def _add(self, flow: Flow, node: Mapping[str, Any]) -> Ref:
        # `group` is an option of a call, too, where it is a text.
        kinds = [kind for kind in _KINDS if kind in node and not (kind == "group" and isinstance(node["group"], str))]
        if len(kinds) != 1:
            raise InvalidTask(f"a node has one of {', '.join(_KINDS)}")
        (kind,) = kinds
        if odd := node.keys() - {kind, "name", *_OF_KINDS[kind]}:
            raise InvalidTask(f"a node with {kind} has no {min(odd)}")
        name, when = node.get("label", node.get("name", "")), _when(node.get("when"))
        if kind == "map":
            if not (over := node.get("over", [])):
                raise InvalidTask("a map has `over`: the node whose result it is about")
            refs = [self._ref(each) for each in (over if isinstance(over, list) else [over])]
            source = Ref(tuple(block for ref in refs for block in ref.blocks))
            return flow.map(cast("Any", self._call(node["map"])), over=source, when=when, name=name)
        after = [self._after(each) for each in node.get("after", ())]
        if kind == "wait":
            return flow.wait(node["wait"].get("signal", ""), after=after, timeout=node["wait"].get("timeout"))
        part = Group(tuple(self._calls(node["group"]))) if kind == "group" else self._call(node)
        more = {each: self._calls(node.get(each, ())) for each in ("on_success", "on_error")}
        return flow.add(part, after=after, when=when, name=name, **more)

    def _calls(self, bodies: Sequence[Mapping[str, Any]]) -> list[On]:
        return [self._call(each) for each in bodies]

    def _call(self, body: Mapping[str, Any]) -> On:
        place = body.get("queue", self._home.name)
        Keys(place)  # no queue can have this name, says that
        self._grant.check("enqueue", place)
        task = task_of({name: value for name, value in body.items() if name in CALL and name != "queue"})
        self._grant.check_function(task.func_path)
        return on(place, task)

    def _after(self, said: Any) -> Ref:
        if not isinstance(said, dict):
            return self._ref(said)
        if "node" not in said or said.keys() - {"node", "when"}:
            raise InvalidTask('`after` has names or numbers of nodes, or {"node": …, "when": …}')
        ref, when = self._ref(said["node"]), _when(said.get("when"))
        return ref if when is None else ref.when(when)

    def _ref(self, said: Any) -> Ref:
        """The node of a name or a number, which stands before this one: so there are no circles."""
        ref = None
        if isinstance(said, float) and said.is_integer():
            said = int(said)
        if isinstance(said, str):
            ref = self._names.get(said)
        elif type(said) is int and 0 <= said < len(self._refs):
            ref = self._refs[said]
        if ref is None:
            raise InvalidTask(f"there is no node {said!r:.100} before this one; nodes follow those that they wait for")
        return ref


def _when(said: Any) -> When | None:
    if not isinstance(said, dict):
        return cast("When | None", said)
    return _quorum("when", said)


def _policy(said: Any) -> Policy:
    return _quorum("on_failure", said) if isinstance(said, dict) else cast("Policy", said)


def _quorum(name: str, said: dict[str, Any]) -> Quorum:
    if said.keys() != {"quorum"}:
        raise InvalidTask(f'`{name}` is the name of a policy, or {{"quorum": how many}}')
    return quorum(said["quorum"])


def flow_shown(run: Run, status: FlowStatus) -> dict[str, Any]:
    """A workflow."""
    found = {name: text(value) if isinstance(value, str) else value for name, value in status._asdict().items()}
    return {"id": run.id, "queue": text(run.queue.name), **found, "succeeded": status.succeeded}


def node_shown(node: NodeStatus) -> dict[str, Any]:
    """A node of a workflow."""
    return {name: text(value) if isinstance(value, str) else value for name, value in node._asdict().items()}


def is_node_of(store: Store, member: Member, queue: str) -> bool:
    """Whether a workflow has this node, and has it in this queue: a task can say anything of itself."""
    record, names = store.call("HMGET", store.keys.flow(member.flow), f"s{member.set}", "queues")
    if record is None:
        return False
    found = NodeSet.of(record)
    return found.first <= member.node < found.first + found.size and queues_in(names)[found.queue - 1] == queue


def inputs_of(store: Store, member: Member, first: int, most: int) -> tuple[bool, list[dict[str, Any]], bool]:
    """What a node finds of those before it: whether it is a list, a part of it, and whether there are more."""
    many, indices = sources(store, member.flow, member.set)
    some = indices[first : first + most]
    if not some:
        return many, [], False
    fields = (f"r{index}" for index in some)
    values = store.call("HMGET", store.keys.flow(member.flow), *fields)
    marks = store.call("GETRANGE", store.keys.marks(member.flow), min(some), max(some)).decode("latin-1")
    found = []
    for index, stored in zip(some, values, strict=True):
        state = MARKS.get(marks[index - min(some) :][:1], "waiting")
        found.append({"id": node_id(member.flow, index), "state": state, **outcome(state, b"", stored)})
    return many, found, first + len(some) < len(indices)
