"""Whose arguments nobody shall see: those of functions that DELAYED_HIDE_ARGUMENTS names, or all of them. Their errors may
quote arguments, and so no more of them is seen than the type."""

import builtins
import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from fnmatch import fnmatchcase

from ..base.text import summary
from ..errors import Reason

VARIABLE = "DELAYED_HIDE_ARGUMENTS"
HIDDEN = "(hidden)"
_TYPE = re.compile(r"([A-Za-z_][\w.<>]*)(?=:|$)")
_NAMED_AS_ERRORS = re.compile(r"(Error|Exception|Warning|Exit|Timeout|Interrupt|Group|Failed|Failure|NotFound|DoesNotExist)$")
_BUILT_IN = frozenset(name for name, kind in vars(builtins).items() if type(kind) is type and issubclass(kind, BaseException))
_ALL = ContextVar("delayed_all_arguments_are_hidden", default=False)


@contextlib.contextmanager
def hiding(every: bool) -> Iterator[None]:
    """Hide the arguments of every function meanwhile, in this thread or coroutine, or no others than those that are named."""
    token = _ALL.set(every)
    try:
        yield
    finally:
        _ALL.reset(token)


def hides_all() -> bool:
    """Whether the arguments of every function are hidden."""
    return _ALL.get()


def hides() -> bool:
    """Whether there are functions whose arguments are hidden."""
    return _ALL.get() or bool(os.environ.get(VARIABLE, "").split())


def is_hidden(path: str) -> bool:
    """Whether the arguments of the function with this path are hidden. The variable has patterns between spaces."""
    return _ALL.get() or any(fnmatchcase(path, pattern) for pattern in os.environ.get(VARIABLE, "").split())


def said_of(path: str, error: str) -> str:
    """What an error of the function with this path says, as it may be shown; of a path that is not known (it is empty), as if
    it were one whose arguments are hidden, if there are such."""
    return kind_in(error) if error and (is_hidden(path) if path else hides()) else error


def kind_in(error: str) -> str:
    """The type of an exception, or the reason of a dead letter, with which an error begins or a traceback ends. What is not
    named as such may be a part of what somebody has written: that is hidden."""
    match = _TYPE.match(summary(error))
    name = "" if match is None else match[1].rpartition(".")[2]
    return match[1] if match and (name in _BUILT_IN or name in list(Reason) or _NAMED_AS_ERRORS.search(name)) else HIDDEN
