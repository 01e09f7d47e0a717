"""Requests and responses: a thin layer over ASGI, with limits on all that a client sends."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from ..redis.command import RedisError
from .mapping import NotJSON, parse, write
from .quota import Connection

# In the scope: takes what is to be called when the client goes; a body that came with its request; sends a response at once;
# the connection.
WHEN_GONE, WHOLE, AT_ONCE, CONNECTION = "delayed.when_gone", "delayed.whole", "delayed.at_once", "delayed.connection"
T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# Sends a status, lines of headers and a body, if nothing has to wait for it.
AtOnce = Callable[[Send, int, bytes, bytes], bool]
Headers = list[tuple[bytes, bytes]]
JSON, NDJSON, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
_STALL = 20.0  # seconds without a byte after which a body is given up
_SLOWEST = 1024.0  # bytes in a second that a body must have on average, after the first _STALL seconds
_PATIENT = 4  # times of the size that a body may have that are read of a larger one
_SENDING = 60.0  # seconds in which a client must take a response
_LONG = 1 << 18  # bytes that are worked on in a thread


async def aside(size: int, work: Callable[[], T]) -> T:
    """What comes of work on so many bytes: if these are many, of work in a thread, so that others are answered meanwhile."""
    return await asyncio.to_thread(work) if size > _LONG else work()


class Problem(Exception):
    """What a client hears instead of what it asked for (RFC 9457).

    Args:
        status: of HTTP.
        detail: what is wrong, and what to do.
        code: a short name of the kind of problem.
        headers: of the response.
        close: the connection is closed, as there may be more of the request on it.
        more: other members.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        code: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.close, self.more = status, detail, close, more
        self.code = code or TITLES[status].lower().replace(" ", "-")
        self.headers = dict(headers or {})

    def response(self) -> "Response":
        """As it is sent."""
        body = {"title": TITLES[self.status], "status": self.status, "code": self.code, "detail": self.detail, **self.more}
        headers = {**self.headers, **({"connection": "close"} if self.close else {})}
        return Response(body, self.status, headers=headers, kind=PROBLEM)


ABSENT = object()
_HEAD = b"content-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}


@dataclass(slots=True)
class Response:
    """What is sent back.

    Attributes:
        undelivered: called if the client has gone before it was sent.
    """

    body: Any = None  # JSON, or bytes as they are
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = JSON
    undelivered: Callable[[], Awaitable[None]] | None = None

    async def give_back(self) -> None:
        """The client does not get it: what it hands out is for others."""
        if self.undelivered is not None:
            with contextlib.suppress(RedisError):  # then the leases run out
                await self.undelivered()

    async def send(self, send: Send, *, head: bool = False, at_once: AtOnce | None = None) -> None:
        """Send it; without its body for `head`; by `at_once`, if that can."""
        body = self.body if isinstance(self.body, bytes) else b"" if self.status == 204 else write(self.body)
        if (
            at_once is not None
            and not (head or self.headers or self.status == 204)
            and at_once(send, self.status, _HEAD % (self.kind.encode(), len(body)), body)
        ):
            return
        headers: Headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.status != 204:
            headers += [(b"content-type", self.kind.encode()), (b"content-length", b"%d" % len(body))]
        headers.append((b"cache-control", b"no-store"))
        headers.append((b"x-content-type-options", b"nosniff"))
        async with asyncio.timeout(_SENDING):
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if head else body})


@dataclass(slots=True)
class Streamed(Response):
    """What is sent back piece by piece.

    Attributes:
        chunks: the pieces. Each has to be taken by the client within a minute.
    """

    chunks: AsyncGenerator[bytes] | None = None

    async def send(self, send: Send, *, head: bool = False, at_once: AtOnce | None = None) -> None:  # noqa: ARG002  # it takes its time
        """Send it, until it ends; without its body for `head`."""
        headers: Headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        headers += [(b"content-type", self.kind.encode()), (b"cache-control", b"no-store")]
        await _sent(send, {"type": "http.response.start", "status": self.status, "headers": headers})
        if self.chunks is not None and not head:
            async with contextlib.aclosing(self.chunks) as chunks:
                async for chunk in chunks:
                    await _sent(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        await _sent(send, {"type": "http.response.body", "body": b""})


async def _sent(send: Send, message: dict[str, Any]) -> None:
    async with asyncio.timeout(_SENDING):
        await send(message)


class Disconnected(Exception):
    """The client has gone."""


class Request:
    """What a client asks for.

    Args:
        scope, receive: of ASGI.
        most: bytes that a body may have.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self._scope, self._receive, self.most = scope, receive, most
        self.method: str = scope["method"]
        self.names: dict[str, str] = {}  # what stands in the path for the names of the route

    @cached_property
    def headers(self) -> dict[str, str]:
        """By their names in lower case."""
        found: dict[str, str] = {}
        for name, value in self._scope["headers"]:
            key = name.decode("latin-1")
            found[key] = f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
        return found

    @cached_property
    def segments(self) -> list[str]:
        """The parts of the path, decoded one by one: a name may have a slash."""
        raw: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        root: str = self._scope.get("root_path", "")
        path = raw.partition(b"?")[0].removeprefix(root.encode())
        return [unquote_to_bytes(part).decode(errors="surrogateescape") for part in path.split(b"/")[1:]]

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters behind the question mark; of one that comes twice, the last."""
        text = self._scope.get("query_string", b"").decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
        except ValueError:
            raise Problem(400, "there are too many parameters, or one is malformed") from None

    @property
    def at_once(self) -> AtOnce | None:
        """What sends a response in one piece, if the server has it."""
        return self._scope.get(AT_ONCE)

    @property
    def connection(self) -> Connection | None:
        """The connection over which it came, if the server says."""
        found: Connection | None = self._scope.get(CONNECTION)
        return found

    @property
    def peer(self) -> str | None:
        """The address of the client; None if it has none, as over a Unix socket."""
        client = self._scope.get("client")
        return client[0] if client and client[0] else None

    @property
    def client(self) -> tuple[str, int]:
        """The address and port of the client, as far as it has any."""
        client = self._scope.get("client") or ("unix", 0)
        return client[0] or "unix", client[1] or 0

    @property
    def path(self) -> bytes:
        """The path, as it was sent."""
        raw: bytes = self._scope.get("raw_path") or self._scope["path"].encode()
        return raw.partition(b"?")[0]

    @property
    def media(self) -> str:
        """The media type of the body."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes in."""
        whole = self._scope.get(WHOLE)
        if whole is not None:
            yield whole
            return
        loop, total = asyncio.get_running_loop(), 0
        began, more = loop.time(), True
        while more:
            try:
                async with asyncio.timeout(_STALL):
                    message = await self._receive()
            except TimeoutError:
                raise Problem(408, f"no more of the body came for {_STALL:g} s", close=True) from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            data, more = message.get("body", b""), message.get("more_body", False)
            total += len(data)
            if more and loop.time() - began > _STALL + total / _SLOWEST:
                raise Problem(408, f"the body comes too slowly: less than {_SLOWEST:g} bytes a second", close=True)
            yield data

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: it is too large, or does not come.
        """
        parts, total = [], 0
        async for data in self.chunks():
            total += len(data)
            if total <= self.most:
                parts.append(data)
            else:  # read on for a while: to who is still sending, a connection that is closed says nothing
                parts.clear()
                if total > _PATIENT * self.most:
                    break
        if total > self.most:
            raise Problem(413, f"the body of a request has {self.most:,} bytes at most", close=True)
        return b"".join(parts)

    async def json(self) -> Any:
        """The body's value; `ABSENT` if there is no body.

        Raises:
            Problem: it is no JSON.
        """
        body = await self.body()
        if not body:
            return ABSENT
        if self.media not in (JSON, ""):
            raise Problem(415, f"the body must be {JSON}, not {self.media!r:.100}")
        try:
            return await aside(len(body), partial(parse, body))
        except NotJSON as error:
            raise Problem(400, f"the body cannot be read: {error}", "not-json") from None

    async def unless_gone(self, wanted: Coroutine[Any, Any, T]) -> T:
        """What is wanted, if the client stays for so long.

        Raises:
            Disconnected: it has gone; that is over, too.
        """
        for name in ("headers", "query", "segments"):  # thousands may wait, and this can be read again
            self.__dict__.pop(name, None)
        when_gone = self._scope.get(WHEN_GONE)
        if when_gone is None:
            return await self._watched(wanted)
        task, gone = asyncio.current_task(), False
        assert task is not None

        def leave() -> None:
            nonlocal gone
            gone = True
            task.cancel()

        when_gone(leave)
        try:
            return await wanted
        except asyncio.CancelledError:
            if gone:
                raise Disconnected from None
            raise
        finally:
            when_gone(None)

    async def _watched(self, wanted: Coroutine[Any, Any, T]) -> T:
        """As `unless_gone`, where the server does not say who has gone until it is asked."""
        task, watching = asyncio.ensure_future(wanted), asyncio.ensure_future(self._receive())
        both: list[asyncio.Future[Any]] = [task, watching]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Disconnected
        finally:
            task.cancel()
            watching.cancel()


async def deliver(request: Request, response: Response, send: Send) -> None:
    """Send an answer. If it hands out what nobody else can have now, that goes back if the client has gone."""
    if response.undelivered is None:
        await response.send(send, head=request.method == "HEAD", at_once=request.at_once)
        return
    try:
        await request.unless_gone(response.send(send, at_once=request.at_once))
    except (Disconnected, TimeoutError):
        await response.give_back()
