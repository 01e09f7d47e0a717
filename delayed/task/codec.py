"""Encodes and decodes tasks and results in MessagePack."""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import msgpack

from ..errors import NotEncodable, Reason, Unrunnable
from .extensions import STRINGS, Unencodable, packable, see_that_hashes_differ, unpacked

_SMALL = 512  # bytes for which there is room at first: to ask for msgpack's usual 256 KiB costs more than to pack a small task
_LOOKED_INTO = 100  # levels of nesting that the search for a wrong argument goes down


# Keys of maps that are arrays or maps, in one task, and what they have in them. Python's hash of them has no secret: whoever
# chooses keys that hash alike makes each look-up a walk over all of them.
_COMPOSITE = (list, dict, msgpack.Timestamp)
_MOST_COMPOSITE, _MOST_PARTS = 1000, 10_000


_LARGE, _MOST_EXTENSIONS = 16_384, 1000  # bytes of a value whose extension types are counted, as they may be keys


def dumps(value: Any) -> bytes:
    """`value` in MessagePack; raises what msgpack raises if that cannot carry it: see `not_encodable`."""
    packer = msgpack.Packer(datetime=True, unicode_errors=STRINGS, default=packable, buf_size=_SMALL)
    data: bytes = packer.pack(value)
    return data


def loads(data: bytes, extension: Callable[[int, bytes], Any] = unpacked) -> Any:
    """The value in `data`.

    Args:
        data: the bytes.
        extension: what makes a value of an extension type.

    Raises:
        Unrunnable: the bytes are not MessagePack, or have an extension type that this process does not know.
    """
    hook = extension if len(data) < _LARGE else _Counted(extension)
    try:
        return msgpack.unpackb(data, timestamp=3, strict_map_key=False, unicode_errors=STRINGS, ext_hook=hook)
    except Unrunnable:
        raise
    except Exception as error:  # msgpack raises a dozen types for bytes that are not what they claim to be
        # Rare, but right: instants outside of datetime's years, and maps whose keys are arrays or maps.
        return _loads_slowly(data, extension, error)


def _loads_slowly(data: bytes, extension: Callable[[int, bytes], Any], error: Exception) -> Any:
    hooks = {"object_pairs_hook": _Maps().made, "ext_hook": extension}
    try:
        return msgpack.unpackb(data, timestamp=0, strict_map_key=False, unicode_errors=STRINGS, **hooks)
    except _TooManyKeys as refusal:
        raise Unrunnable(Reason.UNDECODABLE, str(refusal)) from None
    except Unrunnable:
        raise
    except Exception:
        raise Unrunnable(Reason.UNDECODABLE, f"not MessagePack: {type(error).__name__} {error}".rstrip()) from error


class _Counted:
    """Stops where there are so many values of extension types that, as keys of one map, they must be looked at."""

    def __init__(self, extension: Callable[[int, bytes], Any]) -> None:
        self._extension = extension
        self._left = _MOST_EXTENSIONS

    def __call__(self, code: int, data: bytes) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _TooManyKeys
        return self._extension(code, data)


class _TooManyKeys(Exception):
    pass


class _Maps:
    """Makes the maps of one value, some of whose keys are arrays or maps."""

    def __init__(self) -> None:
        self._keys = self._parts = 0

    def made(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """A map."""
        keys = [self._key(key) if isinstance(key, _COMPOSITE) else key for key, _ in pairs]
        try:
            see_that_hashes_differ(keys)
        except ValueError as error:
            raise _TooManyKeys(str(error)) from None
        return dict(zip(keys, (value for _, value in pairs), strict=True))

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
    places = list(_parts(name, value))
    found = next(filter(None, (_culprit(place, item, depth - 1) for place, item in places)), None)
    if found or isinstance(value, dict | list | tuple):
        return found
    try:
        dumps(value)
    except (TypeError, ValueError, OverflowError) as error:
        return f"{name} is of type {_type_name(value)}, {_advice(value, error)}"
    return None


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a value consists of, by its place."""
    if isinstance(value, dict):
        yield from ((f"a key of {name}", key) for key in value)
        yield from ((f"{name}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"an element of {name}", item) for item in value)
    elif isinstance(value, Enum):
        yield f"{name}.value", value.value
    elif hasattr(type(value), "__dataclass_fields__"):
        yield from ((f"{name}.{field}", getattr(value, field, None)) for field in type(value).__dataclass_fields__)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: Any, error: Exception) -> str:
    if isinstance(value, int):
        return "outside of -2**63 to 2**64-1; send it as a str"
    if isinstance(value, str):
        return f"with characters that have no UTF-8 form ({error})"
    if isinstance(error, Unencodable) and str(error):
        return str(error)
    return "which MessagePack cannot carry; send a str, number, bytes, list or dict that stands for it"
