"""A Redis of the storm's own."""

import contextlib
import socket
from collections.abc import Iterator

from delayed.redis.embedded import EmbeddedRedis
from tests.support.clock import Clock, settable_clock


@contextlib.contextmanager
def server(*, settable: bool = False) -> Iterator[tuple[EmbeddedRedis, Clock | None]]:
    """Redis on a free port of the loopback interface, without persistence, and its clock, if that shall be `settable`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    if settable:
        with settable_clock() as clock, clock.redis(port) as embedded:
            yield embedded, clock
    else:
        with EmbeddedRedis(port=port, options={"requirepass": ""}) as embedded:  # its programs and proxies know the port alone
            yield embedded, None
