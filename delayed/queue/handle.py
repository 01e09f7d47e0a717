"""The handle of an enqueued task: status, result, cancel, forget."""

import contextlib
import math
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, cast

from ..base.checks import is_number
from ..base.clock import monotonic
from ..base.later import Later
from ..base.running import running
from ..errors import ConfigurationError, DelayedError, InvalidTask, NotDone, ResultError, Unrunnable
from ..logger import logger
from ..redis.command import is_cluster, is_outage, redis_errors, same_slot
from ..redis.keys import Keys
from ..task.options import ENDED_FOR
from ..task.result import ASKED, CANCELLED, HARD, State, value_of, without_result
from . import node as nodes
from .node import Node, asked, asked_async
from .status import FIELDS, Status, known, needs_time, not_waiting, see_that_it_had_ended, state_of, status_of, unknown
from .timeline import TIMELINE, Happening, timeline_of
from .waiting import Place, cancelled
from .waits import Answer, NotYet, Over

if TYPE_CHECKING:
    import asyncio

    from ..redis.command import RedisError
else:
    asyncio = Later("asyncio")

R_co = TypeVar("R_co", covariant=True)
_PATIENCE = 5.0  # seconds for which a status is asked for again while Redis is away
_PAUSE = 0.05  # seconds before it is, at first
_LOOK = 1.0  # seconds that a first look may take, even if there is less time
_REMIND = 5.0  # seconds that a task waits for another of its own queue before the log says so


_Convert = Callable[[Any], Any] | None


class _Waiter(Protocol):
    trouble: Exception | None

    def waiting(
        self, key: str, tell: Callable[[Answer], None], node: Node | None
    ) -> contextlib.AbstractContextManager[None]: ...


class _AsyncStore(Protocol):
    async def call(self, *command: Any) -> Any: ...

    async def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None: ...

    async def erase(self, identity: str) -> str | None: ...

    async def client(self) -> Any: ...


class _Queue(Place, Protocol):
    name: str

    def waiter(self) -> _Waiter: ...


class _AsyncQueue(Protocol):
    name: str
    keys: Keys

    async def waiter(self) -> _Waiter: ...

    @property
    def store(self) -> _AsyncStore: ...

    async def ask_time(self) -> float: ...


class Handle(Generic[R_co]):
    """A task that has been enqueued. `Handle[int]` is one whose result is an int, so far as its function says so; nothing is
    known of a task that was named by its path, or that one has kept the id of.

    Args:
        queue: where.
        id: its id; None for a task that has none.
        known: whether it was there before, so that the enqueue which returned this has added nothing.
        path: the path of its function, if that is known.
        tracked: whether Redis keeps its state, without which there is neither status nor result.

    Attributes:
        convert: makes of what it returned what its function's annotation says; None to take it as it comes.
    """

    __slots__ = ("_path", "_queue", "convert", "id", "known", "tracked")

    def __init__(
        self: "Handle[Any]",
        queue: _Queue,
        id: str | None,  # noqa: A002  # its name everywhere
        known: bool = False,
        path: str = "",
        tracked: bool = True,
    ) -> None:
        self._queue = queue
        self.id = id
        self.known = known
        self._path = path
        self.tracked = tracked and id is not None
        self.convert: Callable[[Any], Any] | None = None

    def __repr__(self) -> str:
        return f"Handle({self._queue.name!r}, {self.id!r})"

    @property
    def queue(self) -> _Queue:
        """Where it was enqueued."""
        return self._queue

    def value_in(self, answer: Answer) -> R_co:
        """What the fields of its state say that it has returned (see `waits.answer_in`); raises as `result`."""
        return cast(R_co, _Wait(self._queue, known(self.id, self.tracked), 0, self._path, self.convert).value(answer))

    def status(self) -> Status:
        """Where the task is. While Redis is away for a moment, it is asked again. Of a node that has not begun, its workflow
        says this, if its home is this queue.

        Raises:
            UnknownTask, NoResult: nothing is known.
            redis.exceptions.RedisError: it has been away for some seconds.
        """
        call, key = self._queue.store.call, self._queue.keys.task(known(self.id, self.tracked))
        again = _Again()
        while True:
            try:
                found = call("HMGET", key, *FIELDS)
                if not any(found) and (node := asked(nodes.status(self._queue.keys, self.id or ""), call)):
                    return node
                return status_of(found, self._queue.name, self.id, self._queue.ask_time() if needs_time(found) else 0.0)
            except redis_errors.RedisError as error:
                threading.Event().wait(again.pause(error))

    def timeline(self) -> list[Happening]:
        """What has happened to the task, as its state tells: the first 16 things and the last 16, if there are more.

        Raises:
            UnknownTask, NoResult: nothing is known.
        """
        key = self._queue.keys.task(known(self.id, self.tracked))
        return timeline_of(self._queue.store.call("HMGET", key, *TIMELINE), self._queue.name, self.id)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the task's end, and return what it has returned. All waits of a client share one connection. A restart of
        Redis meanwhile only makes it longer; without a `timeout` it waits for as long as that takes. A node of a workflow
        whose home is this queue may have to begin yet; what it has returned is known without `result_ttl`.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Raises:
            TaskFailed, TaskExpired, TaskCancelled: it did not succeed.
            NotDone: it has not ended in time.
            UnknownTask, NoResult: there is nothing to wait for.
        """
        wait = _Wait(self._queue, known(self.id, self.tracked), timeout, self._path, self.convert)
        with wait.outage():
            answer = asked(wait.steps, self._queue.store.call)
            if answer is not NotYet or wait.looks_once:
                return cast(R_co, wait.value(answer))
        answers: list[Answer] = []
        answered, looked = threading.Event(), threading.Event()

        def tell(answer: Answer) -> None:
            if answer is not NotYet:
                answers.append(answer)
                answered.set()
            looked.set()

        waiter = self._queue.waiter()
        with waiter.waiting(wait.key, tell, wait.node):
            for seconds in wait.slices():
                if answered.wait(seconds):
                    break
            if not looked.is_set() and waiter.trouble is None:  # there was little time
                looked.wait(_LOOK)
        return cast(R_co, wait.value(answers[0]) if answers else wait.late(waiter.trouble))

    async def aresult(self, timeout: float | None = None) -> R_co:  # the field's name for it
        """As `result`, for asyncio: any number of them wait at once, without a thread for each, and end with their await."""
        wait = _Wait(self._queue, known(self.id, self.tracked), timeout, self._path, self.convert)
        if wait.looks_once:
            return await asyncio.to_thread(self.result, timeout)
        return cast(R_co, await wait.answer(self._queue.waiter()))

    async def astatus(self) -> Status:
        """As `status`, for asyncio: in another thread."""
        return await asyncio.to_thread(self.status)

    async def acancel(self, *, hard: bool = False) -> State:
        """As `cancel`, for asyncio, likewise."""
        return await asyncio.to_thread(partial(self.cancel, hard=hard))

    async def aforget(self) -> None:
        """As `forget`, for asyncio, likewise."""
        await asyncio.to_thread(self.forget)

    def forget(self) -> None:
        """Remove what is kept of a task that has ended, before `result_ttl` is over: its state, and what it has returned. Of a
        cancelled one it stays known that it is, as a worker may still find it in the queue. A dead letter stays, and what a
        node has returned stays with its workflow.

        Raises:
            InvalidTask: it has not ended: cancel it first, or wait.
            UnknownTask, NoResult: nothing is known.
        """
        identity = known(self.id, self.tracked)
        see_that_it_had_ended(self._queue.store.erase(identity), self._queue.name, identity)

    def cancel(self, *, hard: bool = False) -> State:
        """Cancel the task: one that has not begun will not; one that runs is told (`current_task().cancelled`). A task with an
        id that is not tracked is looked for among those that wait, and cannot be told once it runs.

        Args:
            hard: and if it runs on for a beat of its worker and a second, its process ends with it. What else runs there goes
                back to its queue.

        Returns:
            In which state it was.

        Raises:
            UnknownTask, NoResult: nothing is known.
        """
        if self.id is not None and not self.tracked:
            found = cancelled(self._queue, self.id)
            if found is None:
                raise not_waiting(repr(self._queue.name), self.id)
            return found
        store, words = self._queue.store, (CANCELLED, round(ENDED_FOR * 1000), HARD if hard else ASKED)
        identity = known(self.id, self.tracked)
        state = store.cancel(identity, *words)
        if state is None:
            node = asked(nodes.cancel(self._queue.keys, identity, store.reaches), store.call)
            if isinstance(node, State):
                return node
            if node is not None:
                state = store.pooled_at(node).cancel(identity, *words)
        return state_of(state, self._queue.name, self.id)


class AsyncHandle(Generic[R_co]):
    """As `Handle`, for tasks of an `AsyncQueue`."""

    __slots__ = ("_path", "_queue", "convert", "id", "known", "place", "tracked")

    def __init__(
        self: "AsyncHandle[Any]",
        queue: _AsyncQueue,
        id: str | None,  # noqa: A002  # its name everywhere
        known: bool = False,
        path: str = "",
        tracked: bool = True,
    ) -> None:
        self._queue = queue
        self.id = id
        self.known = known
        self._path = path
        self.tracked = tracked and id is not None
        self.convert: Callable[[Any], Any] | None = None
        self.place: _Queue | None = None  # the same queue, for what can only be done in a thread

    def __repr__(self) -> str:
        return f"AsyncHandle({self._queue.name!r}, {self.id!r})"

    async def astatus(self) -> Status:
        """As `Handle.status`."""
        call, key = self._queue.store.call, self._queue.keys.task(known(self.id, self.tracked))
        again = _Again()
        while True:
            try:
                found = await call("HMGET", key, *FIELDS)
                if not any(found) and (node := await asked_async(nodes.status(self._queue.keys, self.id or ""), call)):
                    return node
                time = await self._queue.ask_time() if needs_time(found) else 0.0
                return status_of(found, self._queue.name, self.id, time)
            except redis_errors.RedisError as error:
                await asyncio.sleep(again.pause(error))

    async def aresult(self, timeout: float | None = None) -> R_co:  # the field's name for it
        """As `Handle.result`: any number of them wait at once over one connection, and end with their await."""
        wait = _Wait(self._queue, known(self.id, self.tracked), timeout, self._path, self.convert)
        if not wait.looks_once:
            return cast(R_co, await wait.answer(await self._queue.waiter()))
        return cast(R_co, wait.value(await asked_async(wait.steps, self._queue.store.call)))

    async def acancel(self, *, hard: bool = False) -> State:
        """As `Handle.cancel`; a task that is not tracked is looked for in another thread, if an `App` has enqueued it."""
        if self.place is not None and self.id is not None and not self.tracked:
            return await asyncio.to_thread(Handle(self.place, self.id, tracked=False).cancel)
        state = await self._queue.store.cancel(
            known(self.id, self.tracked), CANCELLED, round(ENDED_FOR * 1000), HARD if hard else ASKED
        )
        if state is None:
            store, clustered = self._queue.store, is_cluster(await self._queue.store.client())
            steps = nodes.cancel(
                self._queue.keys, self.id or "", lambda name: not clustered or same_slot(self._queue.name, name)
            )
            found = await asked_async(steps, store.call)
            if isinstance(found, State):
                return found
            if found is not None:
                raise InvalidTask(f"node {self.id} is a task of {found.queue!r}, in another slot: cancel it there")
        return state_of(state, self._queue.name, self.id)

    async def aforget(self) -> None:
        """As `Handle.forget`."""
        identity = known(self.id, self.tracked)
        see_that_it_had_ended(await self._queue.store.erase(identity), self._queue.name, identity)


class _Again:
    """Whether what Redis could not answer is asked again."""

    def __init__(self) -> None:
        self._deadline = monotonic() + _PATIENCE
        self._pause = _PAUSE

    def pause(self, error: "RedisError") -> float:
        """Seconds to wait before that; raises the `error` if it is not."""
        if not is_outage(error) or monotonic() >= self._deadline:
            raise error
        self._pause = min(2 * self._pause, 0.5)
        return self._pause


class _Wait:
    """The wait for one result."""

    def __init__(
        self, queue: _Queue | _AsyncQueue, identity: str, timeout: float | None, path: str, convert: _Convert
    ) -> None:
        self._convert = convert
        self.key, self.node = queue.keys.task(identity), nodes.node_of(queue.keys, identity)
        self.steps = nodes.outcome(queue.keys, identity)
        self._name, self._identity, self._timeout, self._path = queue.name, identity, timeout, path
        if timeout is not None and (not is_number(timeout) or math.isnan(timeout)):
            raise ConfigurationError(
                f"timeout must be a number of seconds to wait, or None for as long as it takes, not {timeout!r}"
            )
        self._deadline = math.inf if timeout is None else monotonic() + timeout
        self.looks_once = timeout is not None and timeout <= 0

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Around a first look: if Redis is away, there is time to look again."""
        try:
            yield
        except redis_errors.RedisError as error:
            if self.looks_once or not is_outage(error):
                raise

    def slices(self) -> Generator[float | None]:
        """The seconds to wait, in one or two pieces: in between, the log may have to be told."""
        parent = running()
        if parent is not None and not parent.direct and parent.queue.name == self._name:
            yield max(0.0, min(_REMIND, self._deadline - monotonic()))
            if monotonic() < self._deadline:
                logger.warning(
                    "Task %s (id %s) has waited for %g s for %s (id %s), a task of its own queue %s, and holds its place "
                    "meanwhile: if all places wait like this, nothing goes on. Use result(timeout=…), give the other task "
                    "a queue and workers of its own, or run more processes",
                    parent.func_path,
                    parent.id,
                    _REMIND,
                    self._path or "a task",
                    self._identity,
                    self._name,
                )
        left = self._deadline - monotonic()
        yield None if left == math.inf else max(0.0, min(left, threading.TIMEOUT_MAX))

    async def answer(self, waiter: _Waiter) -> Any:
        """The value, once `waiter` knows it."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        looked: asyncio.Future[None] = loop.create_future()

        def settle(answer: Answer) -> None:
            if answer is not NotYet and not answered.done():
                answered.set_result(answer)
            if not looked.done():
                looked.set_result(None)

        def tell(answer: Answer) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(settle, answer)

        with waiter.waiting(self.key, tell, self.node):
            for seconds in self.slices():
                await asyncio.wait([answered], timeout=seconds)
                if answered.done():
                    break
            if not looked.done() and waiter.trouble is None:  # there was little time
                await asyncio.wait([looked], timeout=_LOOK)
        return self.value(answered.result()) if answered.done() else self.late(waiter.trouble)

    def value(self, answer: Answer) -> Any:
        """What the task has returned, or the error that says why there is nothing."""
        if answer is None:
            raise unknown(self._name, self._identity)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Over) and (ended := without_result(answer.state, answer.error or b"", self._task)) is not None:
            raise ended
        if not isinstance(answer, bytes):
            self.late(None)
        name = self._task
        try:
            value = value_of(answer, name)
            return value if self._convert is None else self._convert(value)
        except Unrunnable:
            pass
        except DelayedError:
            raise
        except (TypeError, ValueError):  # what is there has the form of no result
            pass
        raise ResultError(f"what is stored as the result of {name} is none: another program has written it")

    @property
    def _task(self) -> str:
        return f"task {self._identity} of {self._name!r}"

    def late(self, trouble: Exception | None) -> NoReturn:
        """It has not ended in time; `trouble`: or nobody can say."""
        late = f"{self._task} has not ended within {self._timeout:g} s; it may still"
        if trouble is not None:
            raise NotDone(f"{late}. Redis cannot be asked: {trouble}") from trouble
        raise NotDone(late)
