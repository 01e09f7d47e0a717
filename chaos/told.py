"""What the histories and the statistics of the queues tell, against what the storm has seen. Pure, but for `read`.

A history tells no end that nobody has noted, and no task runs again of which it tells no loss. What has ended in a process
that then lived on undisturbed must be told, and counted. Of what a killed process had ended just before, a history may say
nothing, or how much that was.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from delayed.ops.statistics import totals
from delayed.queue.history import HistoryEvent, unpacked
from delayed.queue.queue import Queue

from .wishes import identity_of

_PAGE = 1000
_SUCCEEDED, _LOST = "succeeded", ("lost", "buried")
_ENDS = (_SUCCEEDED, "retried", "failed", "buried", "expired", "cancelled", "superseded")


@dataclass
class Told:
    """What they tell."""

    by_number: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of tasks that are known by ids
    outcomes: Counter[str] = field(default_factory=Counter)  # of all
    unwritten: int = 0  # successes of killed workers that are told as a number
    counted: int = 0  # successes, by the statistics

    def add(self, events: Iterable[HistoryEvent]) -> None:
        """Add what a history tells."""
        for each in events:
            self.outcomes[each.outcome] += 1
            if each.outcome == "unwritten":
                self.unwritten += each.attempt or 0
            if each.id.isdigit() and each.id == identity_of(int(each.id)):
                self.by_number[int(each.id)][each.outcome] += 1


def read(queues: Sequence[Queue]) -> Told:
    """All that the histories and the statistics of some queues tell."""
    told = Told()
    for queue in queues:
        told.counted += totals(queue).all.outcomes[_SUCCEEDED]
        first = "-"
        while entries := queue.store.call("XRANGE", queue.keys.history, first, "+", "COUNT", _PAGE):
            for name, (_, batch) in entries:
                told.add(unpacked(name.decode(), batch))
            first = f"({entries[-1][0].decode()}"
    return told


@dataclass
class Compared:
    """What was found."""

    told: Told = field(default_factory=Told)
    ended: int = 0  # executions that have noted their end
    certain: int = 0  # those of workers that lived on
    known: int = 0  # tasks that are known by ids, and were executed
    silent: list[int] = field(default_factory=list)  # those of which a worker that lived on has told no end
    invented: list[int] = field(default_factory=list)  # those of which more ends are told than there were
    unheard: list[int] = field(default_factory=list)  # those that ran again, and no loss is told

    def failures(self) -> list[str]:
        """What must not be."""
        what = {
            "HISTORY without the end": self.silent,
            "HISTORY with an end that was none": self.invented,
            "HISTORY without the loss": self.unheard,
        }
        wrong = [f"{name}: {len(tasks)} tasks, such as {tasks[:5]}" for name, tasks in what.items() if tasks]
        for name, count in (("HISTORY", self.told.outcomes[_SUCCEEDED]), ("STATISTICS", self.told.counted)):
            if not self.certain <= count <= self.ended:
                wrong.append(f"{name}: {count} successes, and not {self.certain} to {self.ended}")
        return wrong

    def numbers(self) -> list[tuple[str, str]]:
        """What there was."""
        told = self.told
        wrong = len(self.silent) + len(self.invented) + len(self.unheard)
        return [
            ("events in the histories of the queues", f"{told.outcomes.total():,}"),
            ("executions that ended; by workers that then lived on", f"{self.ended:,}; {self.certain:,}"),
            ("successes that the histories tell; the statistics count", f"{told.outcomes[_SUCCEEDED]:,}; {told.counted:,}"),
            ("successes of killed workers that supervisors count in the histories", f"{told.unwritten:,}"),
            ("tasks looked up by their ids", f"{self.known:,}"),
            ("… of which the history tells otherwise than they ran", f"{wrong}"),
        ]


def compare(
    told: Told, history: Mapping[int, Sequence[Any]], identified: Iterable[int], lives_on: Callable[[Any], bool]
) -> Compared:
    """Compare.

    Args:
        told: what is told.
        history: tasks → their executions (`judge.Execution`), on the queues of which something is told.
        identified: the tasks that are known by ids.
        lives_on: whether the process of an execution went on after it, undisturbed.
    """
    found = Compared(told)
    certain: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    for number, executions in history.items():
        for each in executions:
            if each.end is not None and not each.letter:
                ended[number] += 1
                certain[number] += lives_on(each)
    found.ended, found.certain = ended.total(), certain.total()
    for number in identified:
        runs, events = sum(not each.letter for each in history.get(number, ())), told.by_number.get(number, Counter[str]())
        found.known += bool(runs)
        if certain[number] and not any(events[name] for name in _ENDS):
            found.silent.append(number)
        if events[_SUCCEEDED] > ended[number]:
            found.invented.append(number)
        if runs > 1 + sum(events[name] for name in _LOST):
            found.unheard.append(number)
    return found
