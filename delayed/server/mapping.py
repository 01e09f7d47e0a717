"""Values in JSON: whatever MessagePack can carry, without a loss.

What JSON has no form of its own for is an object with one key that begins with `$`: see docs/server.md.
"""

import contextlib
import json
import math
import re
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import msgpack

from ..errors import DelayedError, Unrunnable
from ..task.codec import dumps
from ..task.extensions import STRINGS, unpacked

DEPTH = 100  # levels of nesting
_SAFE = 2**53 - 1  # integers beyond it are not exact in every JSON reader
_LEAST, _MOST = -(2**63), 2**64 - 1  # that MessagePack carries
_TEXTS = {"$decimal": 1, "$date": 3, "$clock": 4, "$seconds": 5, "$path": 6}  # extension types whose payload is text
_TAGS = {code: tag for tag, code in _TEXTS.items()}
_SETS = {"$set": 7, "$frozenset": 8}
_OF_SETS = {code: tag for tag, code in _SETS.items()}
_UUID = 2
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = bytes(1 if each in b"[{" else 255 for each in range(256))  # as signed numbers, 1 and -1
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class NotJSON(DelayedError):
    """The text is no JSON, or not one that stands for a value."""


def parse(text: bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        NotJSON: it stands for none.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH and depth_of(text) > DEPTH:
        raise NotJSON(f"it is nested more than {DEPTH} levels deep")
    try:
        return _decoder(text.decode())
    except NotJSON:
        raise
    except UnicodeDecodeError as error:
        raise NotJSON(f"it is no UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise NotJSON(f"it is no JSON: {error}") from None


def depth_of(text: bytes) -> int:
    """How deeply a JSON text is nested."""
    # Without escapes what stands between quotation marks is a string: to split there takes a tenth of the time.
    outside = _STRING.sub(b"", text) if b"\\" in text else b"".join(text.split(b'"')[::2])
    brackets = outside.translate(_BRACKETS, _OTHERS)
    return max(accumulate(array("b", brackets)), default=0)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) == 1 and pairs[0][0][:1] == "$":
        return _tagged(*pairs[0])
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotJSON("an object has a key twice")
    return found


def _constant(name: str) -> Any:
    raise NotJSON(f'{name} is no JSON: write {{"$float": "{name}"}}')


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotJSON(f'{text:.50} is too large a number: write {{"$float": "Infinity"}} for what is infinite')
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number).decode


def _tagged(tag: str, value: Any) -> Any:
    try:
        if tag in _TEXTS:
            return _checked(msgpack.ExtType(_TEXTS[tag], _text(value).encode(errors=STRINGS)))
        if tag in _SETS:
            elements = sorted(dumps(each) for each in _list(value))
            head: bytes = msgpack.Packer().pack_array_header(len(elements))
            return _checked(msgpack.ExtType(_SETS[tag], head + b"".join(elements)))
        return _READERS[tag](value)
    except KeyError:
        raise NotJSON(f"{tag!r:.100} is no tag of a value; a map with this key alone is written as {_AS_MAP}") from None
    except Unrunnable as error:
        raise NotJSON(f"{tag}: {error.detail:.500}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise NotJSON(f"{tag}: {error}"[:500]) from None


_AS_MAP = '{"$map": [["…", …]]}'


def _checked(value: msgpack.ExtType) -> msgpack.ExtType:
    unpacked(value.code, value.data)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it takes a string")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("it takes an array")
    return value


def _bytes(value: Any) -> bytes:
    return b64decode(_text(value), validate=True)


def _whole(value: Any) -> int:
    if not re.fullmatch(r"-?\d{1,20}", _text(value)) or not _LEAST <= int(value) <= _MOST:
        raise ValueError("it takes the digits of an integer from -2**63 to 2**64-1")
    return int(value)


def _float(value: Any) -> float:
    if value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError("it is NaN, Infinity or -Infinity")
    return float(value)


def _moment(value: Any) -> msgpack.Timestamp:
    match = _TIME.fullmatch(_text(value))
    if match is None:
        raise ValueError("it takes a time with a zone, as in 2026-01-31T12:00:00Z")
    day, clock, fraction, zone = match.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    return msgpack.Timestamp((moment - _EPOCH) // timedelta(seconds=1), int((fraction or "0").ljust(9, "0")))


def _stamp(value: Any) -> msgpack.Timestamp:
    match value:
        case [int(seconds), int(nanoseconds)] if -(2**63) <= seconds < 2**63 and 0 <= nanoseconds < 10**9:
            return msgpack.Timestamp(int(seconds), int(nanoseconds))
    raise ValueError("it takes [seconds since 1970, nanoseconds]")


def _map(value: Any) -> dict[Any, Any]:
    pairs = [tuple(_list(each)) for each in _list(value)]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("it takes an array of [key, value]")
    found = {_hashable(key): each for key, each in pairs}
    if len(found) != len(pairs):
        raise ValueError("a key is there twice; 1, 1.0 and true are one key")
    return found


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key


def _extension(value: Any) -> msgpack.ExtType:
    match value:
        case [int(code), str(data)] if type(code) is int and 32 <= code <= 127:
            return msgpack.ExtType(code, _bytes(data))
    raise ValueError("it takes [code, base64], with a code of the application's own: 32 to 127")


_READERS: dict[str, Callable[[Any], Any]] = {
    "$bytes": _bytes,
    "$int": _whole,
    "$float": _float,
    "$time": _moment,
    "$stamp": _stamp,
    "$uuid": lambda value: _uuid(_text(value)),
    "$str": lambda value: _bytes(value).decode(errors=STRINGS),
    "$map": _map,
    "$ext": _extension,
}


def _uuid(text: str) -> msgpack.ExtType:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        raise ValueError("it takes a UUID, as in 01234567-89ab-cdef-0123-456789abcdef")
    return msgpack.ExtType(_UUID, bytes.fromhex(text.replace("-", "")))


# The other way


def plain(data: bytes) -> Any:
    """What JSON has in place of a value in MessagePack; the bytes as they are, if they are none, or too deeply nested."""
    try:
        return _unpack(data)
    except Exception:  # msgpack raises a dozen types for bytes that are not what they claim to be
        return {"$msgpack": _base64(data)}


def _unpack(data: bytes) -> Any:
    found = msgpack.unpackb(
        data, timestamp=0, strict_map_key=False, unicode_errors=STRINGS, object_pairs_hook=_Pairs, ext_hook=msgpack.ExtType
    )
    return shown(found)


class _Pairs(list[tuple[Any, Any]]):
    """A map, with keys of any type."""


_FLOATS = {"inf": "Infinity", "-inf": "-Infinity"}
_SIMPLE: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    str: lambda value: value if value.isascii() or _is_text(value) else {"$str": _base64(value.encode(errors=STRINGS))},
    int: lambda value: value if -_SAFE <= value <= _SAFE else {"$int": str(value)},
    float: lambda value: value if math.isfinite(value) else {"$float": _FLOATS.get(str(value), "NaN")},
    bytes: lambda value: {"$bytes": _base64(value)},
}


def shown(value: Any) -> Any:
    """What JSON has in place of a value."""
    simple = _SIMPLE.get(type(value))
    if simple is not None:
        return simple(value)
    if isinstance(value, _Pairs | dict):
        return _shown_map(value if isinstance(value, _Pairs) else list(value.items()))
    if isinstance(value, list | tuple) and not isinstance(value, msgpack.ExtType):
        return [shown(each) for each in value]
    return _shown_odd(value)


def _shown_map(pairs: Sequence[tuple[Any, Any]]) -> Any:
    names = {key for key, _ in pairs if type(key) is str and _is_text(key)}
    if len(names) == len(pairs) and not (len(pairs) == 1 and pairs[0][0][:1] == "$"):
        return {key: shown(value) for key, value in pairs}
    return {"$map": [[shown(key), shown(value)] for key, value in pairs]}


def _shown_odd(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return _written(value)
    if not isinstance(value, msgpack.ExtType):  # a value of Python's
        return plain(dumps(value))
    code, data = value
    with contextlib.suppress(Exception):  # likewise
        if code in _TAGS:
            return {_TAGS[code]: data.decode()}
        if code == _UUID and len(data) == 16:
            text = data.hex()
            return {"$uuid": "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))}
        if code in _OF_SETS and isinstance(elements := _unpack(data), list):
            return {_OF_SETS[code]: elements}
    return {"$ext": [code, _base64(data)]}


def _written(moment: msgpack.Timestamp) -> Any:
    try:
        whole = _EPOCH + timedelta(seconds=moment.seconds)
    except OverflowError:  # out of the years that are written so
        return {"$stamp": [moment.seconds, moment.nanoseconds]}
    fraction = f".{moment.nanoseconds:09}".rstrip("0") if moment.nanoseconds else ""
    return {"$time": f"{whole:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f"{fraction}Z"}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def write(value: Any) -> bytes:
    """A JSON text of a value that `shown` has made, or that is one of JSON's own."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(errors="replace")
