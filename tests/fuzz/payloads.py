"""Payloads that a queue should never hold, made from those that it may."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import msgpack

from delayed.task.task import PyTask

TARGET = "tests.fuzz.target:count"
_VECTORS = Path(__file__).parent.parent / "vectors" / "tasks.json"
_TYPES = _VECTORS.with_name("types.json")
_LARGEST = 1_000  # bytes that a vector may have, to be mutated: larger ones only cost time
_HEADS = b"\xc4\xc5\xc6\xc7\xc8\xc9\xd9\xda\xdb\xdc\xdd\xde\xdf\x90\x9f\x80\x8f\xa0\xbf\xc1\xd4\xd5\xd6\xd7\xd8\xcf\xd3"
_LENGTHS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def corpus() -> list[bytes]:
    """What is mutated: every vector, tasks that the worker under test may run, and a task of every odd shape."""
    vectors = [bytes.fromhex(vector["hex"]) for vector in json.loads(_VECTORS.read_text())["vectors"]]
    tasks = [PyTask(TARGET, args, kwargs, retry).serialize() for args, kwargs, retry in _calls()]
    odd = [
        ["m:f", None, None, None, {"h": 1}],
        ["m:f", [], {}, 0, {"!h": 1}],
        [":", {}, []],
        [b"m:f"],
        {"m:f": 1},
        "m:f",
        None,
    ]
    shapes: list[bytes] = [msgpack.packb(shape) for shape in odd]
    shapes.append(msgpack.packb([TARGET, [msgpack.Timestamp(2**40, 5), msgpack.ExtType(5, b"x"), {(1, 2): 3}]]))
    values = [bytes.fromhex(vector["hex"]) for vector in json.loads(_TYPES.read_text())["vectors"]]
    shapes += [b"\x92" + msgpack.packb(TARGET) + b"\x91" + value for value in values]
    return [data for data in vectors if len(data) <= _LARGEST] + tasks * 5 + shapes


def _calls() -> Iterator[tuple[list[object], dict[str, object], int]]:
    yield [], {}, 0
    yield [1, "two", b"three", None, 4.5, [6, {"seven": 8}]], {}, 0
    yield ["x" * 40], {"key": [True], "word": {"1": -1}}, 2
    yield [], {"fail": True}, 5


class Mutator:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._corpus = corpus()
        self._ways = (
            self._flip, self._flip, self._truncate, self._insert, self._splice, self._huge, self._deep, self._noise,
            self._again, self._intact,
        )  # fmt: skip

    def one(self) -> bytes:
        """The next payload: one of the corpus, changed once or a few times."""
        data = self._random.choice(self._corpus)
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            data = self._random.choice(self._ways)(data)
        return data

    def _place(self, data: bytes) -> int:
        return self._random.randrange(len(data) + 1)

    def _intact(self, data: bytes) -> bytes:
        return data

    def _flip(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._random.choice(_HEADS + self._random.randbytes(9)).to_bytes() + data[place + 1 :]

    def _truncate(self, data: bytes) -> bytes:
        return data[: self._place(data)]

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._random.randbytes(self._random.randrange(1, 9)) + data[place:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        return data[: self._place(data)] + other[self._place(other) :]

    def _huge(self, data: bytes) -> bytes:
        """A length that the rest does not have."""
        place = self._place(data)
        form = self._random.choice(((b"\xc6\xc9\xdb\xdd\xdf", ">I"), (b"\xc5\xc8\xda\xdc\xde", ">H")))
        limit = (1 << 8 * struct.calcsize(form[1])) - 1
        length = min(self._random.choice(_LENGTHS), limit)
        head = self._random.choice(form[0]).to_bytes() + struct.pack(form[1], length)
        return data[:place] + head + data[place + self._random.randrange(6) :]

    def _deep(self, data: bytes) -> bytes:
        """Arrays in arrays, or maps in maps (whose keys may be maps)."""
        place, depth = self._place(data), self._random.choice((3, 3, 3, 20, 20, 100, 511, 512, 513, 1023, 1024, 1025))
        level = self._random.choice((b"\x91", b"\x81\xa1k", b"\x81", b"\x92\xc0", b"\xdc\x00\x01", b"\x81\x91"))
        return data[:place] + level * depth + data[place:]

    def _noise(self, data: bytes) -> bytes:
        return self._random.randbytes(self._random.randrange(64))

    def _again(self, data: bytes) -> bytes:
        return data + data[self._place(data) :]
