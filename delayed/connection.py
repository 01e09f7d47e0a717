"""How commands reach Redis: through a client's pool, or over one connection that a worker owns.

redis-py knows how to connect (URLs, TLS, ACL, Sentinel, Cluster, Unix sockets). What is sent is ours, for two reasons: a
client repeats a command whose reply it did not get, and so would enqueue twice; and a worker sends an ending without waiting
for its reply.
"""

import asyncio
import contextlib
import itertools
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ConnectionError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from .errors import ConfigurationError
from .scripts import SCRIPTS, Argument, Script

__all__ = [  # RedisError and ResponseError are redis-py's: no other module needs to import it for them
    "DEADLINE",
    "INTERRUPTED",
    "AsyncClient",
    "AsyncPooled",
    "Caller",
    "Channel",
    "Client",
    "Command",
    "Ending",
    "Pooled",
    "RedisError",
    "ResponseError",
    "bulk",
    "check_cluster",
    "connect",
    "is_cluster",
    "pack",
    "run_script",
    "run_script_async",
    "same_slot",
]

Client = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
Command = tuple[Argument, ...]

DEADLINE = 5.0  # seconds that a reply may take before the connection is given up
INTERRUPTED = object()  # what `Channel.block` returns when it was woken
_REDIRECTIONS = 5  # nodes that a cluster may send a command to
_MORE = object()  # what the parser returns while a reply is not complete
_UNKNOWN = "the connection broke after the command was sent: Redis may or may not have carried it out"
# Errors that say "not this server, not now": a new connection may find the right one.
_MISPLACED = ("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOREPLICAS")


def connect(url: str) -> Client:
    """A client for `url`.

    Args:
        url: `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS), `unix://[…@]/path.sock[?db=0]`, each with
            redis-py's options as query; `redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/service[/db]` for
            the master that Sentinel names; `redis+cluster://…` (or `rediss+cluster://…`) for any node of a cluster.

    Raises:
        ConfigurationError: the URL is none of these.
    """
    scheme, _, rest = url.partition("://")
    try:
        if scheme in ("redis+cluster", "rediss+cluster"):
            return redis.RedisCluster.from_url(f"{scheme.removesuffix('+cluster')}://{rest}")
        if scheme == "redis+sentinel":
            return _through_sentinel(url)
        return redis.Redis.from_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"{url!r} does not say where Redis is ({error}); write for example redis://localhost:6379/0, rediss://host, "
            f"unix:///run/redis.sock, redis+sentinel://host1,host2/mymaster or redis+cluster://host"
        ) from error


def _through_sentinel(url: str) -> redis.Redis:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a Sentinel URL names its service after the hosts")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        sentinels.append((name, int(port or 26379)))
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if credentials:
        options.update(username=unquote(user) or None, password=unquote(password) or None)
    return cast(redis.Redis, Sentinel(sentinels).master_for(service, db=int(db or 0), **options))


class Caller(Protocol):
    """Runs one Redis command and returns its reply."""

    def call(self, *command: Argument) -> Any:
        """Send `command` and return the reply; raises `redis.exceptions.RedisError`."""


def is_cluster(client: object) -> bool:
    """Whether `client` is one for a cluster."""
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)


def same_slot(one: str, other: str) -> bool:
    """Whether a cluster keeps two keys on the same server for certain."""
    return bool(key_slot(_bytes(one)) == key_slot(_bytes(other)))


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


def _encoded(command: Command) -> tuple[Argument, ...]:
    """Names of other programs need not be UTF-8."""
    return tuple(_bytes(argument) if isinstance(argument, str) else argument for argument in command)


def check_cluster(client: object, queue: str, key: str) -> None:
    """A queue on a cluster needs all its keys in one slot.

    Raises:
        ConfigurationError: `client` is one for a cluster, and `key` of `queue` lies in another slot than `queue`.
    """
    if is_cluster(client) and not same_slot(queue, key):
        raise ConfigurationError(
            f"on Redis Cluster the keys of a queue must share a slot: call it '{{{queue}}}' instead of {queue!r}"
        )


class Pooled:
    """Commands over a client's pool; safe to use from many threads, as the client is.

    Never sends a command twice: where the client's own retry policy would, the error reaches the caller, who alone knows
    whether twice is all right.
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._slot = key_slot(_bytes(key))

    def call(self, *command: Argument) -> Any:
        """Send `command` once and return its reply as in RESP2, with bytes for strings."""
        if not isinstance(self._client, redis.RedisCluster):
            return _exchange(self._client.connection_pool, command)
        for _ in range(_REDIRECTIONS):
            node = self._client.nodes_manager.get_node_from_slot(self._slot)
            try:
                return _exchange(self._client.get_redis_connection(node).connection_pool, command)
            except AskError as elsewhere:  # the slot is moving; this key has moved already
                node = self._client.get_node(host=elsewhere.host, port=elsewhere.port)
                if node is not None:
                    return _exchange(self._client.get_redis_connection(node).connection_pool, command, asking=True)
            except MovedError:
                pass
            self._client.nodes_manager.initialize()
        raise ConnectionError("the cluster sends us from node to node: is it being rebuilt?")


def _exchange(pool: Any, command: Command, *, asking: bool = False) -> Any:
    connection = pool.get_connection()
    try:
        if asking:
            connection.send_command("ASKING")
            connection.read_response()
        try:
            connection.send_command(*command)
        except UnicodeEncodeError:
            connection.send_command(*_encoded(command))
        return connection.read_response(disable_decoding=True)
    except (ConnectionError, TimeoutError) as error:
        connection.disconnect()
        error.add_note(_UNKNOWN)
        raise
    finally:
        pool.release(connection)


class AsyncPooled:
    """As `Pooled`, for redis-py's asyncio clients."""

    def __init__(self, client: AsyncClient, key: str) -> None:
        self._client = client
        self._slot = key_slot(_bytes(key))

    async def call(self, *command: Argument) -> Any:
        """Send `command` once and return the reply."""
        if isinstance(self._client, redis.asyncio.RedisCluster):
            await self._client.initialize()
            node = self._client.nodes_manager.get_node_from_slot(self._slot)
            return await self._client.execute_command(*command, target_nodes=[node])
        pool = self._client.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command(*command)
            return await connection.read_response(disable_decoding=True)
        except (ConnectionError, TimeoutError, asyncio.CancelledError) as error:
            await connection.disconnect(nowait=True)
            error.add_note(_UNKNOWN)
            raise
        finally:
            await pool.release(connection)


def run_script(caller: Caller, script: Script, keys: tuple[str, ...], arguments: Command = ()) -> Any:
    """Run a script, sending its source if the server does not have it."""
    command = script.command(keys, arguments)
    try:
        return caller.call(*command)
    except NoScriptError:
        return caller.call(*script.with_source(command))


async def run_script_async(caller: AsyncPooled, script: Script, keys: tuple[str, ...], arguments: Command = ()) -> Any:
    """As `run_script`, for asyncio."""
    command = script.command(keys, arguments)
    try:
        return await caller.call(*command)
    except NoScriptError:
        return await caller.call(*script.with_source(command))


def pack(*command: Argument) -> bytes:
    """A command in the bytes of the Redis protocol."""
    try:
        return cast(bytes, hiredis.pack_command(cast(Any, command)))
    except UnicodeEncodeError:
        return cast(bytes, hiredis.pack_command(cast(Any, _encoded(command))))


_HUSH, _SPEAK = pack("CLIENT", "REPLY", "OFF"), pack("CLIENT", "REPLY", "ON")


def bulk(text: str) -> bytes:
    """A string as it stands in a command, in the bytes of the Redis protocol."""
    data = _bytes(text)
    return b"$%d\r\n%b\r\n" % (len(data), data)


class Ending(Protocol):
    """A command HDEL that ends a lease."""

    done: bytes  # the command
    hash: bytes  # its key, and
    field: bytes  # its field, as `bulk`

    def answered(self, reply: Any, repeated: bool) -> None:
        """It has been carried out; `repeated` if it was sent twice, so that a 0 may only mean that it worked before."""


class _Asked(NamedTuple):
    """Another command that ends a lease."""

    done: bytes
    answered: Callable[[Any, bool], None]
    hash: bytes = b""
    field: bytes = b""


def _confirmations(endings: Iterable[Ending | _Asked]) -> list[bytes]:
    """The commands that do all of `endings`, one for each hash."""
    fields: dict[bytes, list[bytes]] = {}
    for ending in endings:
        fields.setdefault(ending.hash, []).append(ending.field)
    return [b"*%d\r\n$4\r\nHDEL\r\n%b%b" % (len(some) + 2, key, b"".join(some)) for key, some in fields.items()]


class Channel:
    """One connection, owned by one thread, with a deadline for every reply.

    The ending of a lease can be *posted*: sent at once, without a reply (`CLIENT REPLY OFF`). With the next `call` all that
    was posted is said once more, in one command that has a reply: that does nothing where the first worked, ends what was
    refused, and proves that it is done. Endings are fenced, so they may be repeated; after a fault `open` sends again what
    was not confirmed.

    Why no reply: a process that is killed while replies wait to be read resets its connection. Redis then fails to write to
    it, closes it, and drops what it had not read: endings that the process had sent long before.

    Args:
        client: says how to connect; none of its own connections is used.
        key: any key of the queues that the channel is for; on a cluster it decides which server.
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._key = _bytes(key)
        self._connection: Any = None
        self._posted: deque[Ending | _Asked] = deque()
        self._loud = 0  # how many of them, from the first, will have a reply …
        self._repeated = 0  # … and how many have been sent before
        self._silent = False  # Redis sends no replies at the moment
        self._can_be_silent = True  # some proxies do not know CLIENT REPLY
        self.send: Callable[[bytes], None] = self._refuse

    def open(self) -> None:
        """Connect, make sure that the server has the scripts, and send again what was posted and not answered.

        Raises:
            redis.exceptions.RedisError: no connection, or one that is not usable.
        """
        self.close()
        connection = _dedicated(self._client, self._key)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # a name that does not resolve, a socket file that is not there
            raise ConnectionError(str(error)) from error
        self._connection = connection
        self._sock: socket.socket = connection._sock  # redis-py has no public name for it
        _let_the_kernel_watch_the_deadline(self._sock)
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ResponseError, notEnoughData=_MORE)
        self.send = self._send
        self._send(b"".join(pack("SCRIPT", "LOAD", script.source) for script in SCRIPTS.values()))
        self._send(_SPEAK)
        for _ in SCRIPTS:
            self._checked(self.read())
        self._can_be_silent = not isinstance(self.read(), ResponseError)
        self._loud = self._repeated = len(self._posted)
        for ending in self._posted:
            self._send(ending.done)

    def close(self) -> None:
        """Drop the connection. What was posted stays known until it has been confirmed over another one."""
        self.send = self._refuse
        self._silent, self._loud = False, 0
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None

    def call(self, *command: Argument) -> Any:
        """Send a command and return its reply.

        Raises:
            redis.exceptions.ConnectionError: the connection is gone, or this server cannot carry out the command now.
            redis.exceptions.TimeoutError: no reply within the deadline.
            redis.exceptions.ResponseError: Redis refused the command itself.
        """
        return self.exchange(pack(*command), 1)[0]

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send `count` packed commands at once and return their replies; raises as `call`, for the first that failed."""
        self._speak(packed)
        replies = [self.read() for _ in range(count)]
        return [self._checked(reply) for reply in replies]

    def post(self, ending: "Ending") -> None:
        """End a lease that lives for certain; `ending.answered(1, False)` confirms it later."""
        self._posted.append(ending)
        if self._silent:
            self.send(ending.done)
        elif self._can_be_silent:
            self._silent = True
            self.send(_HUSH + ending.done)
        else:
            self._loud += 1
            self.send(ending.done)

    def ask(self, packed: bytes, answered: Callable[[Any, bool], None]) -> None:
        """Send a fenced command and wait for its reply: `answered(reply, repeated)`; `repeated` if it was sent twice, so that
        a 0 may only mean that it worked the first time. Raises as `call`; then it will be sent again."""
        self.settle()
        self._posted.append(_Asked(packed, answered))
        self._loud += 1
        self.send(packed)
        self.settle()

    def settle(self) -> None:
        """Wait until all that was posted is done; raises as `call`."""
        if self._posted:
            self._speak(b"")

    def _speak(self, packed: bytes) -> None:
        """Send `packed`, to be replied to, and read what comes before its reply."""
        if not self._silent:
            self.send(packed)
            self._read_answers()
            return
        self._silent = False
        confirmations = _confirmations(itertools.islice(self._posted, self._loud, None))
        self.send(b"".join((_SPEAK, *confirmations, packed)))
        self._read_answers()
        for _ in range(1 + len(confirmations)):
            self._checked(self.read())
        while self._posted:
            self._posted.popleft().answered(1, False)

    def _read_answers(self) -> None:
        """Read the replies to what was sent with replies; what was refused stays posted."""
        while self._loud:
            reply = self._checked(self.read())
            ending = self._posted.popleft()
            self._loud -= 1
            repeated = self._repeated > 0
            self._repeated -= repeated
            ending.answered(reply, repeated)

    def block(self, packed: bytes, seconds: float, wake: int) -> Any:
        """Send a blocking command and return its reply.

        Args:
            packed: the command.
            seconds: when to give the connection up.
            wake: a descriptor; when it becomes readable, the command is abandoned, with the connection.

        Returns:
            The reply, or `INTERRUPTED`.
        """
        self._speak(packed)
        if not self._reader.has_data():
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(wake, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
            if wake in ready:
                self.close()
                return INTERRUPTED
            if not ready:
                raise self._broken(TimeoutError())
        return self._checked(self.read())

    def read(self) -> Any:
        """The next reply; an error reply is returned, not raised."""
        gets = self._reader.gets
        reply = gets()
        while reply is _MORE:
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise self._broken(error) from error
            if not data:
                raise self._broken(ConnectionError("the server closed the connection"))
            self._reader.feed(data)
            reply = gets()
        return reply

    def _send(self, packed: bytes) -> None:
        try:
            self._sock.sendall(packed)
        except OSError as error:
            raise self._broken(error) from error

    def _refuse(self, _packed: bytes) -> None:
        raise ConnectionError("there is no connection to Redis at the moment")

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, ResponseError):
            if _is_misplaced(reply):
                raise self._broken(reply)
            raise reply
        return reply

    def _broken(self, error: Exception) -> RedisError:
        self.close()
        if isinstance(error, TimeoutError | socket.timeout | BlockingIOError):
            return TimeoutError("Redis did not answer in time")
        return error if isinstance(error, ConnectionError) else ConnectionError(str(error))


def _let_the_kernel_watch_the_deadline(sock: socket.socket) -> None:
    """With a time-out of Python's own, each send and each receive costs one more system call."""
    if not isinstance(sock, ssl.SSLSocket):
        seconds, microseconds = divmod(round(DEADLINE * 1_000_000), 1_000_000)
        timeval = struct.pack("@ll", seconds, microseconds)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, timeval)
        sock.settimeout(None)


def _is_misplaced(error: ResponseError) -> bool:
    return str(error).startswith(_MISPLACED)


def _dedicated(client: Client, key: bytes) -> Any:
    """A connection of redis-py that belongs to no pool, not connected yet, that never repeats a command."""
    if isinstance(client, redis.RedisCluster):
        with contextlib.suppress(RedisError):  # the servers may have changed roles; the old table is better than none
            client.nodes_manager.initialize()
        client = client.get_redis_connection(client.nodes_manager.get_node_from_slot(key_slot(key)))
    pool = client.connection_pool
    options = {
        name: value for name, value in pool.connection_kwargs.items() if not name.startswith(("maint_", "orig_", "himport"))
    }
    options.update(
        socket_timeout=DEADLINE,
        socket_connect_timeout=DEADLINE,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        decode_responses=False,
        health_check_interval=0,
        protocol=2,
    )
    return pool.connection_class(**options)
