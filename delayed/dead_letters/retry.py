"""Retries and removes dead letters, with other arguments if wanted."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import Duplicate, InvalidTask, Reason
from ..queue.node import asked, carry
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..redis.keys import home_of
from ..task.decode import headers_of, is_python_path
from ..task.edit import array_of, elements, without_header
from ..task.headers import member_in, milliseconds_in, unique_in
from ..task.options import TRACKED_FOR
from ..task.task import GoTask, PyTask
from .letter import DeadLetter, dead_letters, letter_of
from .search import Search

_PAGE = 50
_EMPTY = (b"", b"\x90", b"\x80", b"\x00")  # what a Python task's elements are where it has been cut off


def edited(data: bytes, args: Any = None, kwargs: Mapping[str, Any] | None = None) -> bytes:
    """The task in `data` with other arguments. The rest is copied as it is.

    Args:
        data: the task.
        args: positional arguments, as for `PyTask` or `GoTask`; None leaves them.
        kwargs: keyword arguments; None leaves them.

    Raises:
        InvalidTask: it has no arguments that could be edited, or these cannot be sent.
    """
    raw, path = elements(data)
    if not is_python_path(path):
        if kwargs is not None:
            raise InvalidTask(f"{path} is a Go function, which has no keyword arguments: give it args alone")
        if args is None:
            return data
        return array_of([raw[0], elements(GoTask(path, args).serialize())[0][1], *raw[2:]])
    filled = [*raw, *_EMPTY[len(raw) :]]
    new, _ = elements(PyTask(path, args, dict(kwargs or {}), retry=1).serialize())
    if args is not None:
        filled[1] = new[1]
    if kwargs is not None:
        filled[2] = new[2]
    while len(filled) < 5 and filled[-1] == _EMPTY[len(filled) - 1]:
        filled.pop()
    return array_of(filled)


def retry(queue: Queue, letter: DeadLetter, args: Any = None, kwargs: Mapping[str, Any] | None = None) -> bool:
    """Put one dead letter back at the end of its queue. A tracked task waits again: its handle gives the new result.

    Args:
        queue: the queue.
        letter: which.
        args, kwargs: other arguments, as for `edited`; None leaves them.

    Returns:
        Whether it was there.

    Raises:
        InvalidTask: the arguments cannot be edited so. Nothing has happened.
        Duplicate: another task has its unique key by now. Nothing has happened.
    """
    data = letter.data if args is None and kwargs is None else edited(letter.data, args, kwargs)
    if letter.reason == Reason.EXPIRED:  # or it would expire again
        data = without_header(data, "expires")
    headers = headers_of(data)
    key, mode, bound = unique_in(headers)
    taken = bound if mode != "while_running" and letter.tracked_id is not None else 0
    how = {"tracked": round(TRACKED_FOR * 1000), "bound": max(taken, 0), "enqueued": milliseconds_in(headers, "enqueued")}
    done = queue.store.revive(letter.id, data, letter.tracked_id, unique=key, **how)
    if done == 2:
        raise Duplicate(f"another task in {queue.name!r} has the unique key of letter {letter.id}; it stays where it is", "")
    member = member_in(headers)
    home = home_of(member.home) if done and member is not None and queue.store.reaches(member.home) else None
    if member is not None and home is not None:  # so that who asks for its result from now on waits for the new one
        with contextlib.suppress(RedisError):  # it waits again, and others let its workflow know
            asked(carry(home, member.flow, queue.store.reaches), queue.store.call)
    return bool(done)


def retry_all(queue: Queue, wanted: Search) -> int:
    """Put the dead letters that fit, and are there now, back at the end of the queue, the oldest first; one whose unique key
    another task has stays. Every letter fits `Search()`. Returns how many went."""
    return sum(_each(queue, wanted, lambda letters: retry_some(queue, letters)))


def retry_ids(queue: Queue, ids: Sequence[str]) -> int:
    """As `retry_all`, for those with these ids."""
    found = [queue.store.call("XRANGE", queue.keys.dead, each, each) for each in ids]
    return retry_some(queue, [letter_of(*page[0]) for page in found if page])


def purge(queue: Queue, wanted: Search) -> int:
    """Remove the dead letters that fit, and are there now, for good. Every letter fits `Search()`. Returns how many those
    were."""

    def remove(letters: list[DeadLetter]) -> int:
        return int(queue.store.call("XDEL", queue.keys.dead, *(letter.id for letter in letters)))

    return sum(_each(queue, wanted, remove))


def _each(queue: Queue, wanted: Search, act: Callable[[list[DeadLetter]], int]) -> Iterator[int]:
    """Act on those that fit, from the oldest to the one that is the newest now, a page at a time."""
    newest = next(dead_letters(queue, 1), None)
    if newest is None:
        return
    first = "-" if wanted.since is None else str(max(0, int(wanted.since * 1000)))
    while True:
        page = queue.store.call("XRANGE", queue.keys.dead, first, newest.id, "COUNT", _PAGE)
        letters = [letter for letter in (letter_of(*entry) for entry in page) if wanted.fits(letter)]
        if letters:
            yield act(letters)
        if len(page) < _PAGE:
            return
        first = f"({page[-1][0].decode()}"


def retry_some(queue: Queue, letters: list[DeadLetter]) -> int:
    """Those without an id go together, in order; others need their own keys."""
    count, plain = 0, list[str]()
    for letter in letters:
        if letter.tracked_id is None and letter.reason != Reason.EXPIRED:
            plain.append(letter.id)
            continue
        count += queue.store.dead_retry(plain) if plain else 0
        plain = []
        try:
            count += retry(queue, letter)
        except Duplicate:
            continue
    return count + (queue.store.dead_retry(plain) if plain else 0)
