"""Reads the histories of queues, within a budget, and says how far it has looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..base.text import says
from ..queue.history import HistoryEvent, unpacked
from ..queue.queue import Queue
from ..queue.timeline import Happening
from ..redis.command import pairs
from .locate import timeline
from .reading import asked
from .shown import event_shown, timeline_shown

LOOKED_AT = 100_000  # events
_LATE = 60.0  # seconds after which an event has been written
_FIRST = 200  # entries, of which each may have a hundred events,
_LEAST = 20  # of each of many queues
_PAGE = 1000  # and later: so many as there may be to look at by those


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Selects events; an event must match every field that is set.

    Args:
        function: a pattern for the function's path, as `myapp.tasks:*`.
        outcome: one of `history.OUTCOMES`.
        text: part of what is said of it, in upper or lower case.
        id: of the task.
        since, until: seconds since 1970.
    """

    function: str | None = None
    outcome: str | None = None
    text: str | None = None
    id: str | None = None
    since: float | None = None
    until: float | None = None

    def fits(self, event: HistoryEvent) -> bool:
        """Whether this event is one of them."""
        return (
            self.outcome in (None, event.outcome)
            and self.id in (None, event.id)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
            and (self.function is None or fnmatchcase(event.task, self.function))
            and (self.text is None or says(event.said, self.text))
        )


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events that were found, newest first, and how far that looked."""

    queue: str
    events: tuple[HistoryEvent, ...]
    looked_at: int  # events
    cursor: str  # from which to go on; empty: there is nothing more

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        return {
            "queue": self.queue,
            "events": [event_as_dict(each) for each in self.events],
            "looked_at": self.looked_at,
            "cursor": self.cursor,
        }


def event_as_dict(event: HistoryEvent) -> dict[str, Any]:
    """What is known of an event, in the form of JSON."""
    return {name: value for name, value in event._asdict().items() if value not in (None, "")}


def history(
    queue: Queue, wanted: HistoryFilter | None = None, count: int = 50, look_at: int = LOOKED_AT, cursor: str = ""
) -> HistoryPage:
    """What has happened to tasks of a queue, newest first.

    Args:
        queue: the queue.
        wanted: which events.
        count: about how many; all that fit of an entry come together.
        look_at: about how many are looked at, at most.
        cursor: of the page before.
    """
    wanted = wanted or HistoryFilter()
    found, looked, last = list[HistoryEvent](), 0, cursor
    start = f"({cursor}" if cursor else "+" if wanted.until is None else f"{max(0, int((wanted.until + _LATE) * 1000))}"
    end = "-" if wanted.since is None else f"{max(0, int(wanted.since * 1000))}"
    size, entries = min(_FIRST, count, look_at), 0
    while len(found) < count and looked < look_at:
        page = queue.store.call("XREVRANGE", queue.keys.history, start, end, "COUNT", size)
        entries += len(page)
        for entry, fields in page:
            last = entry.decode()
            events = [event_shown(each) for each in unpacked(last, pairs(fields).get(b"batch", b""))]
            looked += max(1, len(events))
            found += [each for each in reversed(events) if wanted.fits(each)]
            if len(found) >= count or looked >= look_at:
                break
        else:
            if len(page) < size:
                last = ""
                break
        start, size = f"({last}", min(_PAGE, max(1, (look_at - looked) * entries // looked))
    return HistoryPage(queue.name, tuple(found), looked, last)


def recent_of(queues: Sequence[Queue], identity: str, entries: int = 500) -> list[tuple[str, HistoryEvent]]:
    """What the newest entries of the histories of these queues have of one task, newest first, by one command, or a few more
    if the queues are hundreds: the name of the queue, and the event."""
    share, found = max(_LEAST, entries // max(1, len(queues))), list[tuple[str, HistoryEvent]]()
    pages = asked(queues, lambda queue: [("XREVRANGE", queue.keys.history, "+", "-", "COUNT", share)])
    for queue, (page,) in zip(queues, pages, strict=True):
        for entry, fields in page:
            batch = pairs(fields).get(b"batch", b"")
            if identity.encode() in batch:
                found += [(queue.name, event_shown(each)) for each in unpacked(entry.decode(), batch) if each.id == identity]
    return sorted(found, key=lambda each: each[1].time, reverse=True)


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """What is known of the past of one task."""

    id: str
    queue: str  # where its state is kept, or its events stand
    timeline: tuple[Happening, ...]  # of a tracked task, as long as its state is kept
    events: tuple[HistoryEvent, ...]  # of the history of that queue, the first that happened first
    looked_at: int  # events


def history_of(queues: Sequence[Queue], identity: str, look_at: int = LOOKED_AT) -> TaskHistory | None:
    """What has happened to the task with this id, tracked or not; None if none of the queues knows.

    Args:
        queues: where to look.
        identity: its id.
        look_at: how many events of each queue are looked at, at most.
    """
    past = {queue.name: tuple(timeline_shown(timeline(queue, identity))) for queue in queues}
    for queue in sorted(queues, key=lambda each: not past[each.name]):
        page = history(queue, HistoryFilter(id=identity), look_at, look_at)
        if past[queue.name] or page.events:
            return TaskHistory(identity, queue.name, past[queue.name], tuple(reversed(page.events)), page.looked_at)
    return None
