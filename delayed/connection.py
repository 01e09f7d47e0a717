"""How commands reach Redis: through a client's pool, or over one connection that a worker owns.

redis-py knows how to connect (URLs, TLS, ACL, Sentinel, Cluster, Unix sockets). What is sent is ours, for two reasons: a
client repeats a command whose reply it did not get, and so would enqueue twice; and a worker sends an ending without waiting
for its reply.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import hiredis
import redis
import redis.asyncio
from redis.asyncio.cluster import PipelineCommand
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ConnectionError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from .errors import ConfigurationError
from .keys import Keys
from .scripts import Argument, Script

__all__ = [  # RedisError and ResponseError are redis-py's: no other module needs to import it for them
    "AsyncClient",
    "AsyncPooled",
    "Caller",
    "Client",
    "Command",
    "ForeignType",
    "Pooled",
    "RedisError",
    "ResponseError",
    "as_bytes",
    "check_cluster",
    "explained",
    "explained_async",
    "is_cluster",
    "node_of",
    "pack",
    "reply_timeout",
    "run_script",
    "run_script_async",
    "same_slot",
]

Client = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
Command = tuple[Argument, ...]

_REDIRECTIONS = 5  # nodes that a cluster may send a command to
_CONFUSED = "the cluster sends us from node to node: is it being rebuilt?"
_UNKNOWN = "the connection broke after the command was sent: Redis may or may not have carried it out"


def reply_timeout(client: object) -> float:
    """Seconds after which `client` gives a reply up; infinity if it waits for as long as it takes, or does not say."""
    knows = getattr(client, "nodes_manager", None) or getattr(client, "connection_pool", None)
    return getattr(knows, "connection_kwargs", {}).get("socket_timeout") or math.inf


class Caller(Protocol):
    """Runs one Redis command and returns its reply."""

    def call(self, *command: Argument) -> Any:
        """Send `command` and return the reply; raises `redis.exceptions.RedisError`."""


def is_cluster(client: object) -> bool:
    """Whether `client` is one for a cluster."""
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)


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
    """`error`, or, if a key of the queue, or one of `touched`, has a foreign type, one that says which and what to do."""
    if not _is_about_types(error):
        return error
    caller = Pooled(client, keys.queue)  # the connection that had the error may be busy
    found: dict[str, str] = {}
    for key in keys.kinds(touched):
        with contextlib.suppress(RedisError):  # we may not ask
            found[key] = caller.call("TYPE", key).decode()
    return _foreign(error, keys, found)


async def explained_async(error: RedisError, caller: "AsyncPooled", keys: Keys, touched: Iterable[str] = ()) -> RedisError:
    """As `explained`, for asyncio."""
    if not _is_about_types(error):
        return error
    found: dict[str, str] = {}
    for key in keys.kinds(touched):
        with contextlib.suppress(RedisError):
            found[key] = (await caller.call("TYPE", key)).decode()
    return _foreign(error, keys, found)


def _foreign(error: RedisError, keys: Keys, found: dict[str, str]) -> RedisError:
    advice = keys.foreign(found)
    if advice is None:
        return error
    return ForeignType(advice, narrow=keys.foreign({key: found[key] for key in keys.kinds() if key in found}) is None)


def _is_about_types(error: RedisError) -> bool:
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
        for _ in range(_REDIRECTIONS):
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
        raise ConnectionError(_CONFUSED)


def node_of(client: redis.RedisCluster, slot: int, *, fresh: bool) -> Any:
    """The server of a cluster that has a slot; `fresh` asks the cluster, as the servers may have changed roles."""
    try:
        if fresh:
            client.nodes_manager.initialize()
        return client.nodes_manager.get_node_from_slot(slot)
    except RedisClusterException as error:  # which is no RedisError
        raise ConnectionError(str(error)) from error


def _exchange_all(pool: Any, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
    replies: list[Any] = []
    connection = pool.get_connection()
    try:
        connection.send_packed_command([pack("ASKING")] * asking + [pack(*command) for command in commands])
        for _ in range(asking):
            connection.read_response()
        for _ in commands:
            try:
                replies.append(connection.read_response(disable_decoding=True))
            except ResponseError as error:
                replies.append(error)
    except (ConnectionError, TimeoutError) as error:
        connection.disconnect()
        error.add_note(_UNKNOWN)
        raise
    except BaseException:  # a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    for reply in replies[:1]:
        if isinstance(reply, MovedError | AskError):
            raise reply
    return replies


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
    except ResponseError:
        raise
    except BaseException:  # a signal's, as of a task's timeout: the reply is still to come, and nobody else's
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


class AsyncPooled:
    """As `Pooled`, for redis-py's asyncio clients."""

    def __init__(self, client: AsyncClient, key: str) -> None:
        self._client = client
        self._slot = key_slot(as_bytes(key))
        self._stale = False  # as in `Pooled`

    async def call(self, *command: Argument) -> Any:
        """Send `command` once and return the reply."""
        if isinstance(self._client, redis.asyncio.RedisCluster):
            await self._client.initialize()
            node = self._client.nodes_manager.get_node_from_slot(self._slot)
            return await self._client.execute_command(*command, target_nodes=[node])
        (reply,) = await self._exchange(command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, *commands: Command) -> list[Any]:
        """Send commands at once over one connection and return their replies, an error reply as an exception."""
        if not isinstance(self._client, redis.asyncio.RedisCluster):
            return await self._exchange(*commands)
        await self._client.initialize()
        nodes = self._client.nodes_manager
        fresh, self._stale = self._stale, True
        for _ in range(_REDIRECTIONS):
            if fresh:
                await nodes.initialize()
            sent = [PipelineCommand(position, *command) for position, command in enumerate(commands)]
            await nodes.get_node_from_slot(self._slot).execute_pipeline(sent)
            if not isinstance(sent[0].result, MovedError):
                self._stale = isinstance(sent[0].result, Exception)
                return [command.result for command in sent]
            fresh = True
        raise ConnectionError(_CONFUSED)

    async def _exchange(self, *commands: Command) -> list[Any]:
        replies: list[Any] = []
        pool = cast(Any, self._client).connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command([pack(*command) for command in commands])
            for _ in commands:
                try:
                    replies.append(await connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
            return replies
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
