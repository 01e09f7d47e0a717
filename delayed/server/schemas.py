"""The shapes of what is sent and received, as JSON Schema."""

from typing import Any

from ..errors import Reason
from ..ops.jobs import LETTERS, WAITING
from ..ops.statistics import Sums
from ..ops.watch import KINDS
from ..redis.statistics import OUTCOMES
from ..task.result import State
from .consumer import LONGEST_TTL, LONGEST_WAIT, SHORTEST_TTL
from .flow_schemas import FLOW_SCHEMAS
from .line import MOST
from .option_schemas import COUNT, MAYBE_NUMBER, NUMBER, OPTIONS, STRING, TEXT, VALUE, object_of, ref

_ID = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{16}$"}
_ACTIONS = ("succeed", "retry", "bury", "release")
_END: dict[str, Any] = {
    "result": {**VALUE, "description": "What the task has returned."},
    "error": {"type": "string", "maxLength": 10000, "description": "What went wrong."},
    "kind": {"type": "string", "maxLength": 200, "pattern": r"^(?:\w+\.)*\w+$", "description": "The name of the error."},
    "detail": {"type": "string", "maxLength": 100000, "description": "More of it, such as a traceback."},
    "delay": {"type": "number", "minimum": 0, "maximum": 315360000, "description": "Seconds until the next attempt."},
    "counted": {"type": "boolean", "description": "Whether it uses up one of the retries."},
    "reason": {"type": "string", "enum": [str(reason) for reason in Reason], "description": "Of the dead letter."},
}
_OF_RETRY = ("error", "kind", "detail", "delay", "counted")
_SEARCH: dict[str, Any] = {
    "function": {**TEXT, "description": "A pattern for the path of the function."},
    "error": {**TEXT, "description": "Part of the detail."},
    "text": {**TEXT, "description": "Part of the task as it is shown."},
    "reason": _END["reason"],
    "cause": TEXT,
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
}
_LETTERS = object_of(
    {
        "ids": {"type": "array", "items": {"type": "string", "pattern": r"^\d{1,19}(-\d{1,19})?$"}, "maxItems": 1000},
        "all": {"type": "boolean"},
        **_SEARCH,
    },
    description="Those with these ids, those that fit the filters, or all.",
)
_WAY: dict[str, Any] = {"function": STRING, "args": VALUE, "kwargs": {"type": "object"}}

SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "properties": {"title": STRING, "status": {"type": "integer"}, "code": STRING, "detail": STRING},
        "required": ["title", "status", "code", "detail"],
    },
    "NewTask": object_of(
        {
            "function": {**TEXT, "description": "module.path:function, or, of Go, package/path.Function."},
            "args": {**VALUE, "description": "An array of arguments; of Go, also the only argument."},
            "kwargs": {"type": "object", "description": "Arguments by name."},
            "id": {**_ID, "description": "Of a tracked task, or, in a line or with Idempotency-For, of any."},
            **OPTIONS,
        },
        ("function",),
    ),
    "Enqueued": object_of(
        {
            "queue": STRING,
            "id": {"type": ["string", "null"]},
            "known": {
                "type": ["boolean", "null"],
                "description": "It was there before; nothing was added. Null, if nobody knows yet.",
            },
        }
    ),
    "EnqueuedMany": object_of({"queue": STRING, "count": COUNT}),
    "Take": object_of(
        {
            "max": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 1},
            "wait": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
            "ttl": {"type": "number", "minimum": SHORTEST_TTL, "maximum": LONGEST_TTL, "default": 60},
        }
    ),
    "Lease": object_of(
        {
            "token": STRING,
            "queue": STRING,
            "id": {"type": ["string", "null"]},
            **_WAY,
            "attempt": COUNT,
            "workflow": {"type": ["string", "null"], "description": "Of which it is a node."},
            "deadline": NUMBER,
            "metadata": {"type": "object", "additionalProperties": STRING},
            "timeout": MAYBE_NUMBER,
            "trace": {
                "type": ["object", "null"],
                "additionalProperties": STRING,
                "description": "`traceparent` and `tracestate` of the enqueue, to which a consumer can link its span.",
            },
        }
    ),
    "Leases": object_of({"leases": {"type": "array", "items": ref("Lease")}}),
    "Extend": object_of({"ttl": {"type": "number", "minimum": SHORTEST_TTL, "maximum": LONGEST_TTL}}, ("ttl",)),
    "Progress": object_of({"done": NUMBER, "total": MAYBE_NUMBER, "note": {"type": "string", "maxLength": 1000}}, ("done",)),
    "Succeed": object_of({"result": _END["result"]}),
    "Retry": object_of({name: _END[name] for name in _OF_RETRY}),
    "Bury": object_of({"reason": _END["reason"], "detail": _END["detail"]}),
    "Nothing": object_of({}),
    "Held": object_of({"deadline": NUMBER, "cancelled": {"type": "boolean"}}),
    "Going": object_of({"cancelled": {"type": "boolean", "description": "Somebody has cancelled the task: it should end."}}),
    "Ended": object_of({"state": STRING}),
    "EndMany": object_of(
        {
            "endings": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1000,
                "items": object_of(
                    {"token": STRING, "action": {"type": "string", "enum": list(_ACTIONS)}, **_END}, ("token", "action")
                ),
            }
        },
        ("endings",),
    ),
    "EndedMany": object_of({"states": {"type": "array", "items": {"type": ["string", "null"]}}}),
    "Status": object_of(
        {
            "id": STRING,
            "queue": STRING,
            "state": STRING,
            "function": {"type": ["string", "null"]},
            **dict.fromkeys(("enqueued", "due", "started", "done", "total"), MAYBE_NUMBER),
            "attempt": {"type": ["integer", "null"]},
            **dict.fromkeys(("worker", "error", "waits", "note"), STRING),
            "letter": {"type": ["string", "null"], "description": "Its dead letter."},
        }
    ),
    "TaskState": object_of(
        {
            "id": STRING,
            "queue": STRING,
            "state": {"type": "string", "enum": [str(state) for state in State]},
            **dict.fromkeys(("enqueued", "due", "started", "done", "total"), MAYBE_NUMBER),
            "attempt": {"type": ["integer", "null"]},
            **dict.fromkeys(("worker", "error", "waits", "note"), STRING),
            "timeline": {"type": "array", "items": ref("Happening")},
        }
    ),
    "Happening": object_of(
        {
            "event": STRING,
            **dict.fromkeys(("time", "seconds", "due"), MAYBE_NUMBER),
            "attempt": {"type": ["integer", "null"]},
            "times": {"type": ["integer", "null"]},
            **dict.fromkeys(("worker", "detail"), STRING),
        }
    ),
    "Ids": object_of({"ids": {"type": "array", "items": _ID, "maxItems": 1000}}, ("ids",)),
    "Results": object_of({"results": {"type": "array", "items": {"description": "A Result, or null."}}}),
    "Result": object_of(
        {
            "id": STRING,
            "queue": STRING,
            "state": {"type": "string", "enum": [str(state) for state in State]},
            "result": VALUE,
            "kept": {"type": "boolean", "description": "Whether a result is kept."},
            "error": object_of({"kind": STRING, "message": STRING, "traceback": STRING}),
            "unreadable": {"type": "boolean", "description": "Another program has written what stands there as its result."},
        }
    ),
    "Task": object_of(
        {
            "queue": STRING,
            "id": {"type": ["string", "null"]},
            "state": STRING,
            "where": STRING,
            **_WAY,
            "due": MAYBE_NUMBER,
            "since": MAYBE_NUMBER,
            "attempt": {"type": ["integer", "null"]},
            "error": STRING,
            "worker": STRING,
        }
    ),
    "Tasks": object_of(
        {"tasks": {"type": "array", "items": ref("Task")}, "looked_at": COUNT, "total": COUNT, "more": {"type": "boolean"}}
    ),
    "Limits": object_of(
        {
            "concurrency": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**53},
            "rate": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9},
            "burst": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**53},
        }
    ),
    "Queue": {"type": "object", "description": "A queue at one moment; its fields are those of `delayed info --json`."},
    "Queues": object_of({"queues": {"type": "array", "items": ref("Queue")}, "next": {"type": ["string", "null"]}}),
    "Workers": object_of({"workers": {"type": "array", "items": {"type": "object"}}}),
    "Letter": object_of(
        {
            "letter": STRING,
            "time": NUMBER,
            "reason": STRING,
            "detail": STRING,
            "worker": STRING,
            "id": {"type": ["string", "null"]},
            "attempts": {"type": ["integer", "null"]},
            **_WAY,
        }
    ),
    "Letters": object_of({"letters": {"type": "array", "items": ref("Letter")}, "next": {"type": ["string", "null"]}}),
    "Chosen": _LETTERS,
    "Count": object_of({"count": COUNT}),
    "Publish": object_of({"data": VALUE}, ("data",)),
    "Copies": object_of(
        {
            "copies": {
                "type": "array",
                "items": object_of({"queue": STRING, "id": STRING, "function": {"type": ["string", "null"]}}),
            }
        }
    ),
    "NewInterest": object_of(
        {
            "match": {
                "type": ["object", "array"],
                "additionalProperties": STRING,
                "items": {"type": "array", "items": STRING, "minItems": 2, "maxItems": 2},
                "description": "Patterns for keys, and for their values, also as pairs; one has to fit. Without it, all that "
                "has an entry.",
            },
            "function": TEXT,
            "retry": {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
        },
        ("function",),
    ),
    "Interest": object_of(
        {
            "queue": STRING,
            "match": {"type": "array", "items": {"type": "array", "items": STRING}},
            "function": STRING,
            "retry": {"type": "integer"},
        }
    ),
    "Interests": object_of({"interests": {"type": "array", "items": ref("Interest")}}),
    "Schedules": object_of({"schedules": {"type": "array", "items": {"type": "object"}}}),
    "Scale": object_of(
        {
            "queue": STRING,
            "desired": {"type": "integer", "description": "Workers that would meet the objective."},
            "workers": COUNT,
            "waiting": COUNT,
            "running": COUNT,
            "oldest": {**MAYBE_NUMBER, "description": "Seconds that a task has waited, if that is known."},
            "slo": NUMBER,
        }
    ),
    "Cancel": object_of({"hard": {"type": "boolean", "description": "End its process if it does not end by itself."}}),
    "Cancelled": object_of({"state": {"type": "string", "description": "In which it was."}}),
    **FLOW_SCHEMAS,
    "NewJob": object_of(
        {
            "act": {"type": "string", "enum": [*LETTERS, *WAITING]},
            "letters": object_of(_SEARCH, description="Which dead letters: all, if this is not said."),
            "tasks": object_of(
                {
                    "function": _SEARCH["function"],
                    "text": _SEARCH["text"],
                    "where": {"type": "string", "enum": ["queue", "group", "key", "scheduled"]},
                    "state": {"type": "string", "enum": ["waiting", "scheduled", "retrying"]},
                    "overdue": {"type": "boolean"},
                },
                description="Which tasks that wait: all, if this is not said.",
            ),
            "moment": {"type": "string", "format": "date-time", "description": "To when task.move moves tasks."},
        },
        ("act",),
    ),
    "Job": {"type": "object", "description": "A job; its fields are those of `delayed job show --json`."},
    "Jobs": object_of({"jobs": {"type": "array", "items": ref("Job")}}),
    "Counted": object_of(
        {
            **dict.fromkeys(("started", *OUTCOMES), COUNT),
            **dict.fromkeys(("run_mean", "run_p95", "wait_mean", "wait_p95"), MAYBE_NUMBER),
            "time": {**NUMBER, "description": "Of a step: when it begins."},
        }
    ),
    "Stats": object_of(
        {
            "queue": STRING,
            "period": STRING,
            "step": {**COUNT, "description": "Seconds."},
            "all": ref("Counted"),
            "since": {
                **MAYBE_NUMBER,
                "description": "When `functions` and the times of `all` begin: in the last hour, with an hour.",
            },
            "functions": {"type": "object", "additionalProperties": ref("Counted")},
            "steps": {"type": "array", "items": ref("Counted")},
            "sums": ref("Sums"),
        }
    ),
    "Sums": object_of(
        dict.fromkeys(Sums._fields, COUNT),
        description="What has become of a queue's tasks since it exists, and what is there. Workers count each second or so.",
    ),
    "Event": object_of(
        {
            "kind": {"type": "string", "enum": list(KINDS)},
            "queue": STRING,
            "time": {**NUMBER, "description": "Seconds since 1970."},
            "event": {"type": "object", "description": "What a task has come to, as `delayed history --json` has it."},
            "stats": ref("Sums"),
            "place": {**STRING, "description": "host:pid of a process, or of a task's worker."},
            "process": {"type": "string", "enum": ["worker", "sweeper"]},
        },
        ("kind", "time"),
        description="The data of a server-sent event, whose name is the kind.",
    ),
    "Document": {"type": "object", "description": "The interface in OpenAPI 3.1."},
    "Health": object_of({"ok": {"type": "boolean"}, "detail": STRING}),
}
