"""Requests to a server, and what its answers mean, however they are sent."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

from ..errors import (
    ConfigurationError,
    DelayedError,
    Duplicate,
    InvalidTask,
    NotDurable,
    NotEncodable,
    TaskTooLarge,
    UnknownTask,
)
from ..redis.command import ConnectionError, ResponseError
from ..redis.foreign import ForeignType
from ..server.mapping import NotJSON, parse
from ..task.headers import TRACE
from .errors import AccessDenied, ServerError

JSON, NDJSON = "application/json", "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Args:
        method: of HTTP.
        path: with its query.
        body: what is sent.
        media: of which type that is.
        key: by which the server knows it again, for so many seconds as
        keep: says.
        repeatable: whether it may be sent again after it may have been carried out.
        wait: seconds that the server may take by itself.
        patience: seconds for which it is sent again, at most; None for as long as others are.
        invalid: what it is called that the server finds wrong with it.
        trace: the W3C trace context of its tasks: `traceparent` and `tracestate`; None for none.
    """

    method: str
    path: str
    body: bytes | None = None
    media: str = JSON
    key: str | None = None
    keep: int = 0
    repeatable: bool = True
    wait: float = 0.0
    patience: float | None = None
    invalid: type[DelayedError] = InvalidTask
    trace: tuple[str, str] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What it says of itself."""
        found = {"content-type": self.media} if self.body is not None else {}
        if self.key is not None:
            found |= {"idempotency-key": self.key, "idempotency-for": str(self.keep)}
        return found | {name: text for name, text in zip(TRACE, self.trace or (), strict=False) if text}


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: of HTTP.
        body: as it came.
        headers: by their names in lower case.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @cached_property
    def value(self) -> Any:
        """The value in the body.

        Raises:
            ServerError: there is none.
        """
        try:
            return parse(self.body)
        except NotJSON:
            pass
        try:  # something in it cannot be read, and is shown in base64
            return json.loads(self.body)
        except ValueError:
            raise ServerError(f"the server answers {self.status} with {self.body[:200]!r}", self.status) from None

    @property
    def says(self) -> dict[str, Any]:
        """What it says of a problem; nothing if it is none of ours, such as that of a proxy."""
        try:
            found = self.value
        except ServerError:
            return {}
        return found if isinstance(found, dict) and "detail" in found else {}


def at(queue: str, *parts: str) -> str:
    """The path of something of a queue."""
    names = (queue, *parts)
    return "/v1/queues/" + "/".join(quote(each, safe="", errors="surrogateescape") for each in names)


def body_of(value: Any) -> bytes:
    """A value of JSON, as it is sent.

    Raises:
        NotEncodable: a text in it has no form in UTF-8.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise NotEncodable(f"a text cannot be sent over HTTP, as it has no form in UTF-8: {error}") from None


def checked(answer: Answer, ask: Ask) -> Answer:
    """The answer, if the server has done what it was asked for; raises what a queue raises otherwise."""
    if answer.status < 300:
        return answer
    raise error_of(answer, ask)


def error_of(answer: Answer, ask: Ask) -> Exception:
    """The error that an answer means."""
    says = answer.says
    detail, code = str(says.get("detail", "")), str(says.get("code", ""))
    detail = detail or f"the server answers {answer.status} to {ask.method} {ask.path}: {answer.body[:200]!r}"
    if code == "duplicate":
        return Duplicate(detail, str(says.get("id", "")))
    if code == "not-durable":
        return NotDurable(int(says.get("acknowledged", 0)), detail.removeprefix("not durable: "))
    if code in _BY_CODE:
        return _BY_CODE[code](detail)
    if answer.status in (401, 403):
        return AccessDenied(detail, answer.status, code)
    return ask.invalid(detail) if answer.status == 422 else ServerError(detail, answer.status, code)


def _refusal(detail: str) -> ResponseError:
    return (ForeignType if detail.startswith("WRONGTYPE: ") else ResponseError)(detail)


_BY_CODE: dict[str, Callable[[str], Exception]] = {
    "task-too-large": TaskTooLarge,
    "invalid-task": InvalidTask,
    "not-json": lambda detail: NotEncodable(f"the server cannot read the task: {detail}"),
    "queue-name": ConfigurationError,
    "not-possible": ConfigurationError,
    "unknown-task": UnknownTask,
    "unknown-workflow": UnknownTask,
    "unknown-node": UnknownTask,
    "not-now": InvalidTask,
    "redis-refuses": lambda detail: _refusal(detail.removeprefix("Redis refuses it: ")),
    "redis-away": ConnectionError,
}
