"""TCP proxies in front of Redis that do to connections what networks do, in a process of their own.

    with proxy(redis_port) as between:
        queue = Queue("q", between.url)
        between.reset()

As a program (`python -m tests.support.proxy REDIS_PORT COUNT`) it listens on COUNT ports, and prints them in one line. Then it
obeys lines on standard input, each `<n> <what>` about the nth port, and answers each with a line once it is done:

- `hold`: nothing passes any more, in either direction; what is sent waits, as in a network that lost its way;
- `lose`: nothing of the connections that there are passes any more, and neither side hears of it; new ones work;
- `reset`: all connections are reset, and new ones are refused as soon as they are made;
- `flap`: all connections are reset, and new ones work;
- `slow:MS`: from now on everything takes so many milliseconds longer, in each direction; `slow:0` ends it;
- `heal`: nothing is held or refused any more, and what waited passes. What is slow stays so.
"""

import contextlib
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

from tests import ROOT

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_TICK, _SPIN = 0.002, 0.00005  # seconds: epoll counts in milliseconds, which is too coarse for the last ones


class Gate:
    """One listening port, and the connections through it."""

    def __init__(self, ready: selectors.BaseSelector, redis_port: int) -> None:
        self._ready = ready
        self._redis_port = redis_port
        self._other: dict[socket.socket, socket.socket] = {}
        self._half: set[socket.socket] = set()  # those from which nothing more comes
        self._ended: set[socket.socket] = set()  # of these, those of which the other side has heard it
        self._held = self._refusing = False
        self._lost: set[socket.socket] = set()  # those from which nothing is passed on
        self._delay = 0.0  # seconds
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()  # what came, from where, and when it goes on
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

    def lose(self) -> None:
        """Swallow what comes by the connections that there are."""
        self._lost.update(self._other)

    def reset(self) -> None:
        """Break all, and refuse what is new."""
        self._refusing = True
        for sock in list(self._other):
            self._abort(sock)

    def flap(self) -> None:
        """Break all."""
        self.reset()
        self._refusing = False

    def slow(self, milliseconds: str) -> None:
        """Let everything take its time."""
        self._delay = float(milliseconds) / 1000

    @property
    def due(self) -> float | None:
        """Monotonic time at which something goes on."""
        return self._late[0][0] if self._late and not self._held else None

    def pass_on(self) -> None:
        """What has been late for long enough goes on."""
        while self.due is not None and self.due <= time.monotonic():
            _, sock, data = self._late.popleft()
            if sock in self._other:  # else it was reset meanwhile
                self._deliver(sock, data)

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
        if self._held:  # since it was found to be: the order came in the same round
            return
        if sock is self._listener:
            self._accept()
        elif sock in self._other:
            self._forward(sock)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = None
        with contextlib.suppress(OSError):  # there is no server
            server = None if self._refusing else socket.create_connection(("127.0.0.1", self._redis_port))
        if server is None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[one] = other
            self._register(one)

    def _forward(self, sock: socket.socket) -> None:
        """What came goes on, now or later."""
        try:
            data = sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self._ready.unregister(sock)
            self._half.add(sock)
        if self._delay or self._late:
            due = time.monotonic() + self._delay
            self._late.append((max(due, self._late[-1][0]) if self._late else due, sock, data))
        else:
            self._deliver(sock, data)

    def _deliver(self, sock: socket.socket, data: bytes) -> None:
        """An end goes only in this direction, so that Redis reads all that a killed process had sent."""
        other = self._other[sock]
        if sock not in self._lost:
            with contextlib.suppress(OSError):  # the other end has gone: it will say so itself
                if data:
                    other.sendall(data)
                else:
                    other.shutdown(socket.SHUT_WR)
        if not data:
            self._ended.add(sock)
            if other in self._ended:
                self._forget(sock, other)

    def _abort(self, sock: socket.socket) -> None:
        other = self._other.get(sock)
        if other is None:
            return
        for each in (sock, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            with contextlib.suppress(KeyError):  # it is held, or nothing more comes from it
                self._ready.unregister(each)
        self._forget(sock, other)

    def _forget(self, *socks: socket.socket) -> None:
        for sock in socks:
            del self._other[sock]
            for some in (self._half, self._ended, self._lost):
                some.discard(sock)
            sock.close()


def _wait(ready: selectors.BaseSelector, due: float | None) -> list[tuple[selectors.SelectorKey, int]]:
    """What can be read, at the latest when something is `due`."""
    rest = None if due is None else max(0.0, due - time.monotonic())
    if rest is None or rest > _TICK:
        return ready.select(rest and rest - _TICK / 2)
    found = ready.select(0)
    if not found:
        time.sleep(min(rest, _SPIN))
    return found


def main() -> None:
    """Until standard input ends."""
    ready = selectors.DefaultSelector()
    gates = [Gate(ready, int(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    print(*(gate.port for gate in gates), flush=True)
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in _wait(ready, min((gate.due for gate in gates if gate.due is not None), default=None)):
            if isinstance(key.fileobj, socket.socket):
                if key.fileobj.fileno() >= 0:
                    key.data.serve(key.fileobj)
                continue
            line = sys.stdin.readline()
            if not line:
                return
            number, order = line.split()
            what, *words = order.split(":")
            getattr(gates[int(number)], what)(*words)
            print("done", flush=True)
        for gate in gates:
            gate.pass_on()


class Proxies:
    """The process, with so many ports in front of one Redis."""

    def __init__(self, redis_port: int, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.proxy", str(redis_port), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.ports = [int(word) for word in self._stdout.readline().split()]

    def order(self, gate: int, what: str) -> None:
        """Have it do something, and wait until it is done."""
        print(gate, what, file=self._stdin, flush=True)
        if not self._stdout.readline():
            raise RuntimeError("the proxy has died")

    def close(self) -> None:
        """End it."""
        self._stdin.close()
        self._process.wait()
        self._stdout.close()


class Proxy:
    """One port in front of one Redis."""

    def __init__(self, redis_port: int) -> None:
        self._process = Proxies(redis_port, 1)
        self.url = f"redis://127.0.0.1:{self._process.ports[0]}/0"

    def reset(self) -> None:
        """Every connection ends with a reset, on both sides; new ones work."""
        self._process.order(0, "flap")

    def lose(self) -> None:
        """Nothing of the connections that there are gets through any more, and neither side hears of it; new ones work."""
        self._process.order(0, "lose")

    def slow(self, seconds: float) -> None:
        """Everything takes so much longer, in each direction."""
        self._process.order(0, f"slow:{seconds * 1000}")

    def close(self) -> None:
        """End it, and all connections."""
        self._process.close()


@contextlib.contextmanager
def proxy(redis_port: int, delay: float = 0.0) -> Iterator[Proxy]:
    """A proxy through which everything takes `delay` seconds longer, in each direction."""
    with contextlib.closing(Proxy(redis_port)) as between:
        between.slow(delay)
        yield between


if __name__ == "__main__":
    main()
