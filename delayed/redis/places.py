"""Where tasks wait, as the keys and the words of scripts have it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..base.ids import digest
from ..task.options import ENDED_FOR, TRACKED_FOR
from .command import redis_errors
from .keys import Keys
from .scripts import Argument

READY = 16  # waiting tasks up to which the tasks of groups go to the queue itself at once, whoever works on it
STATE_KEPT = round(TRACKED_FOR * 1000)  # milliseconds
END_KEPT = round(ENDED_FOR * 1000)  # milliseconds
Grouped = Mapping[str | None, Sequence[bytes]]  # tasks by their group, with None for those of the queue itself


def place(keys: Keys, group: str | None) -> tuple[str, str, str]:
    """Where a task waits: the list, the list that announces it, and the word that does."""
    if group is None:
        return keys.queue, keys.noti, "1"
    return keys.group(digest(group)), keys.groups, digest(group)


def scheduled(member: bytes) -> tuple[bytes, bytes]:
    """A member of the schedule: what says whose it is, and the task."""
    start = 57 if member[16:17] == b":" else 16  # of a group: a byte with which no task begins, and its digest
    return member[:start], member[start:]


def scored(reply: Any) -> Iterator[tuple[bytes, float]]:
    """Members of a sorted set and their scores, as RESP2 or RESP3 has them."""
    nested = reply and isinstance(reply[0], list | tuple)
    for member, score in reply if nested else zip(reply[::2], reply[1::2], strict=True):
        yield member, float(score)


def many(
    keys: Keys, tasks: Grouped, ids: Sequence[str], request: str | None = None, kept: int = STATE_KEPT
) -> tuple[str, tuple[str, ...], list[Argument]]:
    """The script that puts many tasks in, its keys and its arguments.

    Args:
        keys: of the queue.
        tasks: by their group.
        ids: of those that are tracked.
        request: the key that remembers it, if there is one.
        kept: milliseconds for which states are, and the request.
    """
    if request is None and not ids and None in tasks and len(tasks) == 1:
        return "enqueue", (keys.queue, keys.noti), list(tasks[None])
    places = [place(keys, group) for group in tasks]
    state = keys.task("")
    names = [keys.noti, keys.groups, *[each[0] for each in places], *[state + identity for identity in ids]]
    if request is not None:
        names.append(request)
    words: list[Argument] = [kept, len(places)]
    for (_, _, word), some in zip(places, tasks.values(), strict=True):
        words += word, len(some)
    for some in tasks.values():
        words += some
    return "submit_many", tuple(names), words


def many_submitted(reply: Any, queue: str) -> list[str]:
    """What the script has said that puts many tasks in."""
    if reply == 0:
        raise redis_errors.ResponseError(
            f"a task with one of these ids is known in {queue!r} already; none of them was enqueued"
        )
    return [each.decode() for each in reply] if type(reply) is list else []
