"""What docs/text-protocol.md demands of a server, against one that runs: `scripts/conformance --text HOST:PORT`."""

import secrets
import socket
import time
from collections.abc import Callable

from .checks import Failed

SECONDS = 20.0  # for anything that does not wait for a lease to run out
RETURNS = 60.0  # in which a task comes back whose lease has run out


class Talk:
    """A connection to the server.

    Args:
        address: where it is.
        token: to show, if it wants one.
        hello: say HELLO.
    """

    def __init__(self, address: tuple[str, int], token: str | None, *, hello: bool = False) -> None:
        self._socket = socket.create_connection(address, SECONDS)
        self._socket.settimeout(SECONDS)
        self._heard = b""
        if hello or token:
            shown = f" token={token}" if token else ""
            self.expect(f"1 HELLO 1{shown}\n".encode(), b"1 hello 1 ")

    def say(self, data: bytes) -> None:
        """Say something."""
        self._socket.sendall(data)

    def hear(self, until: bytes = b"\n") -> bytes:
        """What comes, up to and with these bytes."""
        while until not in self._heard:
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                raise Failed(f"no reply within {SECONDS:g} s; so far {self._heard[-200:]!r}") from None
            if not more:
                raise Failed(f"the connection was closed after {self._heard[-200:]!r}")
            self._heard += more
        found, end, self._heard = self._heard.partition(until)
        return found + end

    def ask(self, data: bytes, until: bytes = b"\n") -> bytes:
        """Say something, and hear the reply."""
        self.say(data)
        return self.hear(until)

    def expect(self, data: bytes, reply: bytes, until: bytes = b"\n") -> bytes:
        """Say something, and hear what begins with `reply`."""
        found = self.ask(data, until)
        if not found.startswith(reply):
            raise Failed(f"to {data[:100]!r} the reply is {found[:200]!r}, and not {reply!r}")
        return found

    def ends(self) -> None:
        """See that the connection is closed, perhaps after an error."""
        try:
            while more := self._socket.recv(1 << 16):
                self._heard += more
        except TimeoutError:
            raise Failed("the connection was not closed") from None
        except ConnectionResetError:
            return

    def close(self) -> None:
        """Say no more."""
        self._socket.close()


class Server:
    """The server under test, and a queue of its own for each check."""

    def __init__(self, address: tuple[str, int], token: str | None) -> None:
        self.address, self.token = address, token
        self.queue = f"conformance-{secrets.token_hex(6)}".encode()
        self._talks: list[Talk] = []

    def talk(self, *, hello: bool = False) -> Talk:
        """Another connection."""
        made = Talk(self.address, self.token, hello=hello)
        self._talks.append(made)
        return made

    def close(self) -> None:
        """Close them all."""
        for each in self._talks:
            each.close()


Check = Callable[[Server], None]


def enq(server: Server) -> None:
    """R1: enq replies enqed with the queue and the task's number, counted from 1 in each queue."""
    talk, q = server.talk(), server.queue
    for number in (1, 2, 3):
        talk.expect(b"%d enq %b 4 body\n" % (number, q), b"%d enqed %b %d\n" % (number, q, number))
    talk.expect(b"4 enq %b-2 4 body\n" % q, b"4 enqed %b-2 1\n" % q)


def any_bytes(server: Server) -> None:
    """R2: a body has any bytes; its LEN counts them, and a line end follows, LF or CRLF."""
    talk, q = server.talk(), server.queue
    body = bytes(range(256)) * 3
    talk.expect(b"1 enq %b %d %b\r\n" % (q, len(body), body), b"1 enqed")
    talk.expect(b"2 deq %b\r\n" % q, b"2 deqed %b 1 %d " % (q, len(body)), body + b"\n")


def no_length(server: Server) -> None:
    """R3: with LEN 0 the body is the rest of the line, which may be empty."""
    talk, q = server.talk(), server.queue
    talk.expect(b"1 enq %b 0 \n" % q, b"1 enqed")
    talk.expect(b"2 enq %b 0 two words\n" % q, b"2 enqed")
    talk.expect(b"3 deq %b\n" % q, b"3 deqed %b 1 0 \n" % q)
    talk.expect(b"4 deq %b\n" % q, b"4 deqed %b 2 9 two words\n" % q)


def numbers_come_back(server: Server) -> None:
    """R4: a RID of 64 bits comes back without leading zeros, and may be used again."""
    talk, q = server.talk(), server.queue
    talk.expect(b"007 enq %b 1 a\n" % q, b"7 enqed")
    talk.expect(b"18446744073709551615 enq %b 1 a\n" % q, b"18446744073709551615 enqed")
    talk.expect(b"7 deq %b\n" % q, b"7 deqed")


def first_in_first_out(server: Server) -> None:
    """R5: tasks come in the order of their enqueues, and replies about one queue in the order of the requests."""
    talk, q = server.talk(), server.queue
    talk.say(b"".join(b"%d enq %b 3 %03d\n" % (i, q, i) for i in range(300)))
    talk.say(b"".join(b"%d deq %b\n" % (300 + i, q) for i in range(300)))
    for i in range(300):
        if (line := talk.hear()) != b"%d enqed %b %d\n" % (i, q, i + 1):
            raise Failed(f"reply {i} is {line!r}")
    for i in range(300):
        if (line := talk.hear()) != b"%d deqed %b %d 3 %03d\n" % (300 + i, q, i + 1, i):
            raise Failed(f"reply {300 + i} is {line!r}")


def empty(server: Server) -> None:
    """R6: deq of an empty queue is an error, at once."""
    server.talk().expect(b"1 deq %b\n" % server.queue, b"1 error taskq: no task in queue\n")


def ack(server: Server) -> None:
    """R7: ack ends a task; a second one, and one of a task that was not dequeued, is an error."""
    talk, q = server.talk(), server.queue
    talk.expect(b"1 enq %b 1 a\n" % q, b"1 enqed")
    talk.expect(b"2 ack %b 1\n" % q, b"2 error taskq: no such task\n")
    talk.expect(b"3 deq %b\n" % q, b"3 deqed")
    talk.expect(b"4 ack %b 1\n" % q, b"4 acked %b 1\n" % q)
    talk.expect(b"5 ack %b 1\n" % q, b"5 error taskq: no such task\n")


def nul(server: Server) -> None:
    """R8: if a byte 0 follows an ack's line, acked ends in a space and has no line end."""
    talk, q = server.talk(), server.queue
    for number in (1, 2, 3):
        talk.expect(b"1 enq %b 1 a\n" % q, b"1 enqed")
        talk.expect(b"2 deq %b\n" % q, b"2 deqed")
        talk.say(b"77 ack %b %d\n\x00" % (q, number))
        if (line := talk.hear(b" %d " % number)) != b"77 acked %b %d " % (q, number):
            raise Failed(f"the reply is {line!r}")
        talk.expect(b"4 deq %b\n" % q, b"4 error")


def other_connection(server: Server) -> None:
    """R9: a task that was handed out once may be acknowledged over any connection."""
    one, other, q = server.talk(), server.talk(), server.queue
    one.expect(b"1 enq %b 1 a\n" % q, b"1 enqed")
    one.expect(b"2 deq %b\n" % q, b"2 deqed")
    other.expect(b"3 ack %b 1\n" % q, b"3 acked %b 1\n" % q)


def malformed(server: Server) -> None:
    """R10: what is no request closes the connection, after an error if its RID could be read."""
    for frame in (
        b"x\n", b"-1 deq q\n", b"18446744073709551616 deq q\n", b"1 xyz q\n", b"1 enq q x a\n", b"1 enq q -1 a\n",
        b"1 enq q 1 ab\n", b"1 ack q\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00", b"1 enq " + b"q" * 5000,
        b"1 deq " + b"q" * 5000,
    ):  # fmt: skip
        talk = server.talk()
        talk.say(frame)
        talk.ends()


def too_large(server: Server) -> None:
    """R11: a body that is too large is an error, and the connection goes on."""
    talk, q = server.talk(), server.queue
    talk.expect(b"1 enq %b %d %b\n" % (q, 16 << 20, b"a" * (16 << 20)), b"1 error ")
    talk.expect(b"2 enq %b 1 a\n" % q, b"2 enqed %b 1\n" % q)


def hello(server: Server) -> None:
    """R12: HELLO of version 1 is answered; another version, or an option that there is not, is an error and the end."""
    talk = server.talk(hello=True)
    talk.expect(b"2 HELLO 1\n" if server.token is None else b"2 HELLO 1 token=%b\n" % server.token.encode(), b"2 hello 1 ")
    for wrong in (b"3 HELLO 99\n", b"3 HELLO 1 nonsense=1\n", b"3 HELLO 1 token=nonsense\n"):
        talk = server.talk()
        talk.expect(wrong, b"3 error ")
        talk.ends()


def tokens(server: Server) -> None:
    """R13: after HELLO a TASKID is a token that nobody can guess, and only that ends the task."""
    talk, q = server.talk(hello=True), server.queue
    talk.expect(b"1 enq %b 1 a\n" % q, b"1 enqed %b 1\n" % q)
    token = talk.expect(b"2 deq %b\n" % q, b"2 deqed %b " % q).split()[3]
    if len(token) < 22:
        raise Failed(f"{token!r} is too short")
    talk.expect(b"3 ack %b 1\n" % q, b"3 error taskq: no such task\n")
    server.talk(hello=True).expect(b"4 ack %b %b\n" % (q, token), b"4 acked %b %b\n" % (q, token))
    talk.expect(b"5 ack %b %b\n" % (q, token), b"5 error taskq: no such task\n")


def batches(server: Server) -> None:
    """R14: deq max=N replies with up to N tasks, and then with done and how many they were."""
    talk, q = server.talk(hello=True), server.queue
    talk.say(b"".join(b"1 enq %b 1 a\n" % q for _ in range(5)))
    for _ in range(5):
        talk.hear()
    talk.say(b"2 deq %b max=3\n" % q)
    for _ in range(3):
        if not (line := talk.hear()).startswith(b"2 deqed"):
            raise Failed(f"the reply is {line!r}")
    if (line := talk.hear()) != b"2 done %b 3\n" % q:
        raise Failed(f"the last reply is {line!r}")


def waits(server: Server) -> None:
    """R15: deq wait=MS is answered when there is a task, or after that time; other requests go on meanwhile."""
    talk, q = server.talk(hello=True), server.queue
    talk.say(b"1 deq %b wait=30000\n" % q)
    talk.expect(b"2 stat %b\n" % q, b"2 stated %b waiting=0 " % q)
    server.talk().expect(b"3 enq %b 1 a\n" % q, b"3 enqed")
    if not (line := talk.hear()).startswith(b"1 deqed"):
        raise Failed(f"the reply is {line!r}")
    talk.expect(b"4 deq %b wait=10\n" % q, b"4 error taskq: no task in queue\n")


def other_endings(server: Server) -> None:
    """R16: ext, nack and bury say what has become of the task, and stat counts."""
    talk, q = server.talk(hello=True), server.queue
    talk.expect(b"1 enq %b 1 a\n" % q, b"1 enqed")
    token = talk.ask(b"2 deq %b\n" % q).split()[3]
    talk.expect(b"3 ext %b %b 60000\n" % (q, token), b"3 exted %b %b\n" % (q, token))
    talk.expect(b"4 nack %b %b it broke\n" % (q, token), b"4 nacked %b %b retrying\n" % (q, token))
    talk.expect(b"5 ext %b %b 60000\n" % (q, token), b"5 error taskq: no such task\n")
    token = talk.ask(b"6 deq %b wait=5000\n" % q).split()[3]
    talk.expect(b"7 stat %b\n" % q, b"7 stated %b waiting=0 held=1 scheduled=0 dead=0\n" % q)
    talk.expect(b"8 bury %b %b it is broken\n" % (q, token), b"8 buried %b %b failed\n" % (q, token))
    talk.expect(b"9 stat %b\n" % q, b"9 stated %b waiting=0 held=0 scheduled=0 dead=1\n" % q)


def mistakes_go_on(server: Server) -> None:
    """R17: after HELLO a line that nobody understands is an error, and the connection goes on."""
    talk, q = server.talk(hello=True), server.queue
    for wrong in (b"1 xyz q\n", b"1 ext q\n", b"1 deq %b max=0\n" % q, b"1 deq %b nonsense=1\n" % q):
        talk.expect(wrong, b"1 error ")
    talk.expect(b"2 enq %b 1 a\n" % q, b"2 enqed")


def comes_back(server: Server) -> None:
    """R18: a task that was not ended in time comes back with its body, before others; a late end changes nothing."""
    talk, other, q = server.talk(hello=True), server.talk(hello=True), server.queue
    for body in (b"a", b"b"):
        talk.expect(b"1 enq %b 1 %b\n" % (q, body), b"1 enqed")
    token = talk.ask(b"2 deq %b ttl=1000\n" % q).split()[3]
    deadline = time.monotonic() + RETURNS
    while b" waiting=2 " not in other.ask(b"3 stat %b\n" % q):
        if time.monotonic() > deadline:
            raise Failed(f"the task did not come back within {RETURNS:g} s: does a sweeper run?")
        time.sleep(0.2)
    line = other.ask(b"4 deq %b\n" % q)
    if not line.endswith(b" 1 a\n"):
        raise Failed(f"the first task is {line!r}")
    talk.expect(b"5 ack %b %b\n" % (q, token), b"5 error taskq: no such task\n")
    other.expect(b"6 ack %b %b\n" % (q, line.split()[3]), b"6 acked")


CHECKS: tuple[Check, ...] = (
    enq, any_bytes, no_length, numbers_come_back, first_in_first_out, empty, ack, nul, other_connection, malformed, too_large,
    hello, tokens, batches, waits, other_endings, mistakes_go_on, comes_back,
)  # fmt: skip


def run(address: tuple[str, int], token: str | None) -> int:
    """Run all checks; how many failed."""
    failed = 0
    for check in CHECKS:
        server = Server(address, token)
        wrong = None
        try:
            check(server)
        except (Failed, OSError) as error:
            wrong = str(error)
        finally:
            server.close()
        print(f"{'FAILED' if wrong else 'ok    '} {(check.__doc__ or '').strip()}", flush=True)
        if wrong:
            failed += 1
            print(f"       {wrong}", flush=True)
    print(f"{failed} of the checks failed" if failed else "all checks ok")
    return failed
