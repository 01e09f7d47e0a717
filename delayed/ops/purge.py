"""Removes all tasks that wait in a queue."""

from collections.abc import Iterator, Sequence

from ..queue.queue import Queue

_PAGE = 50  # tasks that one step removes at most,
_BUDGET = 1 << 20  # and about so many bytes
_GROUPS = 100  # groups at a time


def purge(queue: Queue) -> int:
    """Remove what waits now: in the schedule, for keys, in groups and in the queue, a few tasks at a time. Tracked tasks are
    cancelled, and their unique keys are free. What runs, and the dead letters, stay.

    Returns:
        How many tasks were removed.
    """
    # In the order in which tasks go from one place to another, so that none escapes.
    count = _emptied(queue, queue.keys.scheduled, "Z")
    count += sum(_emptied(queue, line, "Z") for line in lines(queue))
    count += sum(_emptied(queue, queue.keys.group(group), "L") for group in groups(queue))
    return count + _emptied(queue, queue.keys.queue, "L")


def lines(queue: Queue) -> list[str]:
    """The sets of tasks that wait for keys."""
    fields = (field for page in queue.store.sought() for field in page.items())
    return [found[0] for field in fields if (found := queue.keys.sought(*field)) is not None]


def groups(queue: Queue) -> list[str]:
    """The groups that have waiting tasks."""
    found: list[str] = []
    while page := queue.store.grouped(_GROUPS, len(found)):
        found += page
    return found


def _emptied(queue: Queue, key: str, kind: str) -> int:
    """Remove as many tasks as there are now, from the first: producers may add others meanwhile, for ever."""
    call = queue.store.call
    size, looked, removed = int(call("LLEN" if kind == "L" else "ZCARD", key)), 0, 0
    while looked < size and (page := call(f"{kind}RANGE", key, 0, min(_PAGE, size - looked) - 1)):
        looked += len(page)
        removed += sum(queue.store.remove(key, some) for some in bounded(page))
    return removed


def bounded(page: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """In parts that one command may carry."""
    first, size = 0, 0
    for position, each in enumerate(page):
        if size and size + len(each) > _BUDGET:
            yield page[first:position]
            first, size = position, 0
        size += len(each)
    yield page[first:]
