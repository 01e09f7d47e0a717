"""Workflows in the forms that a server takes and gives."""

from typing import Any

from ..errors import NotEncodable, UnknownTask
from ..queue.waits import ENDED
from ..task.codec import not_encodable
from ..task.result import State, value_of
from ..task.task import GoTask, Task
from ..workflow.compose import Flow
from ..workflow.graph import Block, Quorum, When
from ..workflow.run import FlowStatus, NodeStatus
from .values import body_of_task, outcome_of


def body_of_flow(flow: Flow) -> dict[str, Any]:
    """A workflow as a server takes it: NewFlow.

    Raises:
        InvalidTask: it cannot be, or has no form in JSON.
    """
    home = flow.home.name
    body: dict[str, Any] = {"queue": home, "keep": flow.keep, "on_failure": _when(flow.graph.policy)}
    if flow.name:
        body["name"] = flow.name
    if flow.unique is not None:
        body |= {"unique": flow.unique, "join": flow.join}
    body["nodes"] = [_node(block, home, flow.graph.default) for block in flow.graph.blocks]
    for event, tasks, queue in flow.callbacks():
        body[f"then_{event}"] = [_call(task, queue, home) for task in tasks]
    return body


def _node(block: Block, home: str, policy: When) -> dict[str, Any]:
    calls = [_call(task, block.queue, home) for task in block.tasks]
    node: dict[str, Any]
    if block.wait is not None:
        milliseconds, signal = block.wait
        waits = {"signal": signal, "timeout": milliseconds / 1000}
        node = {"wait": {name: value for name, value in waits.items() if value}}
    elif block.kind == "m":
        ((_, mode), *_) = block.after
        node = {"map": calls[0], "over": [each.number for each, _ in block.after]}
        if mode != policy:
            node["when"] = _when(mode)
    else:
        node = {"group": calls} if block.many or block.size != 1 else calls[0]
    if block.kind != "m" and block.after:
        node["after"] = [
            each.number if mode == policy else {"node": each.number, "when": _when(mode)} for each, mode in block.after
        ]
    if block.wait is None and block.label not in ("", *(task.func_path for task in block.tasks[:1])):
        node["label"] = block.label
    return node


def _call(task: Task, queue: str, home: str) -> dict[str, Any]:
    try:
        body = body_of_task(task, None)
    except NotEncodable:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        arguments = {"args": task.args, **({} if isinstance(task, GoTask) else {"kwargs": task.kwargs})}
        raise not_encodable(task.func_path, arguments, error) from error
    return body if queue == home else body | {"queue": queue}


def _when(mode: When) -> Any:
    return {"quorum": mode.need} if isinstance(mode, Quorum) else mode


def flow_status_in(found: dict[str, Any]) -> FlowStatus:
    """How a workflow stands, from a Flow."""
    return FlowStatus(**{name: found[name] for name in FlowStatus._fields})


def node_in(found: dict[str, Any]) -> NodeStatus:
    """A node, from a Node."""
    return NodeStatus(**{name: found[name] for name in NodeStatus._fields})


def node_value_in(found: dict[str, Any], flow: str) -> Any:
    """What a node has returned, from a NodeResult; raises as `Run.value`."""
    if found["state"].encode() not in ENDED:
        raise UnknownTask(f"node {found['id']} of workflow {flow} has no result: it is {found['state']}")
    if found["state"] == State.SUCCEEDED and not found.get("kept"):
        return None
    result = outcome_of(found)[2]
    assert result is not None
    return value_of(result, f"node {found['id']}")
