"""Requests to an application of the server, without a network."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from delayed.server.http import WHEN_GONE, WHOLE

Scope = dict[str, Any]
Application = Callable[..., Awaitable[None]]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The value in the body."""
        return json.loads(self.body)


async def ask(
    app: Application,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    headers: dict[str, str] | None = None,
    client: tuple[str, int] = ("127.0.0.1", 5000),
) -> Answer:
    """One request; `path` is as it is sent, with its query."""
    scope = _scope(method, path, headers, client)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(each.get("body", b"") for each in sent[1:]))


async def leave(app: Application, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None) -> None:
    """One request, whose client goes when its answer comes."""
    gone: list[Callable[[], None] | None] = []
    scope = {**_scope(method, path, headers, ("127.0.0.1", 5000)), WHEN_GONE: gone.append, WHOLE: body}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert gone, "nobody heeds that the client goes"
        if gone[-1] is not None:
            gone[-1]()
        await asyncio.sleep(60)

    await app(scope, receive, send)


def _scope(method: str, path: str, headers: dict[str, str] | None, client: tuple[str, int]) -> Scope:
    raw, _, query = path.partition("?")
    fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return {
        "type": "http", "method": method, "path": raw, "raw_path": raw.encode(), "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), *fields], "client": client,
    }  # fmt: skip
