"""Whether tasks got what they had asked for, beyond an execution. Pure, as the judge is, which asks it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .notes import BURIED, CANCELLED, EXPIRED, LATE, LIMITED, REFUSED, SPOILED, UNTOLD
from .orders import Order
from .wishes import AT_ONCE, key_of


class Span(NamedTuple):
    """An execution, from its begin to its end, or to the death of its process."""

    task: int
    begin: int
    end: int


@dataclass
class Asked:
    """What became of the tasks with options."""

    cancelled: int = 0  # tasks of which `cancel` said that they had not begun
    begun: list[int] = field(default_factory=list)  # those of them that were executed
    untold: list[int] = field(default_factory=list)  # those of them whose result did not say so
    refused: list[int] = field(default_factory=list)  # those that could not be cancelled as Redis had no memory left
    spoiled: int = 0  # tasks that a middleware made fail
    buried: int = 0  # those of them that became dead letters
    expired: int = 0  # tasks that became dead letters, as they were too late
    late: list[int] = field(default_factory=list)  # those that were executed although they were too late
    limited: int = 0  # tasks with a concurrency key
    crowded: list[int] = field(default_factory=list)  # those that began beside as many others as may run at once
    orders: int = 0  # pauses of the queue, and limits to it
    disobedient: list[int] = field(default_factory=list)  # tasks that began against them

    def failures(self) -> list[str]:
        """What must not be."""
        wrong = {
            "BEGUN although cancelled": self.begun,
            "CANCELLED, and the result does not say so": self.untold,
            "NOT CANCELLED, as the memory of Redis was full": self.refused,
            "TOO LATE, and executed": self.late,
            f"MORE THAN {AT_ONCE} AT ONCE with one concurrency key": self.crowded,
            "BEGUN against a pause or a limit of the queue": self.disobedient,
        }
        return [f"{what}: {len(tasks)} tasks, such as {tasks[:5]}" for what, tasks in wrong.items() if tasks]

    def numbers(self) -> list[tuple[str, str]]:
        """What there was, and what was found."""
        return [
            ("tasks cancelled before they began", f"{self.cancelled:,}"),
            ("… executed all the same, or not said to be cancelled", f"{len(self.begun) + len(self.untold)}"),
            ("… refused, as the memory of Redis was full", f"{len(self.refused)}"),
            ("tasks of which a middleware raised; dead letters of these", f"{self.spoiled:,}; {self.buried:,}"),
            ("tasks that expired", f"{self.expired:,}"),
            ("… executed although they were too late", f"{len(self.late)}"),
            (f"tasks of which {AT_ONCE} may run at once", f"{self.limited:,}"),
            (f"… begun beside {AT_ONCE} others", f"{len(self.crowded)}"),
            ("pauses and limits of the queue", f"{self.orders}"),
            ("… against which a task began", f"{len(self.disobedient)}"),
        ]


def grant(
    marks: dict[int, set[int]], executed: Iterable[int], spans: Iterable[Span], under: Mapping[Order, Iterable[Span]]
) -> Asked:
    """Whether all was granted, by the notes.

    Args:
        marks: kind of a note → the tasks that have one.
        executed: all tasks of which an execution has begun.
        spans: the executions of tasks with a concurrency key whose leases lived.
        under: an operator's order → the executions while it was in force, of processes that had heard of it.
    """
    by_key: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_key[key_of(span.task)].append(span)
    return Asked(
        cancelled=len(marks[CANCELLED]),
        begun=sorted(marks[CANCELLED].intersection(executed)),
        untold=sorted(marks[UNTOLD]),
        refused=sorted(marks[REFUSED]),
        spoiled=len(marks[SPOILED]),
        buried=len(marks[BURIED]),
        expired=len(marks[EXPIRED]),
        late=sorted(marks[LATE]),
        limited=len(marks[LIMITED]),
        crowded=[task for each in by_key.values() for task in _beyond(each, AT_ONCE)],
        orders=len(under),
        disobedient=[task for order, each in under.items() for task in _beyond(each, order.most, order.heard)],
    )


def _beyond(spans: Iterable[Span], most: int, since: int = 0) -> list[int]:
    """The tasks that began, from `since` on, beside as many others as may run. What ends at that moment has ended before."""
    begins = [(span.begin, 1, span.task) for span in spans]
    ends = [(span.end, 0, span.task) for span in spans]
    running, found = 0, []
    for moment, begin, task in sorted(begins + ends):
        running += 1 if begin else -1
        if begin and moment >= since and running > most:
            found.append(task)
    return found
