"""Finds dead letters."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..base.text import is_of, says, summary
from ..errors import ConfigurationError, Reason
from ..queue.queue import Queue
from ..task.decode import headers_of, show
from ..task.headers import is_in_group
from .cause import cause_of
from .letter import DeadLetter, dead_letters


@dataclass(frozen=True, slots=True)
class Search:
    """Selects dead letters; a letter must match every field that is set.

    Args:
        task: a pattern for the function's path, as `myapp.tasks:*`.
        error: part of the detail (a sentence or a traceback), in upper or lower case.
        text: part of the task as it is shown, with its arguments.
        reason: the reason, one of `Reason`.
        since: seconds since 1970: not those before.
        until: seconds since 1970: only those before.
        cause: the id of a cause (see `cause_of`).
        anywhere: part of the task as it is shown, or of what the error says first, or the id of the task.
        worker: a pattern for who buried it, as `web1:*`; or for the host alone, as `web1`.
        group: a pattern for the group of the task, as `tenant-*`.

    Raises:
        ConfigurationError: there is no such reason.
    """

    task: str | None = None
    error: str | None = None
    text: str | None = None
    reason: str | None = None
    since: float | None = None
    until: float | None = None
    cause: str | None = None
    anywhere: str | None = None
    worker: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason not in list(Reason):
            raise ConfigurationError(f"{self.reason!r} is no reason; there are {', '.join(Reason)}")

    def fits(self, letter: DeadLetter) -> bool:
        """Whether this letter is one of them."""
        return (
            (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
            and self.reason in (None, letter.reason)
            and (self.task is None or fnmatchcase(letter.task, self.task))
            and (self.error is None or says(letter.said, self.error))
            and (self.text is None or self.text in show(letter.data))
            and (self.cause is None or self.cause == cause_of(letter).id)
            and (self.anywhere is None or self._is_in(letter, self.anywhere))
            and (self.worker is None or is_of(letter.worker, self.worker))
            and (self.group is None or is_in_group(headers_of(letter.data), self.group))
        )

    @staticmethod
    def _is_in(letter: DeadLetter, text: str) -> bool:
        return text in show(letter.data) or text in summary(letter.said) or text == letter.task_id


def search(queue: Queue, wanted: Search | None = None) -> Iterator[DeadLetter]:
    """The dead letters that fit, newest first, read a page at a time."""
    wanted = wanted or Search()
    return (letter for letter in looked_through(queue, wanted) if wanted.fits(letter))


def looked_through(queue: Queue, wanted: Search, after: str | None = None) -> Iterator[DeadLetter]:
    """The dead letters among which those that are `wanted` are: from the newest, or from what comes `after` the one with this
    id, and none before `since`."""
    for letter in dead_letters(queue, after=after):
        if wanted.since is not None and letter.time < wanted.since:
            return
        yield letter
