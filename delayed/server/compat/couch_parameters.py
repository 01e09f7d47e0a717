"""How clients call CouchQueue: actions, the routes to them, and parameters from the query, a form, JSON or multipart."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ..http import Problem, Request
from ..mapping import DEPTH, depth_of

_MOST = 1000  # parameters
_HEAD = 16_384  # bytes of what comes before the content of a part that are looked at
_TOO_MANY = f"the body has {_MOST:,} parameters at most"
_NO_FORM = "the body is no multipart/form-data"
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_BLANK = re.compile(rb"\r?\n\r?\n")
_NAME = re.compile(rb'(?:\A|\n)content-disposition:[^\r\n]*?;[ \t]*name=(?:"([^"\r\n]*)"|([^\s;]+))', re.IGNORECASE)
_GENERAL = ("action", "limit", "offset", "callback", "outputType")
_LIMIT = 100
_LARGEST = 2**53


class InternalError(Exception):
    """What CouchQueue calls an internal error: it says nothing more."""


class Refusal(Exception):
    """An action was not carried out. Its words are CouchQueue's.

    Args:
        error: what is wrong.
        fields: what is said beside.
    """

    def __init__(self, error: str, **fields: Any) -> None:
        super().__init__(error)
        self.error, self.fields = error, fields


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


def of_query(request: Request) -> dict[str, Any]:
    """The parameters of a request that are in its query.

    Raises:
        Problem: there are too many.
    """
    return _kept(request, request.query)


def parameters(request: Request, body: bytes) -> dict[str, Any]:
    """The parameters of a request, those of its body before those of the query.

    Raises:
        Problem: the body is none of the kinds that are known.
    """
    return _kept(request, {**request.query, **dict(_of_body(request, body))})


def _kept(request: Request, found: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are known. The last ones are there in any case."""
    kept = {name: value for name, value in found.items() if name in _KNOWN and value not in ("", None)}
    ends = {"limit": _count(kept.get("limit"), _LIMIT), "offset": _count(kept.get("offset"), 0)}
    rest = {name: value for name, value in kept.items() if name not in ("action", *ends)}
    return {**rest, "action": _action_of(request, kept), **ends}


def _action_of(request: Request, given: Mapping[str, Any]) -> str:
    """The name of the action that a request asks for; it may be one that there is not."""
    segments = [each for each in request.segments if each]
    below = segments[1:] if segments and segments[0].lower() == "api" else segments
    if not below:
        return str(given.get("action", ""))
    return _ROUTES.get((below[0].lower(), request.method), below[0])


def _of_body(request: Request, body: bytes) -> Iterable[tuple[str, Any]]:
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
        raise Problem(400, _TOO_MANY) from None


def _of_parts(kind: str, body: bytes) -> list[tuple[str, str]]:
    """The parameters in the parts of a form (RFC 7578)."""
    match = _BOUNDARY.search(kind)
    if match is None:
        raise Problem(400, _NO_FORM)
    found: list[tuple[str, str]] = []
    for count, part in enumerate(_parts((match[1] or match[2]).encode("latin-1", errors="replace"), body)):
        if count == _MOST:
            raise Problem(400, _TOO_MANY)
        head, *content = _BLANK.split(part, 1)
        name = _NAME.search(head, 0, _HEAD) if content else None
        if name is not None:
            found.append(((name[1] or name[2]).decode(errors="replace"), content[0].decode(errors="replace")))
    return found


def _parts(boundary: bytes, body: bytes) -> Iterator[bytes]:
    """What stands between the lines with the boundary."""
    text, begins = b"--" + re.escape(boundary), -1
    for line in re.finditer(rb"%b(?<![^\n]%b)(--)?[ \t]*+(?=\r?\n|\Z)" % (text, text), body):
        if begins >= 0:
            yield body[begins : line.start()].removesuffix(b"\n").removesuffix(b"\r")
        if line[1]:
            return
        begins = line.end()
    if begins < 0:
        raise Problem(400, _NO_FORM)
    yield body[begins:]


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
    if depth_of(text.encode(errors="replace")) > DEPTH:
        raise ValueError(f"it is nested more than {DEPTH} levels deep")
    return json.loads(text, parse_int=_whole, parse_constant=_refuse)


def json_in(text: object) -> Any:
    """The value of a parameter that is JSON, as a string.

    Raises:
        InternalError: it is none.
    """
    if not isinstance(text, str):
        raise InternalError
    try:
        return read_json(text)
    except ValueError:
        raise InternalError from None


def _whole(text: str) -> int | float:
    if len(text) > 18:  # digits that 64 bits have in any case
        return float(text)
    return int(text)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def is_true(value: object) -> bool:
    """Whether a parameter says yes."""
    return value is True or str(value).strip().lower() in ("true", "1", "1.0", "yes", "on")
