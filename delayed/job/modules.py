"""Finds out whether modules exist, without importing them."""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.machinery import ModuleSpec

_WILD = re.compile(r"[*?\[]")


def absent(patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The patterns of an allow-list that allow nothing here, as there is no such module, and that module's name. Where the
    module has a wildcard, only what stands before it is looked for."""
    for pattern in patterns:
        name = pattern.partition(":")[0]
        if wild := _WILD.search(name):
            name = name[: wild.start()].rpartition(".")[0]
        if name and (lacking := missing(name)):
            yield pattern, lacking


def missing(name: str) -> str | None:
    """The first part of a module's dotted name that is not there; None if all of it is."""
    path: Sequence[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        if part in sys.modules:
            path = list(getattr(sys.modules[part], "__path__", ()))
        elif spec := _spec(part, path):
            path = spec.submodule_search_locations or ()
        else:
            return part
    return None


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with suppress(Exception):  # somebody else's finder
            if spec := finder.find_spec(name, path):
                return spec
    return None


def unmatched(patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The patterns that match no name of a module which has been imported, and that module's name."""
    for pattern in patterns:
        name, _, function = pattern.partition(":")
        module = sys.modules.get(name)
        if module is not None and not any(fnmatchcase(each, function.partition(".")[0]) for each in dir(module)):
            yield pattern, name
