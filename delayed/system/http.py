"""A small HTTP server for one page that programs read: one thread, GET and HEAD, a deadline for each request."""

import select
import socket
from collections.abc import Callable

from ..base.address import host_and_port
from ..base.clock import monotonic
from ..errors import ConfigurationError

_LARGEST = 8192  # bytes of a request
_PATIENCE = 2.0  # seconds for a request to come, and for the answer to go
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}

Page = Callable[[str], tuple[int, str, bytes]]  # the path → status, type of the content, and content


def listening(address: str, example: int, backlog: int = 16) -> socket.socket:
    """A socket that listens at `host:port`, `[::1]:port` or `:port` (all addresses of this machine); port 0 takes a free one.

    Raises:
        ConfigurationError: that is no address, or it cannot be listened to.
    """
    host, port = host_and_port(address, example)
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    both = family == socket.AF_INET6 and not host and socket.has_dualstack_ipv6()
    try:
        try:
            return socket.create_server((host, port), family=family, dualstack_ipv6=both, backlog=backlog)
        except OSError:
            if host:
                raise
            return socket.create_server(("", port), backlog=backlog)  # without IPv6
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"cannot listen on {address}: {error}") from error


class PageServer:
    """Serves a page, inside `with`.

    Args:
        listen: `host:port`, `[::1]:port` or `:port` (all addresses of this machine); port 0 takes a free one.
        page: makes the page.

    Raises:
        ConfigurationError: that is no address, or it cannot be listened to.
    """

    def __init__(self, listen: str, page: Page) -> None:
        self._page, self._socket = page, listening(listen, 9191)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    def serve(self, stop: int) -> None:
        """Answer, one after another, until the descriptor `stop` is readable."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(stop, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if stop in ready:
                return
            try:
                client, _ = self._socket.accept()
            except OSError:  # it has gone
                continue
            with client:
                try:
                    self._answer(client)
                except OSError:  # likewise, or it is too slow
                    continue

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _answer(self, client: socket.socket) -> None:
        request, deadline = b"", monotonic() + _PATIENCE
        while b"\r\n\r\n" not in request:
            client.settimeout(max(0.01, deadline - monotonic()))
            some = client.recv(4096)
            request += some
            if not some or len(request) > _LARGEST or monotonic() > deadline:
                return
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            status, kind, body = 400, "text/plain", b"this is no HTTP/1 request\n"
        elif method not in ("GET", "HEAD"):
            status, kind, body = 405, "text/plain", b"GET only\n"
        else:
            status, kind, body = self._page(path.partition("?")[0])
        head = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        head += ["Allow: GET, HEAD", "Connection: close"] if status == 405 else ["Connection: close"]
        client.settimeout(_PATIENCE)
        client.sendall("\r\n".join([*head, "", ""]).encode() + (b"" if method == "HEAD" else body))
