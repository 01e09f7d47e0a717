"""The table of all operations: by it the server finds what a request asks for, and says of itself what it can do."""

from typing import Any

from ..task.headers import TRACE
from . import consume, look, operate, produce, publish
from .calls import Route
from .consumer import LONGEST_WAIT
from .flow_routes import FLOW_ROUTES
from .option_schemas import DURABILITY, KEPT, KEY, LIKE, PREFER, STRING
from .schemas import SCHEMAS
from .watch_routes import WATCH_ROUTES

_LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
_FUNCTION = {"type": "string", "minLength": 1, "description": "A pattern for the path of the function."}
_FILTERS: dict[str, Any] = {name: SCHEMAS["Chosen"]["properties"][name] for name in SCHEMAS["Chosen"]["properties"]}
_SEARCH = {name: schema for name, schema in _FILTERS.items() if name not in ("ids", "all")}
_STATES = ["all", "waiting", "scheduled", "retrying", "key", "running", "dead"]
_Q, _T = "/v1/queues/{queue}", "/v1/leases/{token}"

ROUTES: tuple[Route, ...] = (
    Route(
        "POST", f"{_Q}/tasks", produce.enqueue, "enqueue",
        "Enqueue a task, or many as lines (NDJSON). With a header Idempotency-Key a repeated request adds nothing.",
        takes="NewTask", required=True, gives={201: "Enqueued", 200: "Enqueued", 202: "Enqueued"}, problems=(409,),
        lines=True, query=DURABILITY,
        headers={"Idempotency-Key": KEY, "Idempotency-For": KEPT, "Prefer": PREFER, **dict.fromkeys(TRACE, STRING)},
    ),
    Route(
        "GET", f"{_Q}/tasks", look.list_tasks, "read", "List the first tasks in some state.", gives={200: "Tasks"},
        query={
            "state": {"type": "string", "enum": _STATES, "default": "all"},
            "function": _FUNCTION,
            "text": {"type": "string", "minLength": 1},
            "limit": _LIMIT,
        },
    ),
    Route("GET", f"{_Q}/tasks/{{id}}", look.task, "read", "Say where a task is.", gives={200: "Status"}, problems=(404,)),
    Route(
        "GET", f"{_Q}/tasks/{{id}}/state", look.state, "read",
        "Say in which state a tracked task is, and what has happened to it.", gives={200: "TaskState"}, problems=(404,),
    ),
    Route(
        "POST", f"{_Q}/results", look.results, "read",
        "Say of many tasks how they have ended; null of those that are unknown.",
        takes="Ids", required=True, gives={200: "Results"},
    ),
    Route(
        "GET", f"{_Q}/tasks/{{id}}/result", look.result, "read",
        "Say how a task has ended, or, with 202, that it has not within the time to wait.",
        gives={200: "Result", 202: "Result"}, problems=(404,),
        query={"wait": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0}},
    ),
    Route(
        "POST", f"{_Q}/tasks/{{id}}/cancel", operate.cancel, "operate",
        "Cancel a task: one that waits does not begin; one that runs is told.", takes="Cancel", gives={200: "Cancelled"},
        problems=(404, 409),
    ),
    Route(
        "POST", f"{_Q}/leases", consume.take, "consume",
        "Take tasks. Each is yours until its deadline; what you have not ended by then goes back to its queue.",
        takes="Take", gives={200: "Leases"},
    ),
    Route(
        "POST", "/v1/leases", consume.end_many, "consume",
        "End many leases. Of each the state of its task comes back, or null if you were late.",
        takes="EndMany", required=True, gives={200: "EndedMany"}, problems=(404,),
    ),
    Route(
        "POST", f"{_T}/extend", consume.extend, "consume", "Let a lease live for so many seconds from now on.",
        takes="Extend", required=True, gives={200: "Held"}, problems=(404, 409),
    ),
    Route(
        "POST", f"{_T}/progress", consume.progress, "consume", "Say how far a task is.",
        takes="Progress", required=True, gives={200: "Going"}, problems=(404, 409),
    ),
    Route(
        "POST", f"{_T}/succeed", consume.succeed, "consume", "The task is done.",
        takes="Succeed", gives={200: "Ended"}, problems=(404, 409),
    ),
    Route(
        "POST", f"{_T}/retry", consume.retry, "consume",
        "The attempt has failed: the task runs again as often as it says itself, and is a dead letter after that.",
        takes="Retry", gives={200: "Ended"}, problems=(404, 409),
    ),
    Route(
        "POST", f"{_T}/bury", consume.bury, "consume", "The task has failed for good: it is a dead letter.",
        takes="Bury", gives={200: "Ended"}, problems=(404, 409),
    ),
    Route(
        "POST", f"{_T}/release", consume.release, "consume", "The task goes back to the head of its queue, untouched.",
        takes="Nothing", gives={200: "Ended"}, problems=(404, 409),
    ),
    Route(
        "GET", "/v1/queues", look.queues, "read", "List the queues that are served.",
        gives={200: "Queues"}, query={"after": STRING, **LIKE},
    ),
    Route("GET", _Q, look.queue, "read", "Show a queue at one moment.", gives={200: "Queue"}),
    Route("GET", f"{_Q}/workers", look.workers, "read", "List the processes that serve a queue.", gives={200: "Workers"}),
    Route(
        "GET", f"{_Q}/scale", look.scale, "read", "Say how many workers would meet an objective: seconds that a task waits.",
        gives={200: "Scale"}, query={"slo": {"type": "number", "minimum": 0.001, "maximum": 1e9, "default": 30}},
    ),
    Route("GET", f"{_Q}/schedules", look.schedules, "read", "List the schedules of a queue.", gives={200: "Schedules"}),
    Route(
        "GET", f"{_Q}/dead", look.letters, "read", "List dead letters, newest first.", gives={200: "Letters"},
        query={**_SEARCH, "limit": _LIMIT, "after": {"type": "string", "pattern": r"^[0-9]{1,19}(-[0-9]{1,19})?$"}},
    ),
    Route("GET", f"{_Q}/dead/{{letter}}", look.letter, "read", "Show a dead letter.", gives={200: "Letter"}, problems=(404,)),
    Route(
        "POST", f"{_Q}/dead/retry", operate.retry_letters, "operate", "Put dead letters back to the end of their queue.",
        takes="Chosen", required=True, gives={200: "Count"},
    ),
    Route(
        "POST", f"{_Q}/dead/remove", operate.remove_letters, "operate", "Remove dead letters for good.",
        takes="Chosen", required=True, gives={200: "Count"},
    ),
    Route(
        "POST", "/v1/publish", publish.publish, "enqueue", "Put a copy into each queue that has an interest in it.",
        takes="Publish", required=True, gives={200: "Copies"}, query={**DURABILITY, **LIKE},
        headers=dict.fromkeys(TRACE, STRING),
    ),
    Route(
        "GET", "/v1/interests", publish.list_interests, "read", "List the interests of queues.",
        gives={200: "Interests"}, query=LIKE,
    ),
    Route(
        "PUT", f"{_Q}/interest", publish.set_interest, "operate", "Let a queue get copies of what is published and fits.",
        takes="NewInterest", required=True, gives={200: "Interest"},
    ),
    Route(
        "DELETE", f"{_Q}/interest", publish.remove_interest, "operate", "Let a queue get no copies any more.", problems=(404,)
    ),
    Route("POST", f"{_Q}/pause", operate.pause, "operate", "From now on nobody takes a task from it.", takes="Nothing"),
    Route("POST", f"{_Q}/resume", operate.resume, "operate", "The opposite of pause.", takes="Nothing"),
    Route(
        "PUT", f"{_Q}/limits", operate.limit, "operate",
        "Set all limits of a queue: tasks at once, and tasks that begin in a second. What is not given is not limited.",
        takes="Limits", required=True,
    ),
    Route(
        "POST", f"{_Q}/purge", operate.purge_queue, "operate", "Remove all tasks that wait.", takes="Nothing",
        gives={200: "Count"},
    ),
    *FLOW_ROUTES,
    *WATCH_ROUTES,
)  # fmt: skip
