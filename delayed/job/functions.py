"""Finds the function of a path, and calls it."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Container
from functools import update_wrapper
from importlib import import_module
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Protocol

from ..base.clock import monotonic
from ..base.text import name_of, said
from ..errors import InvalidTask, Reason, TimedOut, Unready, Unrunnable
from ..task.decode import SEPARATOR
from ..task.paths import OF_A_SCRIPT
from ..task.types import converter, is_by_annotation

_VALUES = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})  # of these there is nothing to wait for


class Coroutine:
    """A coroutine function that can also be called as a function: it then runs in a loop of its own, alone.

    Args:
        function: the coroutine function.
    """

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        update_wrapper(self, function)  # for `inspect.signature`

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        return run(self._function(*args, **kwargs))

    def begin(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """What there is to wait for."""
        return self._function(*args, **kwargs)


def converting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or, if it is marked for this and its annotations need it, one that converts its arguments first."""
    convert = converter(function) if is_by_annotation(function) else None
    if convert is None:
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        positional, named = convert(args, kwargs)
        return function(*positional, **named)

    async def begin(*args: Any, **kwargs: Any) -> Any:
        positional, named = convert(args, kwargs)
        return await function(*positional, **named)

    return update_wrapper(begin if inspect.iscoroutinefunction(function) else call, function)


class Coroutines:
    """The coroutines of tasks that run in this process, as its heartbeat sees them, whatever loops they run in."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving = False
        self._over = threading.Event()

    def enter(self, task: asyncio.Task[Any]) -> None:
        """In its loop: one begins."""
        self._tasks.add(task)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """In its loop: one has ended. Whether the process is about to end, so that nothing may come of it."""
        self._tasks.discard(task)
        if self._leaving and not self._tasks:
            self._over.set()
        return self._leaving

    def leave(self, seconds: float) -> None:
        """The process is about to end: let them all clean up (`CancelledError`), for so many seconds."""
        self._leaving = True
        tasks = list(self._tasks)
        for task in tasks:
            cancel(task)
        if tasks:
            self._over.wait(seconds)


COROUTINES = Coroutines()


class Interruptible(Protocol):
    """What is told where its coroutine runs: a job."""

    def run_by(self, task: asyncio.Task[Any]) -> None:
        """In this asyncio task, in a loop of its own."""


def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel an asyncio task, from any thread."""
    with contextlib.suppress(RuntimeError):  # its loop is closed
        task.get_loop().call_soon_threadsafe(task.cancel)


def run(awaitable: Awaitable[Any], seconds: float = 0, began: float | None = None, job: Interruptible | None = None) -> Any:
    """What comes of `awaitable`, in a loop of its own, where `job` runs; see `bounded`."""
    value, error, is_over = asyncio.run(_alone(bounded(awaitable, seconds, began), job))
    if is_over:
        threading.Event().wait()  # nothing more happens in this thread: the process ends
    if error is not None:
        raise error
    return value


async def _alone(awaitable: Awaitable[Any], job: Interruptible | None) -> tuple[Any, BaseException | None, bool]:
    """As `caught`, and whether the process is about to end."""
    task = asyncio.current_task()
    assert task is not None
    COROUTINES.enter(task)
    if job is not None:
        job.run_by(task)
    value, error = await caught(awaitable)
    return value, error, COROUTINES.end(task)


async def caught(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """What comes of `awaitable`, or what it raises: asyncio looks closely at exceptions, and never ends a task whose exception
    does not bear it."""
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error


async def bounded(awaitable: Awaitable[Any], seconds: float, began: float | None = None) -> Any:
    """What comes of `awaitable`; `seconds` after monotonic time `began`, or after now, if they are not 0, it is cancelled.

    Raises:
        TimedOut: it was.
    """
    left = seconds if began is None else max(0.0, began + seconds - monotonic())
    try:
        async with asyncio.timeout(left if seconds else None) as scope:
            return await awaited(awaitable)
    except TimeoutError as error:
        if scope.expired():
            raise TimedOut(f"it exceeded its timeout of {seconds:g} s") from error
        raise


async def awaited(value: Any) -> Any:
    """What comes of something that a function has returned: what can be awaited is, as nothing of it has run before.

    Raises:
        InvalidTask: it is a generator, of which nothing would ever run.
    """
    while type(value) not in _VALUES and _can_be_awaited(value):
        value = await value
    return _happened(value)


def settled(value: Any, seconds: float = 0, began: float | None = None, job: Interruptible | None = None) -> Any:
    """As `awaited`, for a function that is none of asyncio's: a decorator may have made it one. See `run`, too."""
    if type(value) in _VALUES:
        return value
    return run(value, seconds, began, job) if _can_be_awaited(value) else _happened(value)


def _can_be_awaited(value: Any) -> bool:
    """As `inspect.isawaitable`, of an object that may raise anything when it is asked."""
    kind = type(value)
    if issubclass(kind, GeneratorType):
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    try:
        return issubclass(kind, Awaitable)
    except BaseException:
        return False


def _happened(value: Any) -> Any:
    kind = type(value)
    if kind in _VALUES or not issubclass(kind, GeneratorType | AsyncGeneratorType):
        return value
    article = "a" if issubclass(kind, GeneratorType) else "an async"
    raise InvalidTask(
        f"it returned {article} generator, so that nothing of it has run: a task does its work itself, so let a function loop "
        f"over the generator, and make that function the task"
    )


class Functions(dict[str, Callable[..., Any]]):
    """The functions that tasks have named so far; a new one is looked up, if it is allowed.

    Args:
        allowed: function paths that may run.
        wrap: what is called instead of a function that was found.

    Raises:
        Unready: on access, for a path that is not allowed or does not lead to a function, until it does.
        Unrunnable: likewise, for one that never will.
        BaseException: whatever its module raised when it was imported.
    """

    def __init__(
        self, allowed: Container[str], wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    ) -> None:
        super().__init__()
        self._allowed = allowed
        self._wrap = wrap

    def __missing__(self, path: str) -> Callable[..., Any]:
        module_path, _, name = path.partition(SEPARATOR)
        if path not in self._allowed:
            raise _refusal(path, module_path, name)
        function = _found(path, module_path, name)
        wrapped = self._wrap(converting(function))
        self[path] = Coroutine(wrapped) if inspect.iscoroutinefunction(function) else wrapped
        return self[path]


def _refusal(path: str, module_path: str, name: str) -> Unrunnable:
    """Why a path may not run here, and what to do."""
    if name.startswith("__"):
        return Unrunnable(
            Reason.NOT_ALLOWED,
            f"the worker's allow-list does not name {path!r}, and a pattern with a wildcard is never for names that begin "
            f"with two underscores: what modules have of Python is no task",
        )
    words = f"the worker's allow-list does not name {path!r}"
    if module_path == "__main__":
        return Unready(
            Reason.NOT_ALLOWED,
            OF_A_SCRIPT.format(path),
        )
    return Unready(Reason.NOT_ALLOWED, f"{words}: if it may run, start the worker with --allow {path!r}")


def _found(path: str, module_path: str, name: str) -> Callable[..., Any]:
    """What a path leads to, in its module's own names: what every module has, and what a module makes up when it is asked,
    is no task."""
    if not all(module_path.split(".")) or not name or "\0" in path:
        raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r} is not the path of a Python function, 'module.path:function'")
    try:
        module = import_module(module_path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise  # one that it needs is missing
        raise Unready(Reason.UNKNOWN_FUNCTION, f"{path!r}: {said(error, 1000)}") from error
    names = getattr(module, "__dict__", {})
    if name not in names:
        raise Unready(Reason.UNKNOWN_FUNCTION, f"{path!r}: module {module_path!r} has no attribute {name!r}")
    function: Any = names[name]
    if not callable(function):
        raise Unready(Reason.UNKNOWN_FUNCTION, f"{path!r} is {name_of(type(function))}, which cannot be called")
    return function  # type: ignore[no-any-return]  # it can be called
