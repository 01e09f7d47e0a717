"""What patterns are held against: the entries of what is published, as texts.

As in JavaScript, from which this comes: of a map its keys and values, of an array its places and elements, of a text its
places and characters; anything else has none. interop/internal/interest/entries.go is the same in Go.
"""

import math
from itertools import islice
from typing import Any

import msgpack

from ..errors import InvalidTask
from .pattern import READ, bounded

MOST = 1000  # entries
_DEEPEST = 16  # arrays in each other that become texts
_OTHER = "[object Object]"
_WORDS = {None: "null", True: "true", False: "false"}
_STRINGS = "surrogateescape"


class _Map(list[tuple[Any, Any]]):
    """The pairs of a map, whatever its keys are."""


def entries(packed: bytes) -> list[tuple[str, str]]:
    """The entries of a value in MessagePack.

    Raises:
        InvalidTask: it is a map with more than 1,000.
    """
    value = msgpack.unpackb(
        packed, strict_map_key=False, unicode_errors=_STRINGS, object_pairs_hook=_Map, ext_hook=_nothing, timestamp=0
    )
    if isinstance(value, _Map):
        if len(value) > MOST:
            raise InvalidTask(f"what is published has {MOST:,} entries at most, not {len(value):,}: put them into one value")
        pairs = ((_key(key), each) for key, each in value)
        return [(bounded(key), bounded(_text(each))) for key, each in pairs if key is not None]
    if isinstance(value, bytes):
        value = value.decode(errors=_STRINGS)
    if isinstance(value, list | str):
        return [(str(at), bounded(_text(each))) for at, each in enumerate(islice(value, MOST))]
    return []


def _nothing(code: int, data: bytes) -> None:  # noqa: ARG001  # msgpack's signature
    return None


def _key(key: Any) -> str | None:
    """A key as text; None for one that has no such form."""
    if isinstance(key, bool) or not isinstance(key, str | bytes | int):
        return None
    return _text(key)


def _text(value: Any, depth: int = 0) -> str:
    """A value as JavaScript makes a text of it."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else number(value)
    if isinstance(value, bytes):
        return value.decode(errors=_STRINGS)
    if isinstance(value, list) and not isinstance(value, _Map) and depth < _DEEPEST:
        # Each element adds a comma at least: no more of them are looked at.
        return ",".join("" if each is None else _text(each, depth + 1) for each in value[:READ])
    return _OTHER


def number(value: float) -> str:
    """A floating point number as JavaScript writes it."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" and not exponent else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or 0)  # digits before the point
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:  # where JavaScript changes its form
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + (f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits) + power
