"""Finds the path of a function, or explains why it has none."""

import functools
import inspect
import sys
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ..errors import InvalidTask
from .decode import SEPARATOR

SCRIPT = f"__main__{SEPARATOR}"
OF_A_SCRIPT = (
    "{} is a function of the script itself, which other processes cannot import: put it into a module of its own and import "
    "it from there (or start the program as `python -m module`)"
)
_told: set[str] = set()  # functions of the script that there was a warning for


def path_of_function(func: Callable[..., object]) -> str:
    """The path by which a function is found in its module.

    Raises:
        InvalidTask: it has none; the message says why, and what to do.
    """
    if type(func) is FunctionType and func.__qualname__ == func.__name__ and func.__name__ != "<lambda>":
        module = func.__module__
        flags = func.__code__.co_flags
        if module and not flags & _GENERATES and func.__name__.isidentifier():
            return f"{_known_as(module) if module == '__main__' else module}{SEPARATOR}{func.__name__}"
    reason = _reason(func)
    if reason:
        raise InvalidTask(reason)
    return f"{_known_as(func.__module__)}{SEPARATOR}{func.__name__}"


_GENERATES = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _known_as(module: str) -> str:
    """With `python -m pkg.mod` workers know the module by its real name."""
    spec = getattr(sys.modules["__main__"], "__spec__", None) if module == "__main__" else None
    return spec.name if spec is not None else module


def _reason(func: Any) -> str:
    """Why no worker could call this; empty if one could."""
    module: Any = getattr(func, "__module__", None)
    name: Any = getattr(func, "__name__", None)
    inside: Any = getattr(func, "__qualname__", name)
    if not callable(func):
        reason = f"a task needs a function or the path of one, not {func!r:.200}"
    elif isinstance(func, functools.partial):
        inner = getattr(func.func, "__name__", "function")
        reason = f"a partial has no path that a worker could import: enqueue {inner} itself, and give the task its arguments"
    elif inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        reason = (
            f"{inside} is a generator function, of which a call runs nothing: write a function that goes through it, and "
            f"enqueue that"
        )
    elif not all(isinstance(each, str) and each for each in (module, name, inside)):
        reason = (
            f"an object of {type(func).__qualname__} has no path that a worker could import: write a function at the top of a "
            f"module that calls it (if it wraps a function, give it functools.update_wrapper)"
        )
    elif name == "<lambda>":
        reason = "a lambda has no path that a worker could import: define it with `def` at the top of a module"
    elif "<locals>" in inside:
        reason = _of_a_local(func, inside)
    elif "." in inside and getattr(sys.modules.get(module), name, None) != func:  # (random's `randint` is one, and is found)
        reason = (
            f"{inside} has no path that a worker could import, as it belongs to a class: write a function at the top of the "
            f"module that calls it, and enqueue that"
        )
    else:
        reason = ""
    return reason


def _of_a_local(func: Any, inside: str) -> str:
    """What to do about a function that another function has made."""
    outer = inside.split(".<locals>", maxsplit=1)[0]
    wrapped = [cell.cell_contents for cell in getattr(func, "__closure__", None) or () if _has_contents(cell)]
    if any(callable(each) and "<locals>" not in getattr(each, "__qualname__", "<locals>") for each in wrapped):
        return (
            f"{inside} has no path that a worker could import: if {outer} is a decorator, put @functools.wraps(function) "
            f"above its wrapper, which then has the function's name; else move the function to the top of its module"
        )
    return (
        f"{inside} has no path that a worker could import, as it is defined inside of {outer}: move it to the top of its "
        f"module, and give it what it needs as arguments (if {outer} is a decorator, give its wrapper functools.wraps)"
    )


def _has_contents(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # it raises where there are none yet
    except ValueError:
        return False
    return True


def see_that_it_leads_back(func: Any, path: str) -> None:
    """See that a worker which follows `path` finds `func`, or what wraps it.

    Raises:
        InvalidTask: it would find something else.
    """
    module, name = sys.modules.get(func.__module__), func.__name__
    found = getattr(module, name, None)
    if found is func or module is None or (found is None and _is_unfinished(module)):
        return
    while (inner := getattr(found, "__wrapped__", None)) is not None:
        if inner is func:
            return
        found = inner
    there = "nothing" if getattr(module, name, None) is None else "something else"
    raise InvalidTask(
        f"{path} does not lead to this function: there is {there} of that name in the module. Enqueue what is there, or give "
        f"the function a name of its own at the top of its module"
    )


def _is_unfinished(module: Any) -> bool:
    """Whether a module may get a name in a moment: it is being imported, or it is the script that runs."""
    return module.__name__ == "__main__" or getattr(getattr(module, "__spec__", None), "_initializing", False)


def importable(path: str, depth: int = 3) -> str:
    """The path of a function; there is a warning, once for each, if only this very script can run it, as the older examples
    do.

    Args:
        path: the path.
        depth: how many calls up whoever shall read that is.
    """
    if path.startswith(SCRIPT) and path not in _told:
        _told.add(path)
        warnings.warn(OF_A_SCRIPT.format(path), UserWarning, stacklevel=depth)
    return path
