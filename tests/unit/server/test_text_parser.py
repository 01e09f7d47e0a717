"""The parser of the text protocol: what is a request, however the bytes arrive, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed.server.text.bodies import FUNCTION, Wrapping, content_of
from delayed.server.text.parser import MOST_LINE, MOST_SKIPPED, Fault, Parser, Request, options_in
from delayed.task.decode import decode
from delayed.task.edit import with_retry
from delayed.task.task import GoTask, PyTask
from tests.fuzz.frames import fuzz_parser

MOST = 1000


def read(data: bytes, size: int = 1 << 20, *, extended: bool = False) -> tuple[list[Request | Fault], Parser]:
    """What a parser finds that gets so many bytes at a time."""
    parser = Parser(MOST)
    parser.extended = extended
    found: list[Request | Fault] = []
    for first in range(0, len(data), size):
        found += parser.feed(data[first : first + size])
    return found, parser


GOOD = [
    (b"1 enq q 5 hello\n", Request(1, "enq", b"q", body=b"hello")),
    (b"1 enq q 5 hello\r\n", Request(1, "enq", b"q", body=b"hello")),
    (b"007 enq q 3 a\nb\n", Request(7, "enq", b"q", body=b"a\nb")),
    (b"18446744073709551615 enq q 2 \x00\xff\n", Request(2**64 - 1, "enq", b"q", body=b"\x00\xff")),
    (b"8 enq q 0 \n", Request(8, "enq", b"q", body=b"")),
    (b"8 enq q 0 \r\n", Request(8, "enq", b"q", body=b"")),
    (b"8 enq q 0 the rest of the line\r\n", Request(8, "enq", b"q", body=b"the rest of the line")),
    (b"1 enq  2 ab\n", Request(1, "enq", b"", body=b"ab")),
    (b"2 deq q\n", Request(2, "deq", b"q")),
    (b"2 deq q\r\n", Request(2, "deq", b"q")),
    (b"2 deq \n", Request(2, "deq", b"")),
    (b"2 deq a b\n", Request(2, "deq", b"a b")),
    (b"3 ack q 17\n", Request(3, "ack", b"q", b"17")),
    (b"3 ack q 17\r\n", Request(3, "ack", b"q", b"17")),
    (b"3 ack  17\n", Request(3, "ack", b"", b"17")),
    (b"4 HELLO 1 token=x\n", Request(4, "HELLO", rest=b"1 token=x")),
]
AFTER_HELLO = [
    (b"2 deq q wait=10 max=2\n", Request(2, "deq", b"q", rest=b"wait=10 max=2")),
    (b"2 ext q T 1000\n", Request(2, "ext", b"q", b"T", rest=b"1000")),
    (b"2 nack q T delay=5 it is late\r\n", Request(2, "nack", b"q", b"T", rest=b"delay=5 it is late")),
    (b"2 bury q T\n", Request(2, "bury", b"q", b"T")),
    (b"2 stat q\n", Request(2, "stat", b"q")),
    (b"2 enq q 1 a\n", Request(2, "enq", b"q", body=b"a")),
]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("data", "request_"), GOOD)
def test_a_request(data: bytes, request_: Request, size: int) -> None:
    found, parser = read(data, size)
    assert found == [request_]
    assert not parser.unfinished
    assert not parser.broken


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(("data", "request_"), AFTER_HELLO)
def test_a_request_after_hello(data: bytes, request_: Request, size: int) -> None:
    assert read(data, size, extended=True)[0] == [request_]
    assert read(b"1 HELLO 1\n" + data, size)[0][1:] == [request_]
    if request_.verb not in ("deq", "enq"):
        (fault,) = read(data)[0]
        assert isinstance(fault, Fault)
        assert fault.fatal


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b" enq q 1 a\n",
        b"x enq q 1 a\n",
        b"-1 enq q 1 a\n",
        b"18446744073709551616 deq q\n",
        b"123456789012345678901234",
        b"1 xyz q\n",
        b"1 ENQ q 1 a\n",
        b"1 \n",
        b"1 enq q\n",
        b"1 enq q x a\n",
        b"1 enq q -1 a\n",
        b"1 enq q 1\n",
        b"1 enq q 1 ab\n",
        b"1 enq q 1 a\rb",
        b"1 enq q 1 a\x00",
        b"1 enq " + b"q" * MOST_LINE,
        b"1 enq q " + b"1" * 30,
        b"1 enq q 0 " + b"a" * MOST_LINE,
        b"1 deq " + b"q" * MOST_LINE,
        b"1 ack q\n",
        b"1 ack q \n",
        b"1 ack q 1 2\n",
        b"1 ack\n",
        b"\x00\x001 deq q\n",
        b"1 enq q %d " % (MOST_SKIPPED + 1),
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_request_ends_the_connection(data: bytes, size: int) -> None:
    found, parser = read(data, size)
    assert len(found) == 1
    assert isinstance(found[0], Fault)
    assert found[0].fatal
    assert parser.broken
    assert parser.feed(b"1 deq q\n") == []
    assert parser.kept == 0


@pytest.mark.parametrize("size", [1, 700, 10_000])
def test_a_body_that_is_too_large_is_passed_over(size: int) -> None:
    found, parser = read(b"1 enq q 2000 " + b"a" * 2000 + b"\r\n2 deq q\n", size)
    assert found == [Fault(1, "a body has 1000 bytes at most", fatal=False), Request(2, "deq", b"q")]
    assert not parser.unfinished
    assert isinstance(read(b"1 enq q 2000 " + b"a" * 2001 + b"\n", size)[0][0], Fault)


def test_mistakes_after_hello_do_not_end_the_connection() -> None:
    found, parser = read(b"1 xyz q\n2 ext q\n3 ack q\n4 stat q\n", extended=True)
    assert [type(each) for each in found] == [Fault, Fault, Fault, Request]
    assert not parser.broken


def test_the_byte_behind_an_ack() -> None:
    parser = Parser(MOST)
    (first,) = parser.feed(b"5 ack q 1\n\x00")
    assert isinstance(first, Request)
    assert first.nul is None or first.nul
    first, second = parser.feed(b"6 ack q 2\n7 deq q\n")
    assert isinstance(first, Request)
    assert first.nul is False
    (third,) = parser.feed(b"8 ack q 3\n")
    assert isinstance(third, Request)
    assert third.nul is None
    parser.feed(b"\x00")
    assert [third.nul] == [True]
    assert not parser.unfinished
    assert second.rid == 7


REQUESTS = st.one_of(
    st.builds(lambda rid, queue, body: (b"%d enq %b %d %b\n" % (rid, queue, len(body), body), "enq", queue, body),
              st.integers(0, 2**64 - 1), st.from_regex(rb"[^ \n\r]{0,9}", fullmatch=True), st.binary(min_size=1, max_size=50)),
    st.builds(lambda rid, queue, nul: (b"%d ack %b 7\n%b" % (rid, queue, nul), "ack", queue, b""),
              st.integers(0, 2**64 - 1), st.from_regex(rb"[^ \n\r]{0,9}", fullmatch=True), st.sampled_from([b"", b"\x00"])),
    st.builds(lambda rid, queue: (b"%d deq %b\r\n" % (rid, queue), "deq", queue, b""),
              st.integers(0, 2**64 - 1), st.from_regex(rb"[^\n\r]{0,9}", fullmatch=True)),
)  # fmt: skip


@given(st.lists(REQUESTS, max_size=20), st.integers(1, 40))
def test_requests_in_a_row_are_found_however_they_arrive(requests: list[tuple[bytes, str, bytes, bytes]], size: int) -> None:
    found, parser = read(b"".join(data for data, *_ in requests), size)
    seen = [(each.verb, each.queue, each.body) for each in found if isinstance(each, Request)]
    assert seen == [(verb, queue, body) for _, verb, queue, body in requests]
    assert not parser.unfinished


@given(st.lists(REQUESTS, max_size=9), st.binary(max_size=9), st.integers(0, 99))
def test_requests_that_are_read_quickly_are_what_they_are(
    requests: list[tuple[bytes, str, bytes, bytes]], noise: bytes, at: int
) -> None:
    data = b"".join(each for each, *_ in requests)
    data = data[:at] + noise + data[at:]
    slow = Parser(MOST)
    slow._quickly = lambda found: None  # type: ignore[method-assign]
    assert read(data)[0] == slow.feed(data)


@given(st.binary(max_size=300), st.integers(1, 300), st.booleans())
def test_any_bytes(data: bytes, size: int, extended: bool) -> None:
    found, parser = read(data, size, extended=extended)
    whole, _ = read(data, extended=extended)
    assert found == whole
    assert parser.kept <= MOST + MOST_LINE
    assert parser.broken == any(isinstance(each, Fault) and each.fatal for each in found)


def test_mutated_frames() -> None:
    seen, *_ = fuzz_parser(20_000, 1)
    assert seen > 10_000


def test_options() -> None:
    assert options_in(b"a=1 b=x rest of it", ("a", "b")) == ({"a": b"1", "b": b"x"}, b"rest of it")
    assert options_in(b"", ("a",)) == ({}, b"")
    for wrong in (b"c=1", b"a=1 a=2"):
        with pytest.raises(ValueError, match="there is no option"):
            options_in(wrong, ("a", "b"))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536])
def test_a_body_is_a_task_that_workers_run(size: int) -> None:
    body = bytes(each % 256 for each in range(size))
    data = Wrapping("shop:pay").task(body) + (2**40).to_bytes(8)
    call = decode(data)
    assert (call.func_path, call.args, call.retry, call.headers) == ("shop:pay", [body], 0, {"number": 2**40})
    assert content_of(data) == (body, 2**40)


def test_the_body_of_any_task() -> None:
    other = PyTask("m:f", (1,)).serialize()
    assert content_of(other) == (other, 0)
    other = PyTask("m:f", (b"a",)).serialize()
    assert content_of(other) == (other, 0)
    other = GoTask("main.F", b"a").serialize()
    assert content_of(other) == (other, 0)
    retried = with_retry(Wrapping(FUNCTION).task(b"abc") + (7).to_bytes(8), 3)
    assert content_of(retried) == (b"abc", 7)
    for odd in (b"", b"\xc1", b"\x95", Wrapping(FUNCTION).task(b"abc")):
        assert content_of(odd) == (odd, 0)
