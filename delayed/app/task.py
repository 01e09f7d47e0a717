"""The tasks of an application: functions whose calls can be enqueued."""

import inspect
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from ..base.running import running
from ..delay import HookOptions
from ..errors import ConfigurationError, InvalidTask
from ..queue.async_queue import AsyncQueue
from ..queue.handle import AsyncHandle, Handle
from ..queue.queue import Queue
from ..task.decode import is_python_path
from ..task.options import Options, TaskOptions, count_of
from ..task.paths import importable, path_of_function, see_that_it_leads_back
from ..task.task import GoTask, PyTask
from ..task.task import Task as Enqueued
from ..task.types import returned

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Place(TypedDict, total=False):
    """Where calls go."""

    queue: str
    priority: Priority


class CallOptions(TaskOptions, Place, total=False):
    """What one call may ask for."""


class DefinitionOptions(CallOptions, HookOptions, total=False):
    """What stands where a function is defined."""


class Destination(NamedTuple):
    """Where calls go."""

    queue: str  # as the application calls it
    priority: Priority


class BoundCall(NamedTuple):
    """A call of a task with its arguments, and where it goes: what `App.enqueue_many` takes."""

    task: Enqueued
    place: Destination
    convert: Callable[[Any], Any] | None  # makes of the result what the function's annotation says
    app: "Producer"  # whose call it is


class Producer(Protocol):
    """What calls need of their application."""

    def queue(self, name: str, priority: Priority = "normal") -> Queue:
        """The queue of this name."""

    def async_queue(self, name: str, priority: Priority = "normal") -> AsyncQueue:
        """The queue of this name, for asyncio."""

    def queue_of(self, name: str, priority: Priority) -> str:
        """The name on Redis of the queue for a priority."""

    def refused(self, options: Options, queue: str, priority: Priority) -> str | None:
        """Why tasks of this application cannot have these options; None if they can."""


class Calls(Generic[P, R_co]):
    """Calls of a function with certain options: what `task.options(…)` returns.

    Args:
        app: the application.
        func: the function; or the path of one that other programs run, of Go or Python, of which nothing else is known.
        retry: how often a failed call is repeated; None if nobody has said so.
        options: the rest.
        queue: where its calls go,
        priority: and before or behind which others.

    Raises:
        InvalidTask: `retry` is no such number, or no worker could find `func`.
        ConfigurationError: the application's tasks cannot have these options.
    """

    def __init__(
        self,
        app: Producer,
        func: Callable[..., Any] | str,
        retry: int | None,
        options: Options,
        *,
        queue: str,
        priority: Priority = "normal",
    ) -> None:
        count_of(retry)
        options.check(retry is not None)
        if priority not in PRIORITIES:
            raise InvalidTask(f"priority is one of {', '.join(PRIORITIES)}, not {priority!r}")
        if reason := app.refused(options, queue, priority):
            raise ConfigurationError(f"{func if isinstance(func, str) else func.__qualname__}: {reason}")
        self._app, self._func, self._retry, self._options = app, func, retry, options
        self._queue, self._priority = queue, priority
        self.path = func if isinstance(func, str) else path_of_function(func)  # by which workers find it
        self.queue = app.queue_of(queue, priority)
        self._found = False  # it has been seen that the path leads to the function; while it is defined, it does not yet

    def call(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """The call with these arguments, for `App.enqueue_many` and for workflows; nothing is enqueued.

        Raises:
            TypeError: the function does not take these arguments.
            InvalidTask: no worker could find it.
        """
        return BoundCall(self._task(args, kwargs), Destination(self._queue, self._priority), self._convert, self._app)

    def s(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """`call`, by the name that it has in Celery's canvas."""
        return self.call(*args, **kwargs)

    def each(self, *args: Any, **kwargs: Any) -> BoundCall:
        """The call that a map makes with each element, which is its first argument, and with these after it; raises as
        `call`."""
        self._check_call((None, *args), kwargs)
        task = self._made(args, kwargs)
        return BoundCall(task, Destination(self._queue, self._priority), self._convert, self._app)

    @overload
    def delay(self: "Calls[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    def delay(self, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Enqueue a call with these arguments; raises as `call` and as `Queue.enqueue`."""
        handle = self._app.queue(self._queue, self._priority).enqueue(self._task(args, kwargs))
        handle.convert = self._convert
        return handle

    @overload
    def handle(self: "Calls[P, Coroutine[Any, Any, R]]", task_id: str) -> Handle[R]: ...
    @overload
    def handle(self, task_id: str) -> Handle[R_co]: ...
    def handle(self, task_id: str) -> Handle[Any]:
        """The handle of a tracked call that was enqueued somewhere else; Redis is not asked about it. With another queue or
        priority: `f.options(priority="high").handle(task_id)`."""
        handle = self._app.queue(self._queue, self._priority).handle(task_id, path=self.path)
        handle.convert = self._convert
        return handle

    @overload
    def ahandle(self: "Calls[P, Coroutine[Any, Any, R]]", task_id: str) -> AsyncHandle[R]: ...
    @overload
    def ahandle(self, task_id: str) -> AsyncHandle[R_co]: ...
    def ahandle(self, task_id: str) -> AsyncHandle[Any]:
        """As `handle`, for asyncio."""
        queue = self._app.async_queue(self._queue, self._priority)
        return self._known(queue.handle(task_id, path=self.path))

    @overload
    async def adelay(self: "Calls[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]: ...
    @overload
    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R_co]: ...
    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncHandle[Any]:
        """As `delay`, for asyncio."""
        return self._known(await self._app.async_queue(self._queue, self._priority).enqueue(self._task(args, kwargs)))

    def _known(self, handle: AsyncHandle[Any]) -> AsyncHandle[Any]:
        handle.convert, handle.place = self._convert, self._app.queue(self._queue, self._priority)
        return handle

    def options(self, *, retry: int | None = None, **options: Unpack[CallOptions]) -> "Calls[P, R_co]":
        """The same with other options; see `delayed.task.options.Options`, and `queue` and `priority`.

        Raises:
            InvalidTask: an option that there is not, or that cannot work.
        """
        given = dict(options)
        queue, priority = given.pop("queue", self._queue), given.pop("priority", self._priority)
        count = self._retry if retry is None else retry
        chosen = self._options.but(given) if given else self._options
        where = {"queue": queue, "priority": priority}
        return Calls(self._app, self._func, count, chosen, **cast(Any, where))

    @cached_property
    def _convert(self) -> Callable[[Any], Any] | None:
        return None if isinstance(self._func, str) else returned(self._func)

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        if isinstance(self._func, str):
            return None
        try:
            return inspect.signature(self._func)
        except ValueError:  # it is not written in Python, and says nothing
            return None

    def _check_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if isinstance(self._func, str):
            if kwargs and not is_python_path(self.path):
                raise TypeError(f"{self.path}: Go functions take no arguments by name")
            return
        if self._signature is not None:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self._func.__qualname__}{self._signature}: {error}") from None
        if not self._found:
            see_that_it_leads_back(self._func, self.path)
            importable(self.path)
            self._found = True

    def _task(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Enqueued:
        self._check_call(args, kwargs)
        return self._made(args, kwargs)

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Enqueued:
        options = self._options
        parent = running()
        if parent is not None and parent.metadata:
            options = options.but({"metadata": {**parent.metadata, **(options.metadata or {})}})
        if not is_python_path(self.path):
            return GoTask.with_options(self.path, args or None, self._retry, options)
        if options == _NONE:
            return PyTask(self.path, args, kwargs, self._retry)
        return PyTask.with_options(self.path, args, kwargs, self._retry, options)


_NONE = Options()


class Task(Protocol[P, R_co]):
    """A function of an application that can also be enqueued. The result of an `async def` function is what awaiting it
    gives."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now."""

    def call(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """See `Calls.call`."""

    def s(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall:
        """See `Calls.s`."""

    def each(self, *args: Any, **kwargs: Any) -> BoundCall:
        """See `Calls.each`."""

    @overload
    def delay(self: "Task[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]:
        """Enqueue a call with these arguments; see `Calls.delay`."""

    @overload
    def handle(self: "Task[P, Coroutine[Any, Any, R]]", task_id: str) -> Handle[R]: ...
    @overload
    def handle(self, task_id: str) -> Handle[R_co]:
        """The handle of a call that was enqueued somewhere else; see `Calls.handle`."""

    @overload
    def ahandle(self: "Task[P, Coroutine[Any, Any, R]]", task_id: str) -> AsyncHandle[R]: ...
    @overload
    def ahandle(self, task_id: str) -> AsyncHandle[R_co]:
        """As `handle`, for asyncio."""

    @overload
    async def adelay(self: "Task[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]: ...
    @overload
    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R_co]:
        """As `delay`, for asyncio."""

    def options(self, *, retry: int | None = None, **options: Unpack[CallOptions]) -> Calls[P, R_co]:
        """Calls with other options than the function was defined with: `f.options(after=60).delay(…)`."""
