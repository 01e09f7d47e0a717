"""Explains the error when another program uses a key of a queue."""

import contextlib
from collections.abc import Iterable

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from .command import Client
from .keys import Keys
from .pool import Pooled


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
    """`error`, or, if Redis has no memory left (which 6.2 says within an error of the script), one that says so plainly."""
    if not isinstance(error, OutOfMemoryError) and "OOM command not allowed" not in str(error):
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
