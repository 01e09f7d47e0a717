"""The functions that a worker under test serves (docs/protocol.md, section 9). Needs only redis-py and msgpack, so that it
runs beside any package."""

import os
from functools import cache

import msgpack
import redis


@cache
def _client():  # type: ignore[no-untyped-def]  # it is also imported where no type checker looks
    return redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])


def echo(key, value):  # type: ignore[no-untyped-def]
    """Push `value`, as MessagePack, to the list `key`."""
    _client().rpush(key, msgpack.packb(value, datetime=True, unicode_errors="surrogateescape"))


def hold(key):  # type: ignore[no-untyped-def]
    """Push to `key:began`, wait for `key:go`, push to `key:ended`."""
    _client().rpush(key + ":began", 1)
    while not _client().blpop([key + ":go"], 1):
        pass
    _client().rpush(key + ":ended", 1)


def fail(key=None):  # type: ignore[no-untyped-def]
    """Push to `key`, if it is given, and fail."""
    if key is not None:
        _client().rpush(key, 1)
    raise ValueError("as it was told to")
