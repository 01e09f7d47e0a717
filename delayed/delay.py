"""The decorator that gives functions a `.delay()`."""

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from .queue import Queue
from .task import PyTask

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class DelayedFunction(Protocol[P, R_co]):
    """A function that can also be enqueued."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Enqueue a call with these arguments; raises as `Queue.enqueue`."""


class Decorator(Protocol):
    """What `delayed(queue)` returns: use it bare, with `retry`, or as a function."""

    @overload
    def __call__(self, func: Callable[P, R_co], *, retry: int = 0) -> DelayedFunction[P, R_co]: ...
    @overload
    def __call__(self, func: None = None, *, retry: int = 0) -> "Wrapper": ...


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

    @task(retry=3)
    def divide(a, b): ...

    add(1, 2)           # calls it
    add.delay(1, 2)     # enqueues the call
    task(print, retry=1)  # as a function
    ```
    """

    def decorate(func: Callable[..., Any] | None = None, *, retry: int = 0) -> Any:
        def wrap(function: Callable[..., Any]) -> Any:
            def delay(*args: Any, **kwargs: Any) -> None:
                queue.enqueue(PyTask(function, args, kwargs, retry))

            function.delay = delay  # type: ignore[attr-defined]  # functions take attributes
            return function

        return wrap if func is None else wrap(func)

    return cast(Decorator, decorate)
