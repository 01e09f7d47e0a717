"""A TCP proxy in front of Redis that can cut connections: `python -m chaos.proxy REDIS_PORT COUNT`.

It listens on COUNT ports, and prints them in one line. Then it obeys lines on standard input, each `<n> <what>` about the nth
port, and answers each with a line once it is done:

- `hold`: nothing passes any more, in either direction; what is sent waits, as in a network that lost its way;
- `reset`: all connections are reset, and new ones are refused as soon as they are made;
- `heal`: all is well again, and what waited passes.
"""

import contextlib
import selectors
import socket
import struct
import sys

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Gate:
    """One listening port, and the connections through it."""

    def __init__(self, ready: selectors.BaseSelector, redis_port: int) -> None:
        self._ready = ready
        self._redis_port = redis_port
        self._other: dict[socket.socket, socket.socket] = {}
        self._half: set[socket.socket] = set()  # those from which nothing more comes
        self._held = self._refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._register(self._listener)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def _register(self, sock: socket.socket) -> None:
        self._ready.register(sock, selectors.EVENT_READ, self)

    def hold(self) -> None:
        """Let nothing pass."""
        self._held = True
        for sock in [self._listener, *self._other]:
            if sock not in self._half:
                self._ready.unregister(sock)

    def reset(self) -> None:
        """Break all, and refuse what is new."""
        self._refusing = True
        for sock in list(self._other):
            self._abort(sock)

    def heal(self) -> None:
        """Be transparent again."""
        self._refusing = False
        if self._held:
            self._held = False
            for sock in [self._listener, *self._other]:
                if sock not in self._half:
                    self._register(sock)

    def serve(self, sock: socket.socket) -> None:
        """`sock` can be read."""
        if sock is self._listener:
            self._accept()
        elif sock in self._other:
            self._forward(sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._redis_port))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[one] = other
            self._register(one)

    def _forward(self, sock: socket.socket) -> None:
        """What came goes on; an end only in this direction, so that Redis reads all that a killed process had sent."""
        other = self._other[sock]
        try:
            data = sock.recv(1 << 18)
        except OSError:
            data = b""
        with contextlib.suppress(OSError):
            if data:
                other.sendall(data)
                return
            other.shutdown(socket.SHUT_WR)
        if data:
            return  # the other end has gone: it will say so itself
        self._ready.unregister(sock)
        self._half.add(sock)
        if other in self._half:
            self._forget(sock, other)

    def _abort(self, sock: socket.socket) -> None:
        other = self._other.get(sock)
        if other is None:
            return
        for each in (sock, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            if each not in self._half:
                self._ready.unregister(each)
        self._forget(sock, other)

    def _forget(self, *socks: socket.socket) -> None:
        for sock in socks:
            del self._other[sock]
            self._half.discard(sock)
            sock.close()


def main() -> None:
    """Until standard input ends."""
    ready = selectors.DefaultSelector()
    gates = [Gate(ready, int(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    print(*(gate.port for gate in gates), flush=True)
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if isinstance(key.fileobj, socket.socket):
                if key.fileobj.fileno() >= 0:
                    key.data.serve(key.fileobj)
                continue
            line = sys.stdin.readline()
            if not line:
                return
            number, what = line.split()
            getattr(gates[int(number)], what)()
            print("done", flush=True)


if __name__ == "__main__":
    main()
