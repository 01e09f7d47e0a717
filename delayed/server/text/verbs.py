"""What the verbs of the text protocol do."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import groupby
from typing import Any, Protocol

from ...base.clock import monotonic
from ...base.text import traceback_of
from ...errors import ConfigurationError, DelayedError, LeaseLost, TaskTooLarge
from ...logger import logger
from ...redis.command import RedisError
from ...task.decode import is_task, path_of
from ..consumer import Bury, Retry, Succeed, UnknownLease
from ..leases import Lease, read_token
from ..numbers import Peer
from .bodies import Wrapping, content_of, is_node
from .door import Grant, Refused
from .parser import Request, options_in
from .room import MOST, Room
from .services import Services

EMPTY = "taskq: no task in queue"  # as TaskQ calls it by HTTP
UNKNOWN = "taskq: no such task"
_IS_NODE = "this task says that it is a node of a workflow (its header flow): only workflows enqueue those; leave it out"
_MOST_BACKGROUND = 1000  # requests of a connection that wait for tasks
_MOST_HELD = 1000  # tasks of a connection whose tokens are at hand: what was noted of them on Redis says those of others, too
_DEFAULT = "default"  # the queue that has no name
_LONGEST_DELAY = 10 * 365 * 86_400_000  # milliseconds
Run = Callable[[str, Sequence[Request]], Coroutine[Any, Any, None]]


class Client(Protocol):
    """Who asks."""

    peer: Peer
    grant: Grant | None
    wrapping: Wrapping
    extended: bool  # HELLO has been carried out
    whole: bool  # bodies are whole tasks
    closing: bool
    background: set[asyncio.Task[None]]  # what waits for tasks

    @property
    def is_heard(self) -> bool:
        """Whether the client reads what is said to it."""

    async def heard(self) -> None:
        """Until it does, or the connection ends."""

    def reply(self, *lines: bytes) -> None:
        """Say something."""

    def refuse(self, rid: int, why: object) -> None:
        """Say that a request was not carried out."""

    def later(self, requests: Iterable[Request]) -> None:
        """Carry out requests beside the others."""

    async def see_that_it_may(self) -> None:
        """See what it may do, if that was not seen just now."""

    async def ends_with_nul(self, request: Request) -> bool:
        """Whether a byte 0 follows an `ack`."""


class Verbs:
    """Carries out the requests of one connection.

    Args:
        session: the connection.
        services: what all connections share.
    """

    def __init__(self, session: Client, services: Services) -> None:
        self._session = session
        self._server = services
        self._room = Room(session)
        self._held: dict[tuple[str, int], str] = {}  # tokens of tasks that this connection got last, by their numbers

    async def carry_out(self, queue: bytes, requests: Sequence[Request]) -> None:
        """Carry out requests that concern one queue, in their order."""
        name = queue.decode(errors="surrogateescape") or _DEFAULT
        for verb, run in groupby(requests, lambda request: request.verb):
            some = list(run)
            try:
                await self._session.heard()
                await self._run_of(verb)(name, some)
            except (DelayedError, RedisError, ValueError) as error:
                self._failed(some, error)
            except Exception as error:
                logger.error("%s of the text protocol failed\n%s", verb, traceback_of(error))
                self._failed(some, "the server failed")

    def _failed(self, requests: Iterable[Request], error: object) -> None:
        """Refuse those that have no reply yet."""
        words = str(error).replace("\n", " ").replace("\r", " ").encode(errors="replace")[:1000]
        self._session.reply(*(b"%d error %b\n" % (request.rid, words) for request in requests if not request.answered))

    def _refuse(self, request: Request, error: object) -> None:
        """Refuse one of several."""
        self._session.refuse(request.rid, error)
        request.answered = True

    def _run_of(self, verb: str) -> Run:
        own: dict[str, Run] = {"enq": self._enqueue, "deq": self._dequeue, "ack": self._acknowledge, "stat": self._stat}
        return own.get(verb, self._each)

    def _check(self, right: str, queue: str) -> None:
        grant = self._session.grant
        assert grant is not None
        grant.check(right, queue)

    # enq

    async def _enqueue(self, queue: str, requests: Sequence[Request]) -> None:
        self._check("enqueue", queue)
        session = self._session
        assert session.grant is not None
        requests = self._fitting(requests, session.grant.size)
        if session.whole:
            await self._enqueue_whole(queue, requests)
            return
        session.grant.check_function(session.wrapping.function)
        if not requests:
            return
        first = await self._server.numbered.enqueue(queue, [request.body for request in requests], session.wrapping)
        self._said(b"enqed", requests, range(first, first + len(requests)))

    def _fitting(self, requests: Sequence[Request], most: int | None) -> Sequence[Request]:
        """Those that are not too large for the token; they may have been read before it was shown."""
        if most is None:
            return requests
        for request in requests:
            if len(request.body) > most:
                self._refuse(request, f"a body has {most} bytes at most")
        return [request for request in requests if not request.answered]

    def _said(self, word: bytes, requests: Sequence[Request], numbers: Sequence[int]) -> None:
        line = b"%d " + word + b" %b %d\n"
        self._session.reply(*(line % (each.rid, each.queue, number) for each, number in zip(requests, numbers, strict=True)))

    async def _enqueue_whole(self, queue: str, requests: Sequence[Request]) -> None:
        """Bodies that are tasks, as they stand in Redis. They get no number, and 0 stands for it."""
        grant, good = self._session.grant, list[Request]()
        assert grant is not None
        for request in requests:
            try:
                if not is_task(request.body):
                    raise Refused("the body is no task: see docs/protocol.md, section 2")
                grant.check_function(path_of(request.body))
                if is_node(request.body):  # or it could read, and end, what is in queues that the token is not for
                    raise Refused(_IS_NODE)
                if len(request.body) > self._server.most:
                    raise TaskTooLarge(f"a task has {self._server.most} bytes at most")
            except DelayedError as error:
                self._refuse(request, error)
            else:
                good.append(request)
        if good:
            await self._server.links[queue].queue.store.enqueue([request.body for request in good])
            self._said(b"enqed", good, [0] * len(good))

    # deq

    async def _dequeue(self, queue: str, requests: Sequence[Request]) -> None:
        self._check("consume", queue)
        plain = [request for request in requests if not request.rest]
        first = 0
        while first < len(plain):
            step = self._room.step
            await self._dequeue_plain(queue, plain[first : first + step])
            first += step
        asking = [request for request in requests if request.rest]
        if len(self._session.background) + len(asking) > _MOST_BACKGROUND:
            self._failed(asking, f"{_MOST_BACKGROUND} requests of this connection wait for tasks already")
        else:
            self._session.later(asking)

    async def _dequeue_plain(self, queue: str, requests: Sequence[Request]) -> None:
        """One task for each, as TaskQ has it."""
        async with self._room.taking(len(requests)):
            lines = await self._taken(queue, len(requests))
            said: list[bytes] = []
            for request, line in zip(requests, lines, strict=False):
                said += (b"%d deqed %b " % (request.rid, request.queue), *line)
            self._say(said, len(lines))
        for request in requests[: len(lines)]:
            request.answered = True
        for request in requests[len(lines) :]:
            self._refuse(request, EMPTY)

    def _say(self, said: Sequence[bytes], count: int) -> None:
        """Hand out so many tasks."""
        self._session.reply(*said)
        self._room.note(sum(map(len, said)), count)

    async def _taken(self, queue: str, most: int, ttl: float | None = None) -> list[tuple[bytes, ...]]:
        """What is said of tasks that are taken now."""
        if self._session.closing:
            return []
        if self._session.extended:
            return self._lines(await self._leases(queue, most, 0, ttl))
        found: list[tuple[bytes, ...]] = []
        for task in await self._server.numbered.take(queue, self._session.peer, most):
            if len(self._held) >= _MOST_HELD:
                del self._held[next(iter(self._held))]
            self._held[queue, task.number] = task.token
            found.append((b"%d %d " % (task.number, len(task.body)), task.body, b"\n"))
        return found

    async def _leases(self, queue: str, most: int, wait: float, ttl: float | None) -> list[Lease]:
        """Tasks, if the client may have them, and is there, when they come."""
        server = self._server
        server.numbered.note(queue)
        leases = await server.consumer.take(queue, most, wait, ttl or server.ttl)
        try:
            await self._session.see_that_it_may()
            self._check("consume", queue)
        except BaseException:
            await server.consumer.give_back(leases)
            raise
        if self._session.closing:
            await server.consumer.give_back(leases)
            return []
        return leases

    def _lines(self, leases: Iterable[Lease]) -> list[tuple[bytes, ...]]:
        found: list[tuple[bytes, ...]] = []
        for lease in leases:
            body = lease.data if self._session.whole else content_of(lease.data).body
            found.append((b"%b %d " % (lease.token.encode(), len(body)), body, b"\n"))
        return found

    async def _hand_out(self, head: bytes, queue: str, most: int, wait: float, ttl: float | None) -> int:
        """Say what tasks there are, or as soon as some come within `wait` seconds. Returns how many.

        What comes while the client does not read goes back, and is asked for again when it does.
        """
        session, until = self._session, monotonic() + wait
        while True:
            async with self._room.taking(most):
                lines = await self._taken(queue, most, ttl)
                self._say([part for line in lines for part in (head, *line)], len(lines))
            left = until - monotonic()
            if lines or left <= 0 or session.closing:
                return len(lines)
            leases = await self._leases(queue, most, left, ttl)
            if session.is_heard or not leases:
                self._say([part for line in self._lines(leases) for part in (head, *line)], len(leases))
                return len(leases)
            await self._server.consumer.give_back(leases)

    async def wait_for(self, request: Request) -> None:
        """A `deq` with options."""
        queue = request.queue.decode(errors="surrogateescape") or _DEFAULT
        try:
            options, rest = options_in(request.rest, ("max", "wait", "ttl"))
            if rest:
                raise ValueError("deq QUEUE [max=TASKS] [wait=MILLISECONDS] [ttl=MILLISECONDS]")  # noqa: TRY301
            most = number(options.get("max", b"1"), 1, MOST)
            wait = number(options.get("wait", b"0"), 0, 300_000) / 1000
            ttl = number(options["ttl"], 1000, 86_400_000) / 1000 if "ttl" in options else None
            count = await self._hand_out(b"%d deqed %b " % (request.rid, request.queue), queue, most, wait, ttl)
            if "max" in options:
                self._session.reply(b"%d done %b %d\n" % (request.rid, request.queue, count))
            elif not count:
                self._session.refuse(request.rid, EMPTY)
        except (DelayedError, RedisError, ValueError) as error:
            self._session.refuse(request.rid, error)
        except Exception as error:
            logger.error("deq of the text protocol failed\n%s", traceback_of(error))
            self._session.refuse(request.rid, "the server failed")

    # Ends

    async def _acknowledge(self, queue: str, requests: Sequence[Request]) -> None:
        self._check("consume", queue)
        if self._session.extended:
            ended = await self._ended_by_token(requests)
        else:
            ended = await self._ended_by_number(queue, requests)
        said: list[bytes] = []
        for request, is_over in zip(requests, ended, strict=True):
            if is_over:
                end = b" " if await self._session.ends_with_nul(request) else b"\n"
                said.append(b"%d acked %b %b%b" % (request.rid, request.queue, request.id, end))
            else:
                said.append(b"%d error %b\n" % (request.rid, UNKNOWN.encode()))
        self._session.reply(*said)

    async def _ended_by_number(self, queue: str, requests: Sequence[Request]) -> list[bool]:
        numbers = [int(request.id) if request.id.isdigit() else 0 for request in requests]
        for request, value in zip(requests, numbers, strict=True):
            request.id = b"%d" % value
        known = [(value, self._held.pop((queue, value), None)) for value in numbers]
        return await self._server.numbered.acknowledge(queue, self._session.peer, known)

    async def _ended_by_token(self, requests: Sequence[Request]) -> list[bool]:
        good = [(position, self._token(request)) for position, request in enumerate(requests)]
        ends = [(position, token) for position, token in good if token is not None]
        states = await self._server.consumer.end_many([(token, Succeed()) for _, token in ends])
        ended = [False] * len(requests)
        for (position, _), state in zip(ends, states, strict=True):
            ended[position] = state is not None
        return ended

    def _token(self, request: Request) -> str | None:
        """The token in a request; None for one that is none, or of another queue."""
        try:
            token = request.id.decode("ascii")
            _, queue = read_token(token)
        except (UnicodeDecodeError, UnknownLease):
            return None
        return token if queue == (request.queue.decode(errors="surrogateescape") or _DEFAULT) else None

    async def _each(self, queue: str, requests: Sequence[Request]) -> None:
        """Requests that go one by one."""
        self._check("consume", queue)
        for request in requests:
            token = self._token(request)
            try:
                if token is None:
                    raise LeaseLost(UNKNOWN)  # noqa: TRY301
                said = await self._said_of(request, token)
                self._session.reply(
                    b"%d %b %b %b" % (request.rid, _DONE[request.verb], request.queue, request.id), said, b"\n"
                )
                request.answered = True
            except LeaseLost:
                self._refuse(request, UNKNOWN)
            except (ConfigurationError, ValueError) as error:
                self._refuse(request, error)

    async def _said_of(self, request: Request, token: str) -> bytes:
        consumer = self._server.consumer
        if request.verb == "ext":
            held = await consumer.extend(token, number(request.rest, 1000, 86_400_000) / 1000)
            return b" cancelled" if held.cancelled else b""
        if request.verb == "bury":
            state = await consumer.end(token, Bury(_words(request.rest)))
            return b" " + state.encode()
        options, rest = options_in(request.rest, ("delay", "counted"))
        delay = number(options["delay"], 0, _LONGEST_DELAY) / 1000 if "delay" in options else None
        counted = number(options.get("counted", b"0"), 0, 1) == 1
        state = await consumer.end(token, Retry(_words(rest), delay=delay, counted=counted))
        return b" " + state.encode()

    async def _stat(self, queue: str, requests: Sequence[Request]) -> None:
        self._check("read", queue)
        link = self._server.links[queue]
        keys = link.keys
        sizes = (("LLEN", keys.queue), ("HLEN", keys.processing), ("ZCARD", keys.scheduled), ("XLEN", keys.dead))
        replies = await link.batch(sizes)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        shown = b"waiting=%d held=%d scheduled=%d dead=%d" % tuple(replies)
        self._session.reply(*(b"%d stated %b %b\n" % (request.rid, request.queue, shown) for request in requests))


_DONE = {"ext": b"exted", "nack": b"nacked", "bury": b"buried"}


def _words(rest: bytes) -> str:
    return rest.decode(errors="replace") or "the consumer said no more"


def number(text: bytes, least: int, most: int) -> int:
    """A number in a line.

    Raises:
        ValueError: it is none, or out of bounds.
    """
    if not text.isdigit() or len(text) > 20 or not least <= (found := int(text)) <= most:
        raise ValueError(f"{text[:40].decode(errors='replace')!r} is no number from {least} to {most}")
    return found
