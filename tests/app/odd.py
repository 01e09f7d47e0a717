"""Tasks whose objects raise what they like when they are asked anything, and tasks that leave something undone or behind."""

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any, NoReturn

from tasks import note  # type: ignore[import-not-found]  # as workers find it

from delayed.errors import Retry, Unready


class Own(BaseException):
    """No `Exception`."""


def _raise(*_: object) -> NoReturn:
    raise Own


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__mro__", "__name__", "__qualname__"):
            raise Own
        return super().__getattribute__(name)


class _Silent(Exception):
    def __str__(self) -> str:
        raise Own

    __repr__ = __str__


class _Traceless(Exception):
    __traceback__ = property(_raise)


class _Noted(Exception):
    __notes__ = property(_raise)


class _Nameless(Exception, metaclass=_Meta):
    pass


class _Classless(Exception):
    __class__ = property(_raise)


class _AskAgain(Retry):
    after = property(_raise)


class _Text(str):
    __slots__ = ()
    __str__ = __format__ = __getitem__ = __len__ = _raise


class _Worded(Exception):
    def __str__(self) -> str:
        return _Text("words")


class _Unready(Unready):
    def __init__(self) -> None:
        Exception.__init__(self)


ERRORS: dict[str, Callable[[], BaseException]] = {
    "own": Own,
    "silent": _Silent,
    "traceless": _Traceless,
    "noted": _Noted,
    "nameless": _Nameless,
    "classless": _Classless,
    "again": _AskAgain,
    "worded": _Worded,
    "unready": _Unready,
    "exit": GeneratorExit,
}
ERRORS["group"] = lambda: BaseExceptionGroup("many", [_Nameless(), _Silent(), Own()])


def fail(kind: str) -> NoReturn:
    raise ERRORS[kind]()


async def afail(kind: str) -> NoReturn:
    fail(kind)


class _Zone(tzinfo):
    dst = tzname = utcoffset = _raise


class _Unshown:
    __repr__ = __class__ = _raise  # type: ignore[assignment]


class _Dict(dict[str, int]):
    items = _raise


class _Nameless2(metaclass=_Meta):
    pass


VALUES: dict[str, Callable[[], object]] = {
    "shown": _Unshown,
    "zone": lambda: datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=_Zone()),
    "dict": lambda: _Dict(a=1),
    "type": _Nameless2,
    "nested": lambda: [{"a": (_Unshown(),)}],
}


def give(kind: str) -> object:
    return VALUES[kind]()


async def agive(kind: str) -> object:
    return give(kind)


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that hides what it wraps."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def asynchronously(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


async def _note(key: str, value: str) -> str:
    await asyncio.sleep(0)
    note(key, value)
    return value


wrapped = plainly(_note)
wrapped_twice = asynchronously(plainly(_note))


class _Later:
    def __init__(self, key: str, value: str) -> None:
        self._said = key, value

    def __await__(self) -> Iterator[Any]:
        return _note(*self._said).__await__()


later = _Later
partial = functools.partial(_note)


class _Callable:
    async def __call__(self, key: str, value: str) -> str:
        return await _note(key, value)


called = _Callable()
AWAITED = ["wrapped", "wrapped_twice", "later", "partial", "called"]


def generator(key: str, value: str) -> Iterator[None]:
    note(key, value)
    yield


async def async_generator(key: str, value: str) -> AsyncIterator[None]:
    note(key, value)
    yield


wrapped_generator = plainly(generator)
returned_generator = asynchronously(generator)
GENERATORS = ["generator", "async_generator", "wrapped_generator", "returned_generator"]


@plainly
async def forever() -> None:
    await asyncio.Event().wait()


def sleep_on() -> Awaitable[None]:
    return forever()  # type: ignore[no-any-return]


async def set_factory(key: str) -> None:
    """As some tracing libraries do it: of the older form."""
    asyncio.get_running_loop().set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    note(key, "set")


def leave_a_thread(key: str) -> None:
    threading.Thread(target=threading.Event().wait, name="left-behind").start()
    note(key, "left")


def print_without_end(key: str) -> None:
    note(key, "begun")
    while True:
        print("x" * 1000)


def configure_logging(key: str) -> None:
    import logging.config

    logging.config.dictConfig({"version": 1})
    logging.disable(logging.CRITICAL)
    note(key, "configured")


def forget_modules() -> None:
    sys.modules.pop("half_deployed", None)
