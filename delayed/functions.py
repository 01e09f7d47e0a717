"""From a function path to a call, and from an exception to the reason why a task is buried."""

import asyncio
import importlib
import inspect
import traceback
from collections.abc import Awaitable, Callable, Container
from functools import update_wrapper
from importlib import import_module
from pathlib import Path
from types import AsyncGeneratorType, GeneratorType, TracebackType
from typing import Any, NamedTuple

from .clock import monotonic
from .errors import InvalidTask, Reason, TimedOut, Unready, Unrunnable
from .hooks import inside
from .paths import OF_A_SCRIPT
from .wire import SEPARATOR, Call
from .words import name_of, said, shortened

_LONGEST_DETAIL = 10_000  # characters of a traceback that a dead letter keeps,
_LONGEST_ESSENCE = 5000  # and that are for what was raised, and where
_HERE = Path(__file__).parent
_AROUND = (  # what runs, or imports, what a task names
    "<frozen importlib",
    str(Path(asyncio.__file__).parent),
    str(Path(importlib.__file__).parent),
    *(str(_HERE / name) for name in ("executors.py", "reporter.py")),
    __file__,
)
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


def run(awaitable: Awaitable[Any], seconds: float = 0, began: float | None = None) -> Any:
    """What comes of `awaitable`, in a loop of its own; see `bounded`."""
    value, error = asyncio.run(caught(bounded(awaitable, seconds, began)))
    if error is not None:
        raise error
    return value


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
            raise TimedOut(f"it ran for longer than its timeout of {seconds:g} s") from error
        raise


async def awaited(value: Any) -> Any:
    """What comes of something that a function has returned: what can be awaited is, as nothing of it has run before.

    Raises:
        InvalidTask: it is a generator, of which nothing would ever run.
    """
    while type(value) not in _VALUES and _can_be_awaited(value):
        value = await value
    return _happened(value)


def settled(value: Any, seconds: float = 0, began: float | None = None) -> Any:
    """As `awaited`, for a function that is none of asyncio's: a decorator may have made it one. Raises as `run`, too."""
    if type(value) in _VALUES:
        return value
    return run(value, seconds, began) if _can_be_awaited(value) else _happened(value)


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
        wrapped = self._wrap(function)
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


class Verdict(NamedTuple):
    """Why a task did not succeed."""

    reason: Reason
    detail: str  # for its dead letter
    ready: bool = True  # False: it did not begin, and may be able to in another worker, or later


def verdict(function: Callable[..., Any] | None, call: Call | None, error: BaseException) -> Verdict:
    """Why a task did not succeed.

    Args:
        function: what the task named, if that was found.
        call: the task, if it could be decoded.
        error: what was raised; its own methods may raise too, as it may be an object of the task's making.
    """
    try:
        if function is None and issubclass(type(error), Unrunnable):
            return _refused(error, ready=not issubclass(type(error), Unready))
        unfit = misfit(function, call, error) if function is not None and call is not None else None
        if unfit is not None:
            return _refused(unfit)
        return Verdict(Reason.FAILED, describe(error), function is not None or call is None)
    except BaseException as defect:
        kind, other = name_of(type(error)), name_of(type(defect))
        places = "".join(traceback.format_tb(_own_frames(error)))[-_LONGEST_ESSENCE:]
        return Verdict(Reason.FAILED, f"{places}{kind}, which cannot be shown: asking it raised {other}")


def _refused(refusal: Any, *, ready: bool = True) -> Verdict:
    return Verdict(Reason(refusal.reason), shortened(refusal.detail, _LONGEST_DETAIL), ready)


def misfit(function: Callable[..., Any], call: Call, error: BaseException) -> Unrunnable | None:
    """Whether `error` means that the arguments do not fit the function, so that it was never entered."""
    if _own_frames(error) is not None or not issubclass(type(error), TypeError):
        return None
    try:
        inspect.signature(function).bind(*call.args, **call.kwargs)
    except TypeError as reason:
        return Unrunnable(Reason.BAD_ARGUMENTS, f"{call.func_path}: {reason}")
    except ValueError:  # a C function without a signature
        return None
    return None


def describe(error: BaseException) -> str:
    """The traceback of a task's exception, from the task's own code on. Of one that is too long what says most is left: the
    type, the beginning of what it says, and the innermost frame."""
    return described(error, _own_frames(error))


def described(error: BaseException, frames: TracebackType | None) -> str:
    """A traceback, of these frames."""
    lines = traceback.format_exception(type(error), error, frames)
    text = "".join(lines)
    if len(text) <= _LONGEST_DETAIL:
        return text
    said_last = traceback.format_exception_only(type(error), error)
    count = len(said_last) + (frames is not None)
    if lines[-len(said_last) :] != said_last:  # a group of exceptions: what it is stands at the beginning
        return shortened(text, _LONGEST_DETAIL)
    innermost = shortened("".join(lines[-count : -len(said_last)]), 1000)
    essence = innermost + shortened("".join(said_last), _LONGEST_ESSENCE)
    return shortened("".join(lines[:-count]), _LONGEST_DETAIL - len(essence)) + essence


def _own_frames(error: BaseException) -> TracebackType | None:
    """The frames of the task's own code, whatever its exception says of itself."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return None if trace is None else _own(trace.tb_next)


def _own(trace: TracebackType | None) -> TracebackType | None:
    """What comes after our frames, and those of asyncio and of the import system, in a traceback: the task's own code."""
    trace = inside(trace)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_AROUND):
        trace = inside(trace.tb_next)
    return trace
