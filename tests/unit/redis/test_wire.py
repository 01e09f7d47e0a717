"""The connection that all commands of an event loop share: what is told of one that has been closed."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError

from delayed.redis import wire
from delayed.redis.command import UNKNOWN

CLOSED = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


class Closed:
    """A connection that is closed while it is opened, or while something is sent over it."""

    def __init__(self, *, opens: bool) -> None:
        self._opens = opens
        self._reader, self._writer = asyncio.StreamReader(), self
        self.disconnected = False

    async def connect(self) -> None:
        if not self._opens:
            raise RuntimeError(CLOSED)

    def write(self, _data: bytes) -> None:
        raise RuntimeError(CLOSED)

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait
        self.disconnected = True


class Clients:
    """What knows how to connect: it has this connection."""

    def __init__(self, connection: Closed) -> None:
        self.connection_pool, self.connection_kwargs = self, dict[str, Any]()
        self.connection_class = lambda **_options: connection

    async def here(self) -> Any:
        return self, None


@pytest.mark.parametrize("opens", [False, True])
def test_a_connection_that_is_closed_meanwhile_is_lost(opens: bool) -> None:
    async def call() -> Closed:
        connection = Closed(opens=opens)

        own = wire.Wire(Clients(connection), "q")  # type: ignore[arg-type]
        with pytest.raises(ConnectionError, match="is closed") as caught:
            await own.call("PING")
        assert isinstance(caught.value, RedisError)
        assert (UNKNOWN in getattr(caught.value, "__notes__", [])) == opens
        await own.aclose()
        return connection

    assert asyncio.run(call()).disconnected
