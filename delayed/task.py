"""Tasks, as a producer makes them, and their wire format: MessagePack arrays, byte for byte those of upstream delayed 1.3 and
go-delayed.

Python: `[func_path, args, kwargs, retry]`, cut from the right where empty. Go: `[func_path, payload]`, the payload being
MessagePack in a byte string. A map of headers may follow. See docs/protocol.md.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Self, Unpack

from .codec import dumps, not_encodable
from .errors import InvalidTask
from .keys import token
from .keywords import TaskOptions
from .logger import logger
from .options import Options, count_of
from .wire import SEPARATOR, decode

_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_SCRIPT = f"__main__{SEPARATOR}"
_told: set[str] = set()  # functions of the script that the log has named


class PyTask:
    """A call of a Python function.

    Args:
        func: the function, or its path `module.path:function`. A function is named by its path, so it must be found under
            its own name in its module.
        args: positional arguments. What MessagePack can carry goes through: None, bool, int from -2**63 to 2**64-1, float,
            str, bytes, `datetime` with a time zone (arrives in UTC), list and tuple (arrive as list), dict with any keys.
        kwargs: keyword arguments.
        retry: how often a failed call is repeated; negative: until it succeeds. None for 0.
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
        retry: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        if not isinstance(func, str):
            func = path_of_function(func)
            if func[0] == "_":  # as in "__main__"; others need no second look
                func = importable(func)
        elif not 0 < func.find(SEPARATOR) < len(func) - 1:
            raise InvalidTask(f"{func!r} is not the path of a Python function: write it as 'module.path:function'")
        self.func_path = func
        self.args = args = () if args is None else args
        self.kwargs = kwargs = {} if kwargs is None else kwargs
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise InvalidTask(f"{func}: args is a list or tuple, and kwargs a dict, of the function's arguments")
        self.retry = 0 if retry is None else retry if type(retry) is int and 0 <= retry < 100 else count_of(retry)
        self._data: bytes | None = None
        self.options: Options | None = None
        self.id: str | None = None
        if options:
            self._ask_for(Options.of(options), retry is not None)

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
                self._data = dumps(fields)
            except (TypeError, ValueError, OverflowError) as error:
                raise not_encodable(self.func_path, {"args": self.args, "kwargs": self.kwargs}, error) from error
        return self._data

    def but(self, given: Mapping[str, object]) -> Self:
        """The same call with other options in place of some."""
        return self.with_options(self.func_path, self.args, self.kwargs, self.retry, (self.options or Options()).but(given))

    def _ask_for(self, options: Options, retries: bool) -> None:
        options.check(retries)
        self.options = options
        self.id = token() if options.tracked else None

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

    Raises:
        InvalidTask: the path is not one of a Go function, or an option cannot work.
    """

    __slots__ = ("_data", "args", "func_path", "id", "options", "retry")

    def __init__(self, func_path: str, args: Any = None, retry: int | None = None, **options: Unpack[TaskOptions]) -> None:
        package, _, function = func_path.rpartition(".") if isinstance(func_path, str) else ("", "", "")
        if not package or not function or SEPARATOR in func_path:
            raise InvalidTask(f"{func_path!r} is not the path of a Go function: write it as 'package/path.Function'")
        self.func_path = func_path
        self.args = args
        self.retry = 0 if retry is None else count_of(retry)
        self._data: bytes | None = None
        self.options = Options.of(options) if options or retry else None
        if self.options is not None:
            self.options.check(retry is not None)
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
                fields = (self.func_path, dumps(self.args))
                self._data = dumps((*fields, headers) if headers else fields)
            except (TypeError, ValueError, OverflowError) as error:
                raise not_encodable(self.func_path, {"args": self.args}, error) from error
        return self._data

    def but(self, given: Mapping[str, object]) -> Self:
        """As `PyTask.but`."""
        task = type(self)(self.func_path, self.args)
        task.retry, task.options = self.retry, (self.options or Options()).but(given)
        task.id = token() if task.options.tracked else None
        return task


Task = PyTask | GoTask


def path_of_function(func: Callable[..., object]) -> str:
    """The path by which a function is found in its module.

    Raises:
        InvalidTask: it is not found there.
    """
    if not callable(func):
        raise InvalidTask(f"a task needs a function or the path of one, not {func!r}")
    _refuse_generators(func)
    module, name = getattr(func, "__module__", None), getattr(func, "__name__", None)
    inside = getattr(func, "__qualname__", name)
    if not module or not name or not inside or "<" in inside or ("." in inside and _is_elsewhere(func, module, name)):
        raise InvalidTask(f"{func!r} has no path that a worker could import: define it with `def` at the top of a module")
    if module == "__main__":  # `python -m pkg.mod`: workers know the module by its real name
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = spec.name if spec is not None else module
    return f"{module}{SEPARATOR}{name}"


def _refuse_generators(func: Callable[..., object]) -> None:
    """A call of one runs nothing of it."""
    flags = getattr(getattr(func, "__code__", None), "co_flags", 0)
    if flags & _GENERATORS and not flags & inspect.CO_ITERABLE_COROUTINE:
        raise InvalidTask(
            f"{func!r} is a generator function: nothing of it runs when a worker calls it, as nobody asks for what it yields. "
            f"Make a function the task that loops over it"
        )


def _is_elsewhere(func: object, module: str, name: str) -> bool:
    """Whether a function that belongs to a class is not its module's, too (as random's `randint` is)."""
    return getattr(sys.modules.get(module), name, None) != func


def importable(path: str) -> str:
    """The path of a function; the log says, once for each, if only this very script can run it, as upstream's examples do."""
    if path.startswith(_SCRIPT) and path not in _told:
        _told.add(path)
        logger.warning(
            "%s is a function of the script itself, which only a worker inside this script can import: "
            "put it into a module of its own",
            path,
        )
    return path
