"""Prints what the published package that this interpreter finds offers, a JSON line each: module, name and parameters.

A module's names are those that it defines, without those that begin with an underscore.
"""

import ast
import inspect
import json
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

import delayed


def defined(module: ModuleType) -> list[str]:
    """The public names that a module's own statements make."""
    names: list[str] = []
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.Assign):
            names += [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(statement.name)
    return [name for name in names if not name.startswith("_")]


def parameters(what: Any) -> list[str] | None:
    """The names of what it takes, in order; None for what cannot be called."""
    return list(inspect.signature(what).parameters) if callable(what) else None


def show(module: str, name: str, what: Any) -> None:
    """Print one name."""
    print(json.dumps([module, name, parameters(what)]))


def main() -> None:
    """See the module."""
    for found in pkgutil.iter_modules(delayed.__path__, "delayed."):
        module = import_module(found.name)
        for name in defined(module):
            value = getattr(module, name)
            show(found.name, name, value)
            if isinstance(value, type):
                for member in vars(value):
                    if not member.startswith("_"):
                        show(found.name, f"{name}.{member}", getattr(value, member))
    queue: Any = None
    show("delayed.delay", "delayed()", delayed.delay.delayed(queue))  # the decorator itself


if __name__ == "__main__":
    main()
