"""The schedules of the storm. Sweepers run them, and are killed and stopped meanwhile; each occurrence must be enqueued once.

Sixty schedules, one for each fifth second of five minutes, are on the queue of the workers: each of their occurrences is a
task with a number of its own, which is judged as all tasks are. A few others fire every second, on a queue that nobody takes
from: there, tasks and seconds can be counted.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.queue.queue import Queue
from delayed.task.decode import show
from delayed.task.task import PyTask

from .member import eventually
from .tasks import EVERY, PERIOD

COUNTED = 5  # schedules on the queue that nobody takes from
_PATIENCE = 180  # seconds in which sweepers catch up, over slow links


class Occurrences(NamedTuple):
    """Those of one schedule, in milliseconds since 1970."""

    first: int
    end: int  # the first one that it did not come to
    every: int

    @property
    def all(self) -> range:
        """Each of them."""
        return range(self.first, self.end, self.every)


class Ticks:
    """The schedules, from their registration to their removal.

    Args:
        served: the queue of the workers.
        counted: the one that nobody takes from.
    """

    def __init__(self, served: Queue, counted: Queue) -> None:
        self._counted = counted
        self._entries: dict[tuple[Queue, str], Entry] = {}
        for second in range(0, PERIOD, EVERY):
            self._entries[served, f"at {second}"] = _entry(expression(second), second)
        for number in range(COUNTED):
            self._entries[counted, f"counted {number}"] = _entry("* * * * * *", number)
        self._firsts: dict[tuple[Queue, str], int] = {}

    def begin(self) -> None:
        """Register them, before any sweeper runs."""
        for (queue, name), entry in self._entries.items():
            Schedules(queue).put(name, entry)
            self._firsts[queue, name] = _due(queue, name)

    def end(self) -> tuple[list[int], list[str]]:
        """Remove them while sweepers run them.

        Returns:
            The numbers of the tasks that they have enqueued for the workers, and what is wrong.
        """
        faults = []
        moments = {queue: Schedules(queue).now() for queue, _ in self._entries}
        if not eventually(lambda: all(_due(*each) > moments[each[0]] for each in self._entries), _PATIENCE):
            faults.append(f"schedules were not run for {_PATIENCE} s")
        numbers: list[int] = []
        expected: Counter[bytes] = Counter()
        for (queue, name), entry in self._entries.items():
            every = 1000 if queue is self._counted else 1000 * PERIOD
            occurrences = Occurrences(self._firsts[queue, name], _remove(queue, name), every)
            if queue is self._counted:
                expected[entry.task] = len(occurrences.all)
            else:
                numbers += [moment // 1000 for moment in occurrences.all]
        found = Counter(self._counted.store.call("LRANGE", self._counted.keys.queue, 0, -1))
        self._counted.store.call("DEL", self._counted.keys.queue, self._counted.keys.noti)
        return numbers, [*faults, *differences(expected, found)]


def differences(expected: Counter[bytes], found: Counter[bytes]) -> Iterator[str]:
    """Which schedules did not enqueue their task once for each occurrence."""
    for task in sorted(expected.keys() | found.keys()):
        if expected[task] != found[task]:
            yield f"MISCOUNTED: {show(task)} was due {expected[task]} times, and enqueued {found[task]} times"


def expression(second: int) -> str:
    """When it is this second of each period."""
    return f"{second % 60} {second // 60}-59/{PERIOD // 60} * * * *"


def _entry(when: str, number: int) -> Entry:
    return Entry(Cron(when, "UTC", "all"), PyTask("chaos.tasks:tick", (number,)).serialize())


def _due(queue: Queue, name: str) -> int:
    """Its next occurrence."""
    return int(float(queue.store.call("ZSCORE", queue.keys.cron_due, name)))


def _remove(queue: Queue, name: str) -> int:
    """Remove a schedule. Returns what its next occurrence would have been: there is no task for that, and for all before."""
    while True:
        definition, due = queue.store.call("HGET", queue.keys.cron, name), _due(queue, name)
        if queue.store.cron(name, definition, due, b"", None):
            return due
