"""How clients call CouchQueue: actions, the routes to them, and parameters from the query, a form, JSON or multipart."""

import email
import email.message
import email.policy
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ..http import Problem, Request

_MOST = 1000  # parameters
_GENERAL = ("action", "limit", "offset", "callback", "outputType")
_LIMIT = 100
_LARGEST = 2**53


class InternalError(Exception):
    """What CouchQueue calls an internal error: it says nothing more."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a client can ask for.

    Args:
        name: what it is called.
        description: a sentence.
        required: parameters, in the order in which they are missed.
        optional: others.
    """

    name: str
    description: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


ACTIONS = {
    each.name: each
    for each in (
        Action(
            "taskCreate",
            "Put a task into the queues that have an interest in its data.",
            ("publisher", "data"),
            ("runAt", "scope", "singularlyEnqueue", "singularlyRun", "fastPost"),
        ),
        Action("taskGet", "Take a task from the queues of a worker.", ("workerId",)),
        Action("taskUpdate", "End a task.", ("workerId", "taskId", "state"), ("failReason", "reEnqueue")),
        Action("workerRegister", "Make a worker for queues.", ("queues",)),
        Action("workerDelete", "Remove a worker, or all workers of a queue.", ("workerId",), ("queue",)),
        Action("interestCreate", "Say what a queue has an interest in.", ("queue", "interests")),
        Action("interestDelete", "Let a queue have no interest.", ("queue",)),
        Action("queueDelete", "Remove a queue and what waits in it.", ("queue",)),
        Action(
            "status",
            "Show what there is.",
            (),
            ("workers", "queues", "interests", "tasksInProgress", "queue", "workerQueue", "failedQueue", "task"),
        ),
        Action("actionsView", "Show the actions."),
    )
}
_ROUTES = {
    ("task", "PUT"): "taskCreate",
    ("task", "GET"): "taskGet",
    ("task", "POST"): "taskUpdate",
    ("worker", "PUT"): "workerRegister",
    ("worker", "DELETE"): "workerDelete",
    ("interest", "PUT"): "interestCreate",
    ("interest", "DELETE"): "interestDelete",
    ("queue", "DELETE"): "queueDelete",
    ("status", "GET"): "status",
}
_KNOWN = {*_GENERAL, *(name for each in ACTIONS.values() for name in (*each.required, *each.optional))}


def action_of(request: Request, given: Mapping[str, Any]) -> str:
    """The name of the action that a request asks for; it may be one that there is not."""
    segments = [each for each in request.segments if each]
    below = segments[1:] if segments and segments[0].lower() == "api" else segments
    if not below:
        return str(given.get("action", ""))
    return _ROUTES.get((below[0].lower(), request.method), below[0])


async def parameters(request: Request) -> dict[str, Any]:
    """The parameters of a request, those of the body before those of the query.

    Raises:
        Problem: the body is too large, or none of the kinds that are known.
    """
    found: dict[str, Any] = dict(request.query)
    found.update(await _of_body(request))
    kept = {name: value for name, value in found.items() if name in _KNOWN and value not in ("", None)}
    kept["limit"], kept["offset"] = _count(kept.get("limit"), _LIMIT), _count(kept.get("offset"), 0)
    return kept


async def _of_body(request: Request) -> Iterable[tuple[str, Any]]:
    body = await request.body()
    if not body:
        return ()
    if request.media == "application/json":
        try:
            value = read_json(body.decode())
        except ValueError as error:
            raise Problem(400, f"the body is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise Problem(400, "the body is no object of parameters")
        return value.items()
    if request.media == "multipart/form-data":
        return _of_parts(request.headers["content-type"], body)
    try:
        return parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=_MOST)
    except ValueError:
        raise Problem(400, f"the body has {_MOST:,} parameters at most") from None


def _of_parts(kind: str, body: bytes) -> list[tuple[str, Any]]:
    head = re.sub(r"[\r\n]", " ", kind).encode("latin-1", errors="replace")
    message = email.message_from_bytes(b"Content-Type: " + head + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    found: list[tuple[str, Any]] = []
    parts = message.get_payload()
    if not isinstance(parts, list):
        raise Problem(400, "the body is no multipart/form-data")
    for part in parts[:_MOST]:
        assert isinstance(part, email.message.Message)
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found.append((name, content.decode(errors="replace")))
    return found


def _count(value: object, instead: int) -> int:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return instead
    return int(number) if 0 <= number < _LARGEST else instead


def read_json(text: str) -> Any:
    """The value of a JSON text, with numbers as JavaScript has them.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _whole(text: str) -> int | float:
    if len(text) > 18:  # digits that 64 bits have in any case
        return float(text)
    return int(text)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def is_true(value: object) -> bool:
    """Whether a parameter says yes."""
    return value is True or str(value).strip().lower() in ("true", "1", "1.0", "yes", "on")
