"""The decorator that gives functions a `.delay()`."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from .handle import Handle
from .hooks import Hooks
from .options import Options
from .queue import Queue
from .task import PyTask

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Delayable(Generic[P]):
    """What `.options(…)` of a function returns: calls of it with these options.

    Args:
        queue: where they go.
        func: the function.
        retry: how often a failed call is repeated.
        options: the rest.
    """

    def __init__(self, queue: Queue, func: Callable[..., Any], retry: int, options: Options | None) -> None:
        self._queue, self._func, self._retry, self._options = queue, func, retry, options

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue a call with these arguments; raises as `Queue.enqueue`."""
        if self._options is None:
            return self._queue.enqueue(PyTask(self._func, args, kwargs, self._retry))
        return self._queue.enqueue(PyTask.with_options(self._func, args, kwargs, self._retry, self._options))

    def options(self, *, retry: int | None = None, **options: Any) -> "Delayable[P]":
        """The same with other options; see `delayed.options.Options`, whose names these are.

        Raises:
            InvalidTask: an option that there is not, or that cannot work.
        """
        count = self._retry if retry is None else retry
        return Delayable(
            self._queue, self._func, count, (self._options or Options()).but(options) if options else self._options
        )


class DelayedFunction(Protocol[P, R_co]):
    """A function that can also be enqueued."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Enqueue a call with these arguments; raises as `Queue.enqueue`."""

    def options(self, *, retry: int | None = None, **options: Any) -> Delayable[P]:
        """Calls with other options than the function was defined with: `f.options(after=60).delay(…)`."""


class Decorator(Protocol):
    """What `delayed(queue)` returns: use it bare, with options, or as a function."""

    @overload
    def __call__(self, func: Callable[P, R_co], *, retry: int = 0, **options: Any) -> DelayedFunction[P, R_co]: ...
    @overload
    def __call__(self, func: None = None, *, retry: int = 0, **options: Any) -> "Wrapper": ...
    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        catch_up: str = "skip",
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        retry: int = 0,
        **options: Any,
    ) -> "Wrapper":
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


class Wrapper(Protocol):
    """What `delayed(queue)(retry=…)` returns."""

    def __call__(self, func: Callable[P, R_co]) -> DelayedFunction[P, R_co]:
        """Give `func` its `delay`."""


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
    task(print, retry=1)  # as a function
    ```

    The options are those of `delayed.options.Options`, and `on_start`, `on_success`, `on_failure`, `on_retry`: what the worker
    calls with the event (see `delayed.hooks.Hooks`).
    """

    def decorate(func: Callable[..., Any] | None = None, *, retry: int = 0, **options: Any) -> Any:
        hooks = Hooks.taken_from(options)
        chosen = Options.of(options) if options else None

        def wrap(function: Callable[..., Any]) -> Any:
            hooks.put_on(function)
            calls: Delayable[Any] = Delayable(queue, function, retry, chosen)
            function.delay = calls.delay  # type: ignore[attr-defined]  # functions take attributes
            function.options = calls.options  # type: ignore[attr-defined]
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
        retry: int = 0,
        **options: Any,
    ) -> Any:
        schedules: Any = import_module(".schedules", __package__)  # as cli.py does: most producers need no clocks of the world
        when = schedules.Cron(expression, tz, catch_up)

        def wrap(function: Callable[..., Any]) -> Any:
            task = PyTask(function, tuple(args), kwargs, retry, **options)
            schedules.record(queue, name or task.func_path, schedules.define(task, when))
            return decorate(function, retry=retry, **options)

        return wrap

    decorate.cron = cron  # type: ignore[attr-defined]  # functions take attributes
    return cast(Decorator, decorate)
