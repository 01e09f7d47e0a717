"""Tasks that wait, for their time or for a worker: found again, cancelled, and given another time."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, islice
from typing import NamedTuple

from ..base.clock import milliseconds
from ..dead_letters.letter import show
from ..errors import UnknownTask
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..redis.store import scheduled, scored
from ..task.decode import headers_of, path_of
from ..task.headers import id_in, unique_in
from ..task.options import TRACKED_FOR
from .info import server_time

LOOKED_AT = 10_000  # tasks that a search looks at, if nothing else is said
_PAGE = 50
_GROUPS = 100  # groups at a time


class Waiting(NamedTuple):
    """A task that waits."""

    id: str  # of a tracked task; in the schedule each has one; else empty
    where: str  # 'scheduled', 'queue', 'group', or 'key': until another task with its unique or concurrency key has ended
    due: float | None  # seconds since 1970, in the schedule
    task: str  # function path
    data: bytes
    tracked: bool
    key: str  # where it waits,
    member: bytes  # and how it stands there


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks that wait; all of what is given must fit.

    Args:
        task: a pattern for the function's path, as `myapp.tasks:*`.
        text: part of the task as it is shown, with its arguments.
        overdue: only those in the schedule whose time has come.
        where: only those in the `queue`, in a `group`, that wait for a `key`, or are `scheduled`.
    """

    task: str | None = None
    text: str | None = None
    overdue: bool = False
    where: str | None = None

    def fits(self, waits: Waiting, moment: float) -> bool:
        """Whether this task is one of them, at this moment."""
        return (
            (not self.overdue or (waits.due is not None and waits.due <= moment))
            and (self.task is None or fnmatchcase(waits.task, self.task))
            and (self.text is None or self.text in show(waits.data))
        )


def search(queue: Queue, wanted: Wanted | None = None, most: int = LOOKED_AT) -> Iterator[Waiting]:
    """The waiting tasks that fit: those in the queue, in groups, for keys and in the schedule, each in their order. They are
    read a page at a time, and while that goes on others may come and go.

    Args:
        queue: the queue.
        wanted: which; None for all.
        most: how many tasks are looked at.
    """
    wanted = wanted or Wanted()
    moment = server_time(queue)
    where = "scheduled" if wanted.overdue else wanted.where
    found = chain.from_iterable(_PLACES[name](queue) for name in ([where] if where else _PLACES))
    for each in islice(found, most):
        if wanted.fits(each, moment):
            yield each


def find(queue: Queue, identity: str) -> Waiting | None:
    """The task in the schedule that has this id, also if it is not tracked. The schedule is read a page at a time."""
    cursor = b""
    while cursor != b"0":
        cursor, found = queue.store.call("ZSCAN", queue.keys.scheduled, cursor or b"0", "MATCH", f"{identity}*", "COUNT", 1000)
        for member, score in scored(found):
            return _scheduled(queue.keys.scheduled, member, score)
    return None


def cancel(queue: Queue, waits: Waiting) -> bool:
    """Let a task not begin. A tracked one has been cancelled for those who wait for it.

    Returns:
        False if it does not wait any more, or cannot be cancelled, as it waits in a queue and has no id.
    """
    if waits.tracked:
        try:
            return Handle(queue, waits.id).cancel() in ("queued", "scheduled", "retrying")
        except UnknownTask:  # what was kept of it has run out
            pass
    return waits.where in ("scheduled", "key") and bool(queue.store.call("ZREM", waits.key, waits.member))


def move(queue: Queue, waits: Waiting, moment: float) -> bool:
    """Let a task in the schedule wait for another time.

    Args:
        queue: the queue.
        waits: which.
        moment: when, in seconds since 1970; what has passed is now.

    Returns:
        Whether it was there.
    """
    unique = unique_in(headers_of(waits.data))[0]
    return waits.where == "scheduled" and queue.store.move(
        waits.member, milliseconds(moment), unique, milliseconds(TRACKED_FOR)
    )


def _in_queue(queue: Queue) -> Iterator[Waiting]:
    yield from _listed(queue, queue.keys.queue, "queue")


def _in_groups(queue: Queue) -> Iterator[Waiting]:
    start = 0
    while groups := queue.store.grouped(_GROUPS, start):
        for group in groups:
            yield from _listed(queue, queue.keys.group(group), "group")
        start += len(groups)


def _listed(queue: Queue, key: str, where: str) -> Iterator[Waiting]:
    start = 0
    while page := queue.store.call("LRANGE", key, start, start + _PAGE - 1):
        for data in page:
            identity = id_in(headers_of(data))
            yield Waiting(identity or "", where, None, path_of(data), data, identity is not None, key, data)
        start += len(page)


def _for_keys(queue: Queue) -> Iterator[Waiting]:
    cursor = -1
    while cursor:
        cursor, names = queue.store.page(queue.keys.waited, max(cursor, 0))
        for name in names:
            sought = queue.keys.sought(name, queue.store.call("HGET", queue.keys.waited, name) or b"")
            if sought is not None:
                yield from (each._replace(where="key", due=None) for each in _ordered(queue, sought[0]))


def _in_schedule(queue: Queue) -> Iterator[Waiting]:
    yield from _ordered(queue, queue.keys.scheduled)


def _ordered(queue: Queue, key: str) -> Iterator[Waiting]:
    start = 0
    while page := queue.store.call("ZRANGE", key, start, start + _PAGE - 1, "WITHSCORES"):
        found = list(scored(page))
        yield from (_scheduled(key, member, score) for member, score in found)
        start += len(found)


def _scheduled(key: str, member: bytes, score: float) -> Waiting:
    whose, data = scheduled(member)
    identity = whose[:16].decode(errors="backslashreplace")
    tracked = id_in(headers_of(data)) == identity
    return Waiting(identity, "scheduled", score / 1000, path_of(data), data, tracked, key, member)


_PLACES = {"queue": _in_queue, "group": _in_groups, "key": _for_keys, "scheduled": _in_schedule}
