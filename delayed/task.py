"""The wire format of tasks: MessagePack arrays, byte for byte those of upstream delayed 1.3 and go-delayed.

Python: `[func_path, args, kwargs, retry]`, cut from the right where empty. Go: `[func_path, payload]`, the payload being
MessagePack in a byte string. A map of headers may follow. See docs/protocol.md.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Self

import msgpack

from .errors import InvalidTask, NotEncodable, Reason, Unrunnable
from .keys import token
from .options import Options

SEPARATOR = ":"
_LOOKED_INTO = 100  # levels of nesting that the search for a wrong argument goes down
_NOT_DECODABLE, _NOT_A_TASK = "(not decodable)", "(not a task)"  # what stands for a path where there is none

# Strings that are not UTF-8 (Go has them) come in, and go out again unchanged, as PEP 383 does with file names.
_STRINGS = "surrogateescape"


def _pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, datetime=True, unicode_errors=_STRINGS)
    return data


class PyTask:
    """A call of a Python function.

    Args:
        func: the function, or its path `module.path:function`. A function is named by its path, so it must be found under
            its own name in its module.
        args: positional arguments. What MessagePack can carry goes through: None, bool, int from -2**63 to 2**64-1, float,
            str, bytes, `datetime` with a time zone (arrives in UTC), list and tuple (arrive as list), dict with any keys.
        kwargs: keyword arguments.
        retry: how often a failed call is repeated; negative: until it succeeds.
        options: see `delayed.options.Options`.

    Raises:
        InvalidTask: no worker could find such a function, or an option cannot work.
    """

    __slots__ = ("_data", "args", "func_path", "id", "kwargs", "options", "retry")

    def __init__(
        self,
        func: Callable[..., object] | str,
        args: list[Any] | tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        retry: int = 0,
        **options: Any,
    ) -> None:
        if not isinstance(func, str):
            func = _path_of(func)
        elif not 0 < func.find(SEPARATOR) < len(func) - 1:
            raise InvalidTask(f"{func!r} is not the path of a Python function: write it as 'module.path:function'")
        self.func_path = func
        self.args = args = () if args is None else args
        self.kwargs = kwargs = {} if kwargs is None else kwargs
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise InvalidTask(f"{func}: args is a list or tuple, and kwargs a dict, of the function's arguments")
        self.retry = retry
        self._data: bytes | None = None
        self.options: Options | None = None
        self.id: str | None = None
        if options:
            self._ask_for(Options.of(options))

    def __repr__(self) -> str:
        return f"PyTask({self.func_path!r}, retry={self.retry})"

    def serialize(self) -> bytes:
        """The bytes that go to Redis.

        Raises:
            NotEncodable: an argument has a type or a value that MessagePack cannot carry.
        """
        if self._data is None:
            fields: list[Any] = [self.func_path]
            headers = self.options and self.options.headers(self.id, 0)
            if headers:
                fields += [self.args, self.kwargs, self.retry, headers]
            elif self.retry:
                fields += [self.args, self.kwargs, self.retry]
            elif self.kwargs:
                fields += [self.args, self.kwargs]
            elif self.args:
                fields.append(self.args)
            try:
                self._data = _pack(fields)
            except (TypeError, ValueError, OverflowError) as error:
                raise _not_encodable(self.func_path, {"args": self.args, "kwargs": self.kwargs}, error) from error
        return self._data

    def _ask_for(self, options: Options) -> None:
        self.options = options
        self.id = token() if options.tracked else None

    @classmethod
    def with_options(cls, func: Callable[..., object] | str, args: Any, kwargs: Any, retry: int, options: Options) -> Self:
        """A call that asks for `options`."""
        task = cls(func, args, kwargs, retry)
        task._ask_for(options)
        return task

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """The task in `data`.

        Raises:
            Unrunnable: it is not a Python task.
        """
        call = decode(data)
        task = cls(call.func_path, call.args, call.kwargs, call.retry)
        task._data = data
        return task


class GoTask:
    """A call of a Go function.

    Args:
        func_path: the function's path, `package/path.Function`.
        args: its arguments: a tuple or list of them, one bare value, or None for none. A variadic parameter takes a list
            (or, where it is the only one, the arguments themselves); a struct takes a list of its fields, in order.
        retry: how often a failed call is repeated; negative: until it succeeds.
        options: see `delayed.options.Options`.

    Raises:
        InvalidTask: the path is not one of a Go function, or an option cannot work.
    """

    __slots__ = ("_data", "args", "func_path", "id", "options", "retry")

    def __init__(self, func_path: str, args: Any = None, retry: int = 0, **options: Any) -> None:
        package, _, function = func_path.rpartition(".")
        if not package or not function or SEPARATOR in func_path:
            raise InvalidTask(f"{func_path!r} is not the path of a Go function: write it as 'package/path.Function'")
        self.func_path = func_path
        self.args = args
        self.retry = retry
        self._data: bytes | None = None
        self.options = Options.of(options) if options or retry else None
        self.id = token() if self.options is not None and self.options.tracked else None

    def __repr__(self) -> str:
        return f"GoTask({self.func_path!r})"

    def serialize(self) -> bytes:
        """The bytes that go to Redis.

        Raises:
            NotEncodable: an argument has a type or a value that MessagePack cannot carry.
        """
        if self._data is None:
            try:
                headers = self.options and self.options.headers(self.id, self.retry)
                fields = (self.func_path, _pack(self.args))
                self._data = _pack((*fields, headers) if headers else fields)
            except (TypeError, ValueError, OverflowError) as error:
                raise _not_encodable(self.func_path, {"args": self.args}, error) from error
        return self._data


Task = PyTask | GoTask


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
    fields = _decode(data)
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
        return data[:start] + _pack(retry) + data[end:]
    unpacker.skip()
    changed = _pack({**_decode(data[end : unpacker.tell()]), **headers})
    return data[:start] + _pack(retry) + changed + data[unpacker.tell() :]


def path_of(data: bytes) -> str:
    """The function path in `data`, for logs and listings; a description where there is none."""
    try:
        fields = _decode(data)
    except Unrunnable:
        return _NOT_DECODABLE
    path = fields[0] if type(fields) is list and fields else fields
    return path.encode(errors="backslashreplace").decode() if isinstance(path, str) else _NOT_A_TASK


def headers_of(data: bytes) -> dict[str, Any]:
    """The headers in `data`, in either language; none where there are none."""
    try:
        fields = _decode(data)
    except Unrunnable:
        return {}
    if type(fields) is not list or not fields or not isinstance(fields[0], str):
        return {}
    place = 4 if SEPARATOR in fields[0] else 2
    return fields[place] if len(fields) > place and type(fields[place]) is dict else {}


def is_task(data: bytes) -> bool:
    """Whether `data` has the form of a task, in either language."""
    return path_of(data) not in (_NOT_DECODABLE, _NOT_A_TASK)


def readable(data: bytes) -> Any:
    """What is in `data`, for a human to read: the decoded value, with the payload of a Go task decoded too.

    Raises:
        Unrunnable: the bytes are not MessagePack.
    """
    fields = _decode(data)
    if type(fields) is list and len(fields) > 1 and type(fields[1]) is bytes:
        fields[1] = _decode(fields[1])
    return fields


def _decode(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, timestamp=3, strict_map_key=False, unicode_errors=_STRINGS)
    except Exception as error:  # msgpack raises a dozen types for bytes that are not what they claim to be
        try:
            # Rare, but right: instants outside of datetime's years, and maps whose keys are arrays or maps.
            return msgpack.unpackb(data, timestamp=0, strict_map_key=False, unicode_errors=_STRINGS, object_pairs_hook=_pairs)
        except Exception:
            raise Unrunnable(Reason.UNDECODABLE, f"not MessagePack: {type(error).__name__} {error}".rstrip()) from error


def _pairs(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _hashable(key: Any) -> Any:
    if isinstance(key, list):
        return tuple(map(_hashable, key))
    if isinstance(key, dict):
        return tuple((name, _hashable(value)) for name, value in key.items())
    return key


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


def _path_of(func: Callable[..., object]) -> str:
    if not callable(func):
        raise InvalidTask(f"a task needs a function or the path of one, not {func!r}")
    module, name = getattr(func, "__module__", None), getattr(func, "__name__", None)
    if not module or not name or "<" in getattr(func, "__qualname__", name):
        raise InvalidTask(f"{func!r} has no path that a worker could import: define it with `def` at the top of a module")
    if module == "__main__":  # `python -m pkg.mod`: workers know the module by its real name
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec is not None else module
    return f"{module}{SEPARATOR}{name}"


def _not_encodable(func_path: str, arguments: dict[str, Any], error: Exception) -> NotEncodable:
    if "recursion" in str(error):
        return NotEncodable(f"cannot send a task for {func_path}: its arguments are nested more than 1,000 levels deep")
    for name, value in arguments.items():
        found = _culprit(name, value, _LOOKED_INTO)
        if found:
            return NotEncodable(f"cannot send a task for {func_path}: {found}")
    return NotEncodable(f"cannot send a task for {func_path}: somewhere deep in its arguments: {error}")


def _culprit(name: str, value: Any, depth: int) -> str | None:
    """The place and type of the first thing in `value` that MessagePack cannot carry."""
    if depth == 0:
        return None
    if isinstance(value, dict):
        places = [(f"a key of {name}", key) for key in value] + [(f"{name}[{key!r}]", value[key]) for key in value]
    elif isinstance(value, list | tuple):
        places = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    else:
        try:
            _pack(value)
        except (TypeError, ValueError, OverflowError) as error:
            return f"{name} is of type {_type_name(value)}, {_advice(value, error)}"
        return None
    return next(filter(None, (_culprit(place, item, depth - 1) for place, item in places)), None)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(value: Any, error: Exception) -> str:
    if isinstance(value, int):
        return "outside of -2**63 to 2**64-1; send it as a str"
    if isinstance(value, datetime):
        return "without a time zone; give it one, as in datetime.now(UTC)"
    if isinstance(value, str):
        return f"with characters that have no UTF-8 form ({error})"
    return "which MessagePack cannot carry; send a str, number, bytes, list or dict that stands for it"
