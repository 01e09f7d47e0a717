"""The schedules of a queue: registers those that the application defines, and lists, pauses and runs those in Redis.

`Q_cron` maps a schedule's name to what it is; `Q_cron_due` has the names of those that are not paused, by their next
occurrence. Every change goes through `cron.lua`, which compares and sets: so an occurrence is enqueued once, whoever else
tries, or is killed.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..base.escape import escaped
from ..base.text import counted
from ..errors import DelayedError, InvalidSchedule, UnknownSchedule
from ..logger import logger
from ..queue.queue import Queue
from ..redis.command import RedisError, ResponseError
from ..redis.store import Store
from ..task.decode import path_of
from .definition import Entry, Recorded, recorded, unpack
from .expiring import choose
from .expression import Cron

_AT_ONCE = 20  # schedules that are registered again by one call: who asks has other things to do
_ATTEMPTS = 100  # of one change that others are faster than
_LAST = 253402300799_999  # milliseconds: the end of the year 9999, beyond which nothing fires
Refusals = list[ResponseError]


class Listed(NamedTuple):
    """A schedule as listings show it."""

    name: str
    expression: str
    tz: str
    catch_up: str
    task: str  # function path
    next: float | None  # seconds since 1970; None: it is paused
    expires: float | None = None  # seconds after each occurrence, until which its task may begin


_REGISTERED: dict[str, bool] = {}  # queues whose schedules this process, or its parent, registers → whether it has been done


def register(queues: Sequence[Queue]) -> int:
    """Write the recorded schedules of these queues to Redis. One that has not changed keeps its next occurrence, and one that
    is paused stays so. Returns how many were new or have changed."""
    changed = 0
    for queue in queues:
        ours = _recorded_of(queue.store)
        if ours:
            _REGISTERED.setdefault(queue.name, False)
            changed += _put(queue.store, ours)
            _REGISTERED[queue.name] = True
    return changed


def restore(store: Store) -> int:
    """Register some of the schedules again that this process has registered and Redis has lost. (What an operator has removed
    is known to have been there: it stays away until the next `register`.) Returns how many there were."""
    ours = _recorded_of(store) if store.name in _REGISTERED else []
    if not ours:
        return 0
    known = store.call("HMGET", store.keys.cron_defined, *(each.name for each in ours))
    lost = [each for each, digest in zip(ours, known, strict=True) if digest is None][:_AT_ONCE]
    count = _put(store, lost) if lost else 0
    if count and _REGISTERED[store.name]:
        logger.warning("%s: Redis has lost its data: registered %s again", store, counted(count, "schedule"))
    _REGISTERED[store.name] = _REGISTERED[store.name] or len(lost) < _AT_ONCE
    return count


def _recorded_of(store: Store) -> list[Recorded]:
    return [each for each in recorded() if each.queue == store.name]


def _put(store: Store, ours: list[Recorded]) -> int:
    """Write schedules to Redis, and then that they were there. Returns how many were new or have changed."""
    schedules, changed = Schedules(store), 0
    known: list[str] = []
    for each in ours:
        known += [each.name, hashlib.sha1(each.entry.pack(), usedforsecurity=False).hexdigest()]
        if schedules.put(each.name, each.entry):
            changed += 1
            logger.info("%s: schedule %s fires at %s %s", store, each.name, each.entry.cron.expression, each.entry.cron.tz)
    store.call("HSET", store.keys.cron_defined, *known)
    return changed


class Schedules:
    """The schedules of a queue in Redis.

    Args:
        queue: the queue.
    """

    def __init__(self, queue: Queue | Store) -> None:
        self._store = queue if isinstance(queue, Store) else queue.store
        self._call, self._keys = self._store.call, self._store.keys
        self._left: list[str] = []  # what was due, and had no turn yet

    def put(self, name: str, entry: Entry) -> bool:
        """Make `entry` the schedule of this name. Returns whether it was another before, or none."""
        definition = entry.pack()
        for _ in range(_ATTEMPTS):
            seen, score = self._read(name)
            if seen == definition:
                return False
            following: int | bytes | None = score
            if seen is None or (score is not None and not _same_times(seen, entry.cron)):
                following = entry.cron.after(self.now())
            if self._store.cron(name, seen, score, definition, following):
                return True
        raise self._restless(name)

    def list(self) -> list[Listed]:
        """All of them, by their next occurrence; those that are paused come last. They are read a page at a time."""
        found = dict[str, Listed]()  # a name may come twice
        for names in filter(None, self._store.pages(self._keys.cron)):
            definitions = self._call("HMGET", self._keys.cron, *names)
            scores = self._call("ZMSCORE", self._keys.cron_due, *names)
            for name, seen, score in zip(names, definitions, scores, strict=True):
                if seen is not None:  # else it has gone meanwhile
                    found[name] = listed(name, seen, score)
        return sorted(found.values(), key=lambda each: (each.next is None, each.next, each.name))

    def pause(self, name: str) -> bool:
        """Let it not fire until it is resumed. Returns whether it was not paused before.

        Raises:
            UnknownSchedule: there is none of this name.
        """
        return self._change(
            name, lambda seen, score: None if score is None else self._store.cron(name, seen, score, seen, None)
        )

    def resume(self, name: str) -> bool:
        """Let it fire from now on; what would have been meanwhile is not caught up with. Returns whether it was paused.

        Raises:
            UnknownSchedule: there is none of this name.
            InvalidSchedule: it is not readable here.
        """

        def change(seen: bytes, score: bytes | None) -> bool | None:
            if _moment(score) is not None:
                return None
            return self._store.cron(name, seen, score, seen, unpack(seen).cron.after(self.now()))

        return self._change(name, change)

    def run(self, name: str) -> None:
        """Enqueue its task now, whether it is paused or not; its next occurrence stays.

        Raises:
            UnknownSchedule: there is none of this name.
            InvalidSchedule: it is not readable here.
        """

        def change(seen: bytes, score: bytes | None) -> bool:
            return self._store.cron(name, seen, score, seen, score, task=unpack(seen).task_of(self.now()), count=1)

        self._change(name, change)

    def remove(self, name: str) -> None:
        """Forget it. (A worker that imports its definition will register it again.)

        Raises:
            UnknownSchedule: there is none of this name.
        """
        self._change(name, lambda seen, score: self._store.cron(name, seen, score, b"", None))

    def fire(self, enough: Callable[[], bool] = lambda: False) -> float | None:
        """Enqueue what is due. It may be killed anywhere, and done by any number at the same time.

        Args:
            enough: is asked after each step; True to go on at another call, with what had no turn yet.

        Returns:
            Seconds until the next occurrence; 0 if there is more to do now, None if there is nothing.

        Raises:
            redis.exceptions.RedisError: Redis refused one of them, or cannot be reached.
        """
        call, key = self._call, self._keys.cron_due
        if not call("ZRANGE", key, 0, 0):
            return None  # most queues have no schedules: this is all that it costs
        now = self.now()
        due = list(map(_text, call("ZRANGEBYSCORE", key, "-inf", now)))
        known, left = set(due), set(self._left)
        self._left = [name for name in self._left if name in known] + [name for name in due if name not in left]
        refusals: Refusals = []
        while self._left:
            if not self._fire_or_say(self._left[0], now, enough, refusals):
                self._left.append(self._left[0])  # there is more of it, after the others
            del self._left[0]
            if self._left and enough():
                break
        if refusals:
            raise refusals[0]
        if self._left:
            return 0.0
        first = call("ZRANGEBYSCORE", key, f"({now}", "+inf", "LIMIT", 0, 1)
        score = call("ZSCORE", key, first[0]) if first else None
        return None if score is None else max(0.0, float(score) - now) / 1000

    def _fire_or_say(self, name: str, now: int, enough: Callable[[], bool], refusals: Refusals) -> bool:
        """One that cannot be run must not stop the others. False if there is more to do."""
        try:
            return self._fire(name, now, enough)
        except InvalidSchedule as error:
            logger.error("%s: schedule %s cannot be run, and waits: %s", self._store, escaped(name), escaped(error))
        except ResponseError as error:
            refusals.append(error)
        except RedisError:
            raise
        except Exception:  # any program may have written anything
            logger.exception("%s: schedule %s cannot be run, and waits", self._store, escaped(name))
        return True

    def _fire(self, name: str, now: int, enough: Callable[[], bool]) -> bool:
        for _ in range(_ATTEMPTS):
            seen, score = self._read(name)
            if score is None or float(score) > now:
                return True  # somebody else has done it
            if seen is None:  # a name without a schedule
                self._store.cron(name, seen, score, b"", None)
                return True
            entry, due = unpack(seen), _moment(score)
            moment = None
            if due is None:  # nobody knows what it has missed
                count, following = 0, entry.cron.after(now)
            elif entry.expires is None:
                count, following = entry.cron.decide(due, now)
            else:
                moment, following = choose(entry.cron, due, now, entry.expires)
                count = int(moment is not None)
            if self._store.cron(name, seen, score, seen, following, task=entry.task_of(moment), count=count):
                if not count:
                    logger.warning("%s: schedule %s was missed, and goes on", self._store, escaped(name))
                if following is None or following > now:
                    return True
                if enough():
                    return False
        return False

    def now(self) -> int:
        """The server's time, in milliseconds since 1970."""
        seconds, microseconds = self._call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _read(self, name: str) -> tuple[bytes | None, bytes | None]:
        """Its definition and its score, if there are any: the very bytes, by which another change is noticed."""
        return self._call("HGET", self._keys.cron, name), self._call("ZSCORE", self._keys.cron_due, name)

    def _restless(self, name: str) -> DelayedError:
        return DelayedError(f"schedule {name!r} of {self._store.name!r} was changed by others {_ATTEMPTS} times; try again")

    def _change(self, name: str, change: Callable[[bytes, bytes | None], bool | None]) -> bool:
        """Try `change` until nobody else was faster; None from it says that there is nothing to change."""
        for _ in range(_ATTEMPTS):
            seen, score = self._read(name)
            if seen is None:
                names = self._call("HKEYS", self._keys.cron)
                raise UnknownSchedule(f"{self._store.name!r} has no schedule {name!r}; {_choice(map(_text, names))}")
            done = change(seen, score)
            if done is not False:
                return bool(done)
        raise self._restless(name)


def listed(name: str, definition: bytes, score: bytes | None) -> Listed:
    """A schedule, as its definition and its score say it."""
    due = _moment(score)
    moment = None if due is None else due / 1000
    try:
        cron, task, expires = unpack(definition)
        lasts = None if expires is None else expires / 1000
        return Listed(name, cron.expression, cron.tz, cron.catch_up, path_of(task), moment, lasts)
    except InvalidSchedule as error:
        return Listed(name, "", "UTC", "", f"({error})", moment)


def _moment(score: bytes | None) -> int | None:
    """The next occurrence that a score says, in milliseconds since 1970; None: there is none, or any program wrote it."""
    if score is None or not 0 <= float(score) <= _LAST:
        return None
    return int(float(score))


def _same_times(definition: bytes, cron: Cron) -> bool:
    try:
        other = unpack(definition).cron
    except InvalidSchedule:
        return False
    return (other.expression, other.tz) == (cron.expression, cron.tz)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


def _choice(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"there are: {listed}" if listed else "it has none (`delayed cron sync` registers those of a module)"
