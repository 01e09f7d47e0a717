"""What a supervisor does on Redis for its worker processes: beats for those that cannot, and ends the leases of the dead."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .channel import Channel
from .clock import milliseconds, monotonic
from .connection import RedisError, ResponseError, pack
from .graveyard import Graveyard, tell_swept
from .handle import ENDED_FOR
from .info import description
from .job import Job, job_of
from .keys import token
from .logger import logger
from .outage import Outage
from .queue import Queue
from .results import CANCELLED, HARD, State
from .slate import Slate
from .words import counted

_DEADLINE = 1.0  # seconds that Redis may take: the supervisor has signals to obey meanwhile
_PAUSE = 0.5  # seconds to the next attempt after one that failed
_DRAIN = 0.5  # seconds that Redis may take to read the last words of a dead process
LATE = 1.5  # intervals without a beat after which the supervisor beats instead
_ENDINGS = ("succeeded", "retried", "failed", "buried")
_ALL_FAIL = 20  # tasks that fail in a row, in a process that could do better, after which something in it may be broken
_AT_A_TIME = 500  # leases in one command
_KEEP = round(ENDED_FOR * 1000)


class Estate(NamedTuple):
    """What a dead worker process left."""

    slate: Slate
    place: str  # host:pid
    cause: str
    since: float  # monotonic time


@dataclass
class _Score:
    """How the tasks of a living process ended, as it says at its beats."""

    succeeded: int = 0
    others_at: int = 0  # how many had not, when the last success was seen


class Keeper:
    """Keeps the leases of worker processes.

    Args:
        queues: those that each of the workers serves, in their order.
        interval: seconds between two beats of a worker.
        ttl: seconds that a lease lives after a beat.
        limit: how many losses bury a task.
    """

    def __init__(self, queues: Sequence[Queue], *, interval: float, ttl: float, limit: int) -> None:
        self._interval, self._ttl, self._limit = interval, ttl, limit
        self._channel = Channel(queues[0].conn, queues[0].name, _DEADLINE)
        self._queues = [queue.over(self._channel) for queue in queues]
        self._outage = Outage(queues[0].conn)
        self._estates: list[Estate] = []
        self._scores: dict[Slate, _Score] = {}
        self.failing: set[Slate] = set()
        """Processes whose tasks all fail, though earlier ones had not."""

        self.settled = 0  # dead processes of which nothing is left
        self.cut_off = False  # the last attempt to use Redis failed
        self._next_beat = 0.0
        self._next_try = 0.0

    def inherit(self, slate: Slate, place: str, cause: str) -> None:
        """A worker process has died without giving back what it held."""
        self._estates.append(Estate(slate, place, cause, monotonic()))
        self._next_try = 0.0

    @property
    def due(self) -> float:
        """Monotonic time at which `tend` has something to do."""
        return self._next_try if self._estates else max(self._next_beat, self._next_try)

    @property
    def done(self) -> bool:
        """Whether nothing is left of dead processes."""
        return not self._estates

    @property
    def left(self) -> list[str]:
        """The dead processes of which something is left."""
        return [estate.place for estate in self._estates]

    def tend(self, living: Sequence[Slate]) -> list[Slate]:
        """Beat for those of `living` that are late, and see to what the dead left; what fails is tried again at `due`.

        Returns:
            Those that must be killed: a task was cancelled for good in a process that cannot end itself.
        """
        now = monotonic()
        doomed: list[Slate] = []
        if now < self.due:
            return doomed
        try:
            if not self._channel.is_open:
                self._channel.open()
            if now >= self._next_beat:
                self._next_beat = now + self._interval / 2
                for slate in living:
                    if 0 < slate.beaten_at < now - LATE * self._interval:
                        self._beat(slate)
                        if slate.working and any(self._cancelled(slate)):
                            doomed.append(slate)
                self._score(living)
            self._estates = [estate for estate in self._estates if not self._settled(estate)]
            if self._estates:
                self._next_try = monotonic() + 0.01  # Redis has not read all of it yet
            self.cut_off = False
            self._outage.works("supervisor")
        except RedisError as error:
            self.cut_off = True
            self._channel.close()
            self._next_try = monotonic() + _PAUSE
            self._outage.failed("supervisor", error)
        except Exception:  # of a task's bytes, or as there is no descriptor left: the processes work on
            self.cut_off = True
            self._channel.close()
            self._next_try = self._next_beat = monotonic() + _PAUSE
            logger.exception("The supervisor could not look after its processes; trying again")
        return doomed

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def _names(self, slate: Slate) -> Iterator[tuple[Queue, list[str]]]:
        """All leases under which a worker may hold tasks."""
        for index, queue in enumerate(self._queues):
            secret, count = slate.leases(index)
            for first in range(0, count, _AT_A_TIME):
                yield queue, [queue.keys.lease(secret, n) for n in range(first, min(first + _AT_A_TIME, count))]

    def _beat(self, slate: Slate) -> None:
        """Let the leases of a worker live on that does not beat itself: it may be inside a C extension that lets no other
        thread run. Keys that do not exist stay so."""
        ttl = milliseconds(self._ttl)
        for queue, names in self._names(slate):
            own = queue.keys.lease(slate.name)
            self._channel.exchange(b"".join(pack("PEXPIRE", name, ttl) for name in [own, *names]), 1 + len(names))

    def _score(self, living: Sequence[Slate]) -> None:
        """Look how the tasks of the living end."""
        self._scores = {slate: self._scores.get(slate, _Score()) for slate in living if slate.beaten_at}
        self.failing = set()
        if not self._scores:
            return
        keys = self._queues[0].keys
        with contextlib.suppress(ResponseError):  # a foreign type
            entries = self._channel.call("HMGET", keys.workers, *(keys.lease(slate.name) for slate in self._scores))
            for (slate, score), about in zip(self._scores.items(), entries, strict=True):
                succeeded, others = _counts(about)
                if succeeded > score.succeeded:
                    score.succeeded, score.others_at = succeeded, others
                elif score.succeeded and others - score.others_at >= _ALL_FAIL:
                    self.failing.add(slate)

    def _cancelled(self, slate: Slate) -> Iterator[tuple[Queue, str, Job]]:
        """The tasks that a worker holds, under which leases, and that were cancelled for good."""
        for queue, names in self._names(slate):
            held = self._channel.call("HMGET", queue.keys.processing, *names)
            for name, data in zip(names, held, strict=True):
                job = job_of(queue, data) if data else None
                if job is not None and job.id is not None:
                    with contextlib.suppress(ResponseError):  # a foreign type under its key
                        if self._channel.call("HGET", queue.keys.task(job.id), "cancelled") == HARD:
                            yield queue, name, job

    def _settled(self, estate: Estate) -> bool:
        """As `_settle`; what the bytes of a task may do to us ends with its estate."""
        try:
            done = self._settle(estate)
        except RedisError:
            raise
        except Exception:
            logger.exception("What worker %s held cannot be put back here; a sweeper will", estate.place)
            self._channel.close()
            done = True
        self.settled += done
        return done

    def _settle(self, estate: Estate) -> bool:
        """End the leases of a dead process, unless Redis has yet to read what it sent: endings may be among that."""
        if self._is_connected(estate.slate) and monotonic() - estate.since < _DRAIN:
            return False
        for queue, name, job in self._cancelled(estate.slate):  # these do not count as lost
            queue.conclude(name, job.holds, state=State.CANCELLED, result=CANCELLED, keep=_KEEP)
        back = buried = 0
        sweep_id = token()
        for queue, names in self._names(estate.slate):
            self._channel.call("UNLINK", *names)
            more = True  # from the last: each goes to the head of the queue
            while more:
                swept = queue.sweep(names[::-1], self._limit, sweep_id, estate.place, estate.cause)
                back, buried, more = back + swept.recovered, buried + swept.buried, swept.more
                tell_swept(queue.name, estate.place, swept.recovered, swept.buried)
                if swept.buried:
                    Graveyard(queue).tell()
        for queue in self._queues:
            own = queue.keys.lease(estate.slate.name)
            self._channel.call("UNLINK", own)
            self._channel.call("HDEL", queue.keys.workers, own)
        logger.error("Worker %s: %s; %s put back, %d buried", estate.place, estate.cause, counted(back, "task"), buried)
        return True

    def _is_connected(self, slate: Slate) -> bool:
        """Whether the server still has a connection of the process, or does not say."""
        if not slate.clients:
            return True
        try:
            return any(self._channel.call("CLIENT", "LIST", "ID", number) for number in slate.clients)
        except ResponseError:
            return True


def _counts(about: bytes | None) -> tuple[int, int]:
    """How many tasks of a process succeeded, and how many failed in some way, as its entry in the register says."""
    said = description(about) if about is not None else {}
    succeeded, *others = (number if isinstance(number := said.get(name), int) else 0 for name in _ENDINGS)
    return succeeded, sum(others)
