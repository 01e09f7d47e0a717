"""Lists the schedules of many queues."""

from collections.abc import Sequence
from typing import NamedTuple

from ..cron.schedules import Listed, listed
from ..queue.queue import Queue
from ..redis.command import pairs
from .reading import asked

MOST = 1000  # schedules that are read, of all queues together, about
_LEAST = 10  # of each


class Found(NamedTuple):
    """Schedules, and how many there are."""

    schedules: list[tuple[str, Listed]]  # with the names of their queues; by their next occurrence, the paused ones last
    total: int


def schedules_of_all(queues: Sequence[Queue], most: int = MOST) -> Found:
    """The schedules of several queues, by two commands, or a few more if they are hundreds."""
    share = max(_LEAST, most // max(1, len(queues)))
    pages = asked(queues, lambda queue: [("HLEN", queue.keys.cron), ("HSCAN", queue.keys.cron, 0, "COUNT", share)])
    defined = {queue.name: pairs(page[1]) for queue, (_, page) in zip(queues, pages, strict=True)}
    scores = asked(
        queues,
        lambda queue: [("ZMSCORE", queue.keys.cron_due, *defined[queue.name])] if defined[queue.name] else [],
    )
    found = [
        (queue.name, listed(name.decode(errors="surrogateescape"), definition, score))
        for queue, replies in zip(queues, scores, strict=True)
        for (name, definition), score in zip(defined[queue.name].items(), replies[0] if replies else (), strict=True)
    ]
    found.sort(key=lambda each: (each[1].next is None, each[1].next, each[0], each[1].name))
    return Found(found, sum(count for count, _ in pages))
