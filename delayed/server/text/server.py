"""The server of the text protocol."""

import asyncio
import contextlib
import socket
import ssl

from ...logger import logger
from ..consumer import Consumer
from ..links import Links
from ..numbers import NumberedTasks
from .door import Door, OpenDoor
from .services import Services
from .session import Session

TTL = 60.0  # seconds in which a task has to be ended, as in TaskQ
MOST = 1 << 20  # bytes of a body
_CONNECTIONS = 10_000
_FINISHING = 5.0  # seconds that requests have which were read before the end


class TextServer:
    """Serves the text protocol. It keeps nothing that another server would need.

    Args:
        links: the queues.
        consumer: hands out tasks.
        numbered: likewise, by numbers; None for one of its own.
        door: who may do what.
        ttl: seconds in which a task has to be ended, if a request says nothing else.
        most: bytes that a body may have.
        connections: how many clients are served at once.
    """

    def __init__(
        self,
        links: Links,
        consumer: Consumer,
        *,
        numbered: NumberedTasks | None = None,
        door: Door | None = None,
        ttl: float = TTL,
        most: int = MOST,
        connections: int = _CONNECTIONS,
    ) -> None:
        numbered = numbered or NumberedTasks(links, consumer, ttl)
        self._services = Services(links, consumer, numbered, door or OpenDoor(), ttl, most)
        self._connections = connections
        self._sessions: set[Session] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Begin to serve. Returns the port, which is a free one for 0."""
        server = await asyncio.get_running_loop().create_server(self._session, host, port, ssl=tls)
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def listen_on(self, sock: socket.socket) -> None:
        """Begin to serve on a socket that somebody else has opened."""
        server = await asyncio.get_running_loop().create_server(self._session, sock=sock)
        self._servers.append(server)

    def _session(self) -> Session:
        return Session(self._services, self._enters, self._sessions.discard)

    def _enters(self, session: Session) -> bool:
        """A client has come. Whether there is a place for it."""
        if len(self._sessions) >= self._connections:
            logger.warning("Text protocol: %d clients are connected, and no more are let in", len(self._sessions))
            return False
        self._sessions.add(session)
        return True

    async def close(self) -> None:
        """Stop: what was read is carried out, and what clients hold they hold on to."""
        self._services.ending = True
        for server in self._servers:
            server.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(each.finish() for each in list(self._sessions))), _FINISHING)
        for session in list(self._sessions):
            session.close()
