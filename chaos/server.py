"""A Redis of the storm's own."""

import socket

from delayed.embedded import EmbeddedRedis


def server() -> EmbeddedRedis:
    """Redis on a free port of the loopback interface, without persistence; for a `with` block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return EmbeddedRedis(port=port, options={"requirepass": ""})  # its programs and proxies know the port alone
