"""The schedules of a queue: what the application has defined, what is in Redis, and how it is run.

`Q_cron` maps a schedule's name to what it is; `Q_cron_due` has the names of those that are not paused, by their next
occurrence. Every change goes through `cron.lua`, which compares and sets: so an occurrence is enqueued once, whoever else
tries, or is killed.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgpack

from .cron import Cron
from .errors import InvalidSchedule, UnknownSchedule
from .escape import escaped
from .logger import logger
from .occurrence import choose, with_expiry
from .queue import Queue
from .task import Task
from .wire import is_task, path_of

_FIELDS = ("expression", "tz", "catch_up", "task")
_MOST = 2**53  # milliseconds, as of a header


class Entry(NamedTuple):
    """A schedule, as it stands in Redis."""

    cron: Cron
    task: bytes
    expires: int | None = None  # milliseconds after each occurrence, until which its task may begin

    def task_of(self, moment: int | None) -> bytes:
        """The task of the occurrence at `moment`, in milliseconds since 1970."""
        return self.task if self.expires is None or moment is None else with_expiry(self.task, moment + self.expires)

    def pack(self) -> bytes:
        """Its definition: the same bytes for the same schedule."""
        cron = self.cron
        values: tuple[object, ...] = (cron.expression, cron.tz, cron.catch_up, self.task)
        fields: dict[str, object] = dict(zip(_FIELDS, values, strict=True))
        packed: bytes = msgpack.packb(fields if self.expires is None else {**fields, "expires": self.expires})
        return packed


class Listed(NamedTuple):
    """A schedule of a queue, for people."""

    name: str
    expression: str
    tz: str
    catch_up: str
    task: str  # function path
    next: float | None  # seconds since 1970; None: it is paused
    expires: float | None = None  # seconds after each occurrence, until which its task may begin


class Recorded(NamedTuple):
    """A schedule that the application defines."""

    queue: str
    name: str
    entry: Entry


_RECORDED: dict[tuple[str, str], Recorded] = {}


def definition_of(definition: bytes) -> tuple[str, str, str, bytes, int | None] | None:
    """The fields of a definition, or None if it is none. (Whether this machine knows its time zone is another question.)"""
    try:
        found = msgpack.unpackb(definition)
        expression, tz, catch_up, task = (found[name] for name in _FIELDS)
        expires = found.get("expires")
    except Exception:  # any program may have written anything
        return None
    good = isinstance(task, bytes) and is_task(task) and (expires is None or (type(expires) is int and 0 < expires <= _MOST))
    return (expression, tz, catch_up, task, expires) if good else None


def unpack(definition: bytes) -> Entry:
    """What a definition says.

    Raises:
        InvalidSchedule: it is none, or this machine cannot tell when it fires.
    """
    found = definition_of(definition)
    if found is None:
        raise InvalidSchedule("it is no definition of a schedule; `delayed cron remove` removes it")
    *when, task, expires = found
    return Entry(Cron(*when), task, expires)


def define(task: Task, cron: Cron) -> Entry:
    """The schedule that enqueues `task`.

    Raises:
        InvalidSchedule: the task asks for what only a single one can have.
        NotEncodable: an argument cannot be sent.
    """
    options = task.options
    if options is not None:
        for name in ("result_ttl", "track", "unique", "at", "after"):
            if getattr(options, name):
                raise InvalidSchedule(
                    f"{task.func_path}: the tasks of a schedule are all the same, so they cannot have {name}; let it enqueue "
                    f"a task that has it"
                )
        if options.expires is not None:
            if isinstance(options.expires, datetime):
                raise InvalidSchedule(
                    f"{task.func_path}: expires is a time, but a schedule fires again and again: give the seconds after each "
                    f"occurrence"
                )
            bare = task.but({"expires": None})
            return Entry(cron, bare.serialize(), max(1, round(options.expires * 1000)))
    return Entry(cron, task.serialize())


def record(queue: Queue, name: str, entry: Entry) -> None:
    """Remember a schedule that the application defines, for `register` to write to Redis.

    Raises:
        InvalidSchedule: another one has this name.
    """
    other = _RECORDED.get((queue.name, name))
    if other is not None and other.entry.pack() != entry.pack():
        raise InvalidSchedule(f"{queue.name!r} has two schedules {name!r}: give one of them another name, as name='…'")
    if len(entry.task) > queue.max_task_size:
        raise InvalidSchedule(f"the task of schedule {name!r} is larger than {queue.name!r} takes: send where the data is")
    _RECORDED[queue.name, name] = Recorded(queue.name, name, entry)


def recorded() -> list[Recorded]:
    """What the application has defined so far, in its modules that have been imported."""
    return list(_RECORDED.values())


def register(queues: Sequence[Queue]) -> int:
    """Write the recorded schedules of these queues to Redis. One that has not changed keeps its next occurrence, and one that
    is paused stays so. Returns how many were new or have changed."""
    changed = 0
    for queue in queues:
        schedules = Schedules(queue)
        for each in recorded():
            if each.queue == queue.name and schedules.put(each.name, each.entry):
                changed += 1
                logger.info("%s: schedule %s fires at %s %s", queue, each.name, each.entry.cron.expression, each.entry.cron.tz)
    return changed


class Schedules:
    """The schedules of a queue in Redis.

    Args:
        queue: the queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._call, self._keys = queue.call, queue.keys

    def put(self, name: str, entry: Entry) -> bool:
        """Make `entry` the schedule of this name. Returns whether it was another before, or none."""
        definition = entry.pack()
        while True:
            seen, due = self._read(name)
            if seen == definition:
                return False
            following = due
            if not seen or (due is not None and not _same_times(seen, entry.cron)):
                following = entry.cron.after(self.now())
            if self._queue.cron(name, seen, due, definition, following):
                return True

    def list(self) -> list[Listed]:
        """All of them, by their next occurrence; those that are paused come last."""
        found = []
        for name in map(_text, self._call("HKEYS", self._keys.cron)):
            seen, due = self._read(name)
            moment = None if due is None else due / 1000
            try:
                cron, task, expires = unpack(seen)
                lasts = None if expires is None else expires / 1000
                found.append(Listed(name, cron.expression, cron.tz, cron.catch_up, path_of(task), moment, lasts))
            except InvalidSchedule as error:
                found.append(Listed(name, "", "UTC", "", f"({error})", moment))
        return sorted(found, key=lambda each: (each.next is None, each.next, each.name))

    def pause(self, name: str) -> bool:
        """Let it not fire until it is resumed. Returns whether it was not paused before.

        Raises:
            UnknownSchedule: there is none of this name.
        """
        return self._change(name, lambda seen, due: None if due is None else self._queue.cron(name, seen, due, seen, None))

    def resume(self, name: str) -> bool:
        """Let it fire from now on; what would have been meanwhile is not caught up with. Returns whether it was paused.

        Raises:
            UnknownSchedule: there is none of this name.
            InvalidSchedule: it is not readable here.
        """

        def change(seen: bytes, due: int | None) -> bool | None:
            if due is not None:
                return None
            return self._queue.cron(name, seen, due, seen, unpack(seen).cron.after(self.now()))

        return self._change(name, change)

    def run(self, name: str) -> None:
        """Enqueue its task now, whether it is paused or not; its next occurrence stays.

        Raises:
            UnknownSchedule: there is none of this name.
            InvalidSchedule: it is not readable here.
        """

        def change(seen: bytes, due: int | None) -> bool:
            return self._queue.cron(name, seen, due, seen, due, task=unpack(seen).task_of(self.now()), count=1)

        self._change(name, change)

    def remove(self, name: str) -> None:
        """Forget it. (A worker that imports its definition will register it again.)

        Raises:
            UnknownSchedule: there is none of this name.
        """
        self._change(name, lambda seen, due: self._queue.cron(name, seen, due, b"", None))

    def fire(self) -> float | None:
        """Enqueue what is due. It may be killed anywhere, and done by any number at the same time.

        Returns:
            Seconds until the next occurrence; None if there is none.
        """
        call, key = self._call, self._keys.cron_due
        if not call("ZRANGE", key, 0, 0):
            return None  # most queues have no schedules: this is all that it costs
        now = self.now()
        for name in map(_text, call("ZRANGEBYSCORE", key, "-inf", now)):
            self._fire(name, now)
        first = call("ZRANGEBYSCORE", key, f"({now}", "+inf", "LIMIT", 0, 1)
        score = call("ZSCORE", key, first[0]) if first else None
        return None if score is None else max(0.0, float(score) - now) / 1000

    def _fire(self, name: str, now: int) -> None:
        while True:
            seen, due = self._read(name)
            if due is None or due > now:
                return  # somebody else has done it
            try:
                entry = unpack(seen) if seen else None
            except InvalidSchedule as error:
                logger.error("%s: schedule %s cannot be run, and waits: %s", self._queue, escaped(name), escaped(error))
                return
            if entry is None:  # a name without a schedule
                self._queue.cron(name, seen, due, b"", None)
                return
            moment = None
            if entry.expires is None:
                count, following = entry.cron.decide(due, now)
            else:
                moment, following = choose(entry.cron, due, now, entry.expires)
                count = int(moment is not None)
            if self._queue.cron(name, seen, due, seen, following, task=entry.task_of(moment), count=count):
                if not count:
                    logger.warning("%s: schedule %s was missed, and goes on", self._queue, escaped(name))
                if following is None or following > now:
                    return

    def now(self) -> int:
        """The server's time, in milliseconds since 1970."""
        seconds, microseconds = self._call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _read(self, name: str) -> tuple[bytes, int | None]:
        definition = self._call("HGET", self._keys.cron, name)
        due = self._call("ZSCORE", self._keys.cron_due, name)
        return definition or b"", None if due is None else int(float(due))

    def _change(self, name: str, change: Callable[[bytes, int | None], bool | None]) -> bool:
        """Try `change` until nobody else was faster; None from it says that there is nothing to change."""
        while True:
            seen, due = self._read(name)
            if not seen:
                names = self._call("HKEYS", self._keys.cron)
                raise UnknownSchedule(f"{self._queue.name!r} has no schedule {name!r}; {_choice(map(_text, names))}")
            done = change(seen, due)
            if done is not False:
                return bool(done)


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
