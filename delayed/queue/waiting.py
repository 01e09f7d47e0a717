"""Finds, cancels, removes and reschedules tasks that wait for their time, a key or a worker."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, islice
from typing import NamedTuple, Protocol

from ..base.clock import milliseconds
from ..base.text import says
from ..redis.keys import Keys
from ..redis.places import scheduled, scored
from ..redis.store import Store
from ..task.decode import headers_of, path_of, show
from ..task.headers import any_id_in, id_in, is_in_group, number_in, text_in, uid_in, unique_in
from ..task.hidden import said_of
from ..task.options import ENDED_FOR, TRACKED_FOR
from ..task.result import ASKED, CANCELLED, State

LOOKED_AT = 10_000  # tasks that a search looks at, if nothing else is said
_PAGE = 50
_UNBEGUN = (State.QUEUED, State.SCHEDULED, State.RETRYING)
_GROUPS = 50  # groups at a time


class Place(Protocol):
    """What is asked of a queue."""

    keys: Keys

    @property
    def store(self) -> Store:
        """The way to its keys."""

    def ask_time(self) -> float:
        """The server's time, in seconds since 1970."""


class Waiting(NamedTuple):
    """A task that waits."""

    id: str  # the task's; in the schedule each has one; empty for a task without
    where: str  # 'scheduled', 'queue', 'group', or 'key': until another task with its unique or concurrency key has ended
    due: float | None  # seconds since 1970, in the schedule
    task: str  # function path
    data: bytes
    tracked: bool
    key: str  # where it waits,
    member: bytes  # and how it stands there


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects waiting tasks; a task must match every field that is set.

    Args:
        task: a pattern for the function's path, as `myapp.tasks:*`.
        text: part of the task as it is shown, with its arguments.
        overdue: only those in the schedule whose time has come.
        where: only those in the `queue`, in a `group`, that wait for a `key`, or are `scheduled`.
        state: only those that are `waiting` (not for a time), `scheduled`, or `retrying`: scheduled after a failed attempt.
        error: part of what the last attempt said, in upper or lower case.
        group: a pattern for the group, as `tenant-*`.
    """

    task: str | None = None
    text: str | None = None
    overdue: bool = False
    where: str | None = None
    state: str | None = None
    error: str | None = None
    group: str | None = None

    def fits(self, waits: Waiting, moment: float) -> bool:
        """Whether this task is one of them, at this moment."""
        return (
            (not self.overdue or (waits.due is not None and waits.due <= moment))
            and (self.task is None or fnmatchcase(waits.task, self.task))
            and (self.text is None or self.text in show(waits.data))
            and self.state in (None, state_of(waits))
            and (self.error is None or says(said_of(waits.task, text_in(headers_of(waits.data), "error") or ""), self.error))
            and (self.group is None or is_in_group(headers_of(waits.data), self.group))
        )


def search(queue: Place, wanted: Wanted | None = None, most: int = LOOKED_AT) -> Iterator[Waiting]:
    """The waiting tasks that fit: those in the queue, in groups, for keys and in the schedule, each in their order. They are
    read a page at a time, and while that goes on others may come and go.

    Args:
        queue: the queue.
        wanted: which; None for all.
        most: how many tasks are looked at.
    """
    wanted = wanted or Wanted()
    moment = queue.ask_time()
    for each in islice(candidates(queue, wanted), most):
        if wanted.fits(each, moment):
            yield each


def candidates(queue: Place, wanted: Wanted) -> Iterator[Waiting]:
    """All tasks that wait where those that are `wanted` can be, each place in its order, read a page at a time."""
    return chain.from_iterable(_PLACES[name](queue) for name in _places(wanted))


def find(queue: Place, identity: str, most: int = LOOKED_AT, scans: int | None = None) -> Waiting | None:
    """The waiting task that has this id, also if it is not tracked. The whole schedule is looked through for it (or as much as
    so many `scans` of a thousand tasks), and so many of the other waiting tasks as `most` says."""
    if uid_in({"uid": identity}) is None:
        return None
    cursor = b""
    while cursor != b"0" and scans != 0:
        scans = None if scans is None else scans - 1
        cursor, found = queue.store.call("ZSCAN", queue.keys.scheduled, cursor or b"0", "MATCH", f"{identity}*", "COUNT", 1000)
        for member, score in scored(found):
            return in_order(queue.keys.scheduled, member, score)
    some, written = islice(candidates(queue, Wanted()), most), identity.encode()  # few have it in their bytes: few are decoded
    return next((each for each in some if written in each.data and each.id == identity), None)


def at(queue: Place, position: int) -> Waiting | None:
    """The task at a position of the queue itself; the first has 1, and is the next to be taken."""
    data = queue.store.call("LINDEX", queue.keys.queue, position - 1)
    return None if data is None else in_list(queue.keys.queue, "queue", data)


def remove(queue: Place, waits: Waiting) -> bool:
    """Remove a waiting task, with or without an id. For those who wait for a tracked one, it was cancelled.

    Returns:
        False if it does not wait there any more: it runs, or has moved on.
    """
    return bool(queue.store.remove(waits.key, [waits.member]))


def cancel(queue: Place, waits: Waiting) -> bool:
    """Cancel a waiting task. For those who wait for a tracked one, it was cancelled.

    Returns:
        False if it does not wait any more, or cannot be cancelled, as it has no id.
    """
    if waits.tracked:
        state = queue.store.cancel(waits.id, CANCELLED, round(ENDED_FOR * 1000), ASKED)
        if state is not None:  # else what was kept of it has run out
            return state in _UNBEGUN
    return (waits.id != "" or waits.where == "key") and remove(queue, waits)


def cancelled(queue: Place, identity: str) -> State | None:
    """Cancel the waiting task that has this id, and return the state in which it was; None if none waits here."""
    waits = find(queue, identity)
    if waits is None or not cancel(queue, waits):
        return None
    return {"waiting": State.QUEUED, "scheduled": State.SCHEDULED, "retrying": State.RETRYING}[state_of(waits)]


def move(queue: Place, waits: Waiting, moment: float) -> bool:
    """Give a task in the schedule another time.

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


def _in_queue(queue: Place) -> Iterator[Waiting]:
    yield from _listed(queue, queue.keys.queue, "queue")


def _in_groups(queue: Place) -> Iterator[Waiting]:
    start = 0
    while groups := queue.store.grouped(_GROUPS, start):
        keys = [queue.keys.group(group) for group in groups]
        pages = queue.store.batch(*[("LRANGE", key, 0, _PAGE - 1) for key in keys])  # at once: there may be many groups of one
        for key, page in zip(keys, pages, strict=True):
            yield from (in_list(key, "group", data) for data in page)
            if len(page) == _PAGE:
                yield from _listed(queue, key, "group", _PAGE)
        start += len(groups)


def _listed(queue: Place, key: str, where: str, start: int = 0) -> Iterator[Waiting]:
    while page := queue.store.call("LRANGE", key, start, start + _PAGE - 1):
        for data in page:
            yield in_list(key, where, data)
        start += len(page)
        if len(page) < _PAGE:  # of a thousand groups each may have one task
            return


def in_list(key: str, where: str, data: bytes) -> Waiting:
    """A task in a list: the queue's or a group's."""
    headers = headers_of(data)
    tracked = id_in(headers) is not None
    return Waiting(any_id_in(headers) or "", where, None, path_of(data), data, tracked, key, data)


def _for_keys(queue: Place) -> Iterator[Waiting]:
    cursor = -1
    while cursor:
        cursor, names = queue.store.page(queue.keys.waited, max(cursor, 0))
        for name in names:
            sought = queue.keys.sought(name, queue.store.call("HGET", queue.keys.waited, name) or b"")
            if sought is not None:
                yield from (each._replace(where="key", due=None) for each in _ordered(queue, sought[0]))


def _in_schedule(queue: Place) -> Iterator[Waiting]:
    yield from _ordered(queue, queue.keys.scheduled)


def _ordered(queue: Place, key: str) -> Iterator[Waiting]:
    start = 0
    while page := queue.store.call("ZRANGE", key, start, start + _PAGE - 1, "WITHSCORES"):
        found = list(scored(page))
        yield from (in_order(key, member, score) for member, score in found)
        start += len(found)


def in_order(key: str, member: bytes, score: float) -> Waiting:
    """A task in a sorted set: the schedule, or of those that wait for a key."""
    whose, data = scheduled(member)
    identity, headers = whose[:16].decode(errors="backslashreplace"), headers_of(data)
    tracked = id_in(headers) == identity
    return Waiting(
        identity if tracked else any_id_in(headers) or identity,
        "scheduled",
        score / 1000,
        path_of(data),
        data,
        tracked,
        key,
        member,
    )


def _places(wanted: Wanted) -> Iterable[str]:
    if wanted.overdue or wanted.state in ("scheduled", "retrying"):
        return ["scheduled"]
    return [wanted.where] if wanted.where else _PLACES


def state_of(waits: Waiting) -> str:
    """`waiting` (not for a time), `scheduled`, or `retrying`."""
    if waits.where != "scheduled":
        return "waiting"
    return "retrying" if number_in(headers_of(waits.data), "attempt") > 0 else "scheduled"


_PLACES = {"queue": _in_queue, "group": _in_groups, "key": _for_keys, "scheduled": _in_schedule}
