"""Edits a task's bytes: another retry count, header or argument; the rest keeps its bytes."""

from typing import Any

import msgpack

from ..errors import InvalidTask, Reason, Unrunnable
from .codec import dumps, loads
from .decode import headers_of, is_python_path, path_and_headers, readable


def elements(data: bytes) -> tuple[list[bytes], str]:
    """The bytes of each element of a task, and its path."""
    try:
        fields = readable(data)
    except Unrunnable as error:
        raise InvalidTask(f"its arguments cannot be edited: {error.detail}") from error
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], str):
        raise InvalidTask("its arguments cannot be edited: it is not an array that begins with a path")
    return _parts(data), fields[0]


def elements_of(data: bytes) -> list[bytes]:
    """The bytes of each element of a task, none of which is decoded.

    Raises:
        Unrunnable: it is not an array.
    """
    try:
        return _parts(data)
    except Exception as error:  # msgpack raises a dozen types for bytes that are not what they claim to be
        raise Unrunnable(Reason.UNDECODABLE, "not an array") from error


def _parts(data: bytes) -> list[bytes]:
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    raw: list[bytes] = []
    count, start = unpacker.read_array_header(), unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        raw.append(data[start : unpacker.tell()])
        start = unpacker.tell()
    return raw


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
    path, headers = path_and_headers(data)
    # What stands for args, kwargs and retry, or for a payload, if it is not there.
    fields, raw = _filled(data, [b"\x90", b"\x80", b"\x00"] if is_python_path(path) else [b"\xc0"])
    return b"%c%b%b" % (0x90 | fields + 1, raw, dumps({**headers, "expires": expires}))


def with_retry(data: bytes, retry: int, headers: dict[str, Any] | None = None) -> bytes:
    """The task in `data` with another count of retries.

    The rest is copied, not decoded and encoded again: what another language wrote keeps its bytes.

    Args:
        data: the task.
        retry: the count.
        headers: what to change in its headers.
    """
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    if headers and not 0x95 <= data[0] <= 0x9F:  # fewer than five elements
        return _with_more(data, retry, headers)
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


def _with_more(data: bytes, retry: int, headers: dict[str, Any]) -> bytes:
    """As `with_retry`, of a task for Go, whose count is a header, or of one that has no headers yet."""
    path, found = path_and_headers(data)
    if is_python_path(path):
        fields, raw = _filled(data, [b"\x90", b"\x80"])
        return b"%c%b%b%b" % (0x90 | fields + 2, raw, dumps(retry), dumps({**found, **headers}))
    fields, raw = _filled(data, [b"\xc0"])
    more = {**found, **headers, **({"retry": retry} if retry or "retry" in found else {})}
    return b"%c%b%b" % (0x90 | fields + 1, raw, dumps(more))


def _filled(data: bytes, absent: list[bytes]) -> tuple[int, bytes]:
    """The path and as many fields as `absent` has, each of which stands for one that is not there: how many these are, and
    their bytes."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    try:
        count, start = unpacker.read_array_header(), unpacker.tell()
    except ValueError:  # a bare path, as Go's workers take it
        count, start = 1, 0
    fields = 1 + len(absent)
    for _ in range(min(count, fields)):
        unpacker.skip()
    return fields, data[start : unpacker.tell()] + b"".join(absent[min(count, fields) - 1 :])
