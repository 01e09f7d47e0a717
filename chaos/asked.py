"""Whether tasks got what they had asked for, beyond an execution. Pure, as the judge is, which asks it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .notes import CANCELLED, EXPIRED, LATE, LIMITED, UNTOLD
from .wishes import AT_ONCE, key_of


class Span(NamedTuple):
    """An execution of a task with a concurrency key, from its begin to its end, or to the death of its process."""

    task: int
    begin: int
    end: int


@dataclass
class Asked:
    """What became of the tasks with options."""

    cancelled: int = 0  # tasks of which `cancel` said that they had not begun
    begun: list[int] = field(default_factory=list)  # those of them that were executed
    untold: list[int] = field(default_factory=list)  # those of them whose result did not say so
    expired: int = 0  # tasks that became dead letters, as they were too late
    late: list[int] = field(default_factory=list)  # those that were executed although they were too late
    limited: int = 0  # tasks with a concurrency key
    most: int = 0  # executions with one key at one time
    crowded: list[int] = field(default_factory=list)  # tasks that began beside as many others as may run at once

    def failures(self) -> list[str]:
        """What must not be."""
        wrong = {
            "BEGUN although cancelled": self.begun,
            "CANCELLED, and the result does not say so": self.untold,
            "TOO LATE, and executed": self.late,
            f"MORE THAN {AT_ONCE} AT ONCE with one concurrency key": self.crowded,
        }
        return [f"{what}: {len(tasks)} tasks, such as {tasks[:5]}" for what, tasks in wrong.items() if tasks]

    def numbers(self) -> list[tuple[str, str]]:
        """What there was, and what was found."""
        return [
            ("tasks cancelled before they began", f"{self.cancelled:,}"),
            ("… executed all the same, or not said to be cancelled", f"{len(self.begun) + len(self.untold)}"),
            ("tasks that expired", f"{self.expired:,}"),
            ("… executed although they were too late", f"{len(self.late)}"),
            (f"tasks of which {AT_ONCE} may run at once", f"{self.limited:,}"),
            (f"… begun beside {AT_ONCE} others", f"{len(self.crowded)}"),
        ]


def grant(marks: dict[int, set[int]], executed: Iterable[int], spans: Iterable[Span]) -> Asked:
    """Whether all was granted, by the notes.

    Args:
        marks: kind of a note → the tasks that have one.
        executed: all tasks of which an execution has begun.
        spans: the executions of tasks with a concurrency key whose leases lived.
    """
    found = Asked(
        cancelled=len(marks[CANCELLED]),
        begun=sorted(marks[CANCELLED].intersection(executed)),
        untold=sorted(marks[UNTOLD]),
        expired=len(marks[EXPIRED]),
        late=sorted(marks[LATE]),
        limited=len(marks[LIMITED]),
    )
    by_key: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_key[key_of(span.task)].append(span)
    for each in by_key.values():
        _count(found, each)
    return found


def _count(found: Asked, spans: list[Span]) -> None:
    """How many run at once, at each begin; what ends at the same moment has ended before."""
    moments = sorted([(span.end, 0, span.task) for span in spans] + [(span.begin, 1, span.task) for span in spans])
    running = 0
    for _, begins, task in moments:
        running += 1 if begins else -1
        found.most = max(found.most, running)
        if begins and running > AT_ONCE:
            found.crowded.append(task)
