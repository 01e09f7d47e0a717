"""Consumers of tasks that keep no connection to Redis of their own.

Whoever takes a task gets a token: the name of the lease under which the core holds the task. Nothing else has to be kept, so
that any process may end it, and what a consumer has left comes back as what a killed worker has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from ..base.clock import milliseconds, monotonic, now
from ..base.ids import token
from ..errors import ConfigurationError, LeaseLost, Reason
from ..job.job import Job
from ..redis.async_pool import explained_async
from ..redis.command import Command, RedisError
from ..redis.places import STATE_KEPT
from ..task.decode import path_and_headers
from ..task.result import State
from .endings import Bury, Concluded, Ending, Endings, Release, Retry, Succeed
from .leases import HOLD_NOTHING, Envelope, Lease, UnknownLease, read_token, token_of
from .line import MOST, TakenTask
from .links import Link, Links
from .served import Served
from .taken import Taken
from .tally import Tally
from .workflows import Workflows

__all__ = ["Bury", "Consumer", "Ending", "Held", "Lease", "Release", "Retry", "Succeed", "UnknownLease"]

LONGEST_WAIT = 300.0  # seconds
SHORTEST_TTL, LONGEST_TTL = 1.0, 86400.0  # seconds
_SAYS_NOTHING = {"number"}  # headers of which the history has nothing to tell
_COUNTED = {State.SUCCEEDED: "succeeded", State.RETRYING: "retried", State.FAILED: "failed"}


class Held(NamedTuple):
    """A lease that lives on."""

    deadline: float  # seconds since 1970
    cancelled: bool  # somebody has cancelled the task: it should end


@dataclass(slots=True)
class _Found:
    """What stands behind a token."""

    link: Link
    secret: str
    lease: str  # its name in Redis
    data: bytes | None = None  # the task, if it holds one
    envelope: Envelope = ("", {})  # of the task
    began: float = 0.0  # monotonic time at which it was handed out, if that was here


class Consumer:
    """Hands out tasks of any queue, and ends them.

    Args:
        links: the queues.
    """

    def __init__(self, links: Links) -> None:
        self.links = links
        self._endings = Endings()
        self._holder = token()
        self._served = Served(links, self._endings, self._holder)
        self._workflows = Workflows(links)
        self._closed = False
        self._taken = Taken()

    async def take(self, queue: str, max: int = 1, wait: float = 0, ttl: float = 60) -> list[Lease]:  # noqa: A002  # its name
        """Take tasks, each under a lease of its own.

        Args:
            queue: from where.
            max: how many at most.
            wait: seconds to wait for the first of them.
            ttl: seconds that the leases live, if nobody extends them. What was not ended by then goes back to the queue.

        Raises:
            ConfigurationError: no queue can have this name, or a number is out of bounds.
        """
        if not 1 <= max <= MOST:
            raise ConfigurationError(f"max is a number of tasks from 1 to {MOST}, not {max}")
        if not 0 <= wait <= LONGEST_WAIT:
            raise ConfigurationError(f"wait is a number of seconds from 0 to {LONGEST_WAIT:g}, not {wait:g}")
        _check_ttl(ttl)
        held = await self._served.line(queue).take(max, 0 if self._closed else wait, ttl)
        deadline = now() + ttl
        for each in held:
            self._taken.put(each)
        return [Lease(token_of(secret, queue), queue, data, deadline, envelope) for secret, data, envelope in held]

    async def give_back(self, leases: Iterable[Lease]) -> None:
        """Put tasks back to the head of their queues that could not be delivered: they had not begun."""
        by_queue: dict[str, list[TakenTask]] = {}
        for lease in leases:
            by_queue.setdefault(lease.queue, []).append(TakenTask(read_token(lease.token)[0], lease.data, lease.envelope))
        for queue, held in by_queue.items():
            await self._served.line(queue).give_back(held)

    async def extend(self, token: str, ttl: float) -> Held:
        """Let a lease live for so many seconds from now on.

        Raises:
            LeaseLost: it holds no task any more.
            UnknownLease: it is none.
        """
        _check_ttl(ttl)
        found = self._found(token)
        link, lease, deadline = found.link, found.lease, now() + ttl
        processing, time = link.keys.processing, milliseconds(ttl)
        lives, data = _checked(await link.batch([("PEXPIRE", lease, time), ("HGET", processing, lease)]))
        if data is not None and not lives:  # nobody may have swept it yet; if somebody has meanwhile, the field is gone
            commands: list[Command] = [("SET", lease, self._holder, "PX", time), ("HGET", processing, lease)]
            _, data = _checked(await link.batch(commands))
            if data is None:
                await link.batch([("UNLINK", lease)])
        if data is None:
            raise LeaseLost
        return Held(deadline, await self._cancelled(link, self._endings.job(link, lease, data)))

    async def progress(self, token: str, done: float, total: float | None = None, note: str = "") -> bool:
        """Say how far a task is, for its status, if it is tracked. Whether it has been cancelled.

        Raises:
            LeaseLost, UnknownLease: as `extend`.
        """
        link, data = await self.held(token)
        job = self._endings.job(link, link.keys.lease(read_token(token)[0]), data)
        identity = job.tracked_id
        if identity is not None:
            packed = msgpack.packb([done, total, note])
            await link.call(lambda store: store.progress(identity, packed))
        return await self._cancelled(link, job)

    async def held(self, token: str) -> tuple[Link, bytes]:
        """The queue and the task of a lease.

        Raises:
            LeaseLost, UnknownLease: as `extend`.
        """
        found = self._found(token)
        (data,) = _checked(await found.link.batch([("HGET", found.link.keys.processing, found.lease)]))
        if data is None:
            raise LeaseLost
        return found.link, data

    async def succeed(self, token: str, result: Any = None) -> str:
        """End a task that is done. Returns the state in which it is now.

        Raises:
            LeaseLost: the lease holds no task any more: nothing has happened.
            UnknownLease: it is none.
        """
        return await self.end(token, Succeed(result))

    async def retry(
        self, token: str, delay: float | None = None, error: str = "", *, kind: str = "Error", detail: str = ""
    ) -> str:
        """End an attempt that has failed; the task runs again as often as it says itself. See `Retry`, and `succeed`."""
        return await self.end(token, Retry(error, kind, detail, delay))

    async def bury(self, token: str, reason: Reason = Reason.FAILED, detail: str = "") -> str:
        """End a task that has failed for good. See `Bury`, and `succeed`."""
        return await self.end(token, Bury(detail, reason))

    async def release(self, token: str) -> str:
        """Give a task back, untouched. See `succeed`."""
        return await self.end(token, Release())

    async def end(self, token: str, ending: Ending) -> str:
        """End a lease; see `succeed`."""
        (state,) = await self.end_many([(token, ending)])
        if state is None:
            raise LeaseLost
        return state

    async def succeed_many(self, results: Iterable[tuple[str, Any]]) -> list[str | None]:
        """End many tasks that are done: tokens and results. See `end_many`."""
        return await self.end_many([(token, Succeed(result)) for token, result in results])

    async def end_many(self, endings: Sequence[tuple[str, Ending]]) -> list[str | None]:
        """End many leases. Returns the states in which the tasks are now, or None for those whose leases hold none.

        Raises:
            UnknownLease: one is no token. Nothing has happened then.
        """
        found = [self._found(token) for token, _ in endings]
        await self._read(found)
        states: list[str | None] = [None] * len(found)
        by_link: dict[str, list[int]] = {}
        plain: dict[str, list[int]] = {}
        said: set[str] = set()  # of the endings of one lease the first counts: plain successes go ahead of the others
        for position, each in enumerate(found):
            if each.data is not None:
                is_plain = isinstance(endings[position][1], Succeed) and each.envelope[1].keys() <= HOLD_NOTHING
                is_plain = is_plain and each.lease not in said
                said.add(each.lease)
                (plain if is_plain else by_link).setdefault(each.link.name, []).append(position)
        for positions in plain.values():
            await self._succeed_some([(position, found[position]) for position in positions], states)
        for positions in by_link.values():
            await self._end_some([(position, found[position], endings[position][1]) for position in positions], states)
        return states

    async def count(self, queue: str, data: bytes) -> None:
        """Count a task as done that has ended by other means."""
        with self._served.counting(queue) as beat:
            await beat.tally.learn()
            self._tally_success(beat.tally, _Found(self.links[queue], "", "", data, path_and_headers(data)))

    async def _succeed_some(self, wanted: Sequence[tuple[int, _Found]], states: list[str | None]) -> None:
        """End leases of one queue whose tasks are done and hold nothing."""
        link = wanted[0][1].link
        with self._served.counting(link.name) as beat:
            await beat.tally.learn()
            leases = [found.lease for _, found in wanted]
            ended = await link.call(lambda store: store.succeed_many(leases), [1] * len(leases))
            for (position, found), is_over in zip(wanted, ended, strict=True):
                if is_over:
                    states[position] = State.SUCCEEDED
                    self._tally_success(beat.tally, found)
            beat.counts["succeeded"] += sum(ended)

    def _tally_success(self, tally: Tally, found: _Found) -> None:
        path, headers = found.envelope
        job = None if headers.keys() <= _SAYS_NOTHING else self._job(found)
        tally.succeeded(path, monotonic() - found.began if found.began else None, job)

    def _job(self, found: _Found) -> Job:
        """The task, as a worker has it that has run it."""
        assert found.data is not None
        job = self._endings.job(found.link, found.lease, found.data, found.envelope)
        job.began, job.ended = found.began, monotonic()
        return job

    async def _end_some(self, wanted: Sequence[tuple[int, _Found, Ending]], states: list[str | None]) -> None:
        """End leases of one queue."""
        link, ends = wanted[0][1].link, list[tuple[Job, Concluded]]()
        for _, found, ending in wanted:
            assert found.data is not None
            job = self._job(found)
            ends.append((job, self._endings.end(link, job, found.data, ending)))
        leases: list[str] = []
        with self._served.counting(link.name) as beat:
            await beat.tally.learn()
            replies = await link.batch([concluded.command for _, concluded in ends])
            for (position, _, _), (job, (_, state, outcome, counted)), reply in zip(wanted, ends, replies, strict=True):
                if isinstance(reply, RedisError):
                    raise await explained_async(reply, link.pooled, link.keys) from reply
                if reply:
                    states[position] = state
                    leases.append(job.lease)
                    if state in _COUNTED:
                        beat.counts[_COUNTED[State(state)]] += 1
                    if counted is not None:
                        beat.tally.ended(job, outcome, counted)
                    if state not in (State.QUEUED, State.RETRYING):
                        self._workflows.tell(link, job.member)
        if leases:
            link.post(("UNLINK", *leases))

    def _found(self, token: str) -> _Found:
        secret, queue = read_token(token)
        try:
            link = self.links[queue]
        except ConfigurationError:
            raise UnknownLease("this is no token of a lease") from None
        return _Found(link, secret, link.keys.lease(secret))

    async def _read(self, found: list[_Found]) -> list[_Found]:
        """See what they hold. What was handed out here is known: the scripts say whether it is still held."""
        by_link: dict[str, list[_Found]] = {}
        for each in found:
            if (taken := self._taken.pop(each.secret)) is not None:
                (_, each.data, each.envelope), each.began = taken
                continue
            by_link.setdefault(each.link.name, []).append(each)
        for some in by_link.values():
            link = some[0].link
            (tasks,) = _checked(await link.batch([("HMGET", link.keys.processing, *(each.lease for each in some))]))
            seen: set[str] = set()
            for each, data in zip(some, tasks, strict=True):
                if data is not None and each.lease not in seen:  # of one that is named twice, the second is late
                    each.data, each.envelope = data, path_and_headers(data)
                seen.add(each.lease)
        return found

    async def _cancelled(self, link: Link, job: Job) -> bool:
        """Whether a task has been cancelled that runs; its state lives on."""
        if job.tracked_id is None:
            return False
        key = link.keys.task(job.tracked_id)
        replies = await link.batch([("HEXISTS", key, "cancelled"), ("PEXPIRE", key, STATE_KEPT)])
        return bool(replies[0] == 1)

    async def close(self) -> None:
        """Nobody waits any more; what consumers hold, they hold on to."""
        self._closed = True
        await self._served.close()
        await self._workflows.close()


def _check_ttl(ttl: float) -> None:
    if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
        raise ConfigurationError(f"ttl is a number of seconds from {SHORTEST_TTL:g} to {LONGEST_TTL:g}, not {ttl:g}")


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
