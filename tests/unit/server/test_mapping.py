"""JSON for any value: what MessagePack carries comes back as it was."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed.server.mapping import DEPTH, NotJSON, depth_of, parse, plain, shown, write
from delayed.task.codec import dumps

_SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.just(math.nan),  # there is one in JSON, and many in bits
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**9 - 1)),
    st.builds(lambda data: msgpack.ExtType(40, data), st.binary()),
    st.sampled_from([{"$bytes": 1}, {"$x": None}, {1: 2}, {True: 1, None: 2}, {"a": 1, "$b": 2}, {(1, 2): 3}]),
)
_VALUES = st.recursive(_SIMPLE, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(_VALUES)
def test_there_and_back(value: Any) -> None:
    try:
        packed = dumps(value)
    except (UnicodeEncodeError, ValueError):  # a surrogate that stands for no byte
        return
    text = write(plain(packed))
    assert dumps(parse(text)) == packed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\x00\x01", {"$bytes": "AAE="}),
        (2**53 - 1, 2**53 - 1),
        (2**53, {"$int": "9007199254740992"}),
        (math.inf, {"$float": "Infinity"}),
        (datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC), {"$time": "2026-01-31T12:00:00.005Z"}),
        (Decimal("12.50"), {"$decimal": "12.50"}),
        ({2, 1}, {"$set": [1, 2]}),
        ("\udcff", {"$str": "/w=="}),
        ({"$a": 1}, {"$map": [["$a", 1]]}),
    ],
)
def test_forms(value: Any, text: Any) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "NaN", "1e400", "[-1e999]", '{"$map": [[1, "a"], [1.0, "b"], [true, "c"]]}', '{"$map": [["a", 1], ["a", 2]]}',
        '{"a":1,"a":2}', '{"$nope": 1}', '{"$bytes": "?"}', '{"$bytes": 1}', '{"$int": "1.5"}', '{"$int": "1e3"}',
        '{"$int": "99999999999999999999"}', '{"$float": "1"}', '{"$time": "2026-01-31"}', '{"$time": "2026-13-31T00:00:00Z"}',
        '{"$date": "2026-02-30"}', '{"$decimal": "x"}', '{"$uuid": "x"}', '{"$set": 1}', '{"$ext": [1, "AAE="]}',
        '{"$map": [[1]]}',
        '{"$map": [[{"a": 1}, 1]]}', '{"$stamp": [1]}', "[" * (DEPTH + 1) + "]" * (DEPTH + 1), "[" * 100_000, "9" * 5000,
    ],
)  # fmt: skip
def test_what_stands_for_nothing(text: str) -> None:
    with pytest.raises(NotJSON):
        parse(text.encode())


def test_depth() -> None:
    assert depth_of(b'[{"a": "[[[[\\"[["}, [[]]]') == 3
    assert depth_of(b'"[[[') == 0
    assert depth_of(b'[{"a": "[[[["}, [[]], "[[[[[') == 3
    text = b"[" * DEPTH + b"]" * DEPTH
    assert json.loads(text) == parse(text)


def test_what_is_too_deep_to_be_shown() -> None:
    assert set(plain(b"\x91" * 500 + b"\xc0")) == {"$msgpack"} or depth_of(write(plain(b"\x91" * 500 + b"\xc0"))) == 500
    assert plain(b"\xc1") == {"$msgpack": "wQ=="}
