"""Goes through the waiting tasks of a queue in pages while some of them are removed: none is passed over for that."""

from collections.abc import Generator, Iterator
from typing import NamedTuple

from ..queue.queue import Queue
from ..queue.waiting import Waiting, Wanted, in_list, in_order
from ..redis.places import scored
from .purge import groups, lines

_PAGE = 50  # tasks, which may be large
_DEEP = 200_000  # tasks of a list that one step may have to pass by: Redis looks for each task of a list from its head


class Page(NamedTuple):
    """Tasks that wait in one place, in their order."""

    tasks: list[Waiting]
    at_once: int = _PAGE  # how many of them one step may remove


Walk = Generator[Page, list[Waiting], None]  # yields pages, and is sent those of a page that wait there no more


def walk(queue: Queue, wanted: Wanted) -> Walk:
    """Pages of tasks among which those that are `wanted` are, in the order in which tasks go from one place to another. At
    most as many as there were in each place."""
    for place in _places(wanted):
        match place:
            case "scheduled":
                yield from _schedule(queue)
            case "key":
                for line in lines(queue):
                    yield from _by_position(queue, line, "key")
            case "group":
                for group in groups(queue):
                    yield from _by_position(queue, queue.keys.group(group), "group")
            case "queue":
                yield from _by_position(queue, queue.keys.queue, "queue")


def _places(wanted: Wanted) -> Iterator[str]:
    only = "scheduled" if wanted.overdue or wanted.state in ("scheduled", "retrying") else wanted.where
    for place in ("scheduled", "key", "group", "queue"):
        if only in (None, place):
            yield place


def _by_position(queue: Queue, key: str, where: str) -> Walk:
    """A list, or a sorted set in which nothing gets another place."""
    call, looked, start = queue.store.call, 0, 0
    size = int(call("ZCARD" if where == "key" else "LLEN", key))
    while looked < size:
        most = min(_PAGE, size - looked)
        if where == "key":
            found = [in_order(key, *each)._replace(where="key", due=None) for each in _ranged(queue, key, start, most)]
        else:
            found = [in_list(key, where, data) for data in call("LRANGE", key, start, start + most - 1)]
        if not found:
            return
        gone = yield Page(found, _PAGE if where == "key" else max(1, _DEEP // (start + 1)))
        looked += len(found)
        start += len(found) - len(gone)


def _ranged(queue: Queue, key: str, start: int, most: int) -> list[tuple[bytes, float]]:
    return list(scored(queue.store.call("ZRANGE", key, start, start + most - 1, "WITHSCORES")))


def _schedule(queue: Queue) -> Walk:
    """By time, as tasks may be given another one meanwhile."""
    call, key = queue.store.call, queue.keys.scheduled
    size, last = int(call("ZCARD", key)), list(scored(call("ZRANGE", key, -1, -1, "WITHSCORES")))
    looked, least, passed = 0, "-inf", 0
    while looked < size and last:
        words = ("LIMIT", passed, min(_PAGE, size - looked))
        page = list(scored(call("ZRANGEBYSCORE", key, least, repr(last[0][1]), "WITHSCORES", *words)))
        if not page:
            return
        gone = yield Page([in_order(key, *each) for each in page])
        looked += len(page)
        score = page[-1][1]
        here = sum(each == score for _, each in page) - sum(each.due == score / 1000 for each in gone)
        passed = max(0, here) + (passed if least == repr(score) else 0)
        least = repr(score)
