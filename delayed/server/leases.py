"""What a consumer holds: a task, and the token by which it says what becomes of it."""

import contextlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import msgpack

from ..errors import DelayedError
from ..task.decode import is_python_path, readable
from ..task.headers import any_id_in, milliseconds_in, number_in

_TOKEN = re.compile(r"([\w-]{32})\.([\w-]+)", re.ASCII)
_LONGEST = 2000  # characters of a token
_DRAWN = 128  # secrets that are drawn together: to ask the system for each costs more than all the rest
_drawn: list[str] = []
Envelope = tuple[str, dict[str, Any]]  # path and headers of a task
HOLD_NOTHING = {"number", "uid", "metadata"}  # headers of tasks that hold nothing, and need nothing to begin


class UnknownLease(DelayedError):
    """This is no token of a lease."""


def new_secret() -> str:
    """Of a new lease: 192 random bits in 32 characters."""
    while True:
        try:
            return _drawn.pop()
        except IndexError:
            text = secrets.token_urlsafe(24 * _DRAWN)
            found = (text[at : at + 32] for at in range(0, len(text), 32))
            _drawn.extend(each for each in found if each[0] != "-")  # people write tokens on command lines


def token_of(secret: str, queue: str) -> str:
    """The token of a lease: what it is called, and in which queue."""
    return f"{secret}.{_written(queue)}"


@lru_cache
def _written(queue: str) -> str:
    return urlsafe_b64encode(queue.encode(errors="surrogateescape")).decode().rstrip("=")


@lru_cache
def _queue_in(written: str) -> str | None:
    """The queue that is written so; None if none is: there is one token for a lease."""
    with contextlib.suppress(ValueError):
        queue = urlsafe_b64decode(written + "=" * (-len(written) % 4)).decode(errors="surrogateescape")
        if _written(queue) == written:
            return queue
    return None


def read_token(token: str) -> tuple[str, str]:
    """The secret of a lease, and the name of its queue.

    Raises:
        UnknownLease: it is none.
    """
    found = _TOKEN.fullmatch(token) if len(token) <= _LONGEST else None
    if found is not None and (queue := _queue_in(found[2])) is not None:
        return found[1], queue
    raise UnknownLease("this is no token of a lease: tokens come with the tasks that were taken")


@dataclass(frozen=True)
class Lease:
    """A task that a consumer holds until the deadline, and longer if it says so."""

    token: str = field(repr=False)  # whoever knows it may end the task
    queue: str
    data: bytes = field(repr=False)  # the task, as it stands in Redis
    deadline: float  # seconds since 1970
    envelope: Envelope = field(repr=False)

    @property
    def path(self) -> str:
        """The path of its function."""
        return self.envelope[0]

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers, whoever wrote them."""
        return self.envelope[1]

    @property
    def id(self) -> str | None:
        """The id of the task, tracked or not; None for one without."""
        return any_id_in(self.headers)

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return milliseconds_in(self.headers, "attempt") + 1

    @cached_property
    def task(self) -> Any:
        """The task, decoded: path, arguments and so on, as in docs/protocol.md, section 2; the payload of a Go task decoded,
        too.

        Raises:
            Unrunnable: it cannot be.
        """
        return readable(self.data)


def retries_in(data: bytes, path: str, headers: dict[str, Any]) -> int:
    """How many retries a task has left; negative: for ever."""
    if not is_python_path(path):
        return number_in(headers, "retry")
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data))
    unpacker.feed(data)
    if unpacker.read_array_header() < 4:
        return 0
    for _ in range(3):
        unpacker.skip()
    found = unpacker.unpack()
    return found if type(found) is int else 0
