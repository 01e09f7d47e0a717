"""The first tasks of a queue in each state, and its dead letters by cause: by five commands."""

from itertools import islice
from typing import NamedTuple

from ..dead_letters.letter import letter_of
from ..queue.queue import Queue
from ..queue.waiting import in_list, in_order
from ..redis.places import scored
from .causes import Causes, counted_by_cause
from .find import held
from .overview import QueueView
from .reading import asked
from .statistics import Sums, all_in, sums
from .tasks import TaskView, of_waiting


class Glance(NamedTuple):
    """What a queue has, a few of each."""

    next: list[TaskView]  # that are taken next: the first of the queue itself, then one of each group
    running: list[TaskView]
    scheduled: list[TaskView]
    causes: Causes | None  # of dead letters, if it has any
    sums: Sums  # what has become of its tasks since it exists


def glance(queue: Queue, seen: QueueView, count: int, letters: int) -> Glance:
    """Look at a queue.

    Args:
        queue: the queue.
        seen: what is known of it.
        count: how many tasks of each state, at most.
        letters: so many dead letters are looked at.
    """
    name, keys = queue.name, queue.keys
    ((heads, groups, planned, dead, total),) = asked(
        [queue],
        lambda _: [
            ("LRANGE", keys.queue, 0, count - 1), ("LRANGE", keys.groups, 0, count - 1),
            ("ZRANGE", keys.scheduled, 0, count - 1, "WITHSCORES"), ("XREVRANGE", keys.dead, "+", "-", "COUNT", letters),
            ("HGET", keys.stats_total, ""),
        ],
    )  # fmt: skip
    turns = [keys.group(each.decode(errors="surrogateescape")) for each in groups[: count - len(heads)]]
    (first_ones,) = asked([queue], lambda _: [("LINDEX", key, 0) for key in turns])
    waits = [in_list(keys.queue, "queue", data) for data in heads]
    waits += [in_list(key, "group", data) for key, data in zip(turns, first_ones, strict=True) if data is not None]
    later = [in_order(keys.scheduled, *each) for each in scored(planned)]
    return Glance(
        [of_waiting(name, each) for each in waits],
        list(islice(held([queue], count), count)) if seen.running else [],
        [of_waiting(name, each) for each in later],
        counted_by_cause(name, (letter_of(*entry) for entry in dead), seen.dead) if dead else None,
        sums(all_in(total), seen),
    )
