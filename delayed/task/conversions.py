"""Makes of a value, as it arrives, one of the type that an annotation says."""

import enum
import sys
import types
import typing
from collections import abc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Union
from uuid import UUID

from ..base.text import name_of, said

Conversion = Callable[[Any], Any]  # of one value


class Unfit(TypeError):
    """An argument is not what its annotation says."""


def converted(convert: Conversion | None, value: Any, place: str) -> Any:
    """What `convert` makes of a value; None leaves it as it is.

    Raises:
        Unfit: it cannot be converted; the message begins with `place`.
    """
    if convert is None:
        return value
    try:
        return convert(value)
    except Unfit as error:
        raise Unfit(f"{place}: {error}") from error
    except Exception as error:  # of a type's own making
        raise Unfit(f"{place}: {name_of(type(error))} {said(error, 1000)}".rstrip()) from error


def hints_of(thing: Any) -> dict[str, Any]:
    """The annotations of a function or a class that can be resolved."""
    try:
        return typing.get_type_hints(thing)
    except Exception:  # one by one, as others may be good
        hints: dict[str, Any] = {}
        for name, hint in getattr(thing, "__annotations__", {}).items():
            one = types.SimpleNamespace(__annotations__={name: hint}, __module__=thing.__module__)
            names = getattr(thing, "__globals__", None) or vars(sys.modules[thing.__module__])
            with suppress(Exception):
                hints |= typing.get_type_hints(one, names)
        return hints


def _refuse(value: Any, wanted: str) -> typing.NoReturn:
    raise Unfit(f"{name_of(type(value))} is not {wanted}")


_BUILT: dict[Any, Conversion | None] = {}  # of classes: they may contain themselves


def conversion(hint: Any) -> Conversion | None:
    """What makes a value of this annotation; None if it is taken as it arrives."""
    hint = _bare(hint)
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return _of_union(typing.get_args(hint))
    if isinstance(hint, type) and origin is None:
        if hint not in _BUILT:
            _BUILT[hint] = _of_class(hint)
        return _BUILT[hint]
    if isinstance(origin, type):
        return _of_generic(hint, origin, typing.get_args(hint))
    return None


def _bare(hint: Any) -> Any:
    """Without what only type checkers need: `Annotated`, `NewType`, `type X = …`, `Required`."""
    while True:
        if typing.get_origin(hint) in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _of_union(members: tuple[Any, ...]) -> Conversion | None:
    conversions = [(_bare(member), conversion(member)) for member in members]
    if all(conversion is None for _, conversion in conversions):
        return None
    plain = tuple(member for member, conversion in conversions if conversion is None and isinstance(member, type))
    open_ = any(conversion is None and not isinstance(member, type) for member, conversion in conversions)

    def convert(value: Any) -> Any:
        """A value of a type that needs nothing is left, another goes to the first member that takes it."""
        if value is None or type(value) in plain:
            return value
        for _, conversion in conversions:
            if conversion is not None:
                with suppress(Exception):
                    return conversion(value)
        if open_ or isinstance(value, plain):
            return value
        _refuse(value, " | ".join(getattr(member, "__name__", str(member)) for member in members))

    return convert


_SETS = (set, frozenset, abc.Set, abc.MutableSet)
_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_MAPS = (dict, abc.Mapping, abc.MutableMapping)


def _of_generic(hint: Any, origin: type, args: tuple[Any, ...]) -> Conversion | None:
    """Of `tuple[…]`, `list[…]`, `dict[…]` and the like."""
    if origin is tuple:
        return _of_tuple(hint, args)
    if origin in _SETS:
        return partial(_to_set, frozenset if origin is frozenset else set, conversion(args[0]))
    if origin in _LISTS:
        each = conversion(args[0])
        return partial(_to_list, each) if each is not None else None
    if origin in _MAPS and len(args) == 2:
        key, item = conversion(args[0]), conversion(args[1])
        return partial(_to_dict, key, item) if key is not None or item is not None else None
    if hasattr(origin, "__struct_fields__") or is_dataclass(origin):
        return _of_model(hint if hasattr(origin, "__struct_fields__") else origin)
    return None


def _to_set(kind: type, each: Conversion | None, value: Any) -> Any:
    if not isinstance(value, (set, frozenset, list, tuple)):
        _refuse(value, kind.__name__)
    return kind(value) if each is None else kind(converted(each, item, "an element") for item in value)


def _to_list(each: Conversion, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        _refuse(value, "a list")
    return [converted(each, item, f"[{index}]") for index, item in enumerate(value)]


def _to_dict(key: Conversion | None, item: Conversion | None, value: Any) -> Any:
    if not isinstance(value, dict):
        _refuse(value, "a dict")
    return {converted(key, name, "a key"): converted(item, each, f"[{name!r:.40}]") for name, each in value.items()}


def _of_tuple(hint: Any, args: tuple[Any, ...]) -> Conversion:
    if len(args) == 2 and args[1] is ...:
        rest = conversion(args[0])
        return lambda value: tuple(converted(rest, item, f"[{index}]") for index, item in enumerate(_array(value, hint)))
    each = [conversion(arg) for arg in args]

    def convert(value: Any) -> Any:
        if len(_array(value, hint)) != len(each):
            raise Unfit(f"{len(value)} values are not {hint}")
        return tuple(converted(one, item, f"[{index}]") for index, (one, item) in enumerate(zip(each, value, strict=True)))

    return convert


def _array(value: Any, hint: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else _refuse(value, getattr(hint, "__name__", str(hint)))


_TEXTS: dict[type, Callable[[str], Any]] = {
    UUID: UUID,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
    time: time.fromisoformat,
    Path: Path,
}


_KNOWN: dict[type, Conversion] = {
    timedelta: lambda value: value if isinstance(value, timedelta) else timedelta(seconds=_number(value)),
    tuple: lambda value: tuple(_array(value, tuple)),
    set: lambda value: _to_set(set, None, value),
    frozenset: lambda value: _to_set(frozenset, None, value),
}


def _of_class(kind: Any) -> Conversion | None:
    if kind in _TEXTS:
        return partial(_from_text, kind, _TEXTS[kind])
    if kind in _KNOWN:
        return _KNOWN[kind]
    if kind.__module__ == "decimal" and kind.__name__ == "Decimal":
        return lambda value: value if isinstance(value, kind) else kind(_exact(value))
    if issubclass(kind, enum.Enum):
        return partial(_to_enum, kind)
    return _of_model(kind)


def _of_model(kind: Any) -> Conversion | None:
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate"):
        validate: Conversion = kind.model_validate
        return validate
    if hasattr(kind, "__struct_fields__") and "msgspec" in sys.modules:
        return partial(sys.modules["msgspec"].convert, type=kind)
    if is_dataclass(kind):
        return _Fields(kind, {field.name for field in fields(kind) if field.init})
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _NamedTuple(kind)
    if typing.is_typeddict(kind):
        return _Fields(kind, None)
    return None


def _from_text(kind: type, read: Callable[[str], Any], value: Any) -> Any:
    if isinstance(value, kind):
        return value
    return read(value) if isinstance(value, str) else _refuse(value, kind.__name__)


def _number(value: Any) -> Any:
    return value if type(value) in (int, float) else _refuse(value, "timedelta, or its seconds")


def _exact(value: Any) -> Any:
    """A float is no money."""
    return value if type(value) in (int, str) else _refuse(value, "Decimal, nor a str or int of it")


def _to_enum(kind: Any, value: Any) -> Any:
    for candidate in (value, _hashable(value)):
        with suppress(ValueError, TypeError):
            return kind(candidate)
    _refuse(value, f"the value of a {kind.__name__}")


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


class _Fields:
    """Makes a dataclass or a typed dict of a map. The types of its fields are found when they are first needed, as they may be
    the class itself."""

    def __init__(self, kind: Any, names: set[str] | None) -> None:
        self._kind, self._names = kind, names
        self._conversions: dict[str, Conversion | None] | None = None

    def __call__(self, value: Any) -> Any:
        """The value."""
        kind = self._kind
        if not isinstance(value, dict):
            return value if self._names is not None and isinstance(value, kind) else _refuse(value, kind.__name__)
        if self._conversions is None:
            self._conversions = {name: conversion(hint) for name, hint in hints_of(kind).items()}
        unknown = [] if self._names is None else [name for name in value if name not in self._names]
        if unknown:
            raise Unfit(f"{kind.__name__} has no field {unknown[0]!r:.40}")
        return kind(**{name: converted(self._conversions.get(name), each, f".{name}") for name, each in value.items()})


class _NamedTuple:
    """Makes a named tuple of an array."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._conversions: list[Conversion | None] | None = None

    def __call__(self, value: Any) -> Any:
        """The value."""
        names = self._kind._fields
        if self._conversions is None:
            hints = hints_of(self._kind)
            self._conversions = [conversion(hints.get(name, Any)) for name in names]
        if len(_array(value, self._kind)) > len(names):
            raise Unfit(f"{len(value)} values are not {self._kind.__name__}")
        pairs = zip(self._conversions, value, names, strict=False)
        return self._kind(*(converted(each, item, f".{name}") for each, item, name in pairs))
