"""One connection for all commands of an event loop: those of one instant go out in one packet."""

import asyncio
import builtins
import contextlib
from collections import deque
from typing import Any

import hiredis
from redis.exceptions import ConnectionError, NoScriptError, OutOfMemoryError, RedisError, ResponseError, TimeoutError

from ..base.clock import monotonic
from .async_pool import AsyncPooled, Clients
from .command import UNKNOWN, Command, as_bytes, is_misplaced, pack
from .connect import DEADLINE, closed_is_lost, dedicated_async
from .scripts import Argument

_READ = 1 << 18  # bytes
_MORE = object()  # what the parser returns while a reply is not complete


def _error(text: str) -> ResponseError:
    """The error that Redis says, as redis-py names those that we tell apart."""
    kinds = {"NOSCRIPT": NoScriptError, "OOM": OutOfMemoryError}
    return kinds.get(text.partition(" ")[0], ResponseError)(text)


class _Batch:
    """Commands that somebody waits for."""

    __slots__ = ("count", "future", "replies", "sent")

    def __init__(self, count: int) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.sent = monotonic()


class Wire(AsyncPooled):
    """As `AsyncPooled`, for a process whose requests come in crowds, and all in one event loop. Not for a cluster, nor for
    commands that block.

    Args:
        clients: says how to connect; none of its own connections is used.
        key: any key.
    """

    def __init__(self, clients: Clients, key: str) -> None:
        super().__init__(clients, key)
        self._key = as_bytes(key)
        self._connection: Any = None
        self._connecting = asyncio.Lock()
        self._outbox: list[bytes] = []
        self._pending: deque[_Batch] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def call(self, *command: Argument) -> Any:
        """See `AsyncPooled`."""
        (reply,) = await self.batch(command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, *commands: Command, patience: float | None = None) -> list[Any]:  # noqa: ARG002  # nothing blocks here
        """See `AsyncPooled`."""
        packed = b"".join([pack(*command) for command in commands])
        if self._connection is None:
            await self._connect()
        batch = _Batch(len(commands))
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(packed)
        self._pending.append(batch)
        return await batch.future

    async def aclose(self) -> None:
        """Close the connection; the next command opens another."""
        self._break(ConnectionError("the connection was closed"))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _connect(self) -> None:
        async with self._connecting:
            if self._connection is not None:
                return
            self._connection = await dedicated_async(await self.client(), self._key, DEADLINE)
            self._reading = asyncio.create_task(self._read(self._connection), name="delayed-wire")

    def _flush(self) -> None:
        """Send what has gathered."""
        packed, self._outbox = b"".join(self._outbox), []
        if packed and self._connection is not None:
            try:
                with closed_is_lost():
                    self._connection._writer.write(packed)
            except RedisError as error:
                self._break(error)

    async def _read(self, connection: Any) -> None:
        """Hand out replies, until the connection breaks."""
        parser = hiredis.Reader(protocolError=ConnectionError, replyError=_error, notEnoughData=_MORE)
        error: RedisError = ConnectionError("the server closed the connection")
        try:
            while data := await self._received(connection._reader):
                parser.feed(data)
                while (reply := parser.gets()) is not _MORE:
                    self._answered(reply)
        except RedisError as failure:
            error = failure
        except OSError as failure:
            error = ConnectionError(str(failure))
        finally:
            if self._connection is connection:
                self._break(error)
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _received(self, reader: asyncio.StreamReader) -> bytes:
        while True:
            try:
                async with asyncio.timeout(DEADLINE):
                    return await reader.read(_READ)
            except builtins.TimeoutError:
                if self._pending and monotonic() - self._pending[0].sent >= DEADLINE:
                    raise TimeoutError("Redis did not answer in time") from None

    def _answered(self, reply: Any) -> None:
        batch = self._pending[0]
        batch.replies.append(reply)
        if len(batch.replies) == batch.count:
            self._pending.popleft()
            if not batch.future.done():  # else nobody waits any more
                batch.future.set_result(batch.replies)
        if isinstance(reply, ResponseError) and is_misplaced(reply) and not isinstance(reply, NoScriptError):
            raise ConnectionError(str(reply))  # another connection may find the right server

    def _break(self, error: RedisError) -> None:
        """The connection is of no use any more: tell those who wait."""
        self._connection, self._outbox = None, []
        pending, self._pending = self._pending, deque()
        error.add_note(UNKNOWN)
        for batch in pending:
            if not batch.future.done():
                batch.future.set_exception(error)
