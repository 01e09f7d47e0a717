"""The consumers that wait for tasks of one queue: in a row, the first one first, over one connection for all of them.

The names of queues are the clients' to choose, and Redis has only so many connections: where many queues are waited for
already, the next ones are looked at now and then.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..base.clock import monotonic
from ..base.text import traceback_of
from ..errors import Reason
from ..job.builtin import expired
from ..job.job import Job
from ..job.outcome import Ended, Outcome
from ..logger import logger
from ..redis.async_pool import explained_async
from ..redis.command import RedisError, ResponseError, as_bytes, pack
from ..redis.connect import closed_is_lost, dedicated_async
from ..redis.foreign import ForeignType
from ..redis.outage import OutageLog
from ..task.decode import is_task, path_and_headers
from ..task.headers import holds_in, text_in
from ..task.result import CANCELLED, State
from ..worker.deferral import PATIENCE
from .beat import Beat
from .endings import Endings, buried
from .leases import HOLD_NOTHING, Envelope, new_secret
from .links import Link

MOST = 100  # tasks in one call of `take`
_WAIT = 2.0  # seconds that a blocking pop takes at most
_LATE = 3.0  # seconds that Redis may be late with its end
_LOOK = 0.5  # seconds after which a queue is looked at again that is paused, or has reached a limit
_POLL = 1.0  # seconds between two looks at a queue for which there is no connection
_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to reach Redis
_BEGUN, _SUPERSEDED, _IS_CANCELLED, _TOO_LATE = 1, 0, 2, 2  # what scripts say
_WHAT = "wait for tasks"


class TakenTask(NamedTuple):
    """A task that has been taken."""

    secret: str  # of its lease
    data: bytes
    envelope: Envelope


@dataclass(eq=False, slots=True)
class Taker:
    """Somebody who waits for tasks."""

    most: int  # tasks that they take
    ttl: float  # seconds that their leases live
    future: "asyncio.Future[list[TakenTask]]" = field(repr=False)


class Line:
    """The consumers of one queue.

    Args:
        link: the queue.
        endings: of its tasks.
        beat: the server as a worker of the queue.
        holder: the name of this process, for humans: the value of the leases' keys.
        room: for connections that wait, of all lines.
    """

    def __init__(self, link: Link, endings: Endings, beat: Beat, holder: str, room: asyncio.Semaphore) -> None:
        self._link, self._endings, self._beat, self._holder, self._room = link, endings, beat, holder, room
        self._takers: deque[Taker] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._outage = OutageLog(link.blocking.conn)
        self._closed = False
        self._entered = 0  # calls of `take` that have not returned
        self._opens_at = 0.0  # monotonic time from which it is worth asking
        self.used_at = monotonic()

    @property
    def idle(self) -> bool:
        """Whether nobody waits or is about to, and nothing is going on."""
        return not self._entered and self._pump is None and not self._background

    async def take(self, most: int, wait: float, ttl: float) -> list[TakenTask]:
        """Up to so many tasks, at once, or as soon as there are some within `wait` seconds."""
        self._entered += 1
        try:
            return await self._get(most, wait, ttl)
        finally:
            self._entered -= 1
            self.used_at = monotonic()

    async def _get(self, most: int, wait: float, ttl: float) -> list[TakenTask]:
        await self._beat.learn()
        if not self._takers and (found := await self._take_for_somebody(most, ttl)):
            return found
        if wait <= 0 or self._closed:
            return []
        taker = Taker(most, ttl, asyncio.get_running_loop().create_future())
        self._takers.append(taker)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"delayed-server-{self._link.name!r:.100}")
        timer = asyncio.get_running_loop().call_later(wait, self._late, taker)
        try:
            return await taker.future
        except asyncio.CancelledError:
            if taker in self._takers:
                self._takers.remove(taker)
            elif not taker.future.cancelled():  # nobody hears of these
                self._later(lambda: self.give_back(taker.future.result()))
            raise
        finally:
            timer.cancel()

    def _late(self, taker: Taker) -> None:
        """They have waited for long enough."""
        if not taker.future.done():
            self._takers.remove(taker)
            taker.future.set_result([])

    async def close(self) -> None:
        """Nobody waits any more: those who do get nothing."""
        self._closed = True
        self._answer_all()
        if self._pump is not None:
            await asyncio.wait([self._pump])
        while self._background:
            await asyncio.wait(self._background)
        await self._beat.end()

    def _answer_all(self) -> None:
        for taker in self._takers:
            if not taker.future.done():
                taker.future.set_result([])
        self._takers.clear()

    def _later(self, action: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            with contextlib.suppress(RedisError):  # then the leases run out
                await action()

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Waiting

    async def _run(self) -> None:
        """Hand out tasks while somebody waits."""
        attempt = 0
        connection: Any = None
        try:
            while self._takers:
                try:
                    if connection is None:
                        connection = await self._connect()
                    await (self._poll() if connection is None else self._round(connection))
                    attempt = 0
                    self._outage.works(_WHAT)
                except (RedisError, OSError) as error:
                    await self._disconnect(connection)
                    connection = None
                    self._outage.failed(_WHAT, error if isinstance(error, RedisError) else RedisError(str(error)))
                    await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                    attempt += 1
        except Exception as error:
            logger.error("The wait for tasks of %r failed\n%s", self._link.name, traceback_of(error))
            self._answer_all()
        finally:
            self._pump = None
            await self._disconnect(connection)

    async def _connect(self) -> Any:
        """A connection to wait over, which is to be given back to `_disconnect`; None if there are too many already."""
        if self._room.locked():
            return None
        await self._room.acquire()  # at once
        try:
            client = await self._link.pooled.client()
            return await dedicated_async(client, as_bytes(self._link.keys.noti), _WAIT + _LATE)
        except BaseException:
            self._room.release()
            raise

    async def _disconnect(self, connection: Any) -> None:
        if connection is not None:
            self._room.release()
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _poll(self) -> None:
        """Look what there is, after a while."""
        await asyncio.sleep(_POLL)
        await self._beat.learn()
        await self._serve(claims=0, waiting=await self._beat.due())

    async def _round(self, connection: Any) -> None:
        """Wait for a notification, and hand out what there is then."""
        await self._beat.learn()
        if self._beat.limits.paused or (pause := self._opens_at - monotonic()) > 0:
            await asyncio.sleep(_LOOK if self._beat.limits.paused else min(pause, _LOOK))
            return
        with closed_is_lost():
            await connection.send_packed_command([pack("BLPOP", self._link.keys.noti, _WAIT)])
        claims = 0 if await connection.read_response(disable_decoding=True) is None else 1
        if not claims and not await self._beat.due():
            return
        await self._serve(claims, waiting=not claims)

    async def _serve(self, claims: int, *, waiting: bool) -> None:
        """Hand out what there is; see `Store.take` for the words."""
        while self._takers:
            takers = self._first()
            most = min(sum(taker.most for taker in takers), MOST)
            found = await self._take(most, takers[0].ttl, claims=claims, waiting=waiting)
            claims = 0
            if not found:
                break
            self._hand_out(found)
        if claims:  # those whom it was for have gone
            await self._link.pooled.call("LPUSH", self._link.keys.noti, "1")

    def _first(self) -> list[Taker]:
        """The first in the row, and those behind who want the same."""
        first = self._takers[0]
        found: list[Taker] = []
        for taker in self._takers:
            if taker.ttl != first.ttl or len(found) == MOST:
                break
            found.append(taker)
        return found

    def _hand_out(self, found: list[TakenTask]) -> None:
        while found and self._takers:
            taker = self._takers.popleft()
            if not taker.future.done():
                taker.future.set_result(found[: taker.most])
                found = found[taker.most :]
        if found:
            left = found
            self._later(lambda: self.give_back(left))

    # Taking

    async def _take_for_somebody(self, most: int, ttl: float) -> list[TakenTask]:
        """As `_take`; if nobody wants the tasks any more when they are there, they go back."""
        taking = asyncio.ensure_future(self._take(most, ttl))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:

            async def give_back() -> None:
                await self.give_back(await taking)

            self._later(give_back)
            raise

    async def _take(self, most: int, ttl: float, *, claims: int = 0, waiting: bool = False) -> list[TakenTask]:
        """Take tasks, and begin them. With fewer than `most` there may be more."""
        limits = self._beat.limits
        if limits.paused or self._opens_at > monotonic():
            return []
        await self._beat.feed(most)
        secrets = [new_secret() for _ in range(most)]
        names = {self._link.keys.lease(secret): secret for secret in secrets}
        words: dict[str, Any] = {"claims": claims, "waiting": waiting}
        try:
            if limits.any:
                take = lambda store: store.take_limited(list(names), self._holder, ttl, **words)  # noqa: E731
                _, pause, *tasks = await self._link.call(take, [0, 0])
                self._opens_at = monotonic() + (_LOOK if pause < 0 else pause / 1000) if pause else 0.0
            else:
                _, *tasks = await self._link.call(lambda store: store.take(list(names), self._holder, ttl, **words), [0])
        except RedisError as error:
            if not isinstance(error, ResponseError):  # it may have been carried out
                self._later(lambda: self._give_back_unknown(list(names)))
            raise
        return await self._begin(list(zip(names, tasks, strict=False)))

    async def _begin(self, taken: list[tuple[str, bytes]]) -> list[TakenTask]:
        """Those of the tasks that may begin, given by the names of their leases. The others end, or wait, as a worker would
        have it."""
        begun: list[TakenTask] = []
        asked: list[tuple[Job, bytes]] = []
        server_time = self._link.queue.server_time
        for name, data in taken:
            envelope = path_and_headers(data)
            if envelope[0][:1] != "(" and envelope[1].keys() <= HOLD_NOTHING:
                begun.append(TakenTask(name[-32:], data, envelope))
                continue
            job = self._endings.job(self._link, name, data, envelope)
            if job.func_path[:1] == "(" and not is_task(data):  # what stands for a path where there is none
                await self._end(job, data, buried(Reason.UNDECODABLE, "the bytes are not a task"))
            elif any(type(header) is str and header[:1] == "!" for header in job.headers):
                await self._defer(job, data)
            elif "expires" in job.headers and (late := expired(job, server_time.now)) is not None:
                await self._end(job, data, late)
            elif job.holds_something:
                asked.append((job, data))
            else:
                begun.append(_held(job, data))
        return begun + await self._start(asked) if asked else begun

    async def _start(self, asked: Sequence[tuple[Job, bytes]]) -> list[TakenTask]:
        commands = [self._endings.start(self._link, job) for job, _ in asked]
        replies = await self._link.batch(commands)
        begun: list[TakenTask] = []
        for (job, data), command, reply in zip(asked, commands, replies, strict=True):
            if isinstance(reply, RedisError):
                names = [each for each in command if isinstance(each, str)]
                error = await explained_async(reply, self._link.pooled, self._link.keys, names)
                if not isinstance(error, ForeignType) or not error.narrow:
                    raise error
                await self._end(job, data, buried(Reason.FOREIGN_KEY, str(error)))
            elif reply == _BEGUN:
                begun.append(_held(job, data))
            elif reply == _IS_CANCELLED:
                await self._end(job, data, Ended(State.CANCELLED, CANCELLED, None, "cancelled before it began"))
        return begun

    async def _end(self, job: Job, data: bytes, outcome: Outcome) -> None:
        concluded = self._endings.conclude(self._link, job, data, outcome)
        (reply,) = await self._link.batch([concluded.command])
        if isinstance(reply, RedisError):
            raise await explained_async(reply, self._link.pooled, self._link.keys) from reply
        if reply:
            self._beat.tally.ended(job, concluded.outcome, concluded.counted or "")

    async def _defer(self, job: Job, data: bytes) -> None:
        """It has a header that must be understood: another worker may."""
        header = next(each for each in job.headers if type(each) is str and each[:1] == "!")
        detail = f"this server is too old for the header {header!r}: upgrade it"
        holds, group = holds_in(job.headers), text_in(job.headers, "group")
        defer = lambda store: store.defer(job.lease, holds, limit=PATIENCE, cause=detail, group=group)  # noqa: E731
        answer, *_ = await self._link.call(defer, [0])
        if answer == _TOO_LATE:
            await self._end(job, data, buried(Reason.UNKNOWN_HEADER, detail))
        elif answer:
            self._beat.tally.deferred(job, detail)

    # Giving back

    async def give_back(self, held: Sequence[TakenTask]) -> None:
        """Put tasks back to the head of the queue that nobody has got."""
        tasks = {self._link.keys.lease(each.secret): each.data for each in held}
        if tasks:
            await self._link.call(lambda store: store.give_back(list(tasks), tasks, begun=0))

    async def _give_back_unknown(self, names: list[str]) -> None:
        """Put back what a take may have taken whose reply was lost."""
        for pause in _PAUSES:
            await asyncio.sleep(pause)
            with contextlib.suppress(RedisError):
                await self._link.call(lambda store: store.give_back(names))
                return


def _held(job: Job, data: bytes) -> TakenTask:
    return TakenTask(job.lease[-32:], data, (job.func_path, job.headers))
