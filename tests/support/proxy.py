"""A TCP proxy that does to connections what networks do."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset instead of a FIN


class _Link:
    """One connection, both halves of it."""

    def __init__(self, client: socket.socket, server: socket.socket, delay: float) -> None:
        self.client, self.server = client, server
        self.delay = delay
        self.cut = False

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                threading.Event().wait(self.delay)
                if not self.cut:
                    sink.sendall(data)
        if not self.cut:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            sock.close()


class Proxy:
    """Passes bytes between clients and the server at `port`, until told otherwise; after `delay` seconds, either way."""

    def __init__(self, port: int, delay: float = 0.0) -> None:
        self._server, self._delay = port, delay
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._links: list[_Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server))
                except OSError:
                    client.close()
                    continue
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = _Link(client, server, self._delay)
                self._links.append(link)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=link.pump, args=(source, sink), daemon=True).start()

    def reset(self) -> None:
        """Every connection ends with a reset, on both sides."""
        links, self._links = self._links, []
        for link in links:
            link.abort()

    def lose(self) -> None:
        """Nothing of the connections that there are gets through any more, and neither side hears of it; new ones work."""
        for link in self._links:
            link.cut = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()


@contextlib.contextmanager
def proxy(port: int, delay: float = 0.0) -> Iterator[Proxy]:
    """A proxy in front of the server at `port`: see `Proxy`."""
    proxied = Proxy(port, delay)
    try:
        yield proxied
    finally:
        proxied.close()
