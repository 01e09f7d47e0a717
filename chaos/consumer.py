"""A consumer that knows no Redis: `python -m chaos.consumer http|text TTL PORTS QUEUE…` takes tasks from the queues by any of
the servers at these ports (with commas), notes that it runs them, and ends them, until SIGTERM.

It notes whose end was confirmed. Some tasks it gives back, some it buries, some end too late on purpose. It goes by its own
clock: what it has held for as long as a lease lives it does not begin, and if it ends that, it notes that it is late. An end
of which no answer came is said again, perhaps to another server.
"""

import random
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import msgpack

from .notes import CONFIRMED, OVERDUE, SPOILED, TURNED_AWAY, note
from .remote import HTTP, Text
from .tasks import TICK, execute, occurrence_of

_WAIT = 1.0  # seconds for the first task, or none
_MOST = 10  # tasks that it takes together
_LATE = 0.003  # share of the tasks that end too late,
_AFTER = 1.5  # by so many seconds
_RELEASED, _BURIED = 0.01, 0.003  # shares of those that go back untouched, or become dead letters
_LONGEST = 30.0  # seconds for which it says an end of which no answer comes


@dataclass
class Task:
    """A task that it holds."""

    queue: str
    token: str
    number: int
    microseconds: int
    fails: bool = False  # this attempt is to fail
    is_tick: bool = False
    since: float = 0.0  # monotonic time before which the lease has not begun to live
    begun: bool = False
    action: str = "succeed"


class Link(Protocol):
    """How it speaks with servers."""

    def take(self, queue: str, most: int, wait: float, ttl: float) -> list[Task]:
        """Up to so many tasks."""

    def extend(self, task: Task, ttl: float) -> bool | None:
        """Let the lease live on. Whether it does; None without an answer."""

    def end(self, tasks: Sequence[Task]) -> list[bool] | None:
        """End leases of one queue by their actions. Which of them did; None without an answer."""


def _called(queue: str, token: str, path: str, args: Any, attempt: int) -> Task:
    """The task of a call of one of the functions in chaos/tasks.py, or of the Go worker's."""
    name = path.rpartition(":")[2]
    if name == "tick":
        return Task(queue, token, occurrence_of(args[0]), TICK, is_tick=True)
    fails = (name == "execute_again" and attempt == 1) or (name == "execute_odd" and random.random() < 0.5)
    number, microseconds = args
    return Task(queue, token, number, microseconds, fails)


def _of_body(queue: str, token: str, body: bytes) -> Task:
    """The task of a body that a producer has sent by the text protocol."""
    number, microseconds = map(int, body.split())
    return Task(queue, token, number, microseconds)


class OverHTTP:
    """By HTTP.

    Args:
        ports: of the servers.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._client = HTTP(ports)

    def take(self, queue: str, most: int, wait: float, ttl: float) -> list[Task]:
        """See `Link`."""
        answer = self._client.post(f"/v1/queues/{queue}/leases", {"max": most, "wait": wait, "ttl": ttl}, wait=wait)
        return [self._task(queue, lease) for lease in answer.body["leases"]] if answer else []

    @staticmethod
    def _task(queue: str, lease: dict[str, Any]) -> Task:
        args = lease["args"]
        if type(args[0]) is dict:
            return _of_body(queue, lease["token"], b64decode(args[0]["$bytes"]))
        return _called(queue, lease["token"], lease["function"], args, lease["attempt"])

    def extend(self, task: Task, ttl: float) -> bool | None:
        """See `Link`."""
        answer = self._client.post(f"/v1/leases/{task.token}/extend", {"ttl": ttl}, expected=(200, 409))
        return None if answer is None else answer.status == 200

    def end(self, tasks: Sequence[Task]) -> list[bool] | None:
        """See `Link`."""
        if len(tasks) == 1:
            (task,) = tasks
            answer = self._client.post(f"/v1/leases/{task.token}/{task.action}", _WORDS[task.action], expected=(200, 409))
            return None if answer is None else [answer.status == 200]
        endings = [{"token": task.token, "action": task.action, **_WORDS[task.action]} for task in tasks]
        answer = self._client.post("/v1/leases", {"endings": endings})
        return None if answer is None else [state is not None for state in answer.body["states"]]


_WORDS: dict[str, dict[str, Any]] = {
    "succeed": {},
    "retry": {"error": "not yet", "kind": "builtins.RuntimeError"},
    "bury": {"detail": "it has failed for good"},
    "release": {},
}


class OverText:
    """By the text protocol.

    Args:
        ports: of the servers.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._client = Text(ports, b"HELLO 1")

    def take(self, queue: str, most: int, wait: float, ttl: float) -> list[Task]:
        """See `Link`."""
        found = self._client.take(queue, most, wait, ttl)
        return [self._task(queue, token.decode(), body) for token, body in found]

    @staticmethod
    def _task(queue: str, token: str, body: bytes) -> Task:
        if body[:1].isdigit():
            return _of_body(queue, token, body)
        path, args, *rest = msgpack.unpackb(body, strict_map_key=False)
        headers = rest[2] if len(rest) > 2 else {}
        return _called(queue, token, path, args, headers.get("attempt", 0) + 1)

    def extend(self, task: Task, ttl: float) -> bool | None:
        """See `Link`."""
        replies = self._client.ask(b"ext %b %b %d" % (task.queue.encode(), task.token.encode(), round(ttl * 1000)))
        return None if replies is None else _is_done(replies[0])

    def end(self, tasks: Sequence[Task]) -> list[bool] | None:
        """See `Link`."""
        replies = self._client.ask(*(_VERBS[task.action] % (task.queue.encode(), task.token.encode()) for task in tasks))
        done = [_is_done(reply) for reply in replies or [b"error"]]
        return None if None in done else [bool(each) for each in done]


_VERBS = {
    "succeed": b"ack %b %b",
    "retry": b"nack %b %b counted=1 not yet",
    "bury": b"bury %b %b it has failed for good",
    "release": b"nack %b %b",
}


def _is_done(reply: bytes) -> bool | None:
    """Whether a reply says so; None if Redis could not be asked."""
    if not reply.startswith(b"error"):
        return True
    return False if reply == b"error taskq: no such task" else None


class Consumer:
    """Takes and ends tasks until it is stopped.

    Args:
        link: to the servers.
        queues: from where.
        ttl: seconds that a lease lives.
    """

    def __init__(self, link: Link, queues: Sequence[str], ttl: float) -> None:
        self._link, self._queues, self._ttl = link, queues, ttl
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until SIGTERM."""
        note(CONFIRMED, 0)  # so that the judge knows this process
        while not self._stopped:
            asked = time.monotonic()
            hand = self._link.take(random.choice(self._queues), random.randint(1, _MOST), random.choice((0, _WAIT)), self._ttl)
            for task in hand:
                task.since = asked
            self._work(hand)

    def _work(self, hand: list[Task]) -> None:
        """Run what was taken, and end it one by one, or all together."""
        together = random.random() < 0.5
        done: list[Task] = []
        for place, task in enumerate(hand):
            self._keep(hand[place:] + done)
            if not self._run(task):
                continue
            if together:
                done.append(task)
            else:
                self._end([task])
        if done:
            self._end(done)

    def _keep(self, tasks: list[Task]) -> None:
        """Let leases live on that have lived for a third of their time."""
        for task in tasks:
            asked = time.monotonic()
            if asked - task.since > self._ttl / 3 and self._link.extend(task, self._ttl):
                task.since = asked

    def _is_overdue(self, task: Task) -> bool:
        """Whether its lease may have run out."""
        return time.monotonic() - task.since >= self._ttl

    def _run(self, task: Task) -> bool:
        """Run a task, or choose what else to do with it. Whether it is to be ended."""
        chosen = random.random()
        if self._is_overdue(task):
            return False
        if task.fails or chosen < _RELEASED:
            task.action = "retry" if task.fails else "release"
        elif chosen < _RELEASED + _BURIED and not task.is_tick:  # such a dead letter would not say its number
            note(SPOILED, task.number)
            task.action = "bury"
        else:
            task.begun = True
            execute(task.number, task.microseconds)
            if random.random() < _LATE:
                time.sleep(self._ttl + _AFTER)
        return True

    def _end(self, tasks: list[Task]) -> None:
        """Say the ends until there is an answer."""
        first, deadline = True, time.monotonic() + _LONGEST
        self._note_overdue(tasks)
        while (ended := self._link.end(tasks)) is None:
            first = False
            self._note_overdue(tasks)
            if time.monotonic() > deadline:
                return
        for task, is_over in zip(tasks, ended, strict=True):
            if is_over and task.begun:
                note(CONFIRMED, task.number)
            elif not is_over and first and not self._is_overdue(task):
                note(TURNED_AWAY, task.number)
        self._note_overdue([task for task, is_over in zip(tasks, ended, strict=True) if not is_over])

    def _note_overdue(self, tasks: list[Task]) -> None:
        if late := [task.number for task in tasks if task.begun and self._is_overdue(task)]:
            note(OVERDUE, *late)


if __name__ == "__main__":
    _how, _ttl, _ports, *_names = sys.argv[1:]
    _numbers = [int(each) for each in _ports.split(",")]
    Consumer(OverHTTP(_numbers) if _how == "http" else OverText(_numbers), _names, float(_ttl)).run()
