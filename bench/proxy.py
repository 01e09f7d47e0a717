"""A TCP proxy that adds latency: what it reads is passed on half a round trip later, in each direction.

Run as a program: `python -m bench.proxy <port to listen on> <port of Redis> <milliseconds per round trip>`.
"""

import contextlib
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from .placement import REDIS_CORE, ROOT, on_core
from .server import free_port


class Parcel(NamedTuple):
    """Bytes on their way."""

    due: float
    to: socket.socket
    data: bytes


class Proxy:
    """Passes bytes between clients and one server, late."""

    def __init__(self, port: int, server: int, seconds: float) -> None:
        self._delay = seconds / 2
        self._server = server
        self._ready = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._ready.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._under_way: deque[Parcel] = deque()  # in the order in which they are due, as all take the same time

    def run(self) -> None:
        """Until the process is killed."""
        while True:
            for key, _ in self._ready.select(0 if self._under_way else None):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listener:
                    self._accept()
                elif ready in self._other:
                    self._read(ready)
            self._deliver()
            if self._under_way:  # epoll counts in milliseconds, which is too coarse
                time.sleep(max(0.0, min(self._under_way[0].due - time.perf_counter(), 0.00005)))

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._server))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[one] = other
            self._ready.register(one, selectors.EVENT_READ)

    def _read(self, ready: socket.socket) -> None:
        try:
            data = ready.recv(1 << 18)
        except OSError:
            data = b""
        self._under_way.append(Parcel(time.perf_counter() + self._delay, self._other[ready], data))
        if not data:
            self._ready.unregister(ready)

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0].due <= time.perf_counter():
            _, to, data = self._under_way.popleft()
            with contextlib.suppress(OSError):
                if data:
                    to.sendall(data)
                else:
                    to.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(server: int, milliseconds: float) -> Iterator[str]:
    """The URL of a proxy in front of the Redis at port `server`, which runs on Redis's core."""
    port = free_port()
    with on_core(REDIS_CORE):
        process = subprocess.Popen([sys.executable, "-m", "bench.proxy", str(port), str(server), str(milliseconds)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    Proxy(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000).run()
