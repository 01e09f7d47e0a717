"""Redis commands: how they are packed, and who sends them."""

from typing import Any, Protocol, cast

import hiredis
import redis
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..errors import ConfigurationError
from .scripts import Argument, Script

__all__ = [  # the errors are those of redis-py, which no other wing imports
    "CONFUSED",
    "REDIRECTIONS",
    "UNKNOWN",
    "AsyncClient",
    "Caller",
    "Client",
    "Command",
    "ConnectionError",
    "RedisError",
    "ResponseError",
    "TimeoutError",
    "as_bytes",
    "check_cluster",
    "encoded",
    "is_cluster",
    "is_misplaced",
    "is_outage",
    "is_refused",
    "pack",
    "pairs",
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


def as_bytes(key: str) -> bytes:
    """The bytes of a name, which need not be UTF-8 if another program has chosen it."""
    return key.encode(errors="surrogateescape")


def encoded(command: Command) -> tuple[Argument, ...]:
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


def run_script(caller: Caller, script: Script, keys: tuple[str, ...], arguments: Command = ()) -> Any:
    """Run a script, sending its source if the server does not have it."""
    command = script.command(keys, arguments)
    try:
        return caller.call(*command)
    except NoScriptError:
        return caller.call(*script.with_source(command))


def pairs(reply: Any) -> dict[Any, Any]:
    """Names and values: a list of them in turn, as RESP2 has them, or a map, as RESP3 does; nothing for None."""
    return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list | tuple) else reply or {}


def pack(*command: Argument) -> bytes:
    """A command in the bytes of the Redis protocol."""
    try:
        return cast(bytes, hiredis.pack_command(cast(Any, command)))
    except UnicodeEncodeError:
        return cast(bytes, hiredis.pack_command(cast(Any, encoded(command))))
