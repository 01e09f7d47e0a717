"""Encodes and decodes tasks and results in MessagePack."""

from datetime import datetime
from typing import Any

import msgpack

from ..errors import NotEncodable, Reason, Unrunnable

_LOOKED_INTO = 100  # levels of nesting that the search for a wrong argument goes down


# Keys of maps that are arrays or maps, in one task, and what they have in them. Python's hash of them has no secret: whoever
# chooses keys that hash alike makes each look-up a walk over all of them.
_COMPOSITE = (list, dict, msgpack.Timestamp)
_MOST_COMPOSITE, _MOST_PARTS = 1000, 10_000


# Strings that are not UTF-8 (Go has them) come in, and go out again unchanged, as PEP 383 does with file names.
_STRINGS = "surrogateescape"


def dumps(value: Any) -> bytes:
    """`value` in MessagePack; raises what msgpack raises if that cannot carry it: see `not_encodable`."""
    data: bytes = msgpack.packb(value, datetime=True, unicode_errors=_STRINGS)
    return data


def loads(data: bytes) -> Any:
    """The value in `data`.

    Raises:
        Unrunnable: the bytes are not MessagePack.
    """
    try:
        return msgpack.unpackb(data, timestamp=3, strict_map_key=False, unicode_errors=_STRINGS)
    except Exception as error:  # msgpack raises a dozen types for bytes that are not what they claim to be
        # Rare, but right: instants outside of datetime's years, and maps whose keys are arrays or maps.
        made = _Maps().made
        try:
            return msgpack.unpackb(data, timestamp=0, strict_map_key=False, unicode_errors=_STRINGS, object_pairs_hook=made)
        except _TooManyKeys as refusal:
            raise Unrunnable(Reason.UNDECODABLE, str(refusal)) from None
        except Exception:
            raise Unrunnable(Reason.UNDECODABLE, f"not MessagePack: {type(error).__name__} {error}".rstrip()) from error


class _TooManyKeys(Exception):
    pass


class _Maps:
    """Makes the maps of one value, some of whose keys are arrays or maps."""

    def __init__(self) -> None:
        self._keys = self._parts = 0

    def made(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """A map."""
        return {self._key(key) if isinstance(key, _COMPOSITE) else key: value for key, value in pairs}

    def _key(self, key: Any) -> Any:
        self._keys += 1
        if self._keys > _MOST_COMPOSITE:
            raise _TooManyKeys(f"more than {_MOST_COMPOSITE:,} keys of its maps are arrays or maps")
        return self._hashable(key)

    def _hashable(self, key: Any) -> Any:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _TooManyKeys(f"keys of its maps are arrays or maps with more than {_MOST_PARTS:,} elements in all")
        if isinstance(key, list):
            return tuple(map(self._hashable, key))
        if isinstance(key, dict):
            return tuple((name, self._hashable(value)) for name, value in key.items())
        return key


def not_encodable(func_path: str, arguments: dict[str, Any], error: Exception) -> NotEncodable:
    """The error that says which of the `arguments` of a task cannot be sent, and what to do, after `dumps` raised `error`."""
    if "recursion" in str(error):
        return NotEncodable(f"cannot send a task for {func_path}: its arguments are nested more than 1,000 levels deep")
    for name, value in arguments.items():
        found = _culprit(name, value, _LOOKED_INTO)
        if found:
            return NotEncodable(f"cannot send a task for {func_path}: {found}")
    return NotEncodable(f"cannot send a task for {func_path}: somewhere deep in its arguments: {error}")


def _culprit(name: str, value: Any, depth: int) -> str | None:
    """The place and type of the first thing in `value` that MessagePack cannot carry."""
    if depth == 0:
        return None
    if isinstance(value, dict):
        places = [(f"a key of {name}", key) for key in value] + [(f"{name}[{key!r}]", value[key]) for key in value]
    elif isinstance(value, list | tuple):
        places = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    else:
        try:
            dumps(value)
        except (TypeError, ValueError, OverflowError) as error:
            return f"{name} is of type {_type_name(value)}, {_advice(value, error)}"
        return None
    return next(filter(None, (_culprit(place, item, depth - 1) for place, item in places)), None)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: Any, error: Exception) -> str:
    if isinstance(value, int):
        return "outside of -2**63 to 2**64-1; send it as a str"
    if isinstance(value, datetime):
        return "without a time zone; give it one, as in datetime.now(UTC)"
    if isinstance(value, str):
        return f"with characters that have no UTF-8 form ({error})"
    return "which MessagePack cannot carry; send a str, number, bytes, list or dict that stands for it"
