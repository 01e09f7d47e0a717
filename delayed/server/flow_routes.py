"""The table of operations on workflows."""

from typing import Any

from ..task.headers import TRACE
from . import consume, flows
from .calls import Route
from .consumer import LONGEST_WAIT
from .flow_schemas import NODE_STATES, STATES
from .option_schemas import DURABILITY, KEY, STRING, TEXT

_F = "/v1/workflows"
_ID = f"{_F}/{{id}}"
_HOME: dict[str, Any] = {
    "queue": {**TEXT, "description": "Its home. Without it, it is looked for in the queues that are served."}
}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
_WAIT = {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0}

FLOW_ROUTES: tuple[Route, ...] = (
    Route(
        "POST", _F, flows.submit, "enqueue",
        "Create a workflow, whole or not at all. With a header Idempotency-Key a repeated request adds nothing.",
        takes="NewFlow", required=True, gives={201: "Enqueued", 200: "Enqueued"}, problems=(409,),
        query=DURABILITY, headers={"Idempotency-Key": KEY, **dict.fromkeys(TRACE, STRING)},
    ),
    Route(
        "GET", _F, flows.list_flows, "read",
        "List the workflows of a queue: first those that go on, then those that have ended last.", gives={200: "Flows"},
        query={
            "queue": {**TEXT, "default": flows.HOME},
            "state": {"type": "string", "enum": list(STATES)},
            "ended": {"type": "string", "enum": ["true", "false"], "default": "true"},
            "limit": _LIMIT,
            "after": {"type": "string", "pattern": r"^[0-9]{1,15}\.[A-Za-z0-9_-]{1,16}$"},
        },
    ),
    Route(
        "GET", _ID, flows.show_flow, "read", "Say how a workflow stands, at once or when it has ended.",
        gives={200: "Flow"}, problems=(404,), query={**_HOME, "wait": _WAIT},
    ),
    Route(
        "GET", f"{_ID}/result", flows.flow_result, "read",
        "Say how a workflow has ended, or, with 202, that it has not within the time to wait.",
        gives={200: "Result", 202: "Result"}, problems=(404,), query={**_HOME, "wait": _WAIT},
    ),
    Route(
        "GET", f"{_ID}/nodes", flows.list_nodes, "read", "List the nodes of a workflow.", gives={200: "Nodes"},
        problems=(404,),
        query={
            **_HOME,
            "state": {"type": "string", "enum": list(NODE_STATES)},
            "limit": {**_LIMIT, "default": 100},
            "after": {"type": "integer", "minimum": 0, "maximum": 2**31},
        },
    ),
    Route(
        "GET", f"{_ID}/nodes/{{node}}", flows.show_node, "read",
        "Show a node, by its number, its label or its id; or, as @3, the first one of a set of nodes.",
        gives={200: "NodeResult"}, problems=(404,), query=_HOME,
    ),
    Route(
        "POST", f"{_ID}/cancel", flows.cancel_workflow, "operate",
        "Cancel a workflow: what waits does not begin; what runs is told.", takes="Nothing", gives={200: "Cancelled"},
        problems=(404, 409), query=_HOME,
    ),
    Route(
        "POST", f"{_ID}/retry", flows.retry_workflow, "operate",
        "Let a workflow that has ended go on. How many nodes are to run comes back.", takes="FlowRetry", gives={200: "Count"},
        problems=(404, 409), query=_HOME,
    ),
    Route(
        "POST", f"{_ID}/signal", flows.signal_workflow, "enqueue", "Let what waits for a signal go on, or will wait for it.",
        takes="Signal", required=True, gives={200: "Signalled"}, problems=(404, 409), query=_HOME,
    ),
    Route(
        "GET", "/v1/leases/{token}/inputs", consume.inputs, "consume",
        "Show what the node of a workflow that is held finds of the nodes before it.", gives={200: "Inputs"},
        problems=(404, 409),
        query={"limit": {**_LIMIT, "default": 100}, "after": {"type": "integer", "minimum": 0, "maximum": 2**31}},
    ),
)  # fmt: skip
