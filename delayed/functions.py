"""From a function path to a call, and from an exception to the reason why a task is buried."""

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Container
from functools import update_wrapper
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import Reason, TimedOut, Unrunnable
from .task import SEPARATOR, Call

_LONGEST_DETAIL = 10_000  # characters of a traceback that a dead letter keeps: its end says what happened
_AROUND_COROUTINES = (str(Path(asyncio.__file__).parent), str(Path(__file__).parent / "executors.py"), __file__)


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
        return asyncio.run(bounded(self._function(*args, **kwargs), 0))

    def begin(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """What there is to wait for."""
        return self._function(*args, **kwargs)


async def bounded(awaitable: Awaitable[Any], seconds: float) -> Any:
    """What `awaitable` returns; after so many `seconds`, if that is not 0, it is cancelled.

    Raises:
        TimedOut: it was.
    """
    try:
        async with asyncio.timeout(seconds or None) as scope:
            return await awaitable
    except TimeoutError as error:
        if scope.expired():
            raise TimedOut(f"it ran for longer than its timeout of {seconds:g} s") from error
        raise


class Functions(dict[str, Callable[..., Any]]):
    """The functions that tasks have named so far; a new one is looked up, if it is allowed.

    Args:
        allowed: function paths that may run.

    Raises:
        Unrunnable: on access, for a path that is not allowed or does not lead to a function.
    """

    def __init__(self, allowed: Container[str]) -> None:
        super().__init__()
        self._allowed = allowed

    def __missing__(self, path: str) -> Callable[..., Any]:
        if path not in self._allowed:
            raise Unrunnable(Reason.NOT_ALLOWED, f"the worker's allow-list does not name {path!r}")
        module_path, _, name = path.partition(SEPARATOR)
        try:
            function: Any = getattr(import_module(module_path), name)
        except AttributeError as error:
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r}: {error}") from error
        except Exception as error:
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r}: importing it raised {_name(error)}: {error}") from error
        if inspect.iscoroutinefunction(function):
            function = Coroutine(function)
        if not callable(function):
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r} is {type(function).__name__}, which cannot be called")
        self[path] = function
        return self[path]


def verdict(function: Callable[..., Any] | None, call: Call | None, error: BaseException) -> tuple[Reason, str]:
    """Why a task did not succeed: the reason and the detail for its dead letter.

    Args:
        function: what the task named, if that was found.
        call: the task, if it could be decoded.
        error: what was raised; its own methods may raise too, as it may be an object of the task's making.
    """
    try:
        refusal = error if isinstance(error, Unrunnable) and function is None else None
        if refusal is None and function is not None and call is not None:
            refusal = misfit(function, call, error)
        return (refusal.reason, refusal.detail) if refusal is not None else (Reason.FAILED, describe(error))
    except Exception as defect:
        return Reason.FAILED, f"{_name(error)}, which cannot be shown: asking it raised {_name(defect)}"


def misfit(function: Callable[..., Any], call: Call, error: BaseException) -> Unrunnable | None:
    """Whether `error` means that the arguments do not fit the function, so that it was never entered."""
    frames = error.__traceback__ and error.__traceback__.tb_next
    if isinstance(function, Coroutine):  # it has a frame of its own
        frames = frames and frames.tb_next
    if frames is not None or not isinstance(error, TypeError):
        return None
    try:
        inspect.signature(function).bind(*call.args, **call.kwargs)
    except TypeError as reason:
        return Unrunnable(Reason.BAD_ARGUMENTS, f"{call.func_path}: {reason}")
    except ValueError:  # a C function without a signature
        return None
    return None


def describe(error: BaseException) -> str:
    """The traceback of a task's exception, from the task's own code on."""
    frames: TracebackType | None = error.__traceback__ and error.__traceback__.tb_next
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_AROUND_COROUTINES):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(lines)[-_LONGEST_DETAIL:]


def _name(error: BaseException) -> str:
    return type(error).__qualname__
