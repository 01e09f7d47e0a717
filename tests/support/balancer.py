"""A balancer of TCP connections in front of some servers: whoever refuses a connection is passed over, as by any proxy."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Self

_PATIENCE = 60.0  # seconds for which servers are asked whether one of them is there
_PAUSE = 0.02  # seconds between two rounds


class Balancer:
    """Gives each connection to the next of the servers that listen on these ports, and knows nothing of what is said."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        # More than once: a connection that was being accepted becomes a task only now.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_read, to_write = await self._connected()
            try:
                await asyncio.gather(_copy(reader, to_write), _copy(to_read, writer))
            finally:
                to_write.close()
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_PATIENCE):
            while True:
                for _ in self._ports:
                    self._turn += 1
                    with contextlib.suppress(ConnectionRefusedError):
                        return await asyncio.open_connection("127.0.0.1", self._ports[self._turn % len(self._ports)])
                await asyncio.sleep(_PAUSE)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes goes on, and so does its end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
