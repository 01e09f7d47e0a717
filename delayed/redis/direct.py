"""A client of one server without redis-py, for a process that sends a few commands and ends: redis-py takes longer to
import than all the rest.

What is out of the ordinary is left to redis-py: TLS, Sentinel, a cluster, options, and a server that cannot be reached or does
not let us in, as nothing has been sent to it by then.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import hiredis

from ..base.later import Later
from .address import SERVER, UNIX, Address, read
from .command import Command, pack, redis_errors

if TYPE_CHECKING:
    from redis import connection as redis_connection

    from .command import Client
else:
    redis_connection = Later("redis.connection")

_CONNECTING = 1.0  # seconds that it may take before redis-py tries
_DEADLINE = 5.0  # seconds that a reply may take, as with redis-py
_MORE = object()  # what the parser returns while a reply is not complete


def _refused(text: str) -> Exception:
    """The error that Redis says, as redis-py has it."""
    parser: Any = redis_connection.DefaultParser
    return cast(Exception, parser.parse_error(text))


def _garbled(text: str) -> Exception:
    return redis_errors.InvalidResponse(text)


class _Connection:
    """A connection, with the methods of redis-py's that `pool` uses."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = hiredis.Reader(protocolError=_garbled, replyError=_refused, notEnoughData=_MORE)
        self.is_open = True

    def send_packed_command(self, packed: list[bytes]) -> None:
        """Send commands."""
        try:
            self._sock.sendall(b"".join(packed))
        except OSError as error:
            raise self._lost(error, "writing to") from error

    def read_response(self, *, disable_decoding: bool = True) -> Any:  # noqa: ARG002  # redis-py's signature
        """The next reply; raises the error that it may be."""
        while (reply := self._reader.gets()) is _MORE:
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise self._lost(error, "reading from") from error
            if not data:
                raise redis_errors.ConnectionError("Connection closed by server.")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def disconnect(self) -> None:
        """Close it."""
        self.is_open = False
        self._sock.close()

    @staticmethod
    def _lost(error: OSError, doing: str) -> Exception:
        if isinstance(error, TimeoutError):
            return redis_errors.TimeoutError(f"Timeout {doing} socket")
        return redis_errors.ConnectionError(f"Error while {doing} socket: {error}")


class _Connections:
    """Connections to a server, as many as are used at once."""

    connection_class = _Connection

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[_Connection] = []

    @property
    def connection_kwargs(self) -> dict[str, Any]:
        """Where they lead, as pools of redis-py have it."""
        of = self._address
        found: dict[str, Any] = {"username": of.username, "db": of.db}
        return found | ({"path": of.path} if of.path is not None else dict(zip(("host", "port"), of.hosts[0], strict=True)))

    def get_connection(self) -> _Connection:
        """One that is idle, or a new one."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        try:
            return self.open()
        except (OSError, UnicodeError) as error:
            raise redis_errors.ConnectionError(str(error)) from error

    def release(self, connection: _Connection) -> None:
        """It is not used any more."""
        if connection.is_open:
            self._idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().disconnect()

    def open(self) -> _Connection:
        """A new one, which the server has let in.

        Raises:
            OSError, UnicodeError, redis.exceptions.RedisError: it has not.
        """
        sock = self._socket()
        connection = _Connection(sock)
        try:
            if hello := self._hello():
                connection.send_packed_command([pack(*command) for command in hello])
            for _ in hello:
                connection.read_response()
            sock.settimeout(_DEADLINE)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _hello(self) -> list[Command]:
        address, found = self._address, list[Command]()
        if address.password is not None:
            found.append(("AUTH", *([address.username] if address.username else []), address.password))
        if address.db:
            found.append(("SELECT", address.db))
        return found

    def _socket(self) -> socket.socket:
        if self._address.path is None:
            ((host, port),) = self._address.hosts
            name: Any = host.encode() if host.isascii() else host  # for text, Python loads its tables of Unicode
            return socket.create_connection((name, port), _CONNECTING)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_CONNECTING)
            sock.connect(self._address.path)
        except BaseException:
            sock.close()
            raise
        return sock


class Direct:
    """A client whose connections `pool` uses, and nothing else."""

    def __init__(self, address: Address) -> None:
        self.connection_pool = _Connections(address)


@contextlib.contextmanager
def client_for_a_moment(url: str) -> "Iterator[Client | str]":
    """What a `Queue` is given that shall enqueue a task, and no more: a client that is connected, or `url` itself if it takes
    redis-py to connect.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    client = _connected(read(url))
    try:
        yield url if client is None else cast(Any, client)
    finally:
        if client is not None:
            client.connection_pool.close()


def _connected(address: Address) -> Direct | None:
    """A client that is connected; None where it takes redis-py, or to say what is wrong."""
    if address.kind not in (SERVER, UNIX) or address.tls or address.options:
        return None
    client = Direct(address)
    try:
        client.connection_pool.release(client.connection_pool.open())
    except (OSError, UnicodeError, redis_errors.RedisError):
        return None
    return client
