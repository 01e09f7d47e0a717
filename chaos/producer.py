"""A producer: `python -m chaos.producer stormy|steady TROUBLES FIRST SEED DEPTH QUEUE [GO_QUEUE]` enqueues tasks from number
FIRST on until SIGTERM.

It notes what it is about to send and what has certainly been enqueued. About DEPTH tasks wait. If it is stormy, some tasks
take a while, some ask for more than a call, some are cancelled, and now and then it waits until there are none; else all are
short and plain. TROUBLES are names of chaos.options, with commas. While Redis has no memory left, it tries again and again.
"""

import os
import random
import signal
import sys
import time
from types import FrameType
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError, RedisError

from delayed.errors import DelayedError, TaskCancelled, UnknownTask
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.task.codec import dumps
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask, Task

from .notes import CANCELLED, CANCELLING, IDENTIFIED, LIMITED, REFUSED, SENDING, SENT, UNTOLD, note
from .odd import HEADERS
from .options import ODD, STALE
from .wishes import duration, identity_of, oddity, wish

_MOST = 100  # tasks in one call …
_CHUNK = 1000  # … and when it is not stormy
_DOOMED = 0.05  # share of the calls beside which a task is enqueued that will be cancelled
_REST = 0.02  # share of the calls after which it waits until all is done: idle workers wait in other places
_FULL = 0.05  # seconds until the next attempt if Redis has no memory left
_GO_TASK, _NEW_GO_TASK = (
    "main.Execute",
    "main.ExecuteNew",
)  # of interop/cmd/delayed-worker; one that knows half has only the first
_NEW = 0.01  # share of the second


class _Doomed(NamedTuple):
    """A task that will be cancelled, perhaps too late."""

    when: float  # monotonic time
    number: int
    handle: Handle[Any]


class Producer:
    """Enqueues until it is stopped."""

    def __init__(self, stormy: bool, troubles: set[str], *, first: int, seed: int, depth: int, names: list[str]) -> None:
        self._stormy = stormy
        self._odd, self._new = stormy and ODD in troubles, stormy and STALE in troubles
        self._next = first
        self._rng = random.Random(seed)
        self._depth = depth
        self._queues = [Queue(name, os.environ["DELAYED_REDIS_URL"]) for name in names]
        self._stopped = False
        self._doomed: list[_Doomed] = []
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
                self._cancel()
                time.sleep(0.005)
            try:
                self._enqueue(queue, go)
                if self._stormy and self._rng.random() < _DOOMED:
                    self._doom(self._queues[0])
            except OutOfMemoryError:
                time.sleep(_FULL)
            self._cancel()

    def _enqueue(self, queue: Queue, go: bool) -> None:
        count = self._rng.choice((1, self._rng.randint(1, _MOST))) if self._stormy else _CHUNK
        numbers = range(self._next, self._next + count)
        self._next += count
        tasks = [self._task(number, go) for number in numbers]
        note(SENDING, *numbers)
        if count == 1:
            self._enqueue_one(queue, numbers[0], tasks[0])
        else:
            queue.enqueue_many(tasks)
        note(SENT, *numbers)

    @staticmethod
    def _enqueue_one(queue: Queue, number: int, task: Task) -> Handle[Any]:
        """With an id that follows from its number, if it can have one."""
        tracked = task.options is not None and task.options.tracked
        if tracked:
            note(IDENTIFIED, number)
        return queue.enqueue(task, id=identity_of(number) if tracked else None)

    def _task(self, number: int, go: bool) -> Task:
        microseconds = duration(self._rng) if self._stormy else 0
        asks = wish(number, self._rng) if self._stormy else {}
        odd = oddity(self._rng) if self._odd and not go else None
        if odd is not None:
            return self._odd_task(odd, number, microseconds)
        if go:
            path = _NEW_GO_TASK if self._new and self._rng.random() < _NEW else _GO_TASK
            known = {name: value for name, value in asks.items() if name in ("after", "expires")}
            return GoTask(path, (number, microseconds), **known)
        if "concurrency" in asks:
            note(LIMITED, number)
            microseconds = self._rng.randint(10_000, 50_000)  # or they would seldom meet
        function = "execute_again" if "retry" in asks else "execute_in_time" if "expires" in asks else "execute"
        return PyTask(f"chaos.tasks:{function}", (number, microseconds), **asks)

    def _odd_task(self, function: str, number: int, microseconds: int) -> PyTask:
        task = PyTask(f"chaos.tasks:{function}", (number, microseconds), retry=100 if function == "execute_odd" else None)
        if function == "execute":
            task._data = dumps([task.func_path, task.args, {}, 0, self._rng.choice(HEADERS)])
        return task

    def _doom(self, queue: Queue) -> None:
        """Enqueue a task that begins later, to be cancelled: before that, at about that time, or later."""
        number, after = self._next, self._rng.uniform(0.05, 1.0)
        self._next += 1
        note(SENDING, number)
        task = PyTask("chaos.tasks:execute", (number, duration(self._rng)), after=after, result_ttl=5)
        handle = self._enqueue_one(queue, number, task)
        note(SENT, number)
        self._doomed.append(_Doomed(time.monotonic() + after * self._rng.uniform(0, 1.5), number, handle))

    def _cancel(self) -> None:
        """Cancel those whose hour has come, and see that who waits for them is told."""
        present = time.monotonic()
        due = [each for each in self._doomed if each.when <= present]
        self._doomed = [each for each in self._doomed if each.when > present]
        for _, number, handle in due:
            note(CANCELLING, number)
            try:
                state = handle.cancel()
            except UnknownTask:  # it ended a while ago
                continue
            except OutOfMemoryError:
                note(REFUSED, number)
                continue
            if state in (State.QUEUED, State.SCHEDULED):
                note(CANCELLED, number)
                if not _is_told(handle):
                    note(UNTOLD, number)


def _is_told(handle: Handle[Any]) -> bool:
    """Whether the result says that the task has been cancelled."""
    try:
        handle.result(0)
    except TaskCancelled:
        return True
    except RedisError:  # nobody could tell
        return True
    except DelayedError:
        return False
    return False


if __name__ == "__main__":
    _mode, _outages, *_numbers = sys.argv[1:6]
    _first, _seed, _depth = map(int, _numbers)
    Producer(_mode == "stormy", set(_outages.split(",")), first=_first, seed=_seed, depth=_depth, names=sys.argv[6:]).run()
