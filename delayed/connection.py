"""How commands reach Redis: through a client's pool, or over one connection that a worker owns.

redis-py knows how to connect (URLs, TLS, ACL, Sentinel, Cluster, Unix sockets). What is sent is ours, for two reasons: a
client repeats a command whose reply it did not get, and so would enqueue twice; and a worker sends an ending without waiting
for its reply.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import hiredis
import redis
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from .errors import ConfigurationError
from .keys import Keys
from .scripts import Argument, Script

__all__ = [  # what ends in Error is redis-py's: no other module needs to import it for that
    "AsyncClient",
    "Caller",
    "Client",
    "Command",
    "ConnectionError",
    "ForeignType",
    "Pooled",
    "RedisError",
    "ResponseError",
    "TimeoutError",
    "as_bytes",
    "check_cluster",
    "explained",
    "is_cluster",
    "is_misplaced",
    "is_outage",
    "is_refused",
    "node_of",
    "pack",
    "place_of",
    "run_script",
    "same_slot",
]

Client = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
Command = tuple[Argument, ...]

REDIRECTIONS = 5  # nodes that a cluster may send a command to
CONFUSED = "the cluster sends us from node to node: is it being rebuilt?"
UNKNOWN = "this came after the command was sent: Redis may or may not have carried it out"
_FULL = ("Too many connections", "No connection available")  # what pools say that have no connection to give
# Errors that say "not this server, not now": a new connection may find the right one.
_MISPLACED = ("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOREPLICAS")
_REFUSALS = (
    "WRONGPASS",
    "NOAUTH",
    "invalid password",
    "without any password configured",
    "DB index",
    "Invalid Database",
)


def is_misplaced(error: ResponseError) -> bool:
    """Whether Redis says "not this server, not now"."""
    return str(error).startswith(_MISPLACED)


def is_refused(error: Exception) -> bool:
    """Whether Redis does not let us in, and would not the next time."""
    if isinstance(error, BusyLoadingError):
        return False
    return isinstance(error, AuthenticationError) or (
        isinstance(error, ResponseError | ConnectionError) and any(word in str(error) for word in _REFUSALS)
    )


def is_outage(error: RedisError) -> bool:
    """Whether it may be over in a moment, so that what is safe to repeat can be repeated."""
    if isinstance(error, ResponseError):
        return is_misplaced(error)
    return isinstance(error, ConnectionError | TimeoutError) and not is_refused(error)


class Caller(Protocol):
    """Runs one Redis command and returns its reply."""

    def call(self, *command: Argument) -> Any:
        """Send `command` and return the reply; raises `redis.exceptions.RedisError`."""


def is_cluster(client: object) -> bool:
    """Whether `client` is one for a cluster."""
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)


def place_of(client: object, key: str) -> int:
    """What tells the servers of a client apart: on a cluster the slot of `key`, else nothing."""
    return int(key_slot(as_bytes(key))) if is_cluster(client) else 0


def same_slot(one: str, other: str) -> bool:
    """Whether a cluster keeps two keys on the same server for certain."""
    return bool(key_slot(as_bytes(one)) == key_slot(as_bytes(other)))


class ForeignType(ResponseError):
    """A key of a queue holds another program's data; the message names it. Nothing was changed.

    Args:
        message: what to say.
        narrow: only keys of one task or group are wrong: others can go on.
    """

    def __init__(self, message: str, *, narrow: bool = False) -> None:
        super().__init__(message)
        self.narrow = narrow


def explained(error: RedisError, client: Client, keys: Keys, touched: Iterable[str] = ()) -> RedisError:
    """`error`, or one that says what to do: if a key of the queue, or one of `touched`, has a foreign type, which it is; if
    Redis is full, that it is."""
    if not is_about_types(error):
        return out_of_memory(error, keys)
    caller = Pooled(client, keys.queue)  # the connection that had the error may be busy
    found: dict[str, str] = {}
    for key in keys.kinds(touched):
        with contextlib.suppress(RedisError):  # we may not ask
            found[key] = caller.call("TYPE", key).decode()
    return foreign(error, keys, found)


def out_of_memory(error: RedisError, keys: Keys) -> RedisError:
    """`error`, or, if Redis has no memory left (which a script may say in other words), one that says so plainly."""
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" not in str(error):
        return error
    return OutOfMemoryError(
        f"Redis has no memory left for queue {keys.queue!r} (maxmemory), and nothing has been changed: let workers go on, "
        f"remove dead letters (`delayed dead purge`), or give it more memory"
    )


def foreign(error: RedisError, keys: Keys, found: dict[str, str]) -> RedisError:
    """What `explained` says, of the types that were found."""
    advice = keys.foreign(found)
    if advice is None:
        return error
    return ForeignType(advice, narrow=keys.foreign({key: found[key] for key in keys.kinds() if key in found}) is None)


def is_about_types(error: RedisError) -> bool:
    """From a script the word may stand anywhere."""
    return "WRONGTYPE" in str(error) and not isinstance(error, ForeignType)


def as_bytes(key: str) -> bytes:
    """The bytes of a name, which need not be UTF-8 if another program has chosen it."""
    return key.encode(errors="surrogateescape")


def _encoded(command: Command) -> tuple[Argument, ...]:
    """Names of other programs need not be UTF-8."""
    return tuple(as_bytes(argument) if isinstance(argument, str) else argument for argument in command)


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
        self._slot = key_slot(as_bytes(key))
        self._stale = False  # the last command failed: the servers of the cluster may have changed roles

    def call(self, *command: Argument) -> Any:
        """Send `command` once and return its reply as in RESP2, with bytes for strings."""
        return self._first(_exchange, command)

    def batch(self, *commands: Command) -> list[Any]:
        """Send commands at once over one connection and return their replies, an error reply as an exception."""
        replies: list[Any] = self._first(_exchange_all, commands)
        return replies

    def _first(self, exchange: Callable[..., Any], what: Any) -> Any:
        """`exchange(pool, what)` with the server that has the slot."""
        if not isinstance(self._client, redis.RedisCluster):
            return exchange(self._client.connection_pool, what)
        fresh, self._stale = self._stale, True
        for _ in range(REDIRECTIONS):
            node = node_of(self._client, self._slot, fresh=fresh)
            try:
                reply = exchange(self._client.get_redis_connection(node).connection_pool, what)
            except AskError as elsewhere:  # the slot is moving; this key has moved already
                node = self._client.get_node(host=elsewhere.host, port=elsewhere.port)
                if node is not None:
                    return exchange(self._client.get_redis_connection(node).connection_pool, what, asking=True)
            except MovedError:
                pass
            else:
                self._stale = False
                return reply
            fresh = True
        raise ConnectionError(CONFUSED)


def node_of(client: redis.RedisCluster, slot: int, *, fresh: bool) -> Any:
    """The server of a cluster that has a slot; `fresh` asks the cluster, as the servers may have changed roles."""
    try:
        if fresh:
            client.nodes_manager.initialize()
        return client.nodes_manager.get_node_from_slot(slot)
    except RedisClusterException as error:  # which is no RedisError
        raise ConnectionError(str(error)) from error


def _connection_of(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except ConnectionError as error:
        explain_full(pool, error)
        raise


def explain_full(pool: Any, error: ConnectionError) -> None:
    """Say what to do if there was no connection to be had."""
    if str(error).startswith(_FULL):
        raise type(error)(full(getattr(pool, "max_connections", 0), getattr(pool, "timeout", None))) from error


def full(most: int, waited: float | None) -> str:
    """What to say if none of `most` connections was free, not even after waiting."""
    if waited is not None:
        return (
            f"no connection of the client was free for {waited:g} s, and nothing was sent: it has {most}; give it more "
            f"(max_connections=… in the URL), or let fewer be busy at once"
        )
    return (
        f"no connection of the client is free, and nothing was sent: it has {most}; give it more (max_connections), or a "
        f"BlockingConnectionPool, which waits for one, or give the queue a URL, whose client waits"
    )


def _exchange_all(pool: Any, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
    replies: list[Any] = []
    packed = [pack("ASKING")] * asking + [pack(*command) for command in commands]
    connection = _connection_of(pool)
    try:
        connection.send_packed_command(packed)
        for _ in range(asking):
            connection.read_response()
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
    except BaseException as error:  # also a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        error.add_note(UNKNOWN)
        raise
    finally:
        pool.release(connection)
    for reply in replies[:1]:
        if isinstance(reply, MovedError | AskError):
            raise reply
    return replies


def _exchange(pool: Any, command: Command, *, asking: bool = False) -> Any:
    packed = [pack(*command)]
    connection = _connection_of(pool)
    try:
        if asking:
            connection.send_command("ASKING")
            connection.read_response()
        connection.send_packed_command(packed)
        return connection.read_response(disable_decoding=True)
    except ResponseError:
        raise
    except BaseException as error:  # also a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        error.add_note(UNKNOWN)
        raise
    finally:
        pool.release(connection)


def run_script(caller: Caller, script: Script, keys: tuple[str, ...], arguments: Command = ()) -> Any:
    """Run a script, sending its source if the server does not have it."""
    command = script.command(keys, arguments)
    try:
        return caller.call(*command)
    except NoScriptError:
        return caller.call(*script.with_source(command))


def pack(*command: Argument) -> bytes:
    """A command in the bytes of the Redis protocol."""
    try:
        return cast(bytes, hiredis.pack_command(cast(Any, command)))
    except UnicodeEncodeError:
        return cast(bytes, hiredis.pack_command(cast(Any, _encoded(command))))
