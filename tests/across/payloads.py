"""Payloads in the notation of docs/protocol.md, section 9, and what must come back."""

import math
import random
from typing import Any

import msgpack

Value = dict[str, Any]


def payloads() -> list[Value]:
    """At least 300, always the same."""
    rng = random.Random(20261121)
    ints = sorted(
        {sign * (1 << bits) + off for bits in range(64) for sign in (1, -1) for off in (-1, 0, 1)} | {2**64 - 1, 2**64 - 2}
    )
    values: list[Value] = [{"int": str(number)} for number in ints if -(2**63) <= number < 2**64]
    values += [{"nil": True}, {"bool": True}, {"bool": False}, {"str": ""}, {"bin": ""}, {"list": []}, {"map": []}]
    floats = ["0.0", "-0.0", "1.5", "-1e-300", "1.7976931348623157e308", "5e-324", "nan", "inf", "-inf", "0.1"]
    values += [{"float": text} for text in floats]
    values += [{"str": char * length} for char in ("a", "é", "€", "😀") for length in (1, 31, 32, 255, 256)]
    values += [{"str": "\x00"}, {"str": "line\nline"}, {"str": "a\u0301"}]
    values += [{"bin": bytes(rng.randrange(256) for _ in range(size)).hex()} for size in (1, 255, 256, 1000)]
    values += [{"repeat": ["x", 1 << 20]}, {"deep": 100}]
    seconds = [-62135596800, -86400 * 365, -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**34 - 1, 2**34, 253402300799]
    values += [{"time": [str(second), nano]} for second in seconds for nano in (0, 500_000_000, 123_456_000)]
    values += [{"map": [[{"int": str(key)}, {"str": "v"}]]} for key in (-(2**63), -1, 0, 1, 2**64 - 1)]
    values += [{"map": [[{"str": "k"}, {"map": [[{"int": "1"}, {"list": [{"nil": True}]}]]}]]}]
    values += [{"struct": [{"int": "1"}, {"struct": [{"str": "inner"}, {"bool": True}]}]}]
    values += [{"list": [rng.choice(values[:200]) for _ in range(rng.randrange(1, 17))]} for _ in range(20)]
    return values


def matches(data: bytes, value: Value) -> bool:
    """Whether `value` came back as `data`. A struct may arrive as the list of its fields or as a map of them."""
    got = unpacked(data)
    return bool(got == expected(value) or got == expected(value, named=True))


def unpacked(data: bytes) -> Any:
    """What came back, comparable: instants as seconds and nanoseconds, NaN as a word."""
    value = msgpack.unpackb(data, timestamp=0, strict_map_key=False, unicode_errors="surrogateescape")
    return _comparable(value)


def expected(value: Value, *, named: bool = False) -> Any:
    """What must come back of `value`, structs being lists or, if `named`, maps."""
    ((kind, content),) = value.items()
    if kind == "map":
        return {expected(key): expected(item, named=named) for key, item in content}
    if kind in ("list", "struct"):
        items = [expected(item, named=named) for item in content]
        return {f"F{number}": item for number, item in enumerate(items)} if kind == "struct" and named else items
    return _scalar(kind, content)


def _scalar(kind: str, content: Any) -> Any:
    if kind == "deep":
        result: Any = 0
        for _ in range(content):
            result = [result]
        return _comparable(result)
    if kind == "time":
        return ("time", int(content[0]), content[1])
    made: dict[str, Any] = {"nil": None, "bool": ("bool", content)}
    if kind in made:
        return made[kind]
    if kind == "int":
        return int(content)
    if kind == "float":
        return _comparable(float(content))
    if kind == "bin":
        return bytes.fromhex(content)
    return content[0] * content[1] if kind == "repeat" else content


def _comparable(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return ("time", value.seconds, value.nanoseconds)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else ("float", math.copysign(1, value), value)
    if isinstance(value, bool):
        return ("bool", value)  # in Python True equals 1
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    return value
