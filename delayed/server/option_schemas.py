"""The shapes of tasks, and what other shapes are made of, as JSON Schema."""

from typing import Any

from ..task.options import UNIQUE_MODES

_MOST_SECONDS = 1e11
TEXT = {"type": "string", "minLength": 1}
_SPAN = {"type": "number", "minimum": 0.001, "maximum": _MOST_SECONDS}
NUMBER = {"type": "number"}
COUNT = {"type": "integer", "minimum": 0}
MAYBE_NUMBER = {"type": ["number", "null"]}
VALUE = {"description": "Any value; see the mapping of types in docs/server.md."}
_ERRORS = {"type": "array", "items": TEXT, "maxItems": 100, "description": "Names of errors, as module.Name or Name."}
STRING = {"type": "string"}
KEY = {"type": "string", "minLength": 1, "maxLength": 255, "description": "A repeated request with it adds nothing."}
KEPT = {"type": "integer", "minimum": 1, "maximum": 86400, "description": "Seconds for which the key is known."}


def ref(name: str) -> dict[str, Any]:
    """A reference to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    found = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return found | ({"required": list(required)} if required else {})


OPTIONS: dict[str, Any] = {
    "retry": {"type": "integer", "minimum": -(2**53), "maximum": 2**53, "description": "Attempts after a failed one."},
    "backoff": object_of(
        {
            "kind": {"type": "string", "enum": ["constant", "linear", "exponential"]},
            "base": {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_SECONDS},
            "cap": {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_SECONDS},
            "jitter": {"type": "boolean"},
        },
        ("kind", "base"),
        description="Pauses between attempts, in seconds.",
    ),
    "retry_on": _ERRORS,
    "give_up_on": _ERRORS,
    "timeout": _SPAN,
    "hard_timeout": _SPAN,
    "expires": {**_SPAN, "description": "Seconds after which it is too late to begin."},
    "expires_at": {"type": "string", "format": "date-time"},
    "delay": {"type": "number", "minimum": 0, "maximum": _MOST_SECONDS, "description": "Seconds until it may begin."},
    "at": {"type": "string", "format": "date-time", "description": "When it may begin."},
    "track": {"type": "boolean", "description": "Keep its state."},
    "result_ttl": {**_SPAN, "description": "Seconds that its result is kept."},
    "unique": {**TEXT, "description": "While another task has this key, this one is refused."},
    "unique_mode": {"type": "string", "enum": list(UNIQUE_MODES)},
    "unique_for": _SPAN,
    "join": {"type": "boolean", "description": "Not refused: the answer is about the other task."},
    "group": {**TEXT, "description": "Groups take turns."},
    "concurrency_key": TEXT,
    "concurrency": {"type": "integer", "minimum": 1, "maximum": 2**53},
    "rate_key": TEXT,
    "rate": {"type": "number", "minimum": 0.0001, "maximum": 1000000},
    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
}
LIKE: dict[str, Any] = {
    "like": {**TEXT, "description": "On Redis Cluster: one of the queues that are meant, which all have its {tag}."}
}
PREFER = {"type": "string", "description": "respond-async: the answer comes before Redis has the task."}
DURABILITY: dict[str, Any] = {
    "durability": {
        "type": "string",
        "pattern": r"^(memory|aof|replicas:[1-9][0-9]{0,3})$",
        "default": "memory",
        "description": "What the answer waits for: nothing, the disk, or replicas.",
    },
    "durability_timeout": {"type": "number", "minimum": 0.001, "maximum": 30, "default": 3, "description": "Seconds."},
}
