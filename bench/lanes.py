"""Raw connections that send requests of HTTP or of the text protocol: a client that costs as little as can be."""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

Answers = Callable[[bytearray], list[bytes]]  # takes the whole answers out of what has come
Then = Callable[[bytes], bytes | None]  # the request that follows an answer


def http_answers(buffer: bytearray) -> list[bytes]:
    """The bodies of answers of HTTP, all of which have a length.

    Raises:
        AssertionError: one is no success.
    """
    found, at = [], 0
    while (end := buffer.find(b"\r\n\r\n", at)) >= 0:
        head = bytes(buffer[at:end]).lower()
        assert head[9:10] == b"2", bytes(buffer[at : at + 500])
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(buffer) < end + 4 + size:
            break
        at = end + 4 + size
        found.append(bytes(buffer[end + 4 : at]))
    del buffer[:at]
    return found


def text_answers(buffer: bytearray) -> list[bytes]:
    """The lines of answers of the text protocol, whose bodies must have no line ends.

    Raises:
        AssertionError: one is an error.
    """
    whole, _, rest = bytes(buffer).rpartition(b"\n")
    if not whole:
        return []
    buffer[:] = rest
    assert b" error " not in whole, whole[:500]
    return whole.split(b"\n")


class Lane:
    """A connection."""

    def __init__(self, port: int, answers: Answers) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = answers
        self.buffer = bytearray()
        self.sent: deque[float] = deque()  # when requests were sent that have no answer yet

    def send(self, requests: Sequence[bytes]) -> None:
        """Send some more."""
        self.sent.extend([time.monotonic()] * len(requests))
        self.socket.sendall(b"".join(requests))

    def read(self) -> tuple[list[bytes], list[float]]:
        """What has come: answers, and how many seconds each took."""
        data = self.socket.recv(1 << 18)
        assert data, "the server has closed a connection"
        self.buffer += data
        answers, now = self.answers(self.buffer), time.monotonic()
        return answers, [now - self.sent.popleft() for _ in answers]


class Lanes:
    """Several connections to one port."""

    def __init__(self, port: int, count: int, answers: Answers) -> None:
        self._lanes = [Lane(port, answers) for _ in range(count)]
        self._selector = selectors.DefaultSelector()
        for lane in self._lanes:
            self._selector.register(lane.socket, selectors.EVENT_READ, lane)

    def close(self) -> None:
        """Close them."""
        self._selector.close()
        for lane in self._lanes:
            lane.socket.close()

    def flood(self, requests: Iterable[bytes], depth: int, then: Then = lambda _: None) -> list[bytes]:
        """Send all, on each connection with so many on their way, and what follows an answer before others. Returns the
        answers, in the order in which they came."""
        left, found = deque(requests), list[bytes]()
        for lane in self._lanes:
            self._send_some(lane, left, depth)
        while any(lane.sent for lane in self._lanes):
            for key, _ in self._selector.select(60):
                answers, _ = key.data.read()
                found += answers
                left.extendleft([next_one for each in answers if (next_one := then(each)) is not None])
                self._send_some(key.data, left, len(answers))
        return found

    def post(self, requests: Sequence[bytes]) -> None:
        """Send one on each connection, whatever comes of it."""
        for lane, request in zip(self._lanes, requests, strict=True):
            lane.send([request])

    @staticmethod
    def _send_some(lane: Lane, left: deque[bytes], most: int) -> None:
        some = [left.popleft() for _ in range(min(most, len(left)))]
        if some:
            lane.send(some)

    def paced(self, requests: Sequence[bytes], rate: float) -> tuple[float, list[float]]:
        """Send so many in a second, whatever comes back. Returns the rate that was reached, and how many seconds each took."""
        began, at, turn, waits = time.monotonic(), 0, 0, list[float]()
        while at < len(requests):
            due = min(int((time.monotonic() - began) * rate), len(requests))
            if due > at:
                self._lanes[turn % len(self._lanes)].send(requests[at:due])
                at, turn = due, turn + 1
            waits += self._read_for(0.001)
        reached = at / (time.monotonic() - began)
        while any(lane.sent for lane in self._lanes):
            waits += self._read_for(60)
        return reached, waits

    def _read_for(self, seconds: float) -> list[float]:
        waits = []
        for key, _ in self._selector.select(seconds):
            waits += key.data.read()[1]
        return waits
