"""Redis commands: how they are packed, and who sends them.

redis-py takes longer to import than all of ours, and is there anyway where its clients are. What `delayed enqueue` uses names
it in functions only, and its errors as those of `redis_errors`. Other modules import them from here.
"""

from typing import TYPE_CHECKING, Any, Protocol, cast

import hiredis

from ..base.later import Later
from ..errors import ConfigurationError
from .scripts import Argument, Script

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis import crc
    from redis import exceptions as redis_errors
    from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError, TimeoutError

    Client = redis.Redis | redis.RedisCluster
    AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster
else:
    redis, crc, redis_errors = Later("redis"), Later("redis.crc"), Later("redis.exceptions")

__all__ = [  # the errors are those of redis-py, which no other wing imports
    "CONFUSED",
    "NEEDS_PASSWORD",
    "REDIRECTIONS",
    "UNKNOWN",
    "AsyncClient",
    "Caller",
    "Client",
    "Command",
    "ConnectionError",
    "NoScriptError",
    "RedisError",
    "ResponseError",
    "TimeoutError",
    "as_bytes",
    "bulk",
    "check_cluster",
    "encoded",
    "is_cluster",
    "is_misplaced",
    "is_outage",
    "is_refused",
    "pack",
    "pairs",
    "place_of",
    "redis_errors",
    "run_script",
    "same_slot",
    "slot_of",
]

Command = tuple[Argument, ...]
REDIRECTIONS = 5  # nodes that a cluster may send a command to
CONFUSED = "the cluster sends us from node to node: is it being rebuilt?"
UNKNOWN = "this came after the command was sent: Redis may or may not have carried it out"
_ERRORS = ("ConnectionError", "NoScriptError", "RedisError", "ResponseError", "TimeoutError")


def __getattr__(name: str) -> Any:
    """What is redis-py's, when it is imported from here (PEP 562)."""
    if name in _ERRORS:
        return getattr(redis_errors, name)
    if name == "Client":
        return redis.Redis | redis.RedisCluster
    if name == "AsyncClient":
        return redis.asyncio.Redis | redis.asyncio.RedisCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Errors that say "not this server, not now": a new connection may find the right one.
_MISPLACED = ("NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "NOREPLICAS")
NEEDS_PASSWORD = ("HELLO must be called", "unauthenticated")  # what else Redis says to whom has given none
_REFUSALS = (
    "WRONGPASS",
    "NOAUTH",
    "invalid password",
    "invalid username-password",  # of WRONGPASS, without the word: so redis-py passes it on for a cluster
    "without any password configured",
    "DB index",
    "Invalid Database",
    *NEEDS_PASSWORD,
)


def is_misplaced(error: "ResponseError") -> bool:
    """Whether Redis says "not this server, not now"."""
    return str(error).startswith(_MISPLACED)


def is_refused(error: Exception) -> bool:
    """Whether Redis does not let us in, and would not the next time."""
    if isinstance(error, redis_errors.BusyLoadingError):
        return False
    return isinstance(error, redis_errors.AuthenticationError) or (
        isinstance(error, redis_errors.ResponseError | redis_errors.ConnectionError)
        and any(word in str(error) for word in _REFUSALS)
    )


def is_outage(error: "RedisError") -> bool:
    """Whether it may be over in a moment, so that what is safe to repeat can be repeated."""
    if isinstance(error, redis_errors.ResponseError):
        return is_misplaced(error)
    return isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError) and not is_refused(error)


class Caller(Protocol):
    """Runs one Redis command and returns its reply."""

    def call(self, *command: Argument) -> Any:
        """Send `command` and return the reply; raises `redis.exceptions.RedisError`."""


def is_cluster(client: object) -> bool:
    """Whether `client` is one for a cluster."""
    return hasattr(type(client), "get_default_node")  # of both kinds, and of no client of one server


def place_of(client: object, key: str) -> int:
    """What tells the servers of a client apart: on a cluster the slot of `key`, else nothing."""
    return slot_of(as_bytes(key)) if is_cluster(client) else 0


def slot_of(key: bytes) -> int:
    """In which part of a cluster a key is."""
    return int(crc.key_slot(key))


def same_slot(one: str, other: str) -> bool:
    """Whether a cluster keeps two keys on the same server for certain."""
    return slot_of(as_bytes(one)) == slot_of(as_bytes(other))


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
    except redis_errors.NoScriptError:
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


def bulk(text: str) -> bytes:
    """A string as it stands in a command, in the bytes of the Redis protocol."""
    return bulk_of(as_bytes(text))


def bulk_of(data: bytes) -> bytes:
    """As `bulk`, of bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)
