"""The web UI on the server's own port: for who has a token, with its queues, or, without tokens, for this machine."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..web import Access, app, below
from .access import Grant
from .calls import Services
from .http import Problem, Receive, Request, Response, Scope, Send
from .serve import Settings

PREFIX = "/ui"
_GRANT = "delayed.grant"  # in the scope
_CHALLENGE = {"www-authenticate": 'Basic realm="delayed", charset="UTF-8"'}


def with_ui(settings: Settings) -> Settings:
    """The settings of a server that has the web UI below `PREFIX`, too."""
    ui = Ui()
    return replace(settings, mounts={**(settings.mounts or {}), PREFIX: ui}, beside=(*settings.beside, ui.beside))


class Ui:
    """The web UI. A browser sends a token as the password of basic authentication, with any name."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._app: Any = None
        self._running: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def beside(self, services: Services) -> AsyncIterator[None]:
        """Serve as long as this lasts."""
        self._services = services
        self._app = below(PREFIX, app(services.links.blocking, access=_who))
        services.when_stopping.append(self._stop)
        yield

    async def _stop(self) -> None:
        """End the pages that stay up to date: they would never end by themselves."""
        for task in self._running:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert self._services is not None
        scope = {**scope, "headers": [_as_bearer(*pair) for pair in scope["headers"]]}
        request = Request(scope, receive, self._services.most)
        try:
            scope[_GRANT] = _reading(await self._services.access.grant(request))
        except Problem as problem:
            await (await self._refused(problem)).send(send, head=request.method == "HEAD")
            return
        task = asyncio.create_task(self._app(scope, receive, send))
        self._running.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._running.discard(task)
            task.cancel()
        if task.cancelled():
            await send({"type": "http.response.body", "body": b""})
        else:
            task.result()

    async def _refused(self, problem: Problem) -> Response:
        assert self._services is not None
        headers = {name: value for name, value in problem.headers.items() if name != "www-authenticate"}
        if problem.status == 401 and not await self._services.access.open():
            headers |= _CHALLENGE
        words = f"{problem.detail}\n".encode()
        return Response(words, problem.status, headers, "text/plain; charset=utf-8")


def _as_bearer(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A header; the password of basic authentication as a bearer token."""
    kind, _, text = value.partition(b" ")
    if name != b"authorization" or kind.lower() != b"basic":
        return name, value
    try:
        return name, b"Bearer " + base64.b64decode(text.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return name, value


def _reading(grant: Grant) -> Grant:
    """See that somebody may see pages.

    Raises:
        Problem: they may not.
    """
    grant.check("read")
    if any("," in pattern for pattern in grant.queues):  # which stands between roles
        raise Problem(403, "the web UI is not for tokens whose queues have a comma in their names")
    return grant


@dataclass(frozen=True, slots=True)
class _Rights:
    """What a token allows, for the pages."""

    grant: Grant

    def refusal(self, rights: Sequence[str], queue: str) -> str:
        return next(filter(None, (_said_by(self.grant.check, right, queue) for right in rights)), "")

    def refusal_of(self, function: str) -> str:
        return _said_by(self.grant.check_function, function)


def _said_by(check: Callable[..., None], *what: str) -> str:
    try:
        check(*what)
    except Problem as problem:
        return problem.detail
    return ""


def _who(request: Any) -> Access:
    """Who asks, for the pages."""
    grant: Grant = request.scope[_GRANT]
    role = "admin" if "operate" in grant.may else "view"
    where = role if "*" in grant.queues else ",".join(f"{role}:{pattern}" for pattern in grant.queues)
    return Access(where, grant.name, _Rights(grant))
