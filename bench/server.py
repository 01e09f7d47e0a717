"""A Redis of the benchmark's own, on its own core."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import redis

from delayed.redis.embedded import EmbeddedRedis

from .placement import REDIS_CORE, on_core


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])


@contextlib.contextmanager
def server() -> Iterator[EmbeddedRedis]:
    """Redis on a port of the loopback interface, without persistence, logging scripts of a millisecond and more."""
    options = {"slowlog-log-slower-than": "1000", "slowlog-max-len": "1000", "requirepass": ""}
    with on_core(REDIS_CORE), EmbeddedRedis(port=free_port(), options=options) as embedded:
        yield embedded


def info(client: redis.Redis, section: str) -> dict[str, Any]:
    """A section of INFO."""
    return client.info(section)
