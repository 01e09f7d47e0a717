"""Waiting for the results of any number of tasks over one connection: what to send, and what the replies mean.

Who waits reads the state of the task, and Redis (told by CLIENT TRACKING) says when that changes. So a wait takes neither a
connection nor a thread, and nobody polls. Now and then each state is read again, in case a message was lost on the way. Where
Redis does not let us track, that is done more often instead.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import hiredis

from ..base.clock import monotonic
from ..redis.command import ConnectionError, ResponseError, TimeoutError, as_bytes, is_misplaced, pack
from ..task.result import OUTCOME, State

ENDED = frozenset(state.encode() for state in (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED))
LOOK = 3.0  # seconds between two looks at all keys
_POLL = 0.1  # seconds between them if Redis does not say what has changed
_MORE = object()  # what the parser returns while a reply is not complete


class NotYet:
    """What those who wait are told first: the task is known, and has no result yet."""


class Over(NamedTuple):
    """The task has ended, and its result is not there any more."""

    state: bytes
    error: bytes | None


Answer = bytes | Exception | Over | type[NotYet] | None


"""The result as it stands in Redis, or why there will be none; None if no such task is known."""


def answer_in(found: Any) -> Answer:
    """What these fields say, or the error that Redis said instead."""
    if isinstance(found, Exception):
        return found
    state, error, result = found
    if result is not None or state is None:
        answer: Answer = result
        return answer
    return Over(state, error) if state in ENDED else NotYet


class Wait:
    """One who waits.

    Args:
        key: of the task's state.
        tell: is told the answer, once; and before, once, that there is none yet.
    """

    __slots__ = ("key", "seen", "tell")

    def __init__(self, key: str, tell: Callable[[Answer], None]) -> None:
        self.key, self.tell = as_bytes(key), tell
        self.seen = False


class Waits:
    """All who wait over one connection, and then over the next if that breaks.

    Args:
        deadline: seconds that a reply may take.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._waiting: dict[bytes, list[Wait]] = {}
        self._expected: deque[Callable[[Any], None]] = deque()  # who gets the replies that are still to come
        self._heard = 0.0  # monotonic time since which replies are due
        self._next_look = 0.0
        self._between = _POLL
        self._reader: Any = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, wait: Wait) -> bytes:
        """One more waits. Returns what to send."""
        others = self._waiting.setdefault(wait.key, [])
        others.append(wait)
        return self._ask([wait.key]) if self._reader is not None else b""

    def discard(self, wait: Wait) -> None:
        """One waits no more, if it still did."""
        waits = self._waiting.get(wait.key, [])
        if wait in waits:
            waits.remove(wait)
            if not waits:
                del self._waiting[wait.key]

    def opened(self) -> bytes:
        """There is a new connection. Returns what to send."""
        self._reader = hiredis.Reader(protocolError=ConnectionError, replyError=ResponseError, notEnoughData=_MORE)
        self._expected.clear()
        self._between = _POLL
        hello = self._expect(lambda _: None, "HELLO", 3)
        return hello + self._expect(self._tracked, "CLIENT", "TRACKING", "ON") + self._look()

    def resumed(self) -> None:
        """Somebody reads again; what was asked before is due from now on."""
        self._heard = monotonic()

    def closed(self) -> None:
        """There is no connection."""
        self._reader = None

    def received(self, data: bytes) -> bytes:
        """What Redis has sent. Returns what to send now.

        Raises:
            ConnectionError: the connection is broken, or to a server that does not know what we ask for.
        """
        if not data:
            raise ConnectionError("Connection closed by server.")
        self._heard = monotonic()
        self._reader.feed(data)
        changed: set[bytes] = set()
        while (reply := self._reader.gets()) is not _MORE:
            if isinstance(reply, list) and len(reply) != len(OUTCOME):  # a message, which has two elements
                changed.update(self._waiting if len(reply) < 2 or reply[1] is None else reply[1])
            else:
                self._expected.popleft()(reply)
        return self._ask(changed.intersection(self._waiting))

    def pause(self) -> float:
        """Seconds until `look` is to be called."""
        due = self._heard + self._deadline if self._expected else self._next_look
        return max(0.0, due - monotonic())

    def look(self) -> bytes:
        """Time has passed. Returns what to send.

        Raises:
            TimeoutError: Redis does not answer.
        """
        if self.pause() > 0:
            return b""
        if self._expected:
            raise TimeoutError(f"Redis has not answered for {self._deadline:g} s")
        return self._look()

    def fail(self, error: Exception) -> None:
        """Nobody waits any more: that is the answer for all."""
        for key in list(self._waiting):
            self._answer(key, error)

    def _look(self) -> bytes:
        self._next_look = monotonic() + self._between
        return self._ask(self._waiting)

    def _ask(self, keys: Iterable[bytes]) -> bytes:
        return b"".join(self._expect(partial(self._found, key), "HMGET", key, *OUTCOME) for key in keys)

    def _expect(self, tell: Callable[[Any], None], *command: Any) -> bytes:
        if not self._expected:
            self._heard = monotonic()
        self._expected.append(tell)
        return pack(*command)

    def _tracked(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._between = LOOK
            self._next_look = monotonic() + LOOK

    def _found(self, key: bytes, reply: Any) -> None:
        if isinstance(reply, ResponseError) and is_misplaced(reply):
            raise ConnectionError(str(reply))
        answer = answer_in(reply)
        if answer is not NotYet:
            self._answer(key, answer)
        for wait in self._waiting.get(key, ()):
            if not wait.seen:
                wait.seen = True
                wait.tell(NotYet)

    def _answer(self, key: bytes, answer: Answer) -> None:
        for wait in self._waiting.pop(key, ()):
            wait.tell(answer)
