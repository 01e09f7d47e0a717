"""Edits a task's bytes: another retry count, header or argument; the rest keeps its bytes."""

from typing import Any

import msgpack

from ..errors import InvalidTask, Unrunnable
from .codec import dumps, loads
from .decode import headers_of, is_python_path, path_of, readable


def elements(data: bytes) -> tuple[list[bytes], str]:
    """The bytes of each element of a task, and its path."""
    try:
        fields = readable(data)
    except Unrunnable as error:
        raise InvalidTask(f"its arguments cannot be edited: {error.detail}") from error
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        raise InvalidTask("its arguments cannot be edited: it is not an array that begins with a path")
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    raw: list[bytes] = []
    count, start = unpacker.read_array_header(), unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        raw.append(data[start : unpacker.tell()])
        start = unpacker.tell()
    return raw, fields[0]


def next_retry(count: int) -> int:
    """How often a task may be repeated that is repeated now: a negative number, for ever, stays."""
    return count - 1 if count > 0 else count


def array_of(raw: list[bytes]) -> bytes:
    """A MessagePack array of elements that are packed already."""
    header: bytes = msgpack.Packer().pack_array_header(len(raw))
    return header + b"".join(raw)


def without_header(data: bytes, header: str) -> bytes:
    """The task without one of its headers."""
    headers = headers_of(data)
    if header not in headers:
        return data
    raw, path = elements(data)
    left = {name: value for name, value in headers.items() if name != header}
    raw[4 if is_python_path(path) else 2] = dumps(left)
    return array_of(raw)


def with_expiry(data: bytes, expires: int) -> bytes:
    """The task in `data`, in either language, with the header `expires`; its other bytes are copied."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    try:
        count, start = unpacker.read_array_header(), unpacker.tell()
    except ValueError:  # a bare path, as Go's workers take it
        count, start = 1, 0
    # What stands for args, kwargs and retry, or for a payload, if it is not there.
    absent = [b"\x90", b"\x80", b"\x00"] if is_python_path(path_of(data)) else [b"\xc0"]
    fields = 1 + len(absent)
    for _ in range(min(count, fields)):
        unpacker.skip()
    packed = dumps({**headers_of(data), "expires": expires})
    return b"%c%b%b%b" % (0x90 | fields + 1, data[start : unpacker.tell()], b"".join(absent[min(count, fields) - 1 :]), packed)


def with_retry(data: bytes, retry: int, headers: dict[str, Any] | None = None) -> bytes:
    """The task in `data` with another count of retries.

    The rest is copied, not decoded and encoded again: what another language wrote keeps its bytes.

    Args:
        data: the task.
        retry: the count.
        headers: what to change in its headers; only for a task that has some.
    """
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    unpacker.read_array_header()
    for _ in range(3):
        unpacker.skip()
    start = unpacker.tell()
    unpacker.skip()
    end = unpacker.tell()
    if not headers:
        return data[:start] + dumps(retry) + data[end:]
    unpacker.skip()
    changed = dumps({**loads(data[end : unpacker.tell()]), **headers})
    return data[:start] + dumps(retry) + changed + data[unpacker.tell() :]
