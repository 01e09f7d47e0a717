"""Tasks for the tests. Those that others wait for say so in Redis, so that nobody has to sleep."""

import multiprocessing
import os
import signal
import time
from functools import cache
from pathlib import Path

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


async def coroutine() -> None: ...


class _Strange(Exception):
    """An exception whose parts cannot be had."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def __getattribute__(self, name: str) -> object:
        if name == f"__{object.__getattribute__(self, '_part')}__":
            raise RuntimeError(name)
        return super().__getattribute__(name)

    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_strange(kind: str) -> None:
    """Raise something that is hard to show."""
    if kind == "group":
        raise BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError()])
    if kind == "keyboard":
        raise KeyboardInterrupt
    if kind == "unrunnable":
        from delayed.errors import Unrunnable

        raise Unrunnable.__new__(Unrunnable)
    raise _Strange(kind)


def fork_and_exit(key: str) -> None:
    """The child comes back out of the task, as `sys.exit` does; the parent waits for it."""
    child = os.fork()
    if child == 0:
        raise SystemExit(7)
    _, status = os.waitpid(child, 0)
    note(key, os.waitstatus_to_exitcode(status))


def fork_and_return(key: str) -> None:
    """The child returns from the task."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        note(key, os.waitstatus_to_exitcode(status))


def terminate_children(key: str) -> None:
    """A pool of processes is ended by SIGTERM; its parent must not hear it."""
    with multiprocessing.get_context("fork").Pool(2) as pool:
        result = pool.map(abs, [-1, -2])
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    child.terminate()
    child.join(20)
    note(key, f"{result} {child.exitcode}")


def meddle_with_signals() -> None:
    """What a task that uses asyncio's signal handlers leaves behind."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


NOT_CALLABLE = 5


@cache
def _log(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def log(path: str, number: int) -> None:
    """Note in a file outside of Redis that it ran: eight bytes, appended in one step."""
    os.write(_log(path), number.to_bytes(8))


def log_around(path: str, number: int, gate: str) -> None:
    """As `log`, before and after a file is there: for tasks that run while Redis is away. The end has the highest bit set."""
    log(path, number)
    while not Path(gate).exists():
        time.sleep(0.01)
    os.write(_log(path), (2**63 + number).to_bytes(8))
