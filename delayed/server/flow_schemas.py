"""The shapes of workflows, as JSON Schema."""

from typing import Any, get_args

from ..workflow.again import RetryMode
from ..workflow.graph import MODES, WHOLE
from ..workflow.layout import MARKS
from .option_schemas import COUNT, MAYBE_NUMBER, NUMBER, OPTIONS, STRING, TEXT, VALUE, object_of, ref

_ALONE = ("delay", "at", "rate_key", "rate")  # of tasks that wait for an instant: workflows have nodes that wait
_MOST = 100_000
_SOME = 100  # calls that follow a node, or the workflow
_NAME = {"type": "string", "minLength": 1, "maxLength": 200}
_REF = {"type": ["string", "integer"], "description": "A node that stands before this one: its name, or its number from 0 on."}
_WHEN = {
    "type": ["string", "object"],
    "description": f'What its edges need: {", ".join(MODES)}, or {{"quorum": 2}}.',
}
CALL: dict[str, Any] = {
    "queue": {**TEXT, "description": "Where it runs; the home of the workflow, if that is not said."},
    "function": {**TEXT, "description": "module.path:function, or, of Go, package/path.Function."},
    "args": {**VALUE, "description": "An array of arguments; of Go, also the only argument."},
    "kwargs": {"type": "object", "description": "Arguments by name."},
    **{name: schema for name, schema in OPTIONS.items() if name not in _ALONE},
}
STATES = ("building", "running", "failing", "cancelling", "succeeded", "failed", "cancelled")
NODE_STATES = tuple(sorted({*MARKS.values()}))


def _calls(about: str, most: int = _SOME) -> dict[str, Any]:
    return {"type": "array", "items": ref("FlowCall"), "maxItems": most, "description": about}


_OUTCOME = {
    "result": VALUE,
    "kept": {"type": "boolean", "description": "Whether a result is kept."},
    "error": object_of({"kind": STRING, "message": STRING, "traceback": STRING}),
}
_NODE = {"id": STRING, "number": COUNT, "label": STRING, "queue": STRING, "state": STRING}

FLOW_SCHEMAS: dict[str, Any] = {
    "FlowCall": object_of(CALL, ("function",)),
    "FlowNode": object_of(
        {
            "name": {**_NAME, "description": "By which others refer to it: no other has the same."},
            "label": {**_NAME, "description": "What people call it; by default its name, or its function."},
            **CALL,
            "group": {
                **_calls("Calls beside each other; or, of a call, the group of its task: a text.", _MOST),
                "type": ["array", "string"],
                "minLength": 1,
            },
            "map": {
                **ref("FlowCall"),
                "description": "A call with each element of the result of `over`, which is its first argument.",
            },
            "over": {
                **_REF,
                "type": ["string", "integer", "array"],
                "description": "Of whose result a map is: a node that stands before it; or several, which are like a group.",
            },
            "wait": object_of(
                {"signal": _NAME, "timeout": {"type": "number", "minimum": 0.001, "maximum": 1e9}},
                description="Until a signal comes, at most for so many seconds; without a signal, for so many seconds.",
            ),
            "after": {
                "type": "array",
                "items": {
                    "type": ["string", "integer", "object"],
                    "description": 'A node that stands before this one, or {"node": …, "when": …}.',
                },
                "maxItems": _MOST,
            },
            "when": _WHEN,
            "on_success": _calls("What runs after it has succeeded."),
            "on_error": _calls("What runs after it has failed, which then does not fail the workflow."),
        },
        description="It has one of `function`, `group`, `map` and `wait`.",
    ),
    "NewFlow": object_of(
        {
            "queue": {**TEXT, "default": "default", "description": "Its home: the queue that has its keys."},
            "name": {"type": "string", "maxLength": 200},
            "on_failure": {
                "type": ["string", "object"],
                "default": "stop",
                "description": f'What its nodes need of those before: {", ".join(WHOLE)}, or {{"quorum": 2}}.',
            },
            "unique": {**TEXT, "description": "While a workflow with this key is known, no second one is created."},
            "join": {"type": "boolean", "description": "Not refused: the answer is about the other workflow."},
            "keep": {
                "type": "number",
                "minimum": 1,
                "maximum": 1e9,
                "default": 86400,
                "description": "Seconds after its end.",
            },
            "nodes": {"type": "array", "items": ref("FlowNode"), "minItems": 1, "maxItems": _MOST},
            "then_success": _calls("What runs when it has succeeded."),
            "then_complete": _calls("What runs when it has ended."),
            "then_failure": _calls("What runs at the first failure that nothing provides for."),
        },
        ("nodes",),
    ),
    "Flow": object_of(
        {
            "id": STRING,
            "queue": STRING,
            "name": STRING,
            "state": STRING,
            "created": NUMBER,
            "ended": MAYBE_NUMBER,
            **dict.fromkeys(("total", "left", "succeeded", "failed", "expired", "cancelled", "skipped"), COUNT),
        }
    ),
    "Flows": object_of({"workflows": {"type": "array", "items": ref("Flow")}, "next": {"type": ["string", "null"]}}),
    "Node": object_of(_NODE),
    "Nodes": object_of({"nodes": {"type": "array", "items": ref("Node")}, "next": {"type": ["integer", "null"]}}),
    "NodeResult": object_of({**_NODE, **_OUTCOME}),
    "FlowRetry": object_of({"mode": {"type": "string", "enum": list(get_args(RetryMode)), "default": "failed_only"}}),
    "Signal": object_of(
        {"name": {"type": "string", "pattern": r"^\S{1,200}$"}, "payload": {**VALUE, "description": "What the wait returns."}},
        ("name",),
    ),
    "Signalled": object_of({"first": {"type": "boolean", "description": "Whether it was: others change nothing."}}),
    "Inputs": object_of(
        {
            "many": {"type": "boolean", "description": "Whether the node comes after a group, or after several nodes."},
            "inputs": {"type": "array", "items": object_of({"id": STRING, "state": STRING, **_OUTCOME})},
            "next": {"type": ["integer", "null"]},
        }
    ),
}
