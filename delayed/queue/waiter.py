"""Those who wait for results together, over one connection: in a thread for all threads of a process, or in an event loop."""

import asyncio
import contextlib
import os
import selectors
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..redis.command import AsyncClient, Client, RedisError, as_bytes, is_refused, place_of
from ..redis.connect import DEADLINE, abandon, dedicated, dedicated_async
from ..redis.outage import OutageLog
from .waits import Answer, Node, Wait, Waits

_LINGER = 10.0  # seconds that a thread stays for the next wait
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to connect
_READ = 65536  # bytes
_WHAT = "wait for results"
_FAULTS = (RedisError, OSError, UnicodeError)


class Waiter:
    """The waits of one client for results of its queues. A thread serves them while there are any, and a little longer.

    Args:
        client: says how to connect; none of its own connections is used.
        key: any key of the queues; on a cluster it decides which server.
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client, self._key = ref(client), as_bytes(key)
        self._waits = Waits(DEADLINE)
        self._lock = threading.Lock()  # of the waits, and of these three:
        self._thread: threading.Thread | None = None
        self._outbox: list[bytes] = []
        self._bell: socket.socket | None = None  # wakes the thread
        self._outage = OutageLog(client)
        self.trouble: Exception | None = None
        """Why Redis cannot be asked now."""

    @contextlib.contextmanager
    def waiting(self, key: str, tell: Callable[[Answer], None], node: Node | None = None) -> Generator[None]:
        """Inside of the block somebody waits for a result; `tell` is called in another thread."""
        wait = Wait(key, tell, node)
        with self._lock:
            self._outbox.append(self._waits.add(wait))
            if self._thread is None:
                self._bell, rung = socket.socketpair()
                self._bell.setblocking(False)
                self._thread = threading.Thread(target=self._run, args=(rung,), name="delayed-results", daemon=True)
                self._thread.start()
            elif self._bell is not None:
                with contextlib.suppress(BlockingIOError):  # it has been rung often enough
                    self._bell.send(b"x")
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(wait)

    def _run(self, rung: socket.socket) -> None:
        attempt = 0
        with rung:
            while True:
                try:
                    if self._serve(rung):
                        return
                except _FAULTS as error:
                    if not self._failed(error):
                        return
                    attempt = attempt + 1 if self.trouble is not None else 0
                    self.trouble = error
                    threading.Event().wait(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                except BaseException as error:  # a defect of ours: nobody shall wait for ever because of it
                    with self._lock:
                        self._waits.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                        self._end()
                    raise

    def _end(self) -> None:
        """The thread is about to end; the lock is held."""
        self._waits.closed()
        self._thread = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _failed(self, error: Exception) -> bool:
        """The connection has failed. Returns whether there is anybody for whom to try again."""
        with self._lock:
            self._waits.closed()
            if is_refused(error):
                self._waits.fail(error)
            if not self._waits:
                self._end()
                return False
        self._outage.failed(_WHAT, error if isinstance(error, RedisError) else RedisError(str(error)))
        return True

    def _serve(self, rung: socket.socket) -> bool:
        """Serve over one connection, until nobody has waited for a while."""
        client = self._client()
        if client is None:  # nor is there anybody who waits
            with self._lock:
                self._end()
            return True
        connection = dedicated(client, self._key, DEADLINE)
        del client
        try:
            connection.connect()
            sock: socket.socket = connection._sock  # redis-py has no public name for it
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_READ)
                selector.register(rung, selectors.EVENT_READ)
                with self._lock:
                    self._outbox = [self._waits.opened()]
                while self._turn(sock, rung, selector):
                    pass
            return True
        finally:
            connection.disconnect()

    def _turn(self, sock: socket.socket, rung: socket.socket, selector: selectors.BaseSelector) -> bool:
        """Send and receive once. False if nobody has waited for a while."""
        with self._lock:
            data, self._outbox = b"".join(self._outbox), []
            pause = self._waits.pause() if self._waits else _LINGER
        if data:
            sock.settimeout(DEADLINE)
            sock.sendall(data)
        sock.setblocking(False)
        ready = {key.fileobj for key, _ in selector.select(pause)}
        if rung in ready:
            rung.recv(_READ)
        if sock in ready:
            for received in _arrived(sock):
                with self._lock:
                    self._outbox.append(self._waits.received(received))
            if self.trouble is not None:
                self.trouble = None
                self._outage.works(_WHAT)
        with self._lock:
            if self._waits:
                self._outbox.append(self._waits.look())
            elif not ready:
                self._end()
                return False
        return True


def _arrived(sock: socket.socket) -> Generator[bytes]:
    """What has arrived; empty at the end of the connection."""
    while True:
        try:
            data = sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        yield data
        if not data:
            return


_waiters: WeakKeyDictionary[Client, dict[int, Waiter]] = WeakKeyDictionary()
_lock = threading.Lock()


def waiter_of(client: Client, key: str) -> Waiter:
    """The waiter that all queues of a client share; on a cluster those with the slot of `key`."""
    place = place_of(client, key)
    with _lock:
        shared = _waiters.setdefault(client, {})
        if place not in shared:
            shared[place] = Waiter(client, key)
        return shared[place]


def _begin_anew() -> None:
    """A fork has none of its parent's threads, and must not use their connections."""
    global _waiters, _lock  # there is one of each in a process
    _waiters, _lock = WeakKeyDictionary(), threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


class AsyncWaiter:
    """As `Waiter`, in an event loop: a task serves the waits while there are any; the connection stays for the next.

    Args:
        client: what gives the client, in this loop.
        key: as for `Waiter`.
    """

    def __init__(self, client: Callable[[], Awaitable[AsyncClient]], key: str) -> None:
        self._client, self._key = client, as_bytes(key)
        self._waits = Waits(DEADLINE)
        self._connection: Any = None
        self._task: asyncio.Task[None] | None = None
        self._outage: OutageLog | None = None
        self.trouble: Exception | None = None
        """Why Redis cannot be asked now."""

    @property
    def idle(self) -> bool:
        """Whether nobody waits."""
        return not self._waits

    @contextlib.contextmanager
    def waiting(self, key: str, tell: Callable[[Answer], None], node: Node | None = None) -> Generator[None]:
        """Inside of the block somebody waits for a result."""
        wait = Wait(key, tell, node)
        self._send(self._waits.add(wait))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="delayed-results")
        try:
            yield
        finally:
            self._waits.discard(wait)
            if not self._waits and self._task is not None:
                self._task.cancel()
                self._task = None

    def _send(self, data: bytes) -> None:
        if data and self._connection is not None:
            self._connection._writer.write(data)

    async def _run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._serve()
            except _FAULTS as error:
                await self._close()
                attempt = attempt + 1 if self.trouble is not None else 0
                self.trouble = error
                if is_refused(error):
                    self._waits.fail(error)
                    return
                if self._outage is not None:
                    self._outage.failed(_WHAT, error if isinstance(error, RedisError) else RedisError(str(error)))
                await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # as in `Waiter`
                await self._close()
                self._waits.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                raise

    async def _serve(self) -> None:
        if self._connection is not None and self._connection._reader.at_eof():  # it was closed while nobody waited
            await self._close()
        if self._connection is None:
            await self._connect()
        reader = self._connection._reader
        self._waits.resumed()
        while True:
            data = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._waits.pause()):
                    data = await reader.read(_READ)
            if data is None:
                self._send(self._waits.look())
                continue
            self._send(self._waits.received(data))
            if self.trouble is not None and self._outage is not None:
                self._outage.works(_WHAT)
            self.trouble = None

    async def _connect(self) -> None:
        client = await self._client()
        self._outage = self._outage or OutageLog(client)
        self._connection = await dedicated_async(client, self._key, DEADLINE)
        self._send(self._waits.opened())

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._waits.closed()
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close the connection; if somebody waits, it is opened again."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await self._close()

    def abandon(self) -> None:
        """The loop is closed: let go of the connection."""
        if self._connection is not None:
            abandon(self._connection)
            self._connection = None
