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
from .hooks import inside
from .paths import OF_A_SCRIPT, SCRIPT
from .wire import SEPARATOR, Call

_LONGEST_DETAIL = 10_000  # characters of a traceback that a dead letter keeps: its end says what happened
_HERE = Path(__file__).parent
_AROUND_COROUTINES = (
    str(Path(asyncio.__file__).parent),
    *(str(_HERE / name) for name in ("executors.py", "reporter.py")),
    __file__,
)


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
        wrap: what is called instead of a function that was found.

    Raises:
        Unrunnable: on access, for a path that is not allowed or does not lead to a function.
    """

    def __init__(
        self, allowed: Container[str], wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    ) -> None:
        super().__init__()
        self._allowed = allowed
        self._wrap = wrap

    def __missing__(self, path: str) -> Callable[..., Any]:
        if path.startswith(SCRIPT) and path not in self._allowed:
            raise Unrunnable(Reason.NOT_ALLOWED, OF_A_SCRIPT.format(path))
        if path not in self._allowed:
            raise Unrunnable(
                Reason.NOT_ALLOWED,
                f"the worker's allow-list does not name {path!r}: if it may run, start the worker with --allow {path!r}",
            )
        module_path, _, name = path.partition(SEPARATOR)
        try:
            function: Any = getattr(import_module(module_path), name)
        except AttributeError as error:
            words = OF_A_SCRIPT.format(path) if path.startswith(SCRIPT) else f"{path!r}: {error}"
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, words) from error
        except Exception as error:
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r}: importing it raised {_name(error)}: {error}") from error
        if not callable(function):
            raise Unrunnable(Reason.UNKNOWN_FUNCTION, f"{path!r} is {type(function).__name__}, which cannot be called")
        wrapped = self._wrap(function)
        self[path] = Coroutine(wrapped) if inspect.iscoroutinefunction(function) else wrapped
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
        return (refusal.reason, refusal.detail[:_LONGEST_DETAIL]) if refusal is not None else (Reason.FAILED, describe(error))
    except Exception as defect:
        return Reason.FAILED, f"{_name(error)}, which cannot be shown: asking it raised {_name(defect)}"


def misfit(function: Callable[..., Any], call: Call, error: BaseException) -> Unrunnable | None:
    """Whether `error` means that the arguments do not fit the function, so that it was never entered."""
    entered = error.__traceback__ is not None and _own(error.__traceback__.tb_next) is not None
    if entered or not isinstance(error, TypeError):
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
    frames = _own(error.__traceback__.tb_next) if error.__traceback__ is not None else None
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(lines)[-_LONGEST_DETAIL:]


def _own(trace: TracebackType | None) -> TracebackType | None:
    """What comes after our frames, and those of asyncio, in a traceback: the task's own code."""
    trace = inside(trace)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_AROUND_COROUTINES):
        trace = inside(trace.tb_next)
    return trace


def said(error: BaseException) -> str:
    """What an exception says; nothing if it cannot say it, as it may be an object of the task's making."""
    try:
        return str(error)[:_LONGEST_DETAIL]
    except Exception:
        return ""


def _name(error: BaseException) -> str:
    return type(error).__qualname__
