"""What every reply says to browsers, and what is not let in."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .access import Authenticate

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SAFE = ("GET", "HEAD")
_OPEN = "/static/"  # what anybody may have: it says nothing of tasks
_NOBODY = "Who you are is not known here: open the address that `delayed ui` has printed, with its token; it can be used once."

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def same_origin(request: Request) -> bool:
    """Whether a form comes from a page of ours, as browsers say; what says nothing of where it comes from is no browser's."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] == request.headers.get("host", "")
    return True


class Guard:
    """Around an application: headers, who asks, and where forms come from.

    Args:
        app: the application.
        authenticate: who asks.
    """

    def __init__(self, app: Any, authenticate: Authenticate) -> None:
        self._app, self._authenticate = app, authenticate

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope, receive)
        reply = self._refusal(request)
        await (self._app if reply is None else reply)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        inside = request.url.path.removeprefix(request.scope.get("root_path", ""))
        if inside.startswith(_OPEN) and request.method in _SAFE:
            return None
        if request.method not in (*_SAFE, "POST"):
            return PlainTextResponse("There are only pages and forms here.", 405, {"Allow": "GET, HEAD, POST"})
        if request.method == "POST" and not same_origin(request):
            return PlainTextResponse("This form does not come from a page of this server.", 403)
        found = self._authenticate(request)
        if found is None:
            return PlainTextResponse(_NOBODY, 403)
        if isinstance(found, Response):
            return found
        request.scope["delayed.access"] = found
        return None
