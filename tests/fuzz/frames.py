"""Mutated frames of the text protocol: for its parser, and for a server."""

import contextlib
import random
import socket
import time

from delayed.server.text.parser import MOST_LINE, Parser
from delayed.server.text.server import MOST as MOST_BODY
from delayed.system.process import resident_size

MOST = 1000  # bytes of a body, for parsers
SLOWEST = 5.0  # seconds for one frame
_SECONDS = 60.0  # in which a server must have said something to the last request of a connection, or closed it
_PIECES = b" ", b"\n", b"\x00", b"9", b"-", b"\r\n", b"99999999999", b"enq ", b"=", b"HELLO 1\n"
FRAMES = [
    b"1 enq q 5 hello\n",
    b"1 enq q 5 hello\r\n",
    b"007 enq q 3 a\nb\n",
    b"18446744073709551615 enq q 2 \x00\xff\n",
    b"8 enq q 0 the rest of the line\r\n",
    b"1 enq  2 ab\n",
    b"2 deq q\n",
    b"2 deq a b\r\n",
    b"3 ack q 17\n",
    b"3 ack q 17\n\x00",
    b"4 HELLO 1 call=m:f body=bytes\n",
    b"2 deq q wait=10 max=2 ttl=1000\n",
    b"2 ext q T 1000\n",
    b"2 nack q T delay=5 counted=1 it is late\r\n",
    b"2 bury q T\n",
    b"2 stat q\n",
]


def mutated(draw: random.Random, frames: list[bytes] = FRAMES) -> bytes:
    """Some frames with a few bytes changed, left out or doubled."""
    data = bytearray(b"".join(draw.choices(frames, k=draw.randint(1, 4))))
    for _ in range(draw.randint(0, 3)):
        at = draw.randrange(len(data))
        kind = draw.randrange(4)
        if kind == 0:
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.randint(1, 3)]
        elif kind == 2:
            data[at:at] = draw.choice(_PIECES)
        else:
            data[at:at] = data[at : at + 5]
        if not data:
            return b""
    return bytes(data)


def fuzz_parser(count: int, seed: int) -> tuple[int, float, int]:
    """Feed so much to parsers, whole and in pieces. Returns how many requests they found, the longest time and how much memory
    grew; raises if one misbehaves."""
    draw = random.Random(seed)
    seen, longest, before = 0, 0.0, resident_size()
    for _ in range(count):
        parser = Parser(MOST)
        parser.extended = draw.random() < 0.5
        data = mutated(draw)
        size = draw.choice([1, 7, 1 << 16])
        began = time.process_time()
        for first in range(0, len(data), size):
            seen += len(parser.feed(data[first : first + size]))
            assert parser.kept <= MOST + MOST_LINE, data
            assert not parser.broken or parser.kept == 0, data
        longest = max(longest, time.process_time() - began)
    assert longest < SLOWEST, longest
    return seen, longest, resident_size() - before


def fuzz_server(count: int, seed: int, port: int) -> int:
    """Send so much to a server, each over a connection of its own, and a request behind it: that has to be answered, or the
    connection closed, unless it has become a part of what is not complete. Returns how many were answered."""
    draw, answered = random.Random(seed), 0
    for number in range(count):
        rid = 10**15 + number
        sent = mutated(draw) + b"%d deq nothing\n" % rid
        parser = Parser(MOST_BODY)
        found = parser.feed(sent)
        with socket.create_connection(("127.0.0.1", port), _SECONDS) as client, contextlib.suppress(ConnectionError):
            client.sendall(sent)
            if parser.broken or any(each.rid == rid for each in found):
                answered += _is_answered(client, b"%d " % rid)
    return answered


def _is_answered(client: socket.socket, rid: bytes) -> bool:
    """Whether a request is answered; if not, the connection is closed. (Else there is a TimeoutError.)"""
    heard = b""
    while more := client.recv(1 << 16):
        heard += more
        if rid in heard:
            return True
    return False
