"""Since when tasks wait, as far as they say it."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..base.checks import is_whole
from ..queue.queue import Queue
from ..redis.command import Command
from ..task.decode import headers_of
from ..task.headers import MOST, id_in


def is_dated(headers: dict[str, Any]) -> bool:
    """Whether the headers of a task say when it was enqueued."""
    return is_whole(headers.get("enqueued")) and 0 < headers["enqueued"] < MOST


class Since:
    """Since when the first of some tasks waits, of those that say when they were enqueued.

    Args:
        queue: where they wait.
        heads: the tasks.
    """

    def __init__(self, queue: Queue, heads: Iterable[bytes]) -> None:
        dated = [(headers["enqueued"], id_in(headers)) for headers in map(headers_of, heads) if is_dated(headers)]
        self._queue = queue
        self._first: tuple[float, str | None] | None = min(dated, key=lambda each: each[0]) if dated else None

    def question(self) -> list[Command]:
        """When it was due, if it is tracked: it may have been planned for later."""
        identity = None if self._first is None else self._first[1]
        return [] if identity is None else [("HGET", self._queue.keys.task(identity), "due")]

    def moment(self, replies: Sequence[Any]) -> float | None:
        """The seconds since 1970, by the reply to that; None if none of them says so."""
        if self._first is None:
            return None
        due = replies[0] if replies else None
        planned = float(due) if due is not None and due.isdigit() else 0
        return max(self._first[0], planned) / 1000
