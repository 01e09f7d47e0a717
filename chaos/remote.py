"""Clients of the servers of the storm, with nothing but the standard library: one that speaks HTTP, one that speaks the text
protocol. Each talks to any of the servers, and goes to another when that one says nothing."""

import http.client
import json
import random
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PATIENCE = 2.0  # seconds in which a server must answer, beside those that it was asked to wait
_PAUSE = 0.05  # seconds after a server that has not answered
_FAULTS = (OSError, http.client.HTTPException)
_AWAY = 503  # Redis cannot be reached, or refuses what was asked for


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any


class Unexpected(Exception):
    """A server has said what it should not."""


class HTTP:
    """A client over HTTP.

    Args:
        ports: of the servers.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._connection: http.client.HTTPConnection | None = None

    def post(
        self,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
        *,
        wait: float = 0,
        expected: Sequence[int] = (200,),
    ) -> Answer | None:
        """One attempt. None if no answer came, or one that says to try again: it may have been carried out or not.

        Raises:
            Unexpected: the answer is none of the `expected`.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection = self._connected()
            assert connection.sock is not None
            connection.sock.settimeout(wait + PATIENCE)
            connection.request("POST", path, data, {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        except _FAULTS:
            self.close()
            time.sleep(_PAUSE)
            return None
        if response.status not in (*expected, _AWAY):
            raise Unexpected(f"{path}: {response.status} {text[:1000]!r}")
        answer = Answer(response.status, json.loads(text))
        if response.status != _AWAY:
            return answer
        self.close()
        time.sleep(_PAUSE)
        return answer if _AWAY in expected else None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None or self._connection.sock is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", random.choice(self._ports), timeout=PATIENCE)
            self._connection.connect()
        return self._connection

    def close(self) -> None:
        """Go to another server the next time."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Text:
    """A client of the text protocol: each step is some lines out, and the replies to them.

    Args:
        ports: of the servers.
        hello: what is said first, if anything.
    """

    def __init__(self, ports: Sequence[int], hello: bytes = b"") -> None:
        self._ports, self._hello = ports, hello
        self._socket: socket.socket | None = None
        self._file: Any = None
        self._rid = 0

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", random.choice(self._ports)), PATIENCE)
        self._file = self._socket.makefile("rb")
        if self._hello:
            self._send([self._hello])
            reply = self._line()
            if b" error " in reply:  # as it is if Redis cannot be asked
                raise ConnectionError(reply.decode())
            if b" hello " not in reply:
                raise Unexpected(f"{self._hello!r}: {reply!r}")

    def _send(self, requests: Sequence[bytes]) -> int:
        """Send them with numbers. Returns the first of these."""
        assert self._socket is not None
        first = self._rid + 1
        self._rid += len(requests)
        self._socket.sendall(b"".join(b"%d %b\n" % (first + place, each) for place, each in enumerate(requests)))
        return first

    def _line(self) -> bytes:
        line: bytes = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return line[:-1]

    def ask(self, *requests: bytes) -> list[bytes] | None:
        """The replies to some requests, in their order, without their numbers; None if not all of them came."""
        try:
            if self._socket is None:
                self._connect()
            assert self._socket is not None
            self._socket.settimeout(PATIENCE)
            first = self._send(requests)
            lines = [self._line() for _ in requests]
        except OSError:
            self.close()
            time.sleep(_PAUSE)
            return None
        for place, line in enumerate(lines):
            if not line.startswith(b"%d " % (first + place)):
                raise Unexpected(f"{requests[place]!r}: {line!r}")
        return [line.partition(b" ")[2] for line in lines]

    def take(self, queue: str, most: int, wait: float, ttl: float) -> list[tuple[bytes, bytes]]:
        """Tokens and bodies of tasks; none if there was none, or no answer."""
        found: list[tuple[bytes, bytes]] = []
        try:
            if self._socket is None:
                self._connect()
            assert self._socket is not None
            self._socket.settimeout(wait + PATIENCE)
            self._send([b"deq %b max=%d wait=%d ttl=%d" % (queue.encode(), most, wait * 1000, ttl * 1000)])
            while (words := self._word(b" ", 5))[1] == b"deqed":
                size = int(words[4])
                body = self._file.read(size + 1)
                if len(body) <= size:
                    raise ConnectionError("the connection was closed")
                found.append((words[3], body[:-1]))
        except OSError:
            self.close()
            time.sleep(_PAUSE)
            return []  # what has come of them is not ours for certain: it goes back
        if words[1] == b"error":
            time.sleep(_PAUSE)
        elif words[1] != b"done" or int(words[3]) != len(found):
            raise Unexpected(f"deq: {words!r} after {len(found)} tasks")
        return found

    def _word(self, end: bytes, most: int) -> list[bytes]:
        """The words of a line, so many of them at most if the second is `deqed`: behind these there is a body."""
        words: list[bytes] = []
        word = b""
        while True:
            byte = self._file.read(1)
            if not byte:
                raise ConnectionError("the connection was closed")
            if byte not in (end, b"\n"):
                word += byte
                continue
            words.append(word)
            word = b""
            if byte == b"\n" or (len(words) == most and words[1] == b"deqed"):
                return words

    def close(self) -> None:
        """Go to another server the next time."""
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None
