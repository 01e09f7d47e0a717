"""Modules that are imported when something of them is used first: the one place for what most processes never need.

A file says `if TYPE_CHECKING: import x` and otherwise `x = Later("x")`, where its imports stand; then `x.name` in a function
imports x. What stands outside functions, annotations too, must not use it.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class Later:
    """Stands for a module.

    Args:
        name: its full name.
    """

    __slots__ = ("_module", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._module: ModuleType | None = None

    def __repr__(self) -> str:
        return f"Later({self._name!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        module = self._module
        if module is None:
            module = self._module = import_module(self._name)
        return getattr(module, name)


def names_later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562) whose names in `places` are those of such a module in it."""

    def found(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return found
