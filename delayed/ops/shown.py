"""What is shown of a task's errors and of what it reports: where its arguments are hidden, only the type of an error."""

from collections.abc import Iterable

from ..queue.history import HistoryEvent
from ..queue.status import Status
from ..queue.timeline import Happening
from ..task.decode import path_of
from ..task.hidden import HIDDEN, hides, is_hidden, said_of
from .locate import Located

_OUR_WORDS = ("deferred", "lost", "died", "unwritten", "superseded", "cancel", "removed", "given_back", "waits", "omitted")


def event_shown(event: HistoryEvent) -> HistoryEvent:
    """An event of a history as it may be shown."""
    if not event.said or event.outcome in _OUR_WORDS:
        return event
    return event._replace(said=said_of(event.task, event.said))


def status_shown(status: Status, path: str = "") -> Status:
    """A tracked task as it may be shown.

    Args:
        status: the task.
        path: of its function; empty if that is not known any more.
    """
    hidden = is_hidden(path) if path else hides()
    note = HIDDEN if status.note and hidden else status.note
    return status._replace(error=said_of(path, status.error), note=note)


def timeline_shown(rows: Iterable[Happening], path: str = "") -> list[Happening]:
    """What has happened to a task, likewise."""
    return [each if each.event in _OUR_WORDS else each._replace(detail=said_of(path, each.detail)) for each in rows]


def located_shown(found: Located) -> Located:
    """All that is known of a task as it may be shown; but for its arguments, which are looked at where they are shown."""
    path = path_of(found.data) if found.data is not None else ""
    status, letter = found.status, found.letter
    return found._replace(
        status=None if status is None else status_shown(status, path),
        letter=None if letter is None else letter._replace(detail=letter.said),
        timeline=timeline_shown(found.timeline, path),
    )
