"""What workers, sweepers and listings read in the bytes of a task, whoever wrote them: see docs/protocol.md."""

import re
from typing import Any, NamedTuple

import msgpack

from .codec import dumps, loads
from .errors import Reason, Unrunnable

SEPARATOR = ":"  # of module and function; the paths of Go functions have none
_ID = re.compile(r"[\w-]{16}", re.ASCII)  # it is cut off again by its length, and part of keys
_NOT_DECODABLE, _NOT_A_TASK = "(not decodable)", "(not a task)"  # what stands for a path where there is none


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


def path_of(data: bytes) -> str:
    """The function path in `data`, for logs and listings; a description where there is none."""
    try:
        fields = loads(data)
    except Unrunnable:
        return _NOT_DECODABLE
    path = fields[0] if type(fields) is list and fields else fields
    return path.encode(errors="backslashreplace").decode() if isinstance(path, str) else _NOT_A_TASK


def headers_of(data: bytes) -> dict[str, Any]:
    """The headers in `data`, in either language; none where there are none."""
    try:
        fields = loads(data)
    except Unrunnable:
        return {}
    if type(fields) is not list or not fields or not isinstance(fields[0], str):
        return {}
    place = 4 if SEPARATOR in fields[0] else 2
    return fields[place] if len(fields) > place and type(fields[place]) is dict else {}


def id_in(headers: dict[str, Any]) -> str | None:
    """The id of a tracked task with these headers, which may be another program's, and any nonsense; None for another task."""
    identity = headers.get("id")
    return identity if isinstance(identity, str) and _ID.fullmatch(identity) else None


def unique_in(headers: dict[str, Any]) -> tuple[str, str, int]:
    """Likewise, unique key, mode, and bound in milliseconds; ('', '', 0) for none."""
    match headers.get("unique"):
        case [str(key), str(mode), int(bound)]:
            return key, mode, bound
    return "", "", 0


def is_task(data: bytes) -> bool:
    """Whether `data` has the form of a task, in either language."""
    return path_of(data) not in (_NOT_DECODABLE, _NOT_A_TASK)


def readable(data: bytes) -> Any:
    """What is in `data`, for a human to read: the decoded value, with the payload of a Go task decoded too.

    Raises:
        Unrunnable: the bytes are not MessagePack.
    """
    fields = loads(data)
    if type(fields) is list and len(fields) > 1 and type(fields[1]) is bytes:
        fields[1] = loads(fields[1])
    return fields


def _checked_headers(headers: Any) -> dict[str, Any]:
    if type(headers) is not dict:
        raise Unrunnable(Reason.UNDECODABLE, f"not a task: expected a map of headers as fifth element, {_show(headers)}")
    unknown = [name for name in headers if isinstance(name, str) and name.startswith("!")]
    if unknown:
        raise Unrunnable(Reason.UNKNOWN_HEADER, f"this worker is too old for the header {unknown[0]!r}: upgrade it")
    return headers


def _show(value: Any) -> str:
    try:
        return f"found {type(value).__name__} {value!r:.100}"
    except RecursionError:  # MessagePack may be nested more deeply than Python likes to show
        return f"found a deeply nested {type(value).__name__}"
