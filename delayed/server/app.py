"""The application: finds the operation that a request asks for, checks who asks and for what, and answers."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from .. import __version__
from ..base.text import traceback_of
from ..errors import ConfigurationError, InvalidTask
from ..logger import logger
from ..redis.command import RedisError, is_outage
from .calls import Call, Route, Services
from .http import ABSENT, Disconnected, Problem, Receive, Request, Response, Scope, Send, deliver
from .openapi import document, page
from .routes import ROUTES
from .schema import Validator
from .schemas import SCHEMAS

_VALIDATOR = Validator(SCHEMAS)
_HTML = "text/html; charset=utf-8"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class _Table:
    """Routes by their method and the parts of their path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_size: dict[int, list[tuple[list[str], Route]]] = {}
        for route in routes:
            parts = route.path.split("/")[1:]
            self._by_size.setdefault(len(parts), []).append((parts, route))
        for some in self._by_size.values():  # what stands there by its name goes before what may be any name
            some.sort(key=lambda each: [part.startswith("{") for part in each[0]])

    def find(self, method: str, segments: list[str]) -> tuple[Route, dict[str, str]]:
        """The route, and what stands in the path for its names.

        Raises:
            Problem: there is none.
        """
        allowed: list[str] = []
        found: list[str] | None = None
        for parts, route in self._by_size.get(len(segments), ()):
            names = _fit(parts, segments) if found in (None, parts) else None
            if names is None:
                continue
            found = parts
            if route.method == method or (method == "HEAD" and route.method == "GET"):
                return route, names
            allowed.append(route.method)
        if allowed:
            methods = ", ".join(sorted({*allowed}))
            raise Problem(405, f"here is only {methods}", headers={"allow": methods})
        raise Problem(404, "there is nothing here; /v1 shows what there is", "no-route")


def _fit(parts: list[str], segments: list[str]) -> dict[str, str] | None:
    names: dict[str, str] = {}
    for part, segment in zip(parts, segments, strict=True):
        if part[:1] == "{" and segment:
            names[part[1:-1]] = segment
        elif part != segment:
            return None
    return names


class App:
    """The server as an ASGI application.

    Args:
        services: its parts.
        mounts: other applications, by the beginning of their paths.
    """

    def __init__(self, services: Services, mounts: Mapping[str, Any] | None = None) -> None:
        self.services = services
        self._mounts = dict(mounts or {})
        self._table = _Table(ALL_ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"].lower()  # as other systems have it
        for prefix, other in self._mounts.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                await other(scope, receive, send)
                return
        request = Request(scope, receive, self.services.most)
        try:
            response = await self._answer(request)
        except Disconnected:
            return
        await deliver(request, response, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handled(request)
        except Problem as problem:
            return problem.response()
        except Disconnected:
            raise
        except RedisError as error:
            return _of_redis(error)
        except ConfigurationError as error:
            return Problem(422, str(error), "not-possible").response()
        except InvalidTask as error:
            return Problem(422, str(error)).response()
        except Exception as error:
            logger.error("%s %.200r failed\n%s", request.method, "/".join(request.segments), traceback_of(error))
            return Problem(500, "the server failed at this request; its log has more").response()

    async def _handled(self, request: Request) -> Response:
        route, request.names = self._table.find(request.method, request.segments)
        call = Call(self.services, request)
        if route.right is not None:
            call.grant = await self.services.access.grant(request)
            call.grant.check(route.right, request.names.get("queue"))
        call.query = _query(route, request)
        await _read_body(route, call)
        if route.right is None or not call.waits:
            return await route.handler(call)
        response = await route.handler(call)
        try:  # its token may have been revoked meanwhile, or have expired
            (await self.services.access.known(request)).check(route.right, request.names.get("queue"))
        except (Problem, RedisError):
            await response.give_back()
            raise
        return response


def _query(route: Route, request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in request.query.items():
        schema = route.query.get(name)
        if schema is None:
            there = f"there are {', '.join(route.query)}" if route.query else "there are none"
            raise Problem(422, f"the parameter {name[:100]!r} is not known here: {there}")
        value = _converted(text, schema.get("type"))
        for wrong in _VALIDATOR.wrong(value, schema, name):
            raise Problem(422, wrong)
        found[name] = value
    return found


def _converted(text: str, kind: str | None) -> Any:
    """A parameter as what its schema says; as it is, if it is none, for the validator to say so."""
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        pass
    return text


async def _read_body(route: Route, call: Call) -> None:
    if route.lines and call.request.media == "application/x-ndjson":
        return
    if route.takes is None:
        return
    call.body = await call.request.json()
    if call.body is ABSENT:
        if route.required:
            raise Problem(422, "the body is missing")
        call.body = {}
    wrong = _VALIDATOR.first(call.body, route.takes)
    if wrong is not None:
        raise Problem(422, wrong)


def _of_redis(error: RedisError) -> Response:
    if is_outage(error):
        says = f"Redis cannot be asked at the moment, and the request may or may not have been carried out: {error}"
        return Problem(503, says, "redis-away", headers={"retry-after": "1"}).response()
    return Problem(503, f"Redis refuses it: {error}", "redis-refuses").response()


async def healthz(call: Call) -> Response:  # noqa: ARG001  # all have it
    """The server answers."""
    return Response({"ok": True, "detail": "the server answers"})


async def readyz(call: Call) -> Response:
    """Redis answers, too."""
    try:
        async with asyncio.timeout(2):
            await call.services.access.ping()
    except (RedisError, TimeoutError, OSError) as error:
        raise Problem(503, f"Redis cannot be asked: {error}", "redis-away") from None
    return Response({"ok": True, "detail": "Redis answers"})


async def openapi(call: Call) -> Response:  # noqa: ARG001  # likewise
    """The interface, for programs."""
    return Response(DOCUMENT)


async def reference(call: Call) -> Response:  # noqa: ARG001  # likewise
    """The interface, for people."""
    return Response(_PAGE, kind=_HTML, headers={"content-security-policy": _POLICY})


_OWN = (
    Route("GET", "/healthz", healthz, None, "Say that the server runs.", gives={200: "Health"}),
    Route("GET", "/readyz", readyz, None, "Say whether Redis answers.", gives={200: "Health"}),
    Route("GET", "/v1", reference, None, "Show the interface to people.", gives={200: ""}),
    Route("GET", "/v1/openapi.json", openapi, None, "Show the interface to programs.", gives={200: "Document"}),
)
ALL_ROUTES = (*ROUTES, *_OWN)
DOCUMENT = document(ALL_ROUTES, __version__)
_PAGE = page(ALL_ROUTES, __version__)
