"""Schedules as they are stored, and those that a program defines."""

from datetime import datetime
from typing import NamedTuple

import msgpack

from ..errors import InvalidSchedule
from ..queue.queue import Queue
from ..task.decode import is_task
from ..task.edit import with_expiry
from ..task.headers import MOST
from ..task.task import Task
from .expression import Cron

_FIELDS = ("expression", "tz", "catch_up", "task")


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
    good = isinstance(task, bytes) and is_task(task) and (expires is None or (type(expires) is int and 0 < expires <= MOST))
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
