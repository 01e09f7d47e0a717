"""A producer that knows no Redis: `python -m chaos.remote_producer FIRST SEED HTTP_PORTS TEXT_PORTS QUEUE TEXT_QUEUE
[GO_QUEUE]` enqueues tasks from number FIRST on until SIGTERM, by any of the servers at these ports (with commas).

A task that goes in by itself has a key (`Idempotency-Key`) or an id: the same request is repeated until it is answered. What
goes in as lines, or by the text protocol, is sent once; without an answer it may be there or not.
"""

import json
import os
import random
import signal
import sys
import time
from types import FrameType
from typing import Any

from delayed.task.task import PyTask

from .notes import IDENTIFIED, LIMITED, NUMBERED, SENDING, SENT, note
from .remote import HTTP, Text
from .wishes import duration, identity_of, limited

_MOST = 100  # tasks that go in together
_DEPTH = 300  # tasks that wait in the queue from which only consumers take
_PAUSE = 0.02  # seconds between two calls
# Shares of the calls: many as lines; by the text protocol, as TaskQ has it; likewise, whole tasks.
_LINES, _TEXT, _WHOLE = 0.1, 0.3, 0.3
_GO = 0.1  # share of the others that is for Go workers


class Producer:
    """Enqueues until it is stopped."""

    def __init__(self, first: int, seed: int, http: list[int], text: list[int], queues: list[str]) -> None:
        self._next, self._rng = first, random.Random(seed)
        self._python, self._text_queue, *self._go = queues
        self._http = HTTP(http)
        self._taskq, self._whole = Text(text), Text(text, b"HELLO 1 body=task")
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until SIGTERM."""
        while not self._stopped:
            chosen = self._rng.random()
            if chosen < _LINES:
                self._enqueue_lines()
            elif chosen < _LINES + _TEXT:
                self._say(whole=False)
            elif chosen < _LINES + _TEXT + _WHOLE:
                self._say(whole=True)
            else:
                self._enqueue()
            time.sleep(_PAUSE)

    def _numbers(self, most: int = 1) -> range:
        numbers = range(self._next, self._next + self._rng.randint(1, most))
        self._next = numbers.stop
        note(SENDING, *numbers)
        return numbers

    # HTTP

    def _enqueue(self) -> None:
        """One task, until a server says that it is there."""
        (number,) = self._numbers()
        queue = self._go[0] if self._go and self._rng.random() < _GO else self._python
        body = self._task(number) if queue == self._python else _call(number, duration(self._rng), function="main.Execute")
        headers = {}
        if number % 2:
            headers = {"idempotency-key": str(number)}
        else:
            body |= {"id": identity_of(number), "track": True}
            note(IDENTIFIED, number)
        while not self._stopped:
            if self._http.post(f"/v1/queues/{queue}/tasks", body, headers, expected=(200, 201)):
                note(SENT, number)
                return

    def _task(self, number: int) -> dict[str, Any]:
        wanted, rng = self._rng.random(), self._rng
        if wanted < 0.1:
            return _call(number, duration(rng), delay=round(rng.uniform(0.05, 1.0), 3))
        if wanted < 0.2:
            backoff = {"kind": "constant", "base": 0.2}
            return _call(number, duration(rng), function="chaos.tasks:execute_again", retry=100, backoff=backoff)
        if wanted < 0.3:
            expires = round(rng.uniform(0.01, 1.0), 3)
            return _call(number, duration(rng), function="chaos.tasks:execute_in_time", expires=expires)
        if wanted < 0.35:
            return _call(number, duration(rng), group=f"group {number % 7}")
        if wanted < 0.4:
            note(LIMITED, number)
            return _call(number, rng.randint(10_000, 50_000), **limited(number))
        return _call(number, duration(rng))

    def _enqueue_lines(self) -> None:
        """Many tasks as lines, once."""
        numbers = self._numbers(_MOST)
        lines = b"".join(json.dumps(_call(number, duration(self._rng))).encode() + b"\n" for number in numbers)
        kind = {"content-type": "application/x-ndjson"}
        answer = self._http.post(f"/v1/queues/{self._python}/tasks", lines, kind, expected=(201, 503))
        if answer is not None:
            count = answer.body["count"] if answer.status == 201 else answer.body.get("enqueued", 0)
            note(SENT, *numbers[:count])

    # The text protocol

    def _say(self, *, whole: bool) -> None:
        """Many tasks by the text protocol, once: bodies with a number and how long it takes, or whole tasks."""
        client, queue = (self._whole if whole else self._taskq), self._text_queue.encode()
        if not self._has_room():
            return
        numbers = self._numbers(_MOST)
        bodies = [self._body(number, whole=whole) for number in numbers]
        replies = client.ask(*(b"enq %b %d %b" % (queue, len(body), body) for body in bodies))
        for number, reply in zip(numbers, replies or (), strict=False):
            if reply.startswith(b"enqed "):
                note(SENT, number)
                if not whole:
                    note(NUMBERED, int(reply.split()[2]))

    def _body(self, number: int, *, whole: bool) -> bytes:
        microseconds = duration(self._rng)
        if whole:
            return PyTask("chaos.tasks:execute", (number, microseconds)).serialize()
        return b"%d %d" % (number, microseconds)

    def _has_room(self) -> bool:
        replies = self._whole.ask(b"stat %b" % self._text_queue.encode())
        if not replies or not replies[0].startswith(b"stated "):
            return False
        counts = dict(word.split(b"=") for word in replies[0].split()[2:])
        return int(counts[b"waiting"]) < _DEPTH


def _call(number: int, microseconds: int, *, function: str = "chaos.tasks:execute", **options: Any) -> dict[str, Any]:
    return {"function": function, "args": [number, microseconds], **options}


def _ports(text: str) -> list[int]:
    return [int(port) for port in text.split(",")]


if __name__ == "__main__":
    assert os.environ["DELAYED_STORM_NOTES"]
    _first, _seed, _http, _text, *_queues = sys.argv[1:]
    Producer(int(_first), int(_seed), _ports(_http), _ports(_text), _queues).run()
