"""Handles of tasks whose queue is on a server."""

import asyncio
import math
from typing import Any, Protocol, TypeVar, cast

from ..base.clock import monotonic
from ..queue.handle import AsyncHandle, Handle, _Wait
from ..queue.status import Status, known
from ..queue.timeline import Happening
from ..queue.waits import NotYet
from ..redis.command import RedisError, is_outage
from ..redis.keys import Keys
from ..task.result import State
from .asks import Answer, Ask
from .requests import Request, Requests, outcome_in

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class _Queue(Protocol):
    name: str
    keys: Keys
    requests: Requests

    def ask(self, ask: Ask) -> Answer: ...

    def done(self, request: Request[T]) -> T: ...


class _AsyncQueue(Protocol):
    name: str
    keys: Keys
    requests: Requests

    async def ask(self, ask: Ask) -> Answer: ...

    async def done(self, request: Request[T]) -> T: ...


class RemoteHandle(Handle[R_co]):
    """As `Handle`."""

    __slots__ = ()

    @property
    def _place(self) -> _Queue:
        return cast(_Queue, self._queue)

    def status(self) -> Status:
        """As `Handle.status`."""
        return self._place.done(self._place.requests.status(known(self.id, self.tracked)))

    def timeline(self) -> list[Happening]:
        """As `Handle.timeline`."""
        return self._place.done(self._place.requests.timeline(known(self.id, self.tracked)))

    def result(self, timeout: float | None = None) -> R_co:
        """As `Handle.result`. While the server is away, it goes on for as long as there is time."""
        place, identity = self._place, known(self.id, self.tracked)
        wait = _RemoteWait(_Wait(self._queue, identity, timeout, self._path, self.convert), timeout)
        while True:
            ask = place.requests.result(identity, wait.seconds)
            try:
                found = wait.over(place.ask(ask), ask)
            except RedisError as error:
                wait.failed(error)
            else:
                if found is not _ON:
                    return cast(R_co, found)

    async def aresult(self, timeout: float | None = None) -> R_co:
        """As `result`, for asyncio: in another thread. For many at once there is `App.async_queue`."""
        return await asyncio.to_thread(self.result, timeout)

    def cancel(self, *, hard: bool = False) -> State:
        """As `Handle.cancel`."""
        return self._place.done(self._place.requests.cancel(known(self.id), hard))


class AsyncRemoteHandle(AsyncHandle[R_co]):
    """As `RemoteHandle`, for asyncio."""

    __slots__ = ()

    @property
    def _place(self) -> _AsyncQueue:
        return cast(_AsyncQueue, self._queue)

    async def astatus(self) -> Status:
        """As `Handle.status`."""
        return await self._place.done(self._place.requests.status(known(self.id, self.tracked)))

    async def aresult(self, timeout: float | None = None) -> R_co:
        """As `Handle.result`. Each of those that wait at once has a connection."""
        place, identity = self._place, known(self.id, self.tracked)
        wait = _RemoteWait(_Wait(self._queue, identity, timeout, self._path, self.convert), timeout)
        while True:
            ask = place.requests.result(identity, wait.seconds)
            try:
                found = wait.over(await place.ask(ask), ask)
            except RedisError as error:
                wait.failed(error)
            else:
                if found is not _ON:
                    return cast(R_co, found)

    async def acancel(self, *, hard: bool = False) -> State:
        """As `Handle.cancel`."""
        return await self._place.done(self._place.requests.cancel(known(self.id), hard))


_ON = object()  # it has not ended, and there is time


class _RemoteWait:
    """The wait for one result, in requests one after the other."""

    def __init__(self, wait: _Wait, timeout: float | None) -> None:
        self._wait = wait
        self._deadline = None if timeout is None else monotonic() + timeout

    @property
    def seconds(self) -> float:
        """How long the next request shall wait."""
        return math.inf if self._deadline is None else max(0.0, self._deadline - monotonic())

    def over(self, answer: Answer, ask: Ask) -> Any:
        """What the task has returned, or `_ON`; raises as `Handle.result`."""
        outcome = outcome_in(answer, ask)
        if outcome is not NotYet:
            return self._wait.value(outcome)
        if self.seconds <= 0:
            self._wait.late(None)
        return _ON

    def failed(self, error: RedisError) -> None:
        """The server or its Redis is away: that makes the wait longer."""
        if not is_outage(error):
            raise error
        if self.seconds <= 0:
            self._wait.late(error)
