"""What one keeps of a task that has been enqueued."""

import asyncio
import math
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import msgpack

from .clock import monotonic, now
from .errors import ConfigurationError, NoResult, NotDone, UnknownTask
from .keys import Keys
from .options import ENDED_FOR as ENDED_FOR  # noqa: PLC0414  # for those who import it from here
from .results import ASKED, CANCELLED, HARD, State, value_of, without_result

R_co = TypeVar("R_co", covariant=True)
_SLICE = 3.0  # seconds of waiting in one command


class Status(NamedTuple):
    """A tracked task at one moment. Times are seconds since 1970."""

    state: State
    enqueued: float | None
    due: float | None  # when it may begin
    started: float | None  # when its last attempt began
    worker: str  # host:pid of that
    attempt: int | None  # the number of that, counted from 1
    error: str  # what the last attempt that failed said
    waits: str  # why a task whose turn it was does not run yet
    done: float | None  # what the task has reported: see `current_task().progress`
    total: float | None
    note: str


class _Queue(Protocol):
    name: str
    keys: Keys
    reply_timeout: float  # seconds after which its client gives a reply up
    faked: bool  # nothing works on it but what a test drains

    def call(self, *command: Any) -> Any: ...

    def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None: ...


class _AsyncQueue(Protocol):
    name: str
    keys: Keys
    reply_timeout: float
    faked: bool

    async def call(self, *command: Any) -> Any: ...

    async def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None: ...


class Handle(Generic[R_co]):
    """A task that has been enqueued. `Handle[int]` is one whose result is an int, so far as its function says so; nothing is
    known of a task that was named by its path, or that one has kept the id of.

    Args:
        queue: where.
        id: its id; None for a task that is not tracked, of which nothing is known.
    """

    __slots__ = ("_queue", "id")

    def __init__(self: "Handle[Any]", queue: _Queue, id: str | None) -> None:  # noqa: A002  # its name everywhere
        self._queue = queue
        self.id = id

    def __repr__(self) -> str:
        return f"Handle({self._queue.name!r}, {self.id!r})"

    def status(self) -> Status:
        """Where the task is.

        Raises:
            UnknownTask, NoResult: nothing is known.
        """
        return _status(self._queue.call("HGETALL", self._queue.keys.task(_known(self.id))), self._queue.name, self.id)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the task's end, and return what it has returned.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            TaskFailed, TaskExpired, TaskCancelled: it did not succeed.
            NotDone: it has not ended in time; of a faked queue (`delayed.testing`): nothing has run it yet.
            UnknownTask, NoResult: there is nothing to wait for.
        """
        wait = _Wait(self._queue, _known(self.id), timeout)
        while True:
            data = self._queue.call(*wait.command())
            if data is not None:
                return cast(R_co, value_of(data, f"task {self.id} of {self._queue.name!r}"))
            wait.check(*self._queue.call("HMGET", wait.task, "state", "error"))

    async def aresult(self, timeout: float | None = None) -> R_co:  # the field's name for it
        """As `result`, for asyncio: it waits in another thread."""
        return await asyncio.to_thread(self.result, timeout)

    async def astatus(self) -> Status:
        """As `status`, for asyncio, likewise."""
        return await asyncio.to_thread(self.status)

    async def acancel(self, *, hard: bool = False) -> State:
        """As `cancel`, for asyncio, likewise."""
        return await asyncio.to_thread(partial(self.cancel, hard=hard))

    def cancel(self, *, hard: bool = False) -> State:
        """Cancel the task: one that has not begun will not; one that runs is told (`current_task().cancelled`).

        Args:
            hard: and if it runs on for a beat of its worker and a second, its process ends with it. What else runs there goes
                back to its queue.

        Returns:
            In which state it was.

        Raises:
            UnknownTask, NoResult: nothing is known.
        """
        state = self._queue.cancel(_known(self.id), CANCELLED, round(ENDED_FOR * 1000), HARD if hard else ASKED)
        return _state(state, self._queue.name, self.id)


class AsyncHandle(Generic[R_co]):
    """As `Handle`, for tasks of an `AsyncQueue`."""

    __slots__ = ("_queue", "id")

    def __init__(self: "AsyncHandle[Any]", queue: _AsyncQueue, id: str | None) -> None:  # noqa: A002  # its name everywhere
        self._queue = queue
        self.id = id

    def __repr__(self) -> str:
        return f"AsyncHandle({self._queue.name!r}, {self.id!r})"

    async def astatus(self) -> Status:
        """As `Handle.status`."""
        return _status(await self._queue.call("HGETALL", self._queue.keys.task(_known(self.id))), self._queue.name, self.id)

    async def aresult(self, timeout: float | None = None) -> R_co:  # the field's name for it
        """As `Handle.result`."""
        wait = _Wait(self._queue, _known(self.id), timeout)
        while True:
            data = await self._queue.call(*wait.command())
            if data is not None:
                return cast(R_co, value_of(data, f"task {self.id} of {self._queue.name!r}"))
            wait.check(*await self._queue.call("HMGET", wait.task, "state", "error"))

    async def acancel(self, *, hard: bool = False) -> State:
        """As `Handle.cancel`."""
        state = await self._queue.cancel(_known(self.id), CANCELLED, round(ENDED_FOR * 1000), HARD if hard else ASKED)
        return _state(state, self._queue.name, self.id)


class _Wait:
    """The wait for one result."""

    def __init__(self, queue: _Queue | _AsyncQueue, identity: str, timeout: float | None) -> None:
        self.task = queue.keys.task(identity)
        self._key = queue.keys.result(identity)
        self._faked = queue.faked
        self._slice = 0.0 if queue.faked else min(_SLICE, queue.reply_timeout / 2)
        self._name, self._identity, self._timeout = queue.name, identity, timeout
        if timeout is not None and (not isinstance(timeout, int | float) or math.isnan(timeout)):
            raise ConfigurationError(
                f"timeout is a number of seconds to wait, or None for as long as it takes, not {timeout!r}"
            )
        self._deadline = math.inf if timeout is None else monotonic() + timeout
        self._over = False  # it has ended: its result is there, or never will be

    def command(self) -> tuple[Any, ...]:
        """Those who wait turn the list of one element, so that each of them sees it, and nobody takes it away."""
        left = 0.0 if self._over else min(self._slice, self._deadline - monotonic())
        return ("BLMOVE", self._key, self._key, "LEFT", "LEFT", left) if left > 0.001 else ("LINDEX", self._key, 0)

    def check(self, state: bytes | None, error: bytes | None) -> None:
        """There is no result yet: is there a task, may it give one, and is there time?"""
        if state is None:
            raise _unknown(self._name, self._identity)
        ended = without_result(state, error or b"", f"task {self._identity} of {self._name!r}")
        if ended is not None and self._over:
            raise ended
        self._over = ended is not None  # look once more: both are stored at once, and we have asked for one after the other
        if self._over:
            return
        if self._faked:
            raise NotDone("nothing works on a faked queue by itself: call drain(queue) first (after travel, if it is not due)")
        if monotonic() >= self._deadline:
            raise NotDone(f"task {self._identity} of {self._name!r} has not ended within {self._timeout:g} s; it may still")


def _known(identity: str | None) -> str:
    if identity is None:
        raise NoResult("nothing is kept of this task: give it result_ttl, or track=True, where it is defined or enqueued")
    return identity


def _unknown(queue: str, identity: str | None) -> UnknownTask:
    return UnknownTask(
        f"no task {identity} is known in {queue!r}: what was kept of it has run out (see result_ttl), or it is elsewhere"
    )


def _state(state: str | None, queue: str, identity: str | None) -> State:
    if state is None:
        raise _unknown(queue, identity)
    return State(state)


def _status(found: Any, queue: str, identity: str | None) -> Status:
    if not found:
        raise _unknown(queue, identity)
    fields: dict[bytes, bytes] = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found

    def moment(name: bytes) -> float | None:
        return int(fields[name]) / 1000 if fields.get(name) else None

    state, due = State(fields[b"state"].decode()), moment(b"due")
    if state is State.SCHEDULED and due is not None and due <= now():
        state = State.QUEUED
    done, total, note = msgpack.unpackb(fields[b"progress"]) if b"progress" in fields else (None, None, "")
    return Status(
        state=state,
        enqueued=moment(b"enqueued"),
        due=due or None,
        started=moment(b"started"),
        worker=fields.get(b"worker", b"").decode(errors="replace"),
        attempt=int(fields[b"attempt"]) if b"attempt" in fields else None,
        error=fields.get(b"error", b"").decode(errors="replace"),
        waits=fields.get(b"waits", b"").decode(errors="replace"),
        done=done,
        total=total,
        note=note,
    )
