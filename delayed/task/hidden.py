"""Whose arguments nobody shall see: those of functions that DELAYED_HIDE_ARGUMENTS names, or all of them."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from fnmatch import fnmatchcase

VARIABLE = "DELAYED_HIDE_ARGUMENTS"
HIDDEN = "(hidden)"
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
