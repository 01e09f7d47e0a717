"""One connection of the text protocol."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

from ...base.clock import monotonic
from ...base.ids import token as new_token
from ...base.text import traceback_of
from ...errors import DelayedError
from ...logger import logger
from ...redis.command import RedisError
from ...task.task import PyTask
from ..numbers import Peer
from .bodies import FUNCTION, Wrapping
from .door import Grant, Refused
from .parser import Fault, Parser, Request
from .services import Services
from .silence import notice_loss
from .verbs import Verbs

_TOGETHER = 1000  # requests that are worked on at once
_MOST_WAITING = 10_000  # requests that have been read and not begun, beyond which nothing is read,
_MOST_BYTES = 8 << 20  # or bytes of them
_STALL = 60.0  # seconds in which a request that has begun must be complete
_HELLO = 10.0  # seconds in which somebody has to say who they are who needs a token
_TRUSTED = 5.0  # seconds for which it is good what a client may do
_NUL = 0.05  # seconds in which the byte 0 comes that a client sends behind an ack
VERSION = "1"


def _function(path: str) -> str:
    """The path of a function that workers could call.

    Raises:
        InvalidTask: it is none.
    """
    return PyTask(path).func_path


class Session(asyncio.Protocol):
    """One connection: requests may come without waiting for replies.

    Requests that concern one queue are carried out in their order; those for different queues side by side.

    Args:
        services: what all connections share.
        enters: says whether there is a place for one more,
        leaves: and is told when it ends.
    """

    def __init__(self, services: Services, enters: Callable[["Session"], bool], leaves: Callable[["Session"], object]) -> None:
        self.services = services
        self._enters, self._leaves = enters, leaves
        self.parser = Parser(services.most)
        self.wrapping = services.wrapping
        self.extended = False  # HELLO has been carried out, which the parser may have read ahead
        self.whole = False  # bodies are whole tasks
        self.token = new_token()
        self.peer = Peer(self.token, "")
        self.grant: Grant | None = None
        self._shown: str | None = None  # the token that was shown
        self._asked_at = 0.0  # monotonic time
        self._lost: list[Callable[[], object]] = []
        self.transport: asyncio.Transport | None = None
        self.background: set[asyncio.Task[None]] = set()
        self.closing = False
        self.nul = False  # a byte 0 follows each ack
        self._verbs = Verbs(self, services)
        self._waiting: deque[Request | Fault] = deque()
        self._bytes = 0
        self._runner: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._fed = asyncio.Event()
        self._stalls: asyncio.TimerHandle | None = None
        self._silent: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        peer = transport.get_extra_info("peername")
        self.peer = Peer(self.token, peer[0] if isinstance(peer, tuple) else "unix")
        if not self._enters(self):
            transport.close()
            return
        notice_loss(transport)
        self._wait_for_hello()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        """They have gone. What they hold they hold until the leases run out."""
        self.closing = True
        self._leaves(self)
        for tell in self._lost:
            tell()
        self._writable.set()
        self._fed.set()
        for timer in (self._stalls, self._silent):
            if timer is not None:
                timer.cancel()
        for task in self.background:
            task.cancel()

    def when_lost(self, tell: Callable[[], object]) -> None:
        """Call `tell` when the connection ends, or has ended."""
        self._lost.append(tell)
        if self.closing and (self.transport is None or self.transport.is_closing()):
            tell()

    def data_received(self, data: bytes) -> None:
        """They say something."""
        if self.closing:
            return
        found = self.parser.feed(data)
        self._fed.set()
        if found or not self.parser.unfinished or self._stalls is None:
            self._look_at_the_clock()
        self._waiting.extend(found)
        self._bytes += sum(len(each.body) for each in found if isinstance(each, Request))
        if (len(self._waiting) > _MOST_WAITING or self._bytes > _MOST_BYTES) and self.transport is not None:
            self.transport.pause_reading()
        if self._waiting and self._runner is None:
            self._runner = asyncio.create_task(self._run())

    def pause_writing(self) -> None:
        """They do not read what we say."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """They do again."""
        self._writable.set()

    def _look_at_the_clock(self) -> None:
        """A request that has begun must be complete in time."""
        if self._stalls is not None:
            self._stalls.cancel()
            self._stalls = None
        if self.parser.unfinished:
            self._stalls = asyncio.get_running_loop().call_later(_STALL, self.close)

    def _wait_for_hello(self) -> None:
        self._silent = asyncio.get_running_loop().call_later(_HELLO, self._in_background, self._see_who_is_silent)

    async def _see_who_is_silent(self) -> None:
        """Somebody who needs a token has to show it in time."""
        if self.grant is not None or self.closing:
            return
        try:
            await self.services.door.grant(self._shown, self.peer.address)
        except RedisError:
            self._wait_for_hello()
        except DelayedError:
            if self._runner is not None:  # they are just saying it
                self._wait_for_hello()
            elif self.grant is None:
                self.close()

    # What is done

    def reply(self, *lines: bytes) -> None:
        """Say something."""
        if lines and self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(lines))

    def refuse(self, rid: int, why: object) -> None:
        """Say that a request was not carried out."""
        self.reply(b"%d error %b\n" % (rid, str(why).replace("\n", " ").replace("\r", " ").encode(errors="replace")[:1000]))

    def close(self) -> None:
        """Say no more."""
        self.closing = True
        self._writable.set()  # nobody waits for the client any more
        if self.transport is not None:
            self.transport.close()

    async def finish(self) -> None:
        """Carry out what was read."""
        if self.transport is not None:
            self.transport.pause_reading()
        if self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while self._waiting and not self.closing:
                some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
                self._bytes -= sum(len(each.body) for each in some if isinstance(each, Request))
                await self._work_on(some)
                await self._writable.wait()
                if self.transport is not None and not self.closing and not self.services.ending:
                    self.transport.resume_reading()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.error("A connection of the text protocol failed\n%s", traceback_of(error))
            self.close()
        finally:
            self._runner = None

    async def _work_on(self, some: list[Request | Fault]) -> None:
        """Carry out requests; what is said about the connection, one by one and in its place."""
        together: dict[bytes, list[Request]] = {}
        for each in some:
            if isinstance(each, Request) and each.verb != "HELLO":
                together.setdefault(each.queue, []).append(each)
                continue
            await self._carry_out(together)
            together = {}
            if isinstance(each, Fault):
                if each.rid is not None:
                    self.refuse(each.rid, each.why)
                if each.fatal:
                    self.close()
            else:
                await self._hello(each)
            if self.closing:
                return
        await self._carry_out(together)

    async def _carry_out(self, together: dict[bytes, list[Request]]) -> None:
        if not together:
            return
        try:
            await self.see_that_it_may()
        except (DelayedError, RedisError) as error:
            for each in (request for requests in together.values() for request in requests):
                self.refuse(each.rid, error)
            self.close()
            return
        if len(together) == 1:
            ((queue, requests),) = together.items()
            await self._carry_out_some(queue, requests)
        else:
            await asyncio.gather(*(self._carry_out_some(queue, requests) for queue, requests in together.items()))

    async def _carry_out_some(self, queue: bytes, requests: list[Request]) -> None:
        """Carry out as many as the client may send."""
        assert self.grant is not None
        admitted, says = self.grant.admit(len(requests))
        if admitted:
            await self._verbs.carry_out(queue, requests[:admitted])
        for each in requests[admitted:]:
            self.refuse(each.rid, says)

    async def see_that_it_may(self) -> None:
        """See what the client may do, if that was not seen just now: its token may be revoked, or expire.

        Raises:
            Refused: nothing any more.
        """
        if self.grant is None or monotonic() > self._asked_at + _TRUSTED:
            await self._ask_the_door()

    async def _ask_the_door(self) -> None:
        grant = await self.services.door.grant(self._shown, self.peer.address)
        grant.enter(self)
        self.grant = grant
        self.parser.most = min(self.services.most, grant.size or self.services.most)
        self._asked_at = monotonic()

    async def _hello(self, request: Request) -> None:
        version, _, rest = request.rest.partition(b" ")
        options: dict[str, str] = {}
        for word in rest.split():
            name, _, value = word.decode(errors="replace").partition("=")
            options[name] = value
        unknown = options.keys() - {"token", "call", "body"}
        try:
            if version.decode(errors="replace") != VERSION:
                raise Refused(f"this server speaks version {VERSION}")
            if unknown or options.get("body", "bytes") not in ("bytes", "task"):
                raise Refused("HELLO 1 [token=TOKEN] [call=FUNCTION] [body=bytes|task]")
            self._shown = options.get("token", self._shown)
            await self._ask_the_door()
            self.wrapping = Wrapping(_function(options.get("call") or FUNCTION))
            self.whole = options.get("body") == "task"
            self.extended = True
        except (DelayedError, RedisError) as error:
            self.refuse(request.rid, error)
            self.close()
            return
        self.reply(b"%d hello %b delayed\n" % (request.rid, VERSION.encode()))

    # For verbs

    @property
    def is_heard(self) -> bool:
        """Whether the client reads what is said to it."""
        return self._writable.is_set()

    async def heard(self) -> None:
        """Until it does, or the connection ends."""
        await self._writable.wait()

    def later(self, requests: Iterable[Request]) -> None:
        """Carry out requests that wait for tasks beside the others."""
        for request in requests:
            self._in_background(self._verbs.wait_for, request)

    def _in_background(self, act: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        task = asyncio.create_task(act(*arguments))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def ends_with_nul(self, request: Request) -> bool:
        """Whether a byte 0 follows an `ack`. TaskQ's own client sends one, and reads replies in another form."""
        if request.nul is None and not self.nul and not self.extended:
            self._fed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._fed.wait(), _NUL)
        if request.nul:
            self.nul = True
        return self.nul if request.nul is None else request.nul
