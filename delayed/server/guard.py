"""The HTTP protocol of uvicorn, with limits on what comes before a request: it has none of its own."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .http import AT_ONCE, CONNECTION, WHEN_GONE, WHOLE, Send

HEAD = 32_768  # bytes of a request before its body
SECONDS = 10.0  # for these
LINGER = 5.0  # seconds that an open connection may still bring a request when the server stops


class GuardedProtocol(HttpToolsProtocol):
    """One connection. (uvicorn gives the arguments.)"""

    # Beside uvicorn's, they would make the dictionary of its attributes one that shares no keys with others: 1.2 KB for each.
    __slots__ = ("_gone", "_in_head", "_is_last", "_is_new", "_lost", "_size", "_timer")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._size = 0
        self._gone: Callable[[], object] | None = None
        self._is_last = False  # the next response is the last one on this connection
        self._is_new = False  # the head of the request came in what is being read now: nobody has begun to answer it
        self._lost: list[Callable[[], object]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A client has come."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(SECONDS, self._late)
        if getattr(self.server_state, "stopping", False):  # it was accepted before that
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop_timer()
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()
        for tell in self._lost:
            tell()

    def when_gone(self, tell: Callable[[], object] | None) -> None:
        """Call `tell` when the client goes, or has gone; None: nobody wants to know any more."""
        self._gone = tell
        if tell is not None and self.transport.is_closing():
            tell()

    def when_lost(self, tell: Callable[[], object]) -> None:
        """Call `tell` when the connection ends."""
        self._lost.append(tell)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        self._size += len(data) if self._in_head else 0
        self._is_new = False
        super().data_received(data)
        if self._in_head and self._size > HEAD and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        own = {WHEN_GONE: self.when_gone, AT_ONCE: self.at_once, CONNECTION: self}
        self.scope.update(own)  # type: ignore[typeddict-item]
        if not self._in_head:
            self._in_head, self._size = True, 0
            self._timer = self._timer or self.loop.call_later(SECONDS, self._late)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or, after a body, a trailer, which nobody reads."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """What comes before the body is there."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._is_new = True
        if self._is_last and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is there. If all of it came together, nobody has to wait for its body."""
        super().on_message_complete()
        if self._is_new and not (self.cycle.more_body or self.cycle.response_complete):
            self.scope[WHOLE] = bytes(self.cycle.body)  # type: ignore[literal-required]

    def at_once(self, send: Send, status: int, head: bytes, body: bytes) -> bool:
        """Send a response in one piece. False if that has to wait, or the connection ends with it: then nothing is sent."""
        cycle = getattr(send, "__self__", None)
        if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected or not cycle.keep_alive:
            return False
        if self.flow.write_paused or self.transport.is_closing():
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        default = b"".join([b"%b: %b\r\n" % pair for pair in cycle.default_headers])
        self.transport.write(b"".join((STATUS_LINE[status], default, head, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def shutdown(self) -> None:
        """The server stops. What has begun is answered, and so is what is on its way while the connection waits for a request:
        to close it at once would lose that. Each answer says that it is the last."""
        self._is_last = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # of several that have come, it is the last
        elif not self.transport.is_closing():
            self.loop.call_later(LINGER, self._leave)

    def _leave(self) -> None:
        """Close the connection, if nothing has come meanwhile."""
        has_served: bool = self.cycle is not None
        waits = not has_served or self.cycle.response_complete
        has_begun = self._in_head and (has_served or self._size > 0)
        if waits and not has_begun and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            if self._size:
                self._refuse(408)
            else:
                self.transport.close()

    def _refuse(self, status: int) -> None:
        head = STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head)
        self.transport.close()
