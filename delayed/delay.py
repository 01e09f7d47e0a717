"""The decorator `delayed(queue)`: gives functions `.delay()` and `.options()`."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from .errors import InvalidTask
from .events import Callback
from .hooks import NAMES, Hooks
from .queue.handle import Handle
from .queue.queue import Queue
from .task.options import OPTIONS, CommonOptions, Options, TaskOptions, count_of
from .task.paths import importable, path_of_function, see_that_it_leads_back
from .task.task import PyTask


class HookOptions(TypedDict, total=False):
    """The callbacks of a function; see `delayed.hooks.Hooks`."""

    on_start: Callback | str | None
    on_success: Callback | str | None
    on_failure: Callback | str | None
    on_retry: Callback | str | None


class FunctionOptions(TaskOptions, HookOptions, total=False):
    """The options of a decorated function."""


class ScheduleOptions(CommonOptions, HookOptions, total=False):
    """The options of a schedule: without those that make each task different."""


P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Delayable(Generic[P, R_co]):
    """A function together with options for its calls; `.options(…)` returns it.

    Args:
        queue: where they go.
        func: the function.
        retry: how often a failed call is repeated; None if nobody has said so.
        options: the rest.

    Raises:
        InvalidTask: `retry` is no such number, or no worker could find `func`.
    """

    def __init__(self, queue: Queue, func: Callable[..., Any], retry: int | None, options: Options | None) -> None:
        count_of(retry)
        self._path = path_of_function(func)
        self._queue, self._func, self._retry, self._options = queue, func, retry, options
        self._found = False  # it has been seen that the path leads to the function; while it is defined, it does not yet

    @overload
    def delay(self: "Delayable[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[Any]:
        """Enqueue a call with these arguments; raises as `Queue.enqueue`."""
        if kwargs and not OPTIONS.isdisjoint(kwargs):
            _see_that_it_takes(self._func, kwargs)
        path = self._path
        if not self._found:
            see_that_it_leads_back(self._func, path)
            importable(path)
            self._found = True
        if self._options is None:
            return self._queue.enqueue(PyTask(path, args, kwargs, self._retry))
        return self._queue.enqueue(PyTask.with_options(path, args, kwargs, self._retry, self._options))

    def options(self, *, retry: int | None = None, **options: Unpack[TaskOptions]) -> "Delayable[P, R_co]":
        """The same with other options; see `delayed.options.Options`, whose names these are.

        Raises:
            InvalidTask: an option that there is not, or that cannot work.
        """
        count = self._retry if retry is None else retry
        return Delayable(
            self._queue, self._func, count, (self._options or Options()).but(options) if options else self._options
        )


class DelayedFunction(Protocol[P, R_co]):
    """A function that can also be enqueued. The result of an `async def` function is what awaiting it gives."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now."""

    @overload
    def delay(self: "DelayedFunction[P, Coroutine[Any, Any, R]]", *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    @overload
    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]:
        """Enqueue a call with these arguments; raises as `Queue.enqueue`."""

    def options(self, *, retry: int | None = None, **options: Unpack[TaskOptions]) -> Delayable[P, R_co]:
        """Calls with other options than the function was defined with: `f.options(after=60).delay(…)`."""


class Wrapper(Protocol):
    """The decorator that `delayed(queue)(retry=…)` returns."""

    def __call__(self, func: Callable[P, R]) -> DelayedFunction[P, R]:
        """Give `func` its `delay`."""


class Decorator(Protocol):
    """The decorator that `delayed(queue)` returns: use it bare, with options, or as a function."""

    @overload
    def __call__(
        self, func: Callable[P, R], *, retry: int | None = None, **options: Unpack[FunctionOptions]
    ) -> DelayedFunction[P, R]: ...
    @overload
    def __call__(self, func: None = None, *, retry: int | None = None, **options: Unpack[FunctionOptions]) -> Wrapper: ...
    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        catch_up: str = "skip",
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        retry: int | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Wrapper:
        """Define a schedule: `@task.cron("30 2 * * *", tz="Europe/Zurich")`.

        Nothing is written to Redis here. Workers that import the module do it when they begin (`delayed worker --preload`), or
        `delayed cron sync` does.

        Args:
            expression: minute, hour, day of the month, month, day of the week (after one for seconds, if there are six).
            tz: the zone whose clock is meant.
            catch_up: what becomes of occurrences for which no sweeper was there: `skip` them, run `one` for
                them, or run `all`.
            name: its name; by default the path of the function. A function may have several schedules.
            args: the function's arguments,
            kwargs: and those that have names.
            retry: as for other tasks,
            options: likewise; not those that make each task another one, such as `unique` and `result_ttl`. `expires` is
                in seconds after each occurrence.

        Raises:
            InvalidSchedule: it could not run as written.
        """


def delayed(queue: Queue) -> Decorator:
    """A decorator for functions whose calls can be put into `queue`.

    ```python
    task = delayed(Queue("default", redis.Redis()))

    @task
    def add(a, b): ...

    @task(retry=3, backoff=Exponential(1, cap=600), result_ttl=3600)
    def divide(a, b): ...

    add(1, 2)           # calls it
    add.delay(1, 2)     # enqueues the call
    divide.options(after=60).delay(1, 2)
    task(existing, retry=1)  # as a function
    ```

    The options are those of `delayed.options.Options`, and `on_start`, `on_success`, `on_failure`, `on_retry`: what the worker
    calls with the event (see `delayed.hooks.Hooks`).
    """

    def decorate(func: Callable[..., Any] | None = None, *, retry: int | None = None, **options: Any) -> Any:
        count_of(retry)
        hooks = Hooks.taken_from(options)
        chosen = Options.of(options, NAMES) if options else None

        def wrap(function: Callable[..., Any]) -> Any:
            calls: Delayable[Any, Any] = Delayable(queue, function, retry, chosen)
            try:
                function.delay, function.options = calls.delay, calls.options  # type: ignore[attr-defined]  # they take them
                hooks.put_on(function)
            except (AttributeError, TypeError) as error:  # it is not written in Python
                path = path_of_function(function)
                raise InvalidTask(f"{path} cannot have a .delay(): enqueue PyTask({path!r}, (…))") from error
            return function

        return wrap if func is None else wrap(func)

    def cron(
        expression: str,
        *,
        tz: str = "UTC",
        catch_up: str = "skip",
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        retry: int | None = None,
        **options: Any,
    ) -> Any:
        schedules: Any = import_module(
            ".cron.definition", __package__
        )  # as cli.py does: most producers need no clocks of the world
        when = schedules.Cron(expression, tz, catch_up)
        hooks = Hooks.taken_from(options)

        def wrap(function: Callable[..., Any]) -> Any:
            task = PyTask(path_of_function(function), tuple(args), kwargs, retry, **options)
            schedules.record(queue, name or task.func_path, schedules.define(task, when))
            return decorate(function, retry=retry, **options, **hooks._asdict())

        return wrap

    decorate.cron = cron  # type: ignore[attr-defined]  # functions take attributes
    return cast(Decorator, decorate)


def _see_that_it_takes(function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Refuse options that are passed as arguments of the function."""
    try:
        takes = inspect.signature(function).parameters
    except ValueError:  # nobody knows
        return
    if any(each.kind is each.VAR_KEYWORD for each in takes.values()):
        return
    for name in OPTIONS.intersection(kwargs).difference(takes):
        call = function.__name__
        raise InvalidTask(
            f"{name} is an option, and {call}() has no such parameter: {call}.options({name}={kwargs[name]!r:.200}).delay(…)"
        )
