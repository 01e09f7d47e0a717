"""Waiting for the results of any number of tasks over one connection: what to send, and what the replies mean.

Who waits reads the state of the task, and Redis (told by CLIENT TRACKING) says when that changes. So a wait takes neither a
connection nor a thread, and nobody polls. Now and then each state is read again, in case a message was lost on the way. Where
Redis does not let us track, that is done more often instead.

Of a node of a workflow that has no state yet, or whose state does not say what it has returned, its workflow is asked, and
again when marks of that change: a node that is skipped never has a state.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

import hiredis

from ..base.clock import monotonic
from ..redis.command import as_bytes, is_misplaced, pack, redis_errors
from ..task.result import OUTCOME, State, success

ENDED = frozenset(state.encode() for state in (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED))
LOOK = 3.0  # seconds between two looks at all keys
_POLL = 0.1  # seconds between them if Redis does not say what has changed
_EACH = 0.0002  # seconds for each node between two questions to workflows: marks may change very often
_SUCCEEDED, _BARE = State.SUCCEEDED.encode(), success(None, kept=False)
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


class Node(Protocol):
    """What a workflow knows of a node: see `node`."""

    @property
    def marks(self) -> str:
        """The key of the marks."""

    @property
    def questions(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The two commands that ask."""

    def answer(self, own: Answer, mark: bytes, fields: list[bytes | None]) -> Answer:
        """What the replies say."""


def undecided(answer: Answer) -> bool:
    """Whether a workflow may know more than what the state of a task says: it has none, or not what was returned."""
    return answer is None or answer == _BARE or (isinstance(answer, Over) and answer.state == _SUCCEEDED)


class Wait:
    """One who waits.

    Args:
        key: of the task's state.
        tell: is told the answer, once; and before, once, that there is none yet.
        node: which the task may be; None if it can be none.
    """

    __slots__ = ("key", "node", "seen", "tell")

    def __init__(self, key: str, tell: Callable[[Answer], None], node: Node | None = None) -> None:
        self.key, self.tell, self.node = as_bytes(key), tell, node
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
        self._more: list[bytes] = []  # that is asked because of what has been answered
        self._marked: dict[bytes, set[bytes]] = {}  # keys of marks → those of the tasks for which their workflow was asked
        self._later: set[bytes] = set()  # keys of tasks about which is asked again,
        self._later_at = 0.0  # and when

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
        self._reader = hiredis.Reader(
            protocolError=redis_errors.ConnectionError, replyError=redis_errors.ResponseError, notEnoughData=_MORE
        )
        self._expected.clear()
        self._marked.clear()
        self._later.clear()
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
            raise redis_errors.ConnectionError("Connection closed by server.")
        self._heard = monotonic()
        self._reader.feed(data)
        changed: set[bytes] = set()
        while (reply := self._reader.gets()) is not _MORE:
            if isinstance(reply, list) and len(reply) != len(OUTCOME):  # a message, which has two elements
                changed.update(self._waiting if len(reply) < 2 or reply[1] is None else reply[1])
            else:
                self._expected.popleft()(reply)
        for marks in changed.intersection(self._marked):
            self._ask_later(self._marked.pop(marks))
        asked, self._more = b"".join(self._more), []
        return asked + self._ask(changed.intersection(self._waiting))

    def _ask_later(self, keys: set[bytes]) -> None:
        if not self._later:
            self._later_at = monotonic() + _EACH * len(keys)
        self._later |= keys

    def pause(self) -> float:
        """Seconds until `look` is to be called."""
        due = self._heard + self._deadline if self._expected else self._next_look
        return max(0.0, min(due, self._later_at if self._later else due) - monotonic())

    def look(self) -> bytes:
        """Time has passed. Returns what to send.

        Raises:
            TimeoutError: Redis does not answer.
        """
        if self.pause() > 0:
            return b""
        if self._later and monotonic() >= self._later_at:
            keys, self._later = self._later, set()
            return self._ask(keys.intersection(self._waiting))
        if self._expected:
            raise redis_errors.TimeoutError(f"Redis has not answered for {self._deadline:g} s")
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
        if isinstance(reply, redis_errors.ResponseError) and is_misplaced(reply):
            raise redis_errors.ConnectionError(str(reply))
        answer = answer_in(reply)
        node = next((wait.node for wait in self._waiting.get(key, ()) if wait.node is not None), None)
        if node is not None and undecided(answer):
            replies: list[Any] = []
            first, second = node.questions
            self._marked.setdefault(as_bytes(node.marks), set()).add(key)
            self._more += [
                self._expect(replies.append, *first),
                self._expect(partial(self._found_node, key, node, answer, replies), *second),
            ]
            return
        self._told(key, answer)

    def _found_node(self, key: bytes, node: Node, own: Answer, replies: list[Any], reply: Any) -> None:
        (mark,) = replies
        wrong = isinstance(mark, Exception) or isinstance(reply, Exception)  # another program's keys are no workflow
        self._told(key, own if wrong else node.answer(own, mark, reply))

    def _told(self, key: bytes, answer: Answer) -> None:
        if answer is not NotYet:
            self._answer(key, answer)
        for wait in self._waiting.get(key, ()):
            if not wait.seen:
                wait.seen = True
                wait.tell(NotYet)

    def _answer(self, key: bytes, answer: Answer) -> None:
        for wait in self._waiting.pop(key, ()):
            wait.tell(answer)
