"""Connections to a server that stay open between requests, for asyncio."""

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

from ..base.loops import PerLoop
from .asks import Answer, Ask
from .attempts import Attempts, Place

_IDLE = 64  # connections that each event loop keeps
_LONGEST_LINE, _MOST_HEADERS = 65536, 200


class _BadAnswer(Exception):
    """What came is no HTTP."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Pool:
    """Those of one event loop that wait for a request."""

    def __init__(self) -> None:
        self.idle: deque[_Connection] = deque()

    def kept(self) -> _Connection | None:
        """One that the other side has not closed."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.writer.close()
        return None

    async def aclose(self) -> None:
        """Close all. Nothing is under way, so with TLS, too, there is no goodbye to wait for."""
        writers = [connection.writer for connection in self.idle]
        self.idle.clear()
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def abandon(self) -> None:
        """Their event loop is closed."""
        while self.idle:
            transport = self.idle.pop().writer.transport
            sock = transport.get_extra_info("socket")
            if sock is not None:
                sock.close()


class AsyncConnections:
    """Sends requests from any number of event loops.

    Args:
        place: where the server is.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._pools: PerLoop[_Pool] = PerLoop(_Pool, _Pool.aclose, _Pool.abandon)

    async def ask(self, ask: Ask) -> Answer:
        """As `Connections.ask`."""
        attempts, pool = Attempts(self.place, ask), await self._pools.here()
        while True:
            connection = pool.kept() if ask.repeatable else None
            kept, sent = connection is not None, False
            try:
                async with asyncio.timeout(self.place.timeout + ask.wait):
                    if connection is None:
                        connection = await self._open()
                    sent = True
                    answer = await self._exchange(pool, connection, ask)
            except (OSError, EOFError, _BadAnswer) as error:  # a TimeoutError is an OSError
                _drop(connection)
                pause: float | None = attempts.failed(error, sent=sent, kept=kept)
            except BaseException:
                _drop(connection)
                raise
            else:
                pause = attempts.answered(answer)
                if pause is None:
                    return answer
            await asyncio.sleep(pause or 0.0)

    async def _open(self) -> _Connection:
        tls = self.place.tls
        name = self.place.host if tls is not None else None
        opening = asyncio.open_connection(self.place.host, self.place.port, ssl=tls, server_hostname=name, limit=_LONGEST_LINE)
        async with asyncio.timeout(self.place.timeout):
            return _Connection(*await opening)

    async def _exchange(self, pool: _Pool, connection: _Connection, ask: Ask) -> Answer:
        reader, writer = connection
        writer.write(self._head(ask) + (ask.body or b""))
        await writer.drain()
        status, headers, stays = await _answer_head(reader)
        body, whole = await _answer_body(reader, status, headers)
        if stays and whole and len(pool.idle) < _IDLE:
            pool.idle.append(connection)
        else:
            writer.close()
        return Answer(status, body, headers)

    def _head(self, ask: Ask) -> bytes:
        place = self.place
        host = f"[{place.host}]" if ":" in place.host else place.host
        lines = [f"{ask.method} {place.path}{ask.path} HTTP/1.1", f"host: {host}:{place.port}"]
        lines += [f"{name}: {value}" for name, value in place.headers_of(ask).items()]
        if ask.body is not None or ask.method != "GET":
            lines.append(f"content-length: {len(ask.body or b'')}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._pools.close()


def _drop(connection: _Connection | None) -> None:
    if connection is not None:
        connection.writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        raise _BadAnswer(str(error)) from None
    return line.decode("latin-1").strip()


async def _answer_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bool]:
    """Status and headers, and whether the connection stays open."""
    while True:
        version, _, rest = (await _line(reader)).partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise _BadAnswer(f"{version!r:.100} is no HTTP")
        status, headers = int(rest[:3]), dict[str, str]()
        while line := await _line(reader):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
            if len(headers) > _MOST_HEADERS:
                raise _BadAnswer("there are too many headers")
        if status >= 200:  # else another head follows
            return status, headers, version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()


async def _answer_body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
    """The body, and whether it was said where it ends."""
    if status in (204, 304):
        return b"", True
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := _size((await _line(reader)).partition(";")[0], 16):
            parts.append(await reader.readexactly(size))
            await _line(reader)
        while await _line(reader):  # trailers
            pass
        return b"".join(parts), True
    if "content-length" in headers:
        return await reader.readexactly(_size(headers["content-length"], 10)), True
    return await reader.read(), False


def _size(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise _BadAnswer(f"{text!r:.100} is no size") from None
