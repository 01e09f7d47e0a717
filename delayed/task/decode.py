"""Reads the bytes of a task, whoever wrote them, for workers, sweepers and listings: see docs/protocol.md."""

from typing import Any, NamedTuple

import msgpack

from ..errors import Reason, Unready, Unrunnable
from .codec import loads
from .extensions import shown
from .hidden import HIDDEN, is_hidden

SEPARATOR = ":"  # of module and function; the paths of Go functions have none
_STRINGS = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))  # the bytes with which a string begins in MessagePack,
_ARRAYS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))  # and an array
_NOT_DECODABLE, _NOT_A_TASK = "(not decodable)", "(not a task)"  # what stands for a path where there is none


def is_python_path(path: str) -> bool:
    """Whether this is the path of a Python function; else it is one of Go's."""
    return SEPARATOR in path


class Call(NamedTuple):
    """A Python task as a worker needs it."""

    func_path: str
    args: list[Any] | tuple[Any, ...]
    kwargs: dict[str, Any]
    retry: int
    headers: dict[str, Any] | None = None


def decode(data: bytes) -> Call:
    """The Python task in `data`, whoever wrote it.

    Raises:
        Unrunnable: the bytes are no task, the task is one for Go, or it carries a header that must be understood.
    """
    return Call(*parse(data))


Parsed = tuple[str, list[Any] | tuple[Any, ...], dict[str, Any], int, dict[str, Any] | None]


def parse(data: bytes) -> Parsed:
    """As `decode`, without names for the fields: a worker does this for each task."""
    fields = loads(data)
    if type(fields) is not list or not fields or type(fields[0]) is not str:
        raise Unrunnable(Reason.UNDECODABLE, f"not a task: expected an array that begins with a path, {_show(fields)}")
    func_path, count = fields[0], len(fields)
    if SEPARATOR not in func_path:
        raise Unrunnable(
            Reason.WRONG_LANGUAGE,
            f"{func_path!r} is the path of a Go function, and this is a Python worker: give Go tasks a queue of their own",
        )
    if count == 2 and type(fields[1]) is list:  # most tasks look like this
        return func_path, fields[1], {}, 0, None
    args = fields[1] if count > 1 and fields[1] is not None else ()
    kwargs = fields[2] if count > 2 and fields[2] is not None else {}
    retry = fields[3] if count > 3 and fields[3] is not None else 0
    if type(args) not in (list, tuple) or type(kwargs) is not dict or type(retry) is not int:
        raise Unrunnable(
            Reason.UNDECODABLE, f"not a task: expected [path, array, map, integer] after the path, {_show(fields[1:4])}"
        )
    return func_path, args, kwargs, retry, (count > 4 and _checked_headers(fields[4])) or None


def path_of(data: bytes) -> str:
    """The function path in `data`, for logs and listings; a description where there is none. Arguments are not decoded."""
    return _envelope(data)[0]


def headers_of(data: bytes) -> dict[str, Any]:
    """The headers in `data`, in either language; none where there are none. Arguments are not decoded."""
    return _envelope(data)[1]


def path_and_headers(data: bytes) -> tuple[str, dict[str, Any]]:
    """As `path_of` and `headers_of`, in one reading."""
    return _envelope(data)


def _envelope(data: bytes) -> tuple[str, dict[str, Any]]:
    """Path and headers. Arguments are skipped, as only a worker should pay for decoding them."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data), unicode_errors="surrogateescape")
    unpacker.feed(data)
    path: str | None = None
    packed: bytes | None = None
    try:
        if data[0] in _STRINGS:  # as Go's may be: a path alone
            path = unpacker.unpack()
        elif data[0] not in _ARRAYS:
            unpacker.skip()
        elif count := unpacker.read_array_header():
            path = unpacker.unpack() if data[unpacker.tell()] in _STRINGS else unpacker.skip()
            place = 4 if path is None or SEPARATOR in path else 2
            for index in range(1, count):
                start = unpacker.tell()
                unpacker.skip()
                if index == place:
                    packed = data[start : unpacker.tell()]
    except Exception:  # msgpack raises a dozen types for bytes that are not what they claim to be
        return _NOT_DECODABLE, {}
    if unpacker.tell() != len(data):
        return _NOT_DECODABLE, {}
    if path is None:
        return _NOT_A_TASK, {}
    return path.encode(errors="backslashreplace").decode(), _headers(packed)


def _headers(packed: bytes | None) -> dict[str, Any]:
    try:
        headers = None if packed is None else loads(packed)
    except Unrunnable:
        headers = None
    return headers if type(headers) is dict else {}


def is_task(data: bytes) -> bool:
    """Whether `data` has the form of a task, in either language."""
    return path_of(data) not in (_NOT_DECODABLE, _NOT_A_TASK)


def readable(data: bytes) -> Any:
    """What is in `data`, for a human to read: the decoded value, with the payload of a Go task decoded too.

    Raises:
        Unrunnable: the bytes are not MessagePack.
    """
    fields = loads(data, shown)
    if type(fields) is list and len(fields) > 1 and type(fields[1]) is bytes:
        fields[1] = loads(fields[1], shown)
    return fields


def show(data: bytes) -> str:
    """A task with its arguments as text, unless they are hidden; its bytes in hexadecimal if it cannot be decoded."""
    try:
        fields = readable(data)
        if isinstance(fields, list) and fields and isinstance(fields[0], str) and is_hidden(fields[0]):
            return repr([fields[0], HIDDEN])
        return repr(fields)
    except (Unrunnable, RecursionError):  # no MessagePack, or too deeply nested to be shown
        return data.hex()


def _checked_headers(headers: Any) -> dict[str, Any]:
    if type(headers) is not dict:
        raise Unrunnable(Reason.UNDECODABLE, f"not a task: expected a map of headers as fifth element, {_show(headers)}")
    for name in headers:
        if type(name) is str and name[:1] == "!":
            raise Unready(Reason.UNKNOWN_HEADER, f"this worker is too old for the header {name!r}: upgrade it")
    return headers


def _show(value: Any) -> str:
    try:
        return f"found {type(value).__name__} {value!r:.100}"
    except RecursionError:  # MessagePack may be nested more deeply than Python likes to show
        return f"found a deeply nested {type(value).__name__}"
