"""A producer: `python -m chaos.producer stormy|steady FIRST SEED DEPTH QUEUE [GO_QUEUE]` enqueues tasks from number FIRST on
until SIGTERM.

It notes what it is about to send and what has certainly been enqueued. About DEPTH tasks wait. If it is stormy, some tasks
take a while, some ask for more than a call, and now and then it waits until there are none; else all are short and plain.
"""

import os
import random
import signal
import sys
import time
from types import FrameType
from typing import Any

from delayed.backoff import Constant
from delayed.queue import Queue
from delayed.task import GoTask, PyTask, Task

from .notes import SENDING, SENT, note

_MOST = 100  # tasks in one call …
_CHUNK = 1000  # … and when it is not stormy
_REST = 0.02  # share of the calls after which it waits until all is done: idle workers wait in other places
_GO_TASK = "main.Execute"  # of interop/cmd/delayed-worker


def duration(rng: random.Random) -> int:
    """Microseconds: mostly none, some milliseconds, rarely a second."""
    kind = rng.random()
    return rng.randint(1000, 50_000) if kind < 0.02 else 1_000_000 if kind < 0.0203 else 0


def wish(number: int, rng: random.Random) -> dict[str, Any]:
    """What a task asks for: mostly nothing; or to begin later, to keep its result, to be retried, or not to run beside another
    with its key."""
    kind = rng.random()
    if kind < 0.01:
        return {"after": rng.uniform(0.05, 1.0)}
    if kind < 0.02:
        return {"result_ttl": 5}
    if kind < 0.03:
        return {"retry": 100, "backoff": Constant(0.2), "result_ttl": 5}
    if kind < 0.04:
        return {"unique": f"key {number % 50}", "unique_mode": "while_running", "unique_for": 60, "result_ttl": 5}
    return {}


class Producer:
    """Enqueues until it is stopped."""

    def __init__(self, stormy: bool, first: int, seed: int, depth: int, names: list[str]) -> None:
        self._stormy = stormy
        self._next = first
        self._rng = random.Random(seed)
        self._depth = depth
        self._queues = [Queue(name, os.environ["DELAYED_REDIS_URL"]) for name in names]
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until SIGTERM."""
        while not self._stopped:
            go = len(self._queues) > 1 and self._rng.random() < 0.25
            queue = self._queues[go]
            limit = 1 if self._stormy and self._rng.random() < _REST else self._depth
            while queue.len() >= limit and not self._stopped:
                time.sleep(0.005)
            self._enqueue(queue, go)

    def _enqueue(self, queue: Queue, go: bool) -> None:
        count = self._rng.choice((1, self._rng.randint(1, _MOST))) if self._stormy else _CHUNK
        numbers = range(self._next, self._next + count)
        self._next += count
        tasks = [self._task(number, go) for number in numbers]
        note(SENDING, *numbers)
        if count == 1:
            queue.enqueue(tasks[0])
        else:
            queue.enqueue_many(tasks)
        note(SENT, *numbers)

    def _task(self, number: int, go: bool) -> Task:
        arguments = (number, duration(self._rng) if self._stormy else 0)
        asks = wish(number, self._rng) if self._stormy else {}
        if go:
            return GoTask(_GO_TASK, arguments, **({"after": asks["after"]} if "after" in asks else {}))
        return PyTask("chaos.tasks:execute_again" if "retry" in asks else "chaos.tasks:execute", arguments, **asks)


if __name__ == "__main__":
    _first, _seed, _depth = (int(word) for word in sys.argv[2:5])
    Producer(sys.argv[1] == "stormy", _first, _seed, _depth, sys.argv[5:]).run()
