"""The supervisor's connection to Redis: beats for stuck workers, recovers what dead ones held."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..base.clock import milliseconds, monotonic, now
from ..base.ids import token
from ..base.text import counted
from ..dead_letters.lost import LostTasks, tell_swept
from ..job.job import Job, job_of
from ..job.lines import NAMED, lost, names_of
from ..logger import logger
from ..queue.history import event, kept_by, packed
from ..queue.queue import Queue
from ..redis.channel import Channel
from ..redis.command import RedisError, ResponseError, pack
from ..redis.keys import HISTORY
from ..redis.outage import OutageLog
from ..redis.store import Store
from ..redis.together import Part, together
from ..task.options import ENDED_FOR
from ..task.result import CANCELLED, HARD, State
from ..worker.scoreboard import Scoreboard, description

_DEADLINE = 1.0  # seconds that Redis may take: the supervisor has signals to obey meanwhile
_PAUSE = 0.5  # seconds to the next attempt after one that failed
_DRAIN = 0.5  # seconds that Redis may take to read the last words of a dead process
LATE = 1.5  # intervals without a beat after which the supervisor beats instead
_ENDINGS = ("succeeded", "retried", "failed", "buried")
_ALL_FAIL = 20  # tasks that fail in a row, in a process that could do better, after which something in it may be broken
_AT_A_TIME = 500  # leases in one command
_BYTES = 4 << 20  # of tasks in one reply, at about which there are enough: all of them would take longer than the deadline
_KEEP = round(ENDED_FOR * 1000)


@dataclass
class DeadProcess:
    """A dead worker process whose tasks are to be recovered."""

    scoreboard: Scoreboard
    place: str  # host:pid
    cause: str
    since: float  # monotonic time
    sweep_id: str = field(default_factory=token)
    said: int = 0  # endings that it had noted, and that were said for it
    back: int = 0  # tasks that went back to their queue
    buried: int = 0  # tasks that were lost too often
    tasks: list[dict[str, str]] = field(default_factory=list)  # what the log says of the first of them


@dataclass
class _Score:
    """The counts of succeeded and failed tasks of a living process, from its beats."""

    succeeded: int = 0
    others_at: int = 0  # how many had not, when the last success was seen


class Recoverer:
    """Keeps the leases of living worker processes, and recovers those of dead ones.

    Args:
        queues: those that each of the workers serves, in their order.
        interval: seconds between two beats of a worker.
        ttl: seconds that a lease lives after a beat.
        limit: how many losses bury a task.
    """

    def __init__(self, queues: Sequence[Queue], *, interval: float, ttl: float, limit: int) -> None:
        self._interval, self._ttl, self._limit = interval, ttl, limit
        self._channel = Channel(queues[0].conn, queues[0].name, _DEADLINE)
        self._queues = queues
        self._stores = [queue.store.over(self._channel) for queue in queues]
        self._lost_tasks = [LostTasks(store) for store in self._stores]
        self._outage = OutageLog(queues[0].conn)
        self._dead: list[DeadProcess] = []
        self._scores: dict[Scoreboard, _Score] = {}
        self.failing: set[Scoreboard] = set()
        """Processes whose tasks all fail, though earlier ones had not."""

        self.settled = 0  # dead processes of which nothing is left
        self.cut_off = False  # the last attempt to use Redis failed
        self._next_beat = 0.0
        self._next_try = 0.0
        self._enough = 0.0  # monotonic time at which the supervisor has other things to do
        self._refusals: list[ResponseError] = []

    def add(self, scoreboard: Scoreboard, place: str, cause: str) -> None:
        """A worker process has died without giving back what it held."""
        self._dead.append(DeadProcess(scoreboard, place, cause, monotonic()))
        self._next_try = 0.0

    @property
    def due(self) -> float:
        """Monotonic time at which `tend` has something to do."""
        return self._next_try if self._dead else max(self._next_beat, self._next_try)

    @property
    def done(self) -> bool:
        """Whether nothing is left of dead processes."""
        return not self._dead

    @property
    def left(self) -> list[str]:
        """The dead processes of which something is left."""
        return [dead.place for dead in self._dead]

    def tend(self, living: Sequence[Scoreboard]) -> list[Scoreboard]:
        """Beat for those of `living` that are late, and see to what the dead left; what fails or takes long goes on at `due`.

        Returns:
            Those that must be killed: a task was hard-cancelled in a process that cannot end itself.
        """
        now = monotonic()
        doomed: list[Scoreboard] = []
        if now < self.due:
            return doomed
        self._enough, self._refusals = now + _DEADLINE, []
        try:
            if not self._channel.is_open:
                self._channel.open()
            if now >= self._next_beat:
                self._next_beat = now + self._interval / 2
                late = [scoreboard for scoreboard in living if 0 < scoreboard.beaten_at < now - LATE * self._interval]
                doomed += [scoreboard for scoreboard in late if self._attempt(self._beat, scoreboard)]
                self._attempt(self._score, living)
            self._dead = [dead for dead in self._dead if not self._attempt(self._settled, dead)]
        except RedisError as error:
            self.cut_off = True
            self._channel.close()
            self._next_try = monotonic() + _PAUSE
            self._outage.failed("supervisor", error)
            return doomed
        except Exception:  # of a task's bytes, or as there is no descriptor left: the processes work on
            self.cut_off = True
            self._channel.close()
            self._next_try = self._next_beat = monotonic() + _PAUSE
            logger.exception("The supervisor could not look after its processes; trying again")
            return doomed
        self.cut_off = bool(self._refusals)
        if self._dead:  # Redis has not read all of it yet, or there is too much for one call
            self._next_try = monotonic() + (_PAUSE if self.cut_off else 0.01)
        if self._refusals:
            self._outage.failed("supervisor", self._refusals[0])
        else:
            self._outage.works("supervisor")
        return doomed

    def _attempt(self, action: Callable[..., bool], *subject: Any) -> bool:
        """Do one of several things: what Redis refuses keeps the others waiting no longer."""
        try:
            return action(*subject)
        except ResponseError as error:
            self._refusals.append(error)
            return False

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def _names(self, scoreboard: Scoreboard) -> Iterator[tuple[int, list[str]]]:
        """All leases under which a worker may hold tasks, and of which queue, the last first."""
        for index, store in enumerate(self._stores):
            secret, count = scoreboard.leases(index)
            for end in range(count, 0, -_AT_A_TIME):
                yield index, [store.keys.lease(secret, n) for n in range(end - 1, max(end - _AT_A_TIME, 0) - 1, -1)]

    def _held(self, store: Store, names: list[str]) -> Iterator[list[str]]:
        """Those of the leases that hold something, a few at a time if that is large."""
        asked = b"".join(pack("HSTRLEN", store.keys.processing, name) for name in names)
        some: list[str] = []
        size = 0
        for name, length in zip(names, self._channel.exchange(asked, len(names)), strict=True):
            if length:
                some.append(name)
                size += length
            if size > _BYTES:
                yield some
                some, size = [], 0
        if some:
            yield some

    def _beat(self, scoreboard: Scoreboard) -> bool:
        """Let the leases of a worker live on that does not beat itself: it may be inside a C extension that lets no other
        thread run. Keys that do not exist stay so. Returns whether a task of it was hard-cancelled."""
        ttl = milliseconds(self._ttl)
        for index, names in self._names(scoreboard):
            own = self._queues[index].keys.lease(scoreboard.name)
            self._channel.exchange(b"".join(pack("PEXPIRE", name, ttl) for name in [own, *names]), 1 + len(names))
        if not scoreboard.working:
            return False
        return any(
            next(self._cancelled(self._queues[index], some), None) is not None
            for index, names in self._running(scoreboard)
            for some in self._held(self._stores[index], names)
        )

    def _running(self, scoreboard: Scoreboard) -> Iterator[tuple[int, list[str]]]:
        """As `_names`, without those of which it has noted that their tasks have ended."""
        for index, names in self._names(scoreboard):
            store, secret = self._stores[index], scoreboard.leases(index)[0]
            ended = {store.keys.lease(secret, number) for number, _ in scoreboard.noted(index)}
            yield index, [name for name in names if name not in ended]

    def _score(self, living: Sequence[Scoreboard]) -> bool:
        """Look how the tasks of the living end. Returns whether there was anything to see."""
        self._scores = {scoreboard: self._scores.get(scoreboard, _Score()) for scoreboard in living if scoreboard.beaten_at}
        self.failing = set()
        if not self._scores:
            return False
        keys = self._queues[0].keys
        with contextlib.suppress(ResponseError):  # a foreign type
            entries = self._channel.call("HMGET", keys.workers, *(keys.lease(scoreboard.name) for scoreboard in self._scores))
            for (scoreboard, score), about in zip(self._scores.items(), entries, strict=True):
                succeeded, others = _counts(about)
                if succeeded > score.succeeded:
                    score.succeeded, score.others_at = succeeded, others
                elif score.succeeded and others - score.others_at >= _ALL_FAIL:
                    self.failing.add(scoreboard)
        return True

    def _cancelled(self, queue: Queue, names: list[str]) -> Iterator[tuple[str, Job]]:
        """The tasks under these leases that were hard-cancelled."""
        for name, data in zip(names, self._channel.call("HMGET", queue.keys.processing, *names), strict=True):
            job = job_of(queue, data) if data else None
            if job is not None and job.tracked_id is not None:
                with contextlib.suppress(ResponseError):  # a foreign type under its key
                    if self._channel.call("HGET", queue.keys.task(job.tracked_id), "cancelled") == HARD:
                        yield name, job

    def _settled(self, dead: DeadProcess) -> bool:
        """As `_settle`; what the bytes of a task may do to us ends with its process."""
        try:
            done = self._settle(dead)
        except RedisError:
            raise
        except Exception:
            logger.exception("What worker %s held goes back when its leases have run out", dead.place)
            self._channel.close()
            self._channel.open()
            done = True
        self.settled += done
        return done

    def _settle(self, dead: DeadProcess) -> bool:
        """End the leases of a dead process, unless Redis has yet to read what it sent: endings may be among that. False if
        there is more to do."""
        if self._is_connected(dead.scoreboard) and monotonic() - dead.since < _DRAIN:
            return False
        self._say_noted(dead)
        for index, names in self._names(dead.scoreboard):  # from the last: each goes to the head of the queue
            queue = self._queues[index]
            for some in self._held(queue.store, names):
                if len(dead.tasks) <= NAMED:
                    dead.tasks += lost(self._channel.call("HMGET", queue.keys.processing, *some[: NAMED + 1]))
                for name, job in self._cancelled(queue, some):  # these do not count as lost
                    self._stores[index].conclude(name, job.holds, state=State.CANCELLED, result=CANCELLED, keep=_KEEP)
                    self._tell_history(index, dead, event(now(), "cancelled", job.func_path, job.id, attempt=job.attempt))
                if not self._sweep(dead, index, some):
                    return False
            self._channel.call("UNLINK", *names)
        for index, queue in enumerate(self._queues):
            self._tell_history(index, dead, event(now(), "died", "", said=dead.cause))
            own = queue.keys.lease(dead.scoreboard.name)
            self._channel.call("UNLINK", own)
            self._channel.call("HDEL", queue.keys.workers, own)
        logger.error(
            "Worker %s: %s; %s%s put back, %d buried%s",
            dead.place,
            dead.cause,
            f"{counted(dead.said, 'end')} said that it had noted, " if dead.said else "",
            counted(dead.back, "task"),
            dead.buried,
            names_of(dead.tasks),
            extra={"worker": dead.place, "cause": dead.cause, "tasks": dead.tasks, "outcome": "lost"},
        )
        return True

    def _say_noted(self, dead: DeadProcess) -> None:
        """End what a dead process had ended, as it has noted: nobody uses these leases again."""
        refused: list[ResponseError] = []
        for index in range(len(self._stores)):
            try:
                self._say_noted_of(dead, index)
            except ResponseError as error:  # what was noted of the other queues is said all the same
                refused.append(error)
        if refused:
            raise refused[0]

    def _say_noted_of(self, dead: DeadProcess, index: int) -> None:
        store, secret = self._stores[index], dead.scoreboard.leases(index)[0]
        noted = dead.scoreboard.noted(index)
        if noted:
            names = [store.keys.lease(secret, number) for number, text in noted if not text]
            said = self._channel.call("HDEL", store.keys.processing, *names) if names else 0
            by_script: dict[str, list[Part]] = {}
            for part in [Part.of(text) for _, text in noted if text]:
                by_script.setdefault(part.script, []).append(part)
            said += sum(self._channel.exchange(together(store.keys, parts), 1)[0] for parts in by_script.values())
            dead.said += said
            if said:
                self._tell_history(index, dead, event(now(), "unwritten", "", attempt=said), success=True)

    def _tell_history(self, index: int, dead: DeadProcess, happened: list[Any], success: bool = False) -> None:
        """Add to the history of a queue what a dead process did not, if it keeps such things."""
        keys = self._stores[index].keys
        with contextlib.suppress(ResponseError):
            keeping = kept_by(self._channel.call("HMGET", keys.control, *HISTORY))
            if keeping.share if success else keeping.on:
                batch = packed(dead.place, {}, [happened], keeping.share)
                self._channel.call("XADD", keys.history, "*", "batch", batch)

    def _sweep(self, dead: DeadProcess, index: int, names: list[str]) -> bool:
        """Put back what is held under these leases. False if it is time for other things."""
        store, more = self._stores[index], True
        self._channel.call("UNLINK", *names)
        while more:
            back, buried, more = store.sweep(names, self._limit, dead.sweep_id, dead.place, dead.cause)
            dead.back, dead.buried = dead.back + back, dead.buried + buried
            tell_swept(store.name, dead.place, back, buried)
            if buried:
                self._attempt(lambda: bool(self._lost_tasks[index].tell()))
            if monotonic() > self._enough:
                return False
        return True

    def _is_connected(self, scoreboard: Scoreboard) -> bool:
        """Whether the server still has a connection of the process, or does not say."""
        if not scoreboard.clients:
            return True
        try:
            return any(self._channel.call("CLIENT", "LIST", "ID", number) for number in scoreboard.clients)
        except ResponseError:
            return True


def _counts(about: bytes | None) -> tuple[int, int]:
    """How many tasks of a process succeeded, and how many failed in some way, as its entry in the register says."""
    said = description(about) if about is not None else {}
    succeeded, *others = (number if isinstance(number := said.get(name), int) else 0 for name in _ENDINGS)
    return succeeded, sum(others)
