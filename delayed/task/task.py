"""Tasks, as a producer makes them, and their wire format: MessagePack arrays, byte for byte those of delayed 1.3 and
go-delayed.

Python: `[func_path, args, kwargs, retry]`, cut from the right where empty. Go: `[func_path, payload]`, the payload being
MessagePack in a byte string. A map of headers may follow. See docs/protocol.md.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self, Unpack

from ..base.ids import new_id
from ..errors import InvalidTask
from .codec import dumps, not_encodable
from .decode import SEPARATOR, decode
from .options import NOTHING, Options, TaskOptions, asked_for, count_of
from .paths import importable, path_of_function, see_that_it_leads_back

_FIVE, _THREE = b"\x95", b"\x93"  # MessagePack's beginnings of arrays with so many elements: with headers there is one more


class PyTask:
    """A call of a Python function.

    Args:
        func: the function, or its path `module.path:function`. A function is named by its path, so it must be found under
            its own name in its module.
        args: positional arguments: None, bool, int from -2**63 to 2**64-1, float, str, bytes, `datetime` with a time zone
            (arrives in UTC), list and tuple (arrive as list), dict with any keys, Decimal, UUID, date, time, timedelta, Path,
            set and frozenset. Enums arrive as their values, and dataclasses as dicts, but for the tasks of an App.
        kwargs: keyword arguments.
        retry: how often a failed call is repeated; negative: until it succeeds. None for 0.
        options: see `delayed.options.Options`.

    It may be enqueued more than once; each time it is another task, with an id of its own if it is tracked.

    Raises:
        InvalidTask: no worker could find such a function, or an option cannot work.
    """

    __slots__ = ("_data", "args", "func_path", "kwargs", "options", "retry")

    def __init__(
        self,
        func: Callable[..., object] | str,
        args: list[Any] | tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        retry: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if not isinstance(func, str):
            path = path_of_function(func)
            see_that_it_leads_back(func, path)
            func = importable(path) if path[0] == "_" else path  # as in "__main__"; others need no second look
        elif not 0 < func.find(SEPARATOR) < len(func) - 1:
            raise InvalidTask(f"{func!r} is not the path of a Python function: write it as 'module.path:function'")
        self.func_path = func
        self.args = args = () if args is None else args
        self.kwargs = kwargs = {} if kwargs is None else kwargs
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise InvalidTask(f"{func}: args must be a list or tuple, and kwargs a dict, of the function's arguments")
        self.retry = 0 if retry is None else retry if type(retry) is int and 0 <= retry < 100 else count_of(retry)
        self._data: bytes | None = None
        self.options: Options | None = None
        if options:
            self.options = asked_for(options, retry is not None)

    def __repr__(self) -> str:
        return f"PyTask({self.func_path!r}, retry={self.retry})"

    def serialize(self, identity: str | None = None, at: float | None = None) -> bytes:
        """The bytes that go to Redis.

        Args:
            identity: the id of a task that has one; None for a new one.
            at: when it is enqueued, by Redis's clock; None for now, by this machine's.

        Raises:
            NotEncodable: an argument has a type or a value that MessagePack cannot carry.
        """
        if self._data is not None:
            return self._data
        return self.serialize_with(self.options, identity, at)

    def serialize_with(self, options: Options | None, identity: str | None, at: float | None) -> bytes:
        """As `serialize`, with other options."""
        try:
            if options is not None and (headers := options.packed(identity or _identity(options), 0, at)):
                return _FIVE + dumps((self.func_path, self.args, self.kwargs, self.retry))[1:] + headers
            fields: list[Any] = [self.func_path]
            if self.retry:
                fields += [self.args, self.kwargs, self.retry]
            elif self.kwargs:
                fields += [self.args, self.kwargs]
            elif self.args:
                fields.append(self.args)
            return dumps(fields)
        except (TypeError, ValueError, OverflowError) as error:
            raise not_encodable(self.func_path, {"args": self.args, "kwargs": self.kwargs}, error) from error

    def but(self, given: Mapping[str, object]) -> Self:
        """The same call with other options in place of some."""
        return self.with_options(self.func_path, self.args, self.kwargs, self.retry, (self.options or Options()).but(given))

    def traced(self, parent: str, state: str = "") -> Self:
        """The same call, enqueued in this W3C trace context (`traceparent`, `tracestate`); empty texts for none. What
        `deserialize` has made keeps its bytes."""
        task = type(self).__new__(type(self))
        task.func_path, task.args, task.kwargs, task.retry = self.func_path, self.args, self.kwargs, self.retry
        task._data, task.options = self._data, (self.options or NOTHING).traced(parent, state)
        return task

    def _ask_for(self, options: Options, retries: bool) -> None:
        options.check(retries)
        self.options = options

    @classmethod
    def with_options(
        cls, func: Callable[..., object] | str, args: Any, kwargs: Any, retry: int | None, options: Options
    ) -> Self:
        """A call that asks for `options`."""
        task = cls(func, args, kwargs, retry)
        task._ask_for(options, retry is not None)
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

    As a `PyTask`, it may be enqueued more than once.

    Raises:
        InvalidTask: the path is not one of a Go function, or an option cannot work.
    """

    __slots__ = ("args", "func_path", "options", "retry")

    def __init__(self, func_path: str, args: Any = None, retry: int | None = None, **options: Unpack[TaskOptions]) -> None:
        package, _, function = func_path.rpartition(".") if isinstance(func_path, str) else ("", "", "")
        if not package or not function or SEPARATOR in func_path:
            raise InvalidTask(f"{func_path!r} is not the path of a Go function: write it as 'package/path.Function'")
        self.func_path = func_path
        self.args = args
        self.retry = 0 if retry is None else count_of(retry)
        self.options = asked_for(options, retry is not None) if options or retry else None

    def __repr__(self) -> str:
        return f"GoTask({self.func_path!r})"

    @classmethod
    def with_options(cls, func_path: str, args: Any, retry: int | None, options: Options) -> Self:
        """A call that asks for `options`."""
        task = cls(func_path, args, retry)
        options.check(retry is not None)
        task.options = options
        return task

    def serialize(self, identity: str | None = None, at: float | None = None) -> bytes:
        """As `PyTask.serialize`."""
        return self.serialize_with(self.options, identity, at)

    def serialize_with(self, options: Options | None, identity: str | None, at: float | None) -> bytes:
        """As `PyTask.serialize_with`."""
        try:
            headers = b"" if options is None else options.packed(identity or _identity(options), self.retry, at)
            call = dumps((self.func_path, dumps(self.args)))
            return _THREE + call[1:] + headers if headers else call
        except (TypeError, ValueError, OverflowError) as error:
            raise not_encodable(self.func_path, {"args": self.args}, error) from error

    def traced(self, parent: str, state: str = "") -> Self:
        """As `PyTask.traced`."""
        task = type(self).__new__(type(self))
        task.func_path, task.args, task.retry = self.func_path, self.args, self.retry
        task.options = (self.options or NOTHING).traced(parent, state)
        return task

    def but(self, given: Mapping[str, object]) -> Self:
        """As `PyTask.but`."""
        task = type(self)(self.func_path, self.args)
        task.retry, task.options = self.retry, (self.options or Options()).but(given)
        return task


Task = PyTask | GoTask


def _identity(options: Options) -> str | None:
    """A new id, if a task with these options has one."""
    return new_id() if options.identified or options.tracked else None
