"""Turns an exception into the reason why a task failed."""

import asyncio
import importlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ..base.text import name_of, said, shortened
from ..errors import Reason, Unready, Unrunnable
from ..task.decode import Call
from ..task.types import Unfit
from .observed import inside

_LONGEST_DETAIL = 10_000  # characters of a traceback that a dead letter keeps,
_LONGEST_ESSENCE = 5000  # and that are for what was raised, and where
_PACKAGE = Path(__file__).parent.parent
_AROUND = (  # what runs, or imports, what a task names
    "<frozen importlib",
    str(Path(asyncio.__file__).parent),
    str(Path(importlib.__file__).parent),
    *(str(_PACKAGE / wing) + "/" for wing in ("job", "worker")),
)


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
        places = "".join(traceback.format_tb(own_frames(error)))[-_LONGEST_ESSENCE:]
        return Verdict(Reason.FAILED, f"{places}{kind}, which cannot be shown: asking it raised {other}")


def _refused(refusal: Any, *, ready: bool = True) -> Verdict:
    return Verdict(Reason(refusal.reason), shortened(refusal.detail, _LONGEST_DETAIL), ready)


def misfit(function: Callable[..., Any], call: Call, error: BaseException) -> Unrunnable | None:
    """Whether `error` means that the arguments do not fit the function, so that it was never entered."""
    if issubclass(type(error), Unfit):
        return Unrunnable(Reason.BAD_ARGUMENTS, f"{call.func_path}: {said(error)}")
    if own_frames(error) is not None or not issubclass(type(error), TypeError):
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
    return described(error, own_frames(error))


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


def own_frames(error: BaseException) -> TracebackType | None:
    """The frames of the task's own code, whatever its exception says of itself."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return None if trace is None else _own(trace.tb_next)


def _own(trace: TracebackType | None) -> TracebackType | None:
    """What comes after our frames, and those of asyncio and of the import system, in a traceback: the task's own code."""
    trace = inside(trace)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_AROUND):
        trace = inside(trace.tb_next)
    return trace
