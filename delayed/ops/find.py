"""Looks through the tasks of many queues, within a budget: however many queues they are, it takes few commands."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, NamedTuple

from ..base.clock import now
from ..base.text import says
from ..dead_letters.letter import letter_of
from ..queue.queue import Queue
from ..queue.waiting import Waiting, in_list, in_order
from ..redis.command import Command, is_cluster, pairs
from ..redis.places import scheduled, scored
from ..task.decode import headers_of, path_of, show
from ..task.headers import is_in_group, text_in
from ..task.hidden import said_of
from ..worker.scoreboard import description
from .overview import looks
from .reading import asked
from .tasks import TaskFilter, TaskList, TaskView, find_tracked, held_view, of_letter, of_waiting

PLACES = ("queue", "group", "key", "scheduled")
_LEAST = 20  # groups, dead letters or held tasks of each of many queues
_FIRST = 100  # tasks that are read first: mostly that is enough,
_STEP = 2500  # and then at once;
_CALLS = 7  # so often for each ten thousand that may be looked at: tasks may be large
_ID = 16  # bytes of an id, with which what is in a sorted set begins
_KEYS = 1000  # at once
_NAMES = 1000  # of groups, likewise
_LETTERS = 1000  # dead letters at a time


class Place(NamedTuple):
    """A key under which tasks wait."""

    queue: Queue
    where: str  # queue, group, key or scheduled
    key: str

    @property
    def kind(self) -> str:
        """Its type."""
        return "list" if self.where in ("queue", "group") else "zset"

    def tasks(self, page: Sequence[bytes]) -> Iterator[Waiting]:
        """The tasks that were read from it."""
        if self.kind == "list":
            return (in_list(self.key, self.where, data) for data in page)
        found = (in_order(self.key, *each) for each in scored(page))
        return (each._replace(where="key", due=None) for each in found) if self.where == "key" else found


def places(queues: Sequence[Queue], which: Sequence[str] = PLACES, most: int = 10_000) -> list[Place]:
    """Where tasks of these queues wait, by one command: of each queue all of a place before the next."""
    share = max(_LEAST, most // max(1, len(queues)))

    def named(queue: Queue) -> list[Command]:
        if not {"group", "key"} & set(which):
            return []
        firsts = range(0, share, _NAMES)
        pages = [("LRANGE", queue.keys.groups, first, min(first + _NAMES, share) - 1) for first in firsts]
        return [("HSCAN", queue.keys.waited, 0, "COUNT", share), *pages]

    found = zip(queues, asked(queues, named), strict=True)
    return [place for queue, replies in found for place in _places(queue, replies, which)]


def _places(queue: Queue, replies: Sequence[Any], which: Sequence[str]) -> Iterator[Place]:
    waited, *pages = replies or ([b"0", []],)
    for where in PLACES:
        keys: list[str] = []
        if where in which:
            match where:
                case "queue":
                    keys = [queue.keys.queue]
                case "group":
                    keys = [queue.keys.group(each.decode(errors="surrogateescape")) for page in pages for each in page]
                case "key":
                    named = ((name.decode(errors="surrogateescape"), what) for name, what in pairs(waited[1]).items())
                    keys = [found[0] for each in named if (found := queue.keys.sought(*each)) is not None]
                case _:
                    keys = [queue.keys.scheduled]
        yield from (Place(queue, where, key) for key in keys)


def walk(some: Sequence[Place], most: int, calls: int | None = None) -> Iterator[tuple[Place, list[bytes]]]:
    """What waits there, a page at a time, with its place: of sorted sets with their scores.

    Args:
        some: where to look.
        most: at so many tasks.
        calls: by so many commands.
    """
    at, start, looked, step = 0, 0, 0, _FIRST
    for _ in range(calls or _CALLS * max(1, most // 10_000)):
        part = some[at : at + _KEYS]
        if not part or looked >= most:
            return
        if is_cluster(part[0].queue.conn):
            part = list(next(groupby(part, key=lambda place: place.queue.name))[1])
        kinds = {place.key: place.kind for place in part}
        more, pages = part[0].queue.store.slices(kinds, min(step, most - looked), start)
        for place, page in zip(part, pages, strict=False):  # not all may have been read
            looked += len(page) // (1 if place.kind == "list" else 2)
            yield place, page
        last = len(pages[-1]) // (1 if part[len(pages) - 1].kind == "list" else 2)
        start = (start if len(pages) == 1 else 0) + last if more else 0
        at += len(pages) - more
        step = _STEP


def find(queues: Sequence[Queue], wanted: TaskFilter, count: int, look_at: int) -> TaskList:
    """As `tasks.tasks`, of several queues, each in its order."""
    match wanted.state:
        case "running":
            return _chosen(wanted, _running(queues, look_at), _sizes(queues, "HLEN", "processing"), count, look_at)
        case "dead":
            return _chosen(wanted, _dead(queues, look_at), _sizes(queues, "XLEN", "dead"), count, look_at)
        case "tracked":
            return find_tracked(queues, wanted, count, look_at)
    return _chosen(wanted, _waiting(queues, wanted, look_at), _size(queues, wanted), count, look_at)


Looked = Iterator[TaskView | None]  # None for each that was looked at, and does not fit


def _chosen(wanted: TaskFilter, source: Looked, total: int, count: int, look_at: int) -> TaskList:
    moment, found, looked = now(), list[TaskView](), 0
    for task in source:
        looked += 1
        if task is not None and wanted.fits(task, moment):
            found.append(task)
        if len(found) == count or looked == look_at:
            break
    return TaskList(tuple(found), looked, max(total, looked), len(found) == count or total > looked)


def _sizes(queues: Sequence[Queue], command: str, kind: str) -> int:
    return sum(size for (size,) in asked(queues, lambda queue: [(command, queue.keys.all()[kind])]))


def _size(queues: Sequence[Queue], wanted: TaskFilter) -> int:
    """How many tasks wait where such tasks can be, about."""
    views = looks(queues)
    if _in_schedule(wanted):
        return sum(view.scheduled for view in views)
    sizes = [
        {"queue": view.waiting, "group": view.grouped, "key": view.for_keys, "scheduled": view.scheduled} for view in views
    ]
    where = _where(wanted)
    return sum(sum(each[name] for name in (where or PLACES)) for each in sizes)


def _in_schedule(wanted: TaskFilter) -> bool:
    return wanted.overdue or wanted.state in ("scheduled", "retrying")


def _where(wanted: TaskFilter) -> tuple[str, ...]:
    if _in_schedule(wanted):
        return ("scheduled",)
    where = "key" if wanted.state == "key" else wanted.where
    return PLACES if where is None else (where,)


def _waiting(queues: Sequence[Queue], wanted: TaskFilter, look_at: int) -> Looked:
    moment = now() * 1000
    for place, page in walk(places(queues, _where(wanted), look_at), look_at):
        step = 1 if place.kind == "list" else 2
        for at in range(0, len(page), step):  # each is read once, as most are not what is sought
            if wanted.overdue and float(page[at + 1]) > moment:
                yield None
                continue
            data = page[at] if step == 1 else scheduled(page[at])[1]
            fits = _may_fit(data, page[at], wanted)
            yield of_waiting(place.queue.name, next(place.tasks(page[at : at + step]))) if fits else None


def _may_fit(data: bytes, member: bytes, wanted: TaskFilter) -> bool:
    """Whether a task is worth a closer look, which takes longer."""
    if wanted.function is not None and not fnmatchcase(path_of(data), wanted.function):
        return False
    said = said_of(path_of(data), text_in(headers_of(data), "error") or "") if b"error" in data else ""
    if wanted.error is not None and not says(said, wanted.error):
        return False
    if wanted.group is not None and not is_in_group(headers_of(data), wanted.group):
        return False
    if wanted.text is None or wanted.text in show(data) or wanted.text in said:
        return True
    try:
        return wanted.text.encode() in member[:_ID] or wanted.text.encode() in data
    except UnicodeEncodeError:
        return False


def _dead(queues: Sequence[Queue], look_at: int) -> Looked:
    """The dead letters, each queue's newest first; of one queue page by page."""
    share = max(_LEAST, min(_LETTERS, look_at // max(1, len(queues))))
    pages = asked(queues, lambda queue: [("XREVRANGE", queue.keys.dead, "+", "-", "COUNT", share)])
    for queue, (page,) in zip(queues, pages, strict=True):
        yield from (of_letter(queue.name, letter_of(*entry)) for entry in page)
    while len(queues) == 1 and len(page) == share:
        page = queues[0].store.call("XREVRANGE", queues[0].keys.dead, f"({page[-1][0].decode()}", "-", "COUNT", share)
        yield from (of_letter(queues[0].name, letter_of(*entry)) for entry in page)


def _running(queues: Sequence[Queue], look_at: int) -> Looked:
    """Tasks that workers hold, by three commands."""
    return iter(held(queues, max(_LEAST, min(_LETTERS, look_at) // max(1, len(queues)))))


def held(queues: Sequence[Queue], share: int) -> list[TaskView]:
    """About so many of the tasks that workers hold of each queue, by three commands."""
    leases: dict[str, dict[str, bytes]] = {}
    for queue, (page,) in zip(
        queues, asked(queues, lambda queue: [("HSCAN", queue.keys.processing, 0, "COUNT", share)]), strict=True
    ):
        leases[queue.name] = {name.decode(errors="surrogateescape"): data for name, data in pairs(page[1]).items()}
    ours = {queue.name: [each for each in leases[queue.name] if queue.keys.owns_lease(each)] for queue in queues}
    holders = asked(queues, lambda queue: [("MGET", *ours[queue.name])] if ours[queue.name] else [])
    who = {
        queue.name: {lease: (by or b"").decode(errors="replace") for lease, by in zip(ours[queue.name], found, strict=True)}
        for queue, replies in zip(queues, holders, strict=True)
        for found in [replies[0] if replies else []]
    }
    names = {queue.name: list(dict.fromkeys(filter(None, who[queue.name].values()))) for queue in queues}
    about = asked(
        queues,
        lambda queue: [("HMGET", queue.keys.workers, *map(queue.keys.lease, names[queue.name]))] if names[queue.name] else [],
    )
    found_views = list[TaskView]()
    for queue, replies in zip(queues, about, strict=True):
        said = dict(zip(names[queue.name], replies[0] if replies else [], strict=True))
        for lease, data in leases[queue.name].items():
            holder = who[queue.name].get(lease, "")
            known = said.get(holder)
            place = "" if known is None else str(description(known).get("place") or "")
            found_views.append(held_view(queue.name, lease, data, place or holder))
    return found_views
