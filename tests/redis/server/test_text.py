"""The text protocol over real connections."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import msgpack
import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.server.consumer import Consumer
from delayed.server.links import Links
from delayed.server.numbers import NumberedTasks
from delayed.server.quota import Connection
from delayed.server.text import session as session_module
from delayed.server.text.bodies import Wrapping
from delayed.server.text.door import Grant, OpenDoor, Refused
from delayed.server.text.server import TextServer
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.support.waiting import eventually

LONG = 20.0  # seconds: what does not come within them never does


class Client:
    """A peer that says and hears bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, until: bytes = b"\n") -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(until), LONG)

    async def ask(self, data: bytes) -> bytes:
        self.say(data)
        return await self.hear()

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), LONG) == b""

    def close(self) -> None:
        self.writer.close()


Connect = Callable[[], "asyncio.Future[Client]"]


@contextlib.asynccontextmanager
async def served(url: str, **options: object) -> AsyncIterator[tuple[TextServer, int]]:
    links = Links(url)
    consumer = Consumer(links)
    server = TextServer(links, consumer, **options)  # type: ignore[arg-type]
    try:
        yield server, await server.listen("127.0.0.1", 0)
    finally:
        await server.close()
        await consumer.close()
        await links.aclose()


@pytest.fixture
async def port(redis_url: str) -> AsyncIterator[int]:
    async with served(redis_url) as (_, found):
        yield found


@pytest.fixture
async def peer(port: int) -> AsyncIterator[Client]:
    made = await Client.to(port)
    yield made
    made.close()


@pytest.fixture
async def other(port: int) -> AsyncIterator[Client]:
    made = await Client.to(port)
    yield made
    made.close()


def lose(queue: Queue) -> None:
    """All leases run out, and somebody sweeps."""
    queue.call("UNLINK", *queue.call("HKEYS", queue.keys.processing))
    sweep(queue.store)


async def test_taskq(peer: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    assert await peer.ask(b"1 enq %b 5 hello\n" % q) == b"1 enqed %b 1\n" % q
    assert await peer.ask(b"007 enq %b 3 a\nb\r\n" % q) == b"7 enqed %b 2\n" % q
    assert await peer.ask(b"8 enq %b 0 \n" % q) == b"8 enqed %b 3\n" % q
    assert await peer.ask(b"2 deq %b\n" % q) == b"2 deqed %b 1 5 hello\n" % q
    peer.say(b"2 deq %b\r\n" % q)
    assert await peer.hear(b"b\n") == b"2 deqed %b 2 3 a\nb\n" % q
    assert await peer.ask(b"2 deq %b\n" % q) == b"2 deqed %b 3 0 \n" % q
    assert await peer.ask(b"2 deq %b\n" % q) == b"2 error taskq: no task in queue\n"
    assert await peer.ask(b"3 ack %b 2\n" % q) == b"3 acked %b 2\n" % q
    assert await peer.ask(b"3 ack %b 2\n" % q) == b"3 error taskq: no such task\n"
    assert await peer.ask(b"3 ack %b 9\n" % q) == b"3 error taskq: no such task\n"
    assert await peer.ask(b"3 ack %b x\n" % q) == b"3 error taskq: no such task\n"
    peer.say(b"4 ack %b 1\n\x004 ack %b 3\n\x005 deq %b\n" % (q, q, q))
    assert await peer.hear(b"error") == b"4 acked %b 1 4 acked %b 3 5 error" % (q, q)
    assert queue.len() == queue.call("HLEN", queue.keys.processing) == 0
    assert queue.call("KEYS", f"{name}_number_*") == []


async def test_replies_keep_the_order_of_each_queue(peer: Client, name: str, redis_url: str) -> None:
    q, p = name.encode(), f"{name}-b".encode()
    peer.say(b"".join(b"%d enq %b 1 a\n%d enq %b 1 b\n%d deq %b\n" % (i, q, i, p, i, q) for i in range(200)))
    heard = [await peer.hear() for _ in range(600)]
    mine = [line for line in heard if b" %b " % q in line]
    expected = [b"%d enqed %b %d\n%d deqed %b %d 1 a\n" % (i, q, i + 1, i, q, i + 1) for i in range(200)]
    assert b"".join(mine) == b"".join(expected)
    peer.say(b"".join(b"%d ack %b %d\n" % (i, q, i + 1) for i in range(200)))
    assert [await peer.hear() for _ in range(200)] == [b"%d acked %b %d\n" % (i, q, i + 1) for i in range(200)]
    with redis.Redis.from_url(redis_url) as conn:
        conn.delete(*conn.keys(f"{name}-b*"))


async def test_redelivery_comes_first_and_keeps_the_number(peer: Client, other: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    for body in (b"a", b"b"):
        await peer.ask(b"1 enq %b 1 %b\n" % (q, body))
    assert await peer.ask(b"2 deq %b\n" % q) == b"2 deqed %b 1 1 a\n" % q
    lose(queue)
    assert await other.ask(b"2 deq %b\n" % q) == b"2 deqed %b 1 1 a\n" % q
    assert await peer.ask(b"3 ack %b 1\n" % q) == b"3 error taskq: no such task\n"  # it is the other's now
    assert queue.call("HLEN", queue.keys.processing) == 1
    assert await peer.ask(b"3 ack %b 1\n" % q) == b"3 error taskq: no such task\n"
    assert await other.ask(b"3 ack %b 1\n" % q) == b"3 acked %b 1\n" % q
    assert queue.call("HLEN", queue.keys.processing) == 0


async def test_a_late_ack_of_what_nobody_works_on_counts(peer: Client, other: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    for body in (b"a", b"b"):
        await peer.ask(b"1 enq %b 1 %b\n" % (q, body))
    await peer.ask(b"2 deq %b\n" % q)
    queue.call("UNLINK", *queue.call("HKEYS", queue.keys.processing))  # nobody has swept yet
    assert await peer.ask(b"3 ack %b 1\n" % q) == b"3 acked %b 1\n" % q
    await peer.ask(b"2 deq %b\n" % q)
    lose(queue)
    assert queue.len() == 1
    assert await peer.ask(b"3 ack %b 2\n" % q) == b"3 acked %b 2\n" % q
    assert queue.len() == queue.call("LLEN", queue.keys.noti) == 0
    assert await other.ask(b"2 deq %b\n" % q) == b"2 error taskq: no task in queue\n"


async def test_any_connection_may_acknowledge(peer: Client, other: Client, name: str, redis_url: str) -> None:
    q = name.encode()
    await peer.ask(b"1 enq %b 1 a\n" % q)
    await peer.ask(b"2 deq %b\n" % q)
    assert await other.ask(b"3 ack %b 1\n" % q) == b"3 acked %b 1\n" % q
    assert await peer.ask(b"3 ack %b 1\n" % q) == b"3 error taskq: no such task\n"
    await peer.ask(b"1 enq %b 1 a\n" % q)
    await peer.ask(b"2 deq %b\n" % q)
    async with served(redis_url) as (_, elsewhere):  # another server
        third = await Client.to(elsewhere)
        assert await third.ask(b"1 enq %b 1 c\n" % q) == b"1 enqed %b 3\n" % q
        assert await third.ask(b"3 ack %b 2\n" % q) == b"3 acked %b 2\n" % q
        third.close()


async def test_what_a_connection_holds_is_kept_on_redis(redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.server.text.verbs._MOST_HELD", 2)
    q = name.encode()
    async with served(redis_url) as (server, port):
        peer = await Client.to(port)
        for number in range(1, 6):
            await peer.ask(b"1 enq %b 1 a\n" % q)
            assert await peer.ask(b"1 deq %b\n" % q) == b"1 deqed %b %d 1 a\n" % (q, number)
        (session,) = server._sessions
        assert len(session._verbs._held) == 2
        for number in range(1, 6):
            assert await peer.ask(b"1 ack %b %d\n" % (q, number)) == b"1 acked %b %d\n" % (q, number)
        peer.close()


async def test_workers_and_clients_share_queues(peer: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    task = PyTask("m:f", (1,), track=True)
    handle = queue.enqueue(task)
    line = await peer.ask(b"1 deq %b\n" % q)
    assert line.startswith(b"1 deqed %b 1 " % q)
    assert b"\xa3m:f" in line
    assert await peer.ask(b"1 ack %b 1\n" % q) == b"1 acked %b 1\n" % q
    assert handle.status().state == "succeeded"
    assert await peer.ask(b"1 HELLO 1 call=tasks:noop\n") == b"1 hello 1 delayed\n"
    assert await peer.ask(b"1 enq %b 4 body\n" % q) == b"1 enqed %b 2\n" % q
    call = decode(queue.call("LINDEX", name, 0))
    assert (call.func_path, call.args, call.headers) == ("tasks:noop", [b"body"], {"number": 2})
    assert await asyncio.to_thread(lambda: burst(queue).state.finished) == 1
    assert queue.call("XLEN", queue.keys.dead) == 0


async def test_whole_tasks(peer: Client, name: str, queue: Queue) -> None:
    q, task = name.encode(), PyTask("m:f", (1,), retry=2).serialize()
    await peer.ask(b"1 HELLO 1 body=task\n")
    assert await peer.ask(b"1 enq %b %d %b\n" % (q, len(task), task)) == b"1 enqed %b 0\n" % q
    assert await peer.ask(b"1 enq %b 3 abc\n" % q) == b"1 error the body is no task: see docs/protocol.md, section 2\n"
    assert queue.call("LRANGE", name, 0, -1) == [task]
    (token, size, body) = (await peer.ask(b"2 deq %b\n" % q)).split(b" ", 5)[3:]
    assert (int(size), body) == (len(task), task + b"\n")
    assert await peer.ask(b"3 nack %b %b counted=1 it broke\n" % (q, token)) == b"3 nacked %b %b retrying\n" % (q, token)
    assert decode(queue.call("LINDEX", name, 0)).retry == 1


_FLOW: dict[object, object] = {"id": "0123456789AAAAAB", "enqueued": 1, "flow": ["secret", 1]}
_ODD = msgpack.ExtType(127, b"")  # what we cannot read others may


@pytest.mark.parametrize(
    "fields",
    [
        ["x:y", [], {}, 0, _FLOW],
        ["x:y", [], {}, 0, {"flow": None}],
        ["x:y", [], {}, 0, {**_FLOW, "odd": _ODD}],
        ["pkg/x.Y", b"", _FLOW],
        ["pkg/x.Y", b"", {**_FLOW, "odd": _ODD}],
    ],
)
async def test_only_workflows_enqueue_their_nodes(peer: Client, name: str, queue: Queue, fields: list[object]) -> None:
    q, task = name.encode(), msgpack.packb(fields)
    await peer.ask(b"1 HELLO 1 body=task\n")
    assert (await peer.ask(b"1 enq %b %d %b\n" % (q, len(task), task))).startswith(b"1 error this task says that it is a node")
    assert queue.len() == 0
    for others in (
        ["x:y", ["flow"], {}, 0, {"metadata": {"flow": "flow"}}],
        ["x:y", ["flow"]],
        ["pkg/x.Y", b"flow"],
        "pkg/x.Y",
    ):
        task = msgpack.packb(others)
        assert await peer.ask(b"1 enq %b %d %b\n" % (q, len(task), task)) == b"1 enqed %b 0\n" % q


async def test_leases_by_token(peer: Client, other: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    for each in (peer, other):
        assert await each.ask(b"1 HELLO 1\n") == b"1 hello 1 delayed\n"
    for body in (b"a", b"b", b"c"):
        await peer.ask(b"1 enq %b 1 %b\n" % (q, body))
    peer.say(b"2 deq %b max=2 ttl=5000\n" % q)
    lines = [await peer.hear() for _ in range(3)]
    assert [line.split()[-1] for line in lines] == [b"a", b"b", b"2"]
    assert lines[2] == b"2 done %b 2\n" % q
    first, second = (line.split()[3] for line in lines[:2])
    assert await other.ask(b"3 ext %b %b 60000\n" % (q, first)) == b"3 exted %b %b\n" % (q, first)
    assert queue.call("PTTL", f"{name}_lease_{first.split(b'.')[0].decode()}") > 50_000
    assert await other.ask(b"4 stat %b\n" % q) == b"4 stated %b waiting=1 held=2 scheduled=0 dead=0\n" % q
    assert await peer.ask(b"5 nack %b %b delay=60000\n" % (q, second)) == b"5 nacked %b %b retrying\n" % (q, second)
    assert await peer.ask(b"6 bury %b %b no such thing\n" % (q, first)) == b"6 buried %b %b failed\n" % (q, first)
    assert await peer.ask(b"7 stat %b\n" % q) == b"7 stated %b waiting=1 held=0 scheduled=1 dead=1\n" % q
    for verb in (b"ack", b"nack", b"bury", b"ext"):
        assert await peer.ask(b"8 %b %b %b 60000\n" % (verb, q, first)) in (
            b"8 error taskq: no such task\n",
            b"8 error ack QUEUE TASKID\n",
        )
    token = (await peer.ask(b"9 deq %b\n" % q)).split()[3]
    assert await peer.ask(b"9 ack other %b\n" % token) == b"9 error taskq: no such task\n"
    assert await peer.ask(b"9 ack %b nonsense\n" % q) == b"9 error taskq: no such task\n"
    lose(queue)
    assert await peer.ask(b"9 ack %b %b\n" % (q, token)) == b"9 error taskq: no such task\n"
    again = (await other.ask(b"9 deq %b\n" % q)).split()[3]
    assert await peer.ask(b"9 ack %b %b\n" % (q, again)) == b"9 acked %b %b\n" % (q, again)


async def test_deq_waits(peer: Client, other: Client, name: str) -> None:
    q = name.encode()
    await peer.ask(b"1 HELLO 1\n")
    peer.say(b"2 deq %b wait=20000\n3 deq %b wait=20000 max=5\n" % (q, q))
    assert await peer.ask(b"4 stat %b\n" % q) == b"4 stated %b waiting=0 held=0 scheduled=0 dead=0\n" % q
    await other.ask(b"1 enq %b 1 a\n" % q)
    line = await peer.hear()
    assert line.startswith(b"2 deqed %b " % q)
    await other.ask(b"1 enq %b 1 b\n" % q)
    other_line = await peer.hear()
    assert other_line.startswith(b"3 deqed %b " % q)
    assert await peer.hear() == b"3 done %b 1\n" % q
    peer.say(b"".join(b"5 ack %b %b\n" % (q, each.split()[3]) for each in (line, other_line)))
    assert (await peer.hear()).startswith(b"5 acked")
    assert (await peer.hear()).startswith(b"5 acked")
    assert await peer.ask(b"6 deq %b wait=1\n" % q) == b"6 error taskq: no task in queue\n"
    assert await peer.ask(b"6 deq %b wait=1 max=1\n" % q) == b"6 done %b 0\n" % q


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"7 HELLO 2\n", b"7 error this server speaks version 1\n"),
        (b"7 HELLO 1 x=1\n", b"7 error HELLO 1 [token=TOKEN] [call=FUNCTION] [body=bytes|task]\n"),
        (
            b"7 HELLO 1 call=nonsense\n8 enq q 1 a\n",
            b"7 error 'nonsense' is not the path of a Python function: write it as 'module.path:function'\n",
        ),
        (b"7 xyz q\n", b"7 error no such verb: there is enq, deq and ack, and more after HELLO\n"),
        (b"7 stat q\n", b"7 error no such verb: it is said after HELLO\n"),
        (b"7 enq q 1 abc\n", b"7 error a line end is missing behind the body, or LEN is wrong\n"),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x16\x03\x01\x02\x00", b""),
    ],
)
async def test_what_nobody_understands_closes_the_connection(peer: Client, said: bytes, heard: bytes) -> None:
    peer.say(said)
    assert await asyncio.wait_for(peer.reader.read(), LONG) == heard


async def test_mistakes_are_told(peer: Client, name: str, queue: Queue) -> None:
    q = name.encode()
    large = b"x" * (1 << 20) + b"y"
    assert await peer.ask(b"1 enq %b %d %b\n" % (q, len(large), large)) == b"1 error a body has 1048576 bytes at most\n"
    assert (await peer.ask(b"1 enq %b_dead 1 a\n" % q)).startswith(b"1 error ")
    queue.call("SET", name, "another program's")
    assert b"WRONGTYPE" in await peer.ask(b"1 enq %b 1 a\n" % q)
    queue.call("DEL", name)
    await peer.ask(b"1 HELLO 1\n")
    for wrong in (
        b"deq %b max=0",
        b"deq %b max=x",
        b"deq %b wait=999999999",
        b"deq %b y=1",
        b"deq %b y",
        b"ext %b",
        b"xyz %b",
    ):
        assert (await peer.ask(b"2 " + wrong % q + b"\n")).startswith(b"2 error ")
    assert (await peer.ask(b"3 enq %b 1 a\n" % q)) == b"3 enqed %b 1\n" % q


async def test_hello_changes_nothing_before_it(peer: Client, name: str, queue: Queue) -> None:
    """However the bytes come: what stands before a HELLO has a number, and what follows a token."""
    q = name.encode()
    peer.say(b"".join(b"1 enq %b 1 a\n" % q for _ in range(4)))
    assert [await peer.hear() for _ in range(4)] == [b"1 enqed %b %d\n" % (q, number) for number in (1, 2, 3, 4)]
    peer.say(b"2 deq %b\n3 ack %b 1\n4 HELLO 1\n5 deq %b\n" % (q, q, q))
    heard = [await peer.hear() for _ in range(4)]
    assert heard[:3] == [b"2 deqed %b 1 1 a\n" % q, b"3 acked %b 1\n" % q, b"4 hello 1 delayed\n"]
    token = heard[3].split()[3]
    assert len(token) > 32
    assert await peer.ask(b"6 ack %b %b\n" % (q, token)) == b"6 acked %b %b\n" % (q, token)


async def test_each_request_has_one_reply(peer: Client, name: str, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails in the middle of several that are carried out together."""
    q, good = name.encode(), PyTask("m:f").serialize()
    peer.say(b"".join(b"0 enq %b 1 a\n" % q for _ in range(150)))
    assert [(await peer.hear()).split()[1] for _ in range(150)] == [b"enqed"] * 150
    take, calls = NumberedTasks.take, itertools.count()

    async def first(*words: Any, **more: Any) -> Any:
        if next(calls):
            raise redis.ConnectionError("gone")
        return await take(*words, **more)

    monkeypatch.setattr(NumberedTasks, "take", first)
    peer.say(b"".join(b"%d deq %b\n" % (rid, q) for rid in range(150)))
    heard = [(await peer.hear()).split() for _ in range(150)]
    assert [int(words[0]) for words in heard] == [*range(150)]
    assert [words[1] for words in (heard[0], heard[-1])] == [b"deqed", b"error"]
    assert await peer.ask(b"1 HELLO 1 body=task\n") == b"1 hello 1 delayed\n"
    token = (await peer.ask(b"2 deq %b\n" % q)).split()[3]
    for key in (queue.keys.processing, queue.keys.queue):
        queue.call("DEL", key)
        queue.call("SET", key, "another program's")
    peer.say(b"3 nack %b x\n4 nack %b %b\n" % (q, q, token))
    peer.say(b"5 enq %b 3 abc\n6 enq %b %d %b\n7 HELLO 1\n" % (q, q, len(good), good))
    assert [(await peer.hear()).split()[:2] for _ in range(4)] == [[b"%d" % rid, b"error"] for rid in (3, 4, 5, 6)]
    assert await peer.hear() == b"7 hello 1 delayed\n"
    queue.call("DEL", queue.keys.processing, queue.keys.queue)


async def silent(port: int, server: TextServer) -> tuple[Client, session_module.Session]:
    """A peer that reads nothing unless it is asked to, and its session."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    peer = Client(*await asyncio.open_connection(sock=sock))
    await peer.ask(b"0 ack nothing 1\n")
    (session,) = server._sessions
    return peer, session


async def is_full(session: session_module.Session) -> None:
    async with asyncio.timeout(LONG):
        while session.is_heard:
            await asyncio.sleep(0.01)


_MEGABYTE = b"x" * 1_000_000


@pytest.mark.parametrize("extended", [True, False])
async def test_a_client_that_does_not_read_gets_no_more(redis_url: str, name: str, queue: Queue, *, extended: bool) -> None:
    q = name.encode()
    wrapping = Wrapping()
    queue.store.number([wrapping.task(_MEGABYTE) for _ in range(60)])
    async with served(redis_url) as (server, port):
        peer, session = await silent(port, server)
        if extended:
            await peer.ask(b"1 HELLO 1\n")
        peer.say(b"2 deq %b max=2\n" % q * 30 if extended else b"2 deq %b\n" % q * 60)
        await is_full(session)
        other = await Client.to(port)
        await other.ask(b"1 HELLO 1\n")
        for _ in range(20):  # which is long enough for all of them
            held = int((await other.ask(b"2 stat %b\n" % q)).split()[4].partition(b"=")[2])
        assert held <= 30  # what a system keeps for a connection, and one step
        for _ in range(60):
            assert (await peer.hear(b" 1000000 ")).split()[-1] == b"1000000"
            await peer.reader.readexactly(len(_MEGABYTE) + 1)
            if extended and _ % 2:
                assert await peer.hear() == b"2 done %b 2\n" % q
        peer.close()
        other.close()


async def test_what_comes_for_a_client_that_does_not_read_goes_to_others(
    redis_url: str, name: str, queue: Queue, client: redis.Redis
) -> None:
    q, big = name.encode(), Queue(f"{name}-big", client)
    big.store.number([Wrapping().task(_MEGABYTE) for _ in range(20)])
    async with served(redis_url) as (server, port):
        peer, session = await silent(port, server)
        await peer.ask(b"1 HELLO 1\n")
        peer.say(b"2 deq %b wait=60000\n" % q)
        assert (await peer.ask(b"3 stat %b\n" % q)).startswith(b"3 stated")
        peer.say(b"4 deq %b max=20\n" % big.name.encode())
        await is_full(session)
        other = await Client.to(port)
        await other.ask(b"1 HELLO 1\n")
        await other.ask(b"2 enq %b 1 a\n" % q)
        line = await other.ask(b"3 deq %b wait=20000\n" % q)
        assert line.startswith(b"3 deqed")
        assert await other.ask(b"4 ack %b %b\n" % (q, line.split()[3])) == b"4 acked %b %b\n" % (q, line.split()[3])
        for _ in range(20):
            await peer.hear(b" 1000000 ")
            await peer.reader.readexactly(len(_MEGABYTE) + 1)
        await peer.hear()
        await other.ask(b"2 enq %b 1 b\n" % q)
        assert (await peer.hear()).endswith(b" 1 b\n")  # it still waits
        peer.close()
        other.close()
    client.delete(*client.keys(f"{big.name}*"))


class _Door:
    known = "secret"

    async def grant(self, token: str | None, address: str) -> Grant:
        if token != self.known:
            raise Refused("a token is needed: HELLO 1 token=TOKEN")
        return _Reader()


class _Reader:
    size = 100

    def check(self, right: str, queue: str | None = None) -> None:
        if right == "consume" or queue is None or not queue.startswith("q"):
            raise Refused(f"this token may not {right}")

    def check_function(self, path: str) -> None:
        if path != "shop:pay":
            raise Refused("this function is not allowed")

    def admit(self, count: int) -> tuple[int, str]:
        return count, ""

    def enter(self, connection: Connection) -> None:
        """As many as there are."""


async def test_tokens(redis_url: str, name: str) -> None:
    q = name.encode()
    async with served(redis_url, door=_Door()) as (_, port):
        for said in (b"1 enq %b 1 a\n" % q, b"1 HELLO 1\n", b"1 HELLO 1 token=wrong\n"):
            peer = await Client.to(port)
            assert await peer.ask(said) == b"1 error a token is needed: HELLO 1 token=TOKEN\n"
            assert await peer.is_closed()
            peer.close()
        peer = await Client.to(port)
        assert await peer.ask(b"1 HELLO 1 token=secret call=shop:pay\n") == b"1 hello 1 delayed\n"
        assert await peer.ask(b"2 enq %b 1 a\n" % q) == b"2 enqed %b 1\n" % q
        assert await peer.ask(b"3 deq %b\n" % q) == b"3 error this token may not consume\n"
        assert await peer.ask(b"3 enq x 1 a\n") == b"3 error this token may not enqueue\n"
        assert await peer.ask(b"4 HELLO 1 call=shop:steal\n") == b"4 hello 1 delayed\n"
        assert await peer.ask(b"5 enq %b 1 a\n" % q) == b"5 error this function is not allowed\n"
        peer.close()


async def test_larger_bodies_than_a_token_may_send(redis_url: str, name: str) -> None:
    q, large = name.encode(), b"a" * 101
    async with served(redis_url, door=_Door()) as (_, port):
        for hello in (b"", b"0 stat %b\n" % q):  # what was read together with it, and what comes later
            peer = await Client.to(port)
            peer.say(b"1 HELLO 1 token=secret call=shop:pay\n" + b"2 enq %b 101 %b\n" % (q, large) * (not hello))
            assert await peer.hear() == b"1 hello 1 delayed\n"
            if hello:
                peer.say(b"2 enq %b 101 %b\n" % (q, large))
            assert await peer.hear() == b"2 error a body has 100 bytes at most\n"
            assert (await peer.ask(b"3 enq %b 100 %b\n" % (q, large[1:]))).startswith(b"3 enqed ")
            peer.close()


async def test_a_token_that_is_revoked(redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_TRUSTED", 0.0)
    door = _Door()
    async with served(redis_url, door=door) as (_, port):
        peer = await Client.to(port)
        assert await peer.ask(b"1 HELLO 1 token=secret call=shop:pay\n") == b"1 hello 1 delayed\n"
        assert await peer.ask(b"2 enq %b 1 a\n" % name.encode()) == b"2 enqed %b 1\n" % name.encode()
        door.known = "another"
        assert (await peer.ask(b"3 enq %b 1 a\n" % name.encode())).startswith(b"3 error a token is needed")
        assert await peer.is_closed()
        peer.close()


async def test_a_client_that_stalls_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(session_module, "_STALL", 0.05)
    peer = await Client.to(port)
    peer.say(b"1 enq %b 100 abc" % name.encode())
    assert await peer.is_closed()
    peer.close()


async def test_who_needs_a_token_and_says_nothing_is_let_go(
    redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_HELLO", 0.05)
    async with served(redis_url, door=_Door()) as (_, port):
        known = await Client.to(port)
        assert await known.ask(b"1 HELLO 1 token=secret call=shop:pay\n") == b"1 hello 1 delayed\n"
        for said in (b"", b"1 HELLO 1 tok"):
            peer = await Client.to(port)
            peer.say(said)
            assert await peer.is_closed()
            peer.close()
        assert await known.ask(b"2 enq %b 1 a\n" % name.encode()) == b"2 enqed %b 1\n" % name.encode()
        known.close()


async def test_who_needs_no_token_may_say_nothing(redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_HELLO", 0.05)
    door, asked = OpenDoor(), asyncio.Event()

    class Watched(OpenDoor):
        async def grant(self, token: str | None, address: str) -> Grant:
            asked.set()
            return await door.grant(token, address)

    async with served(redis_url, door=Watched()) as (server, port):
        peer = await Client.to(port)
        await asyncio.wait_for(asked.wait(), LONG)
        assert await peer.ask(b"1 deq %b\n" % name.encode()) == b"1 error taskq: no task in queue\n"
        (session,) = server._sessions
        assert session.transport is not None
        sock = session.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)  # the system sees that it is there
        peer.close()


async def test_no_more_clients_than_there_are_places(redis_url: str, name: str) -> None:
    async with served(redis_url, connections=1) as (_, port):
        peer = await Client.to(port)
        assert (await peer.ask(b"1 deq %b\n" % name.encode())).startswith(b"1 error")
        other = await Client.to(port)
        assert await other.is_closed()
        peer.close()
        other.close()


async def test_the_end_of_the_server_carries_out_what_was_read(redis_url: str, name: str, queue: Queue) -> None:
    async with served(redis_url) as (server, port):
        peer = await Client.to(port)
        peer.say(b"".join(b"%d enq %b 1 a\n" % (i, name.encode()) for i in range(3000)))
        await peer.hear()
        await server.close()
        heard = 1 + (await asyncio.wait_for(peer.reader.read(), LONG)).count(b"\n")
        peer.close()
    assert heard == queue.len()


async def test_a_client_that_has_gone_gets_nothing(port: int, name: str, queue: Queue) -> None:
    peer = await Client.to(port)
    await peer.ask(b"1 HELLO 1\n")
    peer.say(b"1 deq %b wait=20000\n" % name.encode())
    await peer.ask(b"2 stat %b\n" % name.encode())
    peer.close()
    await peer.writer.wait_closed()
    other = await Client.to(port)
    await other.ask(b"1 HELLO 1\n")
    await other.ask(b"1 enq %b 1 a\n" % name.encode())
    line = await other.ask(b"2 deq %b wait=20000\n" % name.encode())
    await other.ask(b"3 ack %b %b\n" % (name.encode(), line.split()[3]))
    other.close()
    eventually(lambda: queue.len() == 0 and queue.call("HLEN", queue.keys.processing) == 0)


def test_the_open_door() -> None:
    grant = asyncio.run(OpenDoor().grant(None, "127.0.0.1"))
    grant.check("enqueue", "q")
    grant.check_function("m:f")


def test_redis_goes_away(name: str) -> None:
    async def run() -> None:
        with EmbeddedRedis() as own:
            async with served(own.url) as (_, port):
                peer = await Client.to(port)
                assert (await peer.ask(b"1 enq %b 1 a\n" % name.encode())).startswith(b"1 enqed")
                await asyncio.to_thread(own.stop)
                assert (await peer.ask(b"2 enq %b 1 a\n" % name.encode())).startswith(b"2 error ")
                assert (await peer.ask(b"3 deq %b\n" % name.encode())).startswith(b"3 error ")
                peer.close()

    asyncio.run(run())
