"""Values that MessagePack has no form of its own for, as its extension types: see docs/protocol.md, section 2."""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from sys import modules
from typing import Any, NamedTuple, TypeVar

import msgpack

from ..base.text import module_of, name_of, said
from ..errors import ConfigurationError, Reason, Unrunnable

_DECIMAL, _UUID, _DATE, _TIME, _TIMEDELTA, _PATH, _SET, _FROZENSET = range(1, 9)
_NAMES = dict(enumerate(("Decimal", "UUID", "date", "time", "timedelta", "Path", "set", "frozenset"), 1))
_OURS, _OWN = range(1, 32), range(32, 128)  # codes of this package, and of applications; others pass as they are
_DEEPEST = 4  # levels of extension types in each other: each takes a stack of its own to read
_MOST_ALIKE = 1000  # elements or keys that hash as another one does: each would be compared with all of these

STRINGS = "surrogateescape"  # strings that are not UTF-8 come in, and go out again unchanged, as PEP 383 does with file names

# Of these, and of instants, MessagePack has forms of its own.
_CARRIED = (type(None), int, float, str, bytes, bytearray, memoryview, list, tuple, dict)
_T = TypeVar("_T")


class _Own(NamedTuple):
    """A type of an application."""

    kind: type
    decode: Callable[[Any], Any]


_own: dict[int, _Own] = {}  # by code
_encoders: dict[type, Callable[[Any], Any]] = {}
_around: dict[type, Callable[[Any, int], Any]] = {}  # likewise, for types with values in them: these get their depth


def encoder(kind: type[_T], code: int, encode: Callable[[_T], Any], decode: Callable[[Any], _T]) -> None:
    """Teach this process a type: values of it can be arguments and results. Each process that sends or reads them needs this.

    Args:
        kind: the type; its subclasses are sent likewise, and arrive as this type.
        code: the number of its extension type, from 32 to 127; the same in all programs, and of no other type.
        encode: makes of a value one that can be sent.
        decode: makes a value again of what `encode` made (where that had a tuple, it has a list).

    Raises:
        ConfigurationError: the code is out of range or taken, or MessagePack carries the type by itself.
    """
    name = f"{module_of(kind)}.{name_of(kind)}"
    if type(code) is not int or code not in _OWN:
        raise ConfigurationError(f"the code {code!r} of {name} must be a whole number from {_OWN[0]} to {_OWN[-1]}")
    carried = next((base.__name__ for base in _CARRIED if issubclass(kind, base)), "")
    if carried:
        raise ConfigurationError(f"{name} is sent as the {carried} that it is: its encoder would not be asked")
    taken = _own.get(code)
    if taken is not None and (taken.kind.__module__, taken.kind.__qualname__) != (kind.__module__, kind.__qualname__):
        other = f"{module_of(taken.kind)}.{name_of(taken.kind)}"
        raise ConfigurationError(f"the code {code} of {name} is that of {other}: use another")
    _own[code] = _Own(kind, decode)
    _around[kind] = lambda value, depth: msgpack.ExtType(code, _packed(encode(value), depth))


def packable(value: Any, depth: int = 0) -> Any:
    """What MessagePack can carry in place of a value that it cannot: an extension type, or a plain value, if it is of a type
    that the annotation of a parameter brings back. It is called for such values alone.

    Raises:
        TypeError: there is nothing, or an encoder failed.
    """
    kind = type(value)
    try:
        for base in kind.__mro__:
            if base in _around:
                _see_that_it_fits(depth)
                return _around[base](value, depth)
            if base in _encoders:
                return _encoders[base](value)
            if base.__module__ == "decimal" and base.__name__ == "Decimal":  # not imported for those who have none
                return msgpack.ExtType(_DECIMAL, str(value).encode())
        return _as_map(value, kind, depth)
    except RecursionError:
        raise ValueError("recursion limit exceeded") from None
    except Unencodable:
        raise
    except Exception as error:
        raise Unencodable(said(error, 1000) or name_of(type(error))) from error


def _see_that_it_fits(depth: int) -> None:
    if depth >= _DEEPEST:
        raise Unencodable(
            f"in more than {_DEEPEST - 1} others; sets and own types are in each other {_DEEPEST} levels deep at most"
        )


class UnknownType(Unrunnable):
    """A value is of an extension type that this process does not know."""


class Unencodable(TypeError):
    """Neither MessagePack nor our extension types have a form for the value; the message says why, if there is more to say."""


def _as_map(value: Any, kind: type, depth: int) -> dict[str, Any]:
    """A dataclass, or a model of pydantic or msgspec, as the map of its fields."""
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump"):
        plain: dict[str, Any] = value.model_dump(by_alias=True, round_trip=True)
    elif hasattr(kind, "__struct_fields__") and "msgspec" in modules:
        given = (bytes, bytearray, datetime, date, time, timedelta, uuid.UUID, import_module("decimal").Decimal)
        plain = modules["msgspec"].to_builtins(value, builtin_types=given)
    elif hasattr(kind, "__dataclass_fields__"):
        plain = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    else:
        raise Unencodable
    if depth:
        raise Unencodable(f"a {name_of(kind)} in a set arrives as a map, which no set can have; send a list")
    return plain


def _packed(value: Any, depth: int) -> bytes:
    default = partial(packable, depth=depth + 1)
    data: bytes = msgpack.packb(value, datetime=True, unicode_errors=STRINGS, default=default)
    return data


def _from_enum(value: Enum) -> Any:
    plain = value.value
    aware = type(plain) is datetime and plain.tzinfo is not None
    return plain if aware or isinstance(plain, _CARRIED) else packable(plain)  # MessagePack asks only once for each value


def _from_datetime(value: datetime) -> Any:
    if value.tzinfo is None:
        raise Unencodable("without a time zone; give it one, as in datetime.now(UTC)")
    raise Unencodable


def _from_time(value: time) -> Any:
    if value.tzinfo is not None:
        raise Unencodable("with a time zone, which means nothing without a day; send a datetime")
    return msgpack.ExtType(_TIME, value.isoformat().encode())


def _from_timedelta(value: timedelta) -> Any:
    count = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, rest = divmod(abs(count), 1_000_000)
    text = f"{'-' * (count < 0)}{seconds}" + f".{rest:06}".rstrip("0") * (rest > 0)
    return msgpack.ExtType(_TIMEDELTA, text.encode())


def _from_set(code: int, value: set[Any], depth: int) -> Any:
    """The elements in the order of their bytes, so that equal sets have equal ones."""
    head: bytes = msgpack.Packer().pack_array_header(len(value))
    return msgpack.ExtType(code, head + b"".join(sorted(_packed(element, depth) for element in value)))


_encoders.update(
    {
        uuid.UUID: lambda value: msgpack.ExtType(_UUID, value.bytes),
        datetime: _from_datetime,
        date: lambda value: msgpack.ExtType(_DATE, date.isoformat(value).encode()),
        time: _from_time,
        timedelta: _from_timedelta,
        Path: lambda value: msgpack.ExtType(_PATH, str(value).encode(errors=STRINGS)),
        Enum: _from_enum,
    }
)
_around.update({set: partial(_from_set, _SET), frozenset: partial(_from_set, _FROZENSET)})


def unpacked(code: int, data: bytes, depth: int = 0) -> Any:
    """The value of an extension type, for msgpack's `ext_hook`.

    Raises:
        Unrunnable: this process does not know the type, or it has not such a payload.
    """
    if code not in _NAMES and code not in _own:
        return _unknown(code, data)
    try:
        return _value(code, data, depth)
    except Unrunnable:
        raise
    except BaseException as error:  # the decoder may be an application's
        name = _NAMES.get(code) or name_of(_own[code].kind)
        words = f"not a value of extension type {code} ({name}): {name_of(type(error))} {said(error, 1000)}"
        raise Unrunnable(Reason.UNDECODABLE, words.rstrip()) from error


def _value(code: int, data: bytes, depth: int) -> Any:
    if code in _decoders:
        return _decoders[code](data)
    if depth >= _DEEPEST:
        raise ValueError(f"it is in {_DEEPEST} others")
    if code == _SET:
        return set(_elements(data, depth))
    if code == _FROZENSET:
        return frozenset(_elements(data, depth))
    return _own[code].decode(_inner(data, depth))


def _unknown(code: int, data: bytes) -> Any:
    if code in _OURS:
        words = f"it has a value of extension type {code}, which this version does not know: upgrade it"
    elif code in _OWN:
        words = f"it has a value of extension type {code}, and this process has no encoder of that code: register the type's"
    else:
        return msgpack.ExtType(code, data)
    raise UnknownType(Reason.UNDECODABLE, words)


def shown(code: int, data: bytes) -> Any:
    """As `unpacked`, for a human to read: what is not known is shown as it is."""
    try:
        return unpacked(code, data)
    except Unrunnable:
        return msgpack.ExtType(code, data)


def see_that_hashes_differ(values: Sequence[Any]) -> None:
    """Refuses what makes each look-up a walk over all: Python's hashes of numbers, and of what consists of numbers, have no
    secret, so that whoever chooses the values may choose some that hash alike.

    Raises:
        ValueError: too many of the values hash alike.
    """
    if len(values) > _MOST_ALIKE and len(values) - len(set(map(hash, values))) > _MOST_ALIKE:
        raise ValueError(f"more than {_MOST_ALIKE:,} elements or keys hash alike")


def _elements(data: bytes, depth: int) -> tuple[Any, ...]:
    elements = _inner(data, depth, lists=False)  # arrays arrive as tuples, as a set can have no lists
    if type(elements) is not tuple:
        raise ValueError("no array")
    see_that_hashes_differ(elements)
    return elements


def _inner(data: bytes, depth: int, *, lists: bool = True) -> Any:
    hook = partial(unpacked, depth=depth + 1)
    return msgpack.unpackb(data, timestamp=3, strict_map_key=False, unicode_errors=STRINGS, ext_hook=hook, use_list=lists)


_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[Ee][+-]?[0-9]+)?|[+-]?(?:Infinity|s?NaN[0-9]*)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?")
_SECONDS = re.compile(r"(-?)([0-9]{1,14})(?:\.([0-9]{1,9}))?")


def _matched(form: re.Pattern[str], data: bytes) -> re.Match[str]:
    match = form.fullmatch(data.decode())
    if match is None:
        raise ValueError(f"{data[:40]!r}")
    return match


def _to_timedelta(data: bytes) -> timedelta:
    """A fraction of a microsecond is rounded to the nearest."""
    sign, seconds, fraction = _matched(_SECONDS, data).groups("")
    whole, rest = divmod(int(fraction.ljust(9, "0")), 1000)
    length = timedelta(seconds=int(seconds), microseconds=whole + (rest >= 500))
    return -length if sign else length


_decoders: dict[int, Callable[[bytes], Any]] = {
    _DECIMAL: lambda data: import_module("decimal").Decimal(_matched(_NUMBER, data)[0]),
    _UUID: lambda data: uuid.UUID(bytes=data),
    _DATE: lambda data: date.fromisoformat(_matched(_DAY, data)[0]),
    _TIME: lambda data: time.fromisoformat(_matched(_CLOCK, data)[0]),
    _TIMEDELTA: _to_timedelta,
    _PATH: lambda data: Path(data.decode(errors=STRINGS)),
}
