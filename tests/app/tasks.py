"""Tasks for the tests. Those that others wait for say so in Redis, so that nobody has to sleep."""

import os
import signal
import time
from functools import cache

import redis


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])


def noop(*args: object, **kwargs: object) -> None:
    """Nothing."""


def note(key: str, value: object) -> None:
    """Say that it ran."""
    _client().rpush(key, str(value))


def hold(key: str, value: object) -> None:
    """Say that it has begun, wait until told to go on, say that it has ended."""
    note(f"{key}:began", value)
    for _ in range(30):  # a client's own timeout is 5 s
        if _client().blpop([f"{key}:go"], 2):
            break
    note(f"{key}:ended", value)


def stay() -> None:
    """Never end."""
    signal.pause()


def spin(key: str, seconds: float) -> None:
    """Hold the processor for a while."""
    note(f"{key}:began", os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    note(f"{key}:ended", os.getpid())


def fail(message: str) -> None:
    raise ValueError(message)


def fail_until(url: str, key: str, attempts: int) -> None:
    """Fail until it has been tried so often."""
    with redis.Redis.from_url(url) as client:
        if client.incr(key) < attempts:
            raise ValueError("not yet")


def leave(code: int) -> None:
    raise SystemExit(code)


def kill_worker() -> None:
    """What a segmentation fault or the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def two(a: int, b: int = 2) -> int:
    return a + b


def inner_type_error() -> None:
    len(5)  # type: ignore[arg-type]


NOT_CALLABLE = 5


@cache
def _log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def log(path: str, number: int) -> None:
    """Note in a file outside of Redis that it ran: eight bytes, appended in one step."""
    os.write(_log(path), number.to_bytes(8))
