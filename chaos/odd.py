"""What no exception should be, and what is no result."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NoReturn


class Meta(type):
    """Of classes that say nothing of themselves."""

    def __getattribute__(cls, name: str) -> NoReturn:
        raise KeyboardInterrupt(name)


class Impossible(BaseException):
    """Whoever asks it anything gets another."""

    def __str__(self) -> NoReturn:
        raise SystemExit(7)

    __repr__ = __str__


class Nameless(Exception, metaclass=Meta):
    """Its class says nothing, either."""


_WORST: tuple[Callable[[], BaseException], ...] = (
    RuntimeError,
    SystemExit,
    lambda: SystemExit(3),
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
    asyncio.CancelledError,
    Impossible,
    Nameless,
    lambda: ExceptionGroup("several", [RuntimeError(), ValueError("\ud800")]),
)


def worst() -> BaseException:
    """One of the exceptions that a program may raise."""
    return random.choice(_WORST)()


class Later:
    """Something that can be awaited, and is no coroutine.

    Args:
        coroutine: what it stands for.
    """

    def __init__(self, coroutine: Awaitable[Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


HEADERS: tuple[dict[str, Any], ...] = (  # each of another type than protocol.md wants, so that it is passed over
    {"concurrency": ["k", True]},
    {"concurrency": [7, 1]},
    {"concurrency": {"k": 1}},
    {"unique": ["k", "while_running", True]},
    {"unique": 5},
    {"retry": True},
    {"attempt": [1]},
    {"expires": True},
    {"timeout": "1"},
    {"hard_timeout": 1.5},
    {"id": 16},
    {"group": 7},
    {"backoff": "soon"},
    {"enqueued": None},
)
