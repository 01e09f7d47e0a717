"""What other programs write into tasks: each header is of exactly its type, or not there; and nobody opens what is not his."""

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from delayed.backoff import backoff_from
from delayed.errors import Reason, Unrunnable
from delayed.task.decode import decode, headers_of, path_of
from delayed.task.headers import concurrency_in, milliseconds_in, number_in, text_in, texts_in, unique_in


def colliding(count: int) -> list[tuple[int, int]]:
    """Pairs of integers whose tuples have one hash: the second part undoes what the first did (see tupleobject.c)."""
    one, two, five, ring = 11400714785074694791, 14029467366897019727, 2870177450012600261, 2**64
    before = 0x1234567890ABCDEF * pow(one, -1, ring) % ring
    before = (before >> 31) | (before << 33) % ring
    found: list[tuple[int, int]] = []
    first = 0
    while len(found) < count:
        first += 1
        mixed = (five + first * two) % ring
        mixed = ((mixed << 31) % ring | (mixed >> 33)) * one % ring
        second = (before - mixed) * pow(two, -1, ring) % ring
        second -= ring if second >= ring // 2 else 0
        if abs(second) < 2**61 - 1 and second != -1:
            found.append((first, second))
    assert len({hash(pair) for pair in found}) == 1
    return found


def with_keys(keys: list[Any], *rest: Any) -> bytes:
    """A task whose argument is a map with these keys."""
    packer = msgpack.Packer()
    body = packer.pack_map_header(len(keys)) + b"".join(packer.pack(key) + b"\x00" for key in keys)
    return b"".join((bytes([0x92 + len(rest)]), packer.pack("m:f"), b"\x91", body, *map(packer.pack, rest)))


@pytest.mark.parametrize("kind", [list, lambda pair: {"a": list(pair)}, lambda pair: [[pair[0]], pair[1]]], ids="lmn")
def test_keys_that_are_arrays_or_maps_are_bounded(kind: Callable[[Any], Any]) -> None:
    """Nobody can tell how long keys take that somebody has chosen to hash alike."""
    pairs = [kind(pair) for pair in colliding(1001)]
    assert len(decode(with_keys(pairs[:1000])).args[0]) == 1000
    data = with_keys(pairs, {}, 0, {"id": "0123456789abcdef"})
    with pytest.raises(Unrunnable, match="more than 1,000 keys") as refused:
        decode(data)
    assert refused.value.reason is Reason.UNDECODABLE
    assert path_of(data) == "m:f"
    assert headers_of(data) == {"id": "0123456789abcdef"}


def test_few_large_keys_are_bounded_too() -> None:
    with pytest.raises(Unrunnable, match="10,000 elements"):
        decode(with_keys([[0] * 200 + [number] for number in range(60)]))
    with pytest.raises(Unrunnable, match="keys"):  # instants outside of datetime's years
        decode(with_keys([msgpack.Timestamp(2**60 + number, 0) for number in range(1001)]))


def test_path_and_headers_are_read_without_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def loads(data: bytes) -> Any:
        opened.append(data)
        return msgpack.unpackb(data)

    monkeypatch.setattr("delayed.task.decode.loads", loads)
    headers = {"group": "g"}
    for data in (msgpack.packb(["m:f", [1] * 9, {}, 0, headers]), msgpack.packb(["m.F", b"x" * 9, headers])):
        assert path_of(data) in ("m:f", "m.F")
        assert headers_of(data) == headers
    assert set(opened) == {msgpack.packb(headers)}


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x92\xa1a", b"\x91\xa3m:f\x00", b"\xdd\xff\xff\xff\xff", b"\x91" * 2000 + b"\x00"]
)
def test_what_is_no_message_has_neither_path_nor_headers(data: bytes) -> None:
    assert (path_of(data), headers_of(data)) == ("(not decodable)", {})


@pytest.mark.parametrize("data", [b"\x90", b"\x80", b"\x05", b"\x91\x91\xa3m:f", b"\x92\xc4\x03m:f\x90"])
def test_nor_has_what_is_no_task(data: bytes) -> None:
    assert (path_of(data), headers_of(data)) == ("(not a task)", {})


NOT_NUMBERS: list[Any] = [True, False, 1.0, "1", None, [1], {}]


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_a_header_of_another_type_is_ignored(value: Any) -> None:
    assert number_in({"n": value}, "n") == milliseconds_in({"n": value}, "n") == 0
    assert unique_in({"unique": ["k", "until_done", value]}) == ("", "", 0)
    assert concurrency_in({"concurrency": ["k", value]}) is None
    assert texts_in({"retry_on": ["a", value if value != "1" else 1]}, "retry_on") is None
    assert text_in({"group": value if value != "1" else 1}, "group") is None
    assert backoff_from(["constant", value if type(value) is not float else "1.0", 5, True]) is None
    assert backoff_from(["constant", 1, 5, value if type(value) is not bool else 1]) is None


def test_headers_are_taken_within_what_redis_takes() -> None:
    huge = 2**64 - 1
    assert milliseconds_in({"n": huge}, "n") == 2**53
    assert milliseconds_in({"n": -1}, "n") == 0
    assert unique_in({"unique": ["k", "until_done", huge]}) == ("k", "until_done", 2**53)
    assert concurrency_in({"concurrency": ["k", huge]}) == ("k", 2**53)
