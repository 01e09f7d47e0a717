"""Sends commands to Redis through a client's pool.

redis-py knows how to connect (URLs, TLS, ACL, Sentinel, Cluster, Unix sockets). What is sent is ours, for two reasons: a
client repeats a command whose reply it did not get, and so would enqueue twice; and a worker sends an ending without waiting
for its reply.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from ..base.later import Later
from .command import CONFUSED, REDIRECTIONS, UNKNOWN, Command, as_bytes, is_cluster, is_refused, pack, redis_errors, slot_of
from .scripts import Argument

if TYPE_CHECKING:
    import redis

    from . import connect as connecting
    from .command import AsyncClient, Client
else:
    connecting = Later("delayed.redis.connect")  # which takes redis-py

_MANY = 8  # connections of a pool of which one can be kept
_FULL = ("Too many connections", "No connection available")  # what pools say that have no connection to give


class Pooled:
    """Commands over a client's pool; safe to use from many threads, as the client is.

    Never sends a command twice: where the client's own retry policy would, the error reaches the caller, who alone knows
    whether twice is all right.
    """

    def __init__(self, client: "Client", key: str) -> None:
        self._client: Any = client
        self._cluster = is_cluster(client)
        self._key = as_bytes(key)
        self._slot: int | None = None  # of a cluster: only there it is worked out, once
        self._stale = False  # the last command failed: the servers of the cluster may have changed roles

    def call(self, *command: Argument) -> Any:
        """Send `command` once and return its reply as in RESP2, with bytes for strings."""
        return self._first(_exchange, command)

    def batch(self, *commands: Command) -> list[Any]:
        """Send commands at once over one connection and return their replies, an error reply as an exception."""
        replies: list[Any] = self._first(_exchange_all, commands)
        return replies

    @property
    def ample(self) -> bool:
        """Whether a connection can be kept for a while: it is no cluster's, whose servers may change, and there are others."""
        pool = None if self._cluster else self._client.connection_pool
        return getattr(pool, "max_connections", 0) >= _MANY

    def steps(self, *command: Argument) -> Generator[None, None, Any]:
        """As `call`, in two steps: the first sends, and the second reads the reply. `ample` has said that this can be."""
        return _exchange_in_steps(self._client.connection_pool, command)

    def _first(self, exchange: Callable[..., Any], what: Any) -> Any:
        """`exchange(pool, what)` with the server that has the slot; an error says which one it is that does not let us in."""
        try:
            return self._of_cluster(exchange, what) if self._cluster else exchange(self._client.connection_pool, what)
        except redis_errors.RedisError as error:
            tell_refusal(self._client, error)
            raise

    def _of_cluster(self, exchange: Callable[..., Any], what: Any) -> Any:
        if self._slot is None:
            self._slot = slot_of(self._key)
        fresh, self._stale = self._stale, True
        for _ in range(REDIRECTIONS):
            node = node_of(self._client, self._slot, fresh=fresh)
            try:
                reply = exchange(self._client.get_redis_connection(node).connection_pool, what)
            except redis_errors.AskError as elsewhere:  # the slot is moving; this key has moved already
                node = self._client.get_node(host=elsewhere.host, port=elsewhere.port)
                if node is not None:
                    return exchange(self._client.get_redis_connection(node).connection_pool, what, asking=True)
            except redis_errors.MovedError:
                pass
            else:
                self._stale = False
                return reply
            fresh = True
        raise redis_errors.ConnectionError(CONFUSED)


def node_of(client: "redis.RedisCluster", slot: int, *, fresh: bool) -> Any:
    """The server of a cluster that has a slot; `fresh` asks the cluster, as the servers may have changed roles."""
    try:
        if fresh:
            client.nodes_manager.initialize()
        return client.nodes_manager.get_node_from_slot(slot)
    except redis_errors.RedisClusterException as error:  # which is no RedisError
        raise redis_errors.ConnectionError(str(error)) from error


def _connection_of(pool: Any) -> Any:
    try:
        return pool.get_connection()
    except redis_errors.ConnectionError as error:
        explain_full(pool, error)
        raise


def explain_full(pool: Any, error: Exception) -> None:
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


def tell_refusal(client: "Client | AsyncClient", error: "redis.RedisError") -> None:
    """Raise an error that says which server it is, if it does not let us in."""
    if is_refused(error):
        raise type(error)(connecting.refusal(client, error)) from error


def doubt(error: BaseException) -> None:
    """Say that what was sent may have been done; whom Redis does not let in, for that it has done nothing."""
    if not (isinstance(error, Exception) and is_refused(error)):
        error.add_note(UNKNOWN)


def _exchange_all(pool: Any, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
    replies: list[Any] = []
    packed = [b"".join([pack("ASKING")] * asking + [pack(*command) for command in commands])]  # each element is a system call
    connection = _connection_of(pool)
    try:
        connection.send_packed_command(packed)
        for _ in range(asking):
            connection.read_response()
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except redis_errors.ResponseError as error:
                replies.append(error)
    except BaseException as error:  # also a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        doubt(error)
        raise
    finally:
        pool.release(connection)
    for reply in replies[:1]:
        if isinstance(reply, Exception) and isinstance(reply, redis_errors.MovedError | redis_errors.AskError):
            raise reply
    return replies


def _exchange_in_steps(pool: Any, command: Command) -> Generator[None, None, Any]:
    packed = [pack(*command)]
    connection = _connection_of(pool)
    try:
        connection.send_packed_command(packed)
        yield
        return connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError:
        raise
    except BaseException as error:  # also where nobody wants the reply any more
        connection.disconnect()
        doubt(error)
        raise
    finally:
        pool.release(connection)


def _exchange(pool: Any, command: Command, *, asking: bool = False) -> Any:
    packed = [pack(*command)]
    connection = _connection_of(pool)
    try:
        if asking:
            connection.send_command("ASKING")
            connection.read_response()
        connection.send_packed_command(packed)
        return connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError:
        raise
    except BaseException as error:  # also a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        doubt(error)
        raise
    finally:
        pool.release(connection)
