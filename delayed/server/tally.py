"""Counts how the tasks of a queue end here, for its statistics and its history, as a worker does."""

import asyncio
import contextlib
import random
from typing import Any

from ..base.clock import monotonic, now
from ..base.text import summary
from ..job.job import Job
from ..job.outcome import Ended, Outcome
from ..queue.history import Keeping, kept_by
from ..redis.command import RedisError, ResponseError
from ..redis.keys import HISTORY
from ..task.result import State
from ..worker.recorder import Recorder
from ..worker.tally import Totals
from .links import Link

EVERY = 3.0  # seconds between two times that what was counted is sent, as the beat of a worker
_MANY = 64  # events of the history that are sent at once
_TRUSTED = 5.0  # seconds for which it is good what the history keeps


class Tally:
    """What is counted of one queue.

    Args:
        link: the queue.
        place: host:pid, for its history.
    """

    def __init__(self, link: Link, place: str) -> None:
        self._link = link
        self._totals = Totals()
        self._recorder = Recorder(link.keys.history, place)
        self._keeping = Keeping(on=False)
        self._known_until = 0.0  # monotonic time
        self._sending: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to send."""
        return self._sending is None

    async def learn(self) -> None:
        """See what the history keeps, and what time it is for the server, if that is not known."""
        if monotonic() >= self._known_until:
            store = self._link.queue.store
            self._keep(kept_by(await store.call("HMGET", self._link.keys.control, *HISTORY)))
            self._totals.ahead = await self._link.queue.ask_time() - monotonic()

    def told(self, fields: list[bytes], ahead: float) -> None:
        """A beat says what operators want: the names and values, in turn, of the control hash; and how far the server's clock
        is before our monotonic one."""
        self._keep(Keeping.of(fields))
        self._totals.ahead = ahead

    def _keep(self, keeping: Keeping) -> None:
        self._keeping, self._known_until = keeping, monotonic() + _TRUSTED
        self._recorder.learn(keeping)

    # What has ended

    def succeeded(self, path: str, seconds: float | None, job: Job | None = None) -> None:
        """A task has succeeded that holds nothing, so many seconds after it was taken, if that is known. One that says more
        of itself is a `job`."""
        if job is not None:
            self.ended(job, None, "")
            return
        self._totals.succeeded(path, seconds)
        if self._kept:
            self._recorder.note("succeeded", path, seconds=seconds)
        self._later()

    def ended(self, job: Job, outcome: Outcome | None, count: str) -> None:
        """A task has ended, and a worker would count that as `count`; '' for a success."""
        seconds = job.seconds if job.began else None
        self._totals.tally(job, outcome, count)
        self._later()
        if not count:
            if self._kept:
                self._recorder.note("succeeded", job.func_path, job, seconds=seconds)
        elif self._keeping.on:
            late = isinstance(outcome, Ended) and outcome.state is State.EXPIRED
            says = getattr(outcome, "error" if count == "retried" else "detail", "")
            self._recorder.note(
                "expired" if late else count, job.func_path, job, seconds=None if late else seconds, said=summary(says)
            )

    def deferred(self, job: Job, why: str) -> None:
        """A task waits for a worker that understands it."""
        if self._keeping.on:
            self._recorder.note("deferred", job.func_path, said=why)
            self._later()

    @property
    def _kept(self) -> bool:
        """Whether the history keeps this success."""
        keeping = self._keeping
        return keeping.on and keeping.share > 0 and (keeping.share == 1.0 or random.random() < keeping.share)

    # Redis

    def _later(self) -> None:
        if len(self._recorder.pending) >= _MANY:
            self._link.post(self._recorder.entry())
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_soon())

    async def _send_soon(self) -> None:
        await asyncio.sleep(EVERY)
        self._sending = None
        with contextlib.suppress(RedisError):  # it has been counted, or not: as of a worker
            await self.send()

    async def send(self) -> None:
        """Add what is new to the statistics and the history."""
        before, moment = self._totals.sent, self._moment()
        commands = list(self._link.recorded(lambda store: self._totals.send(store, moment)))
        sent = len(commands)
        while self._recorder.pending and (entry := self._recorder.entry()):
            commands.append(entry)
        replies: list[Any] = await self._link.batch(commands)
        if any(isinstance(reply, ResponseError) for reply in replies[:sent]):  # Redis is full, say: it has not been counted
            self._totals.sent = before

    def _moment(self) -> float:
        ahead = self._totals.ahead
        return now() if ahead is None else monotonic() + ahead

    async def close(self) -> None:
        """Send what is left."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            with contextlib.suppress(RedisError):
                await self.send()
