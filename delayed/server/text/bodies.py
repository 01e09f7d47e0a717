"""Bodies of the text protocol, and the tasks that they are in Redis.

A body is a Python task whose only argument it is, with its number in the headers. So workers of any kind run it, and the text
protocol hands out tasks of any producer.
"""

import struct
from typing import Any, NamedTuple

import msgpack

from ...errors import Unrunnable
from ...task.codec import loads
from ...task.decode import headers_of, is_python_path, path_and_headers
from ...task.edit import elements_of
from ...task.headers import number_in

FUNCTION = "taskq:task"  # what is called with a body, if nothing else is said
_TAIL = b"\x80\x00\x81\xa6number\xcf"  # no keyword arguments, no retries, and one header, of eight bytes
_END = len(_TAIL) + 8
_SIZES = ((1 << 8, b"\xc4", ">B"), (1 << 16, b"\xc5", ">H"), (1 << 32, b"\xc6", ">I"))


class Content(NamedTuple):
    """What is in a task."""

    body: bytes
    number: int  # 0 for none


class Wrapping:
    """Makes tasks of bodies.

    Args:
        function: the path of the function that workers call with them.
    """

    def __init__(self, function: str = FUNCTION) -> None:
        self.function = function
        self._head: bytes = b"\x95" + msgpack.packb(function) + b"\x91"

    def task(self, body: bytes) -> bytes:
        """A task, without the number at its end."""
        size = len(body)
        for bound, code, form in _SIZES:
            if size < bound:
                return b"".join((self._head, code, struct.pack(form, size), body, _TAIL))
        raise ValueError("a body has less than 4 GiB")


def content_of(data: bytes) -> Content:
    """The body in a task, or, if somebody else has made it, the task itself."""
    if data[:1] == b"\x95" and data[-_END:-8] == _TAIL:
        body = _only_bytes(data[:-_END])
        if body is not None:
            return Content(body, int.from_bytes(data[-8:]))
    number = number_in(headers_of(data), "number")
    fields = _fields(data) if number > 0 else None
    match fields:
        case [str(path), [bytes(body)], dict(words), *_] if ":" in path and not words:  # it has been retried
            return Content(body, number)
    return Content(data, max(number, 0))


def is_node(data: bytes) -> bool:
    """Whether a task says that it is a node of a workflow: in its header `flow`, to readers of any language."""
    path, headers = path_and_headers(data)
    if headers:
        return "flow" in headers
    try:
        elements = elements_of(data)
    except Unrunnable:  # a path alone
        return False
    place = 4 if is_python_path(path) else 2
    return len(elements) > place and b"flow" in elements[place]  # what we cannot read Go may


def _only_bytes(data: bytes) -> bytes | None:
    """The bytes that are the only argument, if a task begins with such."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data), strict_map_key=False)
    unpacker.feed(data)
    try:
        unpacker.read_array_header()
        unpacker.skip()
        if unpacker.read_array_header() != 1 or data[unpacker.tell()] not in (0xC4, 0xC5, 0xC6):
            return None
        body = unpacker.unpack()
    except Exception:  # msgpack raises a dozen types
        return None
    return body if unpacker.tell() == len(data) and isinstance(body, bytes) else None


def _fields(data: bytes) -> Any:
    try:
        return loads(data)
    except Unrunnable:
        return None
