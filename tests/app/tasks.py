"""Tasks for the tests. Those that others wait for say so in Redis, so that nobody has to sleep."""

import ctypes
import gc
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import redis

_broken = False


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["DELAYED_REDIS_URL"])


_LOADED: list[object] = []  # since the import


def is_frozen() -> bool:
    """Whether the garbage collector leaves out what this module has had since its import."""
    return not any(each is _LOADED for each in gc.get_objects())


def loaded(names: list[str]) -> list[str]:
    """Those of these modules that have been imported."""
    return [name for name in names if name in sys.modules]


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


def say_by_the_log(words: str) -> None:
    logging.getLogger("tasks.own").info("it is %s", words)


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


def see_timer(there: bool) -> None:
    """Fail if the timer of this process is set, or not, unlike that."""
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == there


def two(a: int, b: int = 2) -> int:
    return a + b


def inner_type_error() -> None:
    len(5)  # type: ignore[arg-type]


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


def log_slowly(path: str, number: int) -> None:
    """As `log`, in a millisecond."""
    log(path, number)
    time.sleep(0.001)


def hold_and_say(key: str) -> None:
    """Say which process it is in, and never end."""
    note(f"{key}:began", os.getpid())
    signal.pause()


def hold_the_interpreter(key: str, seconds: float) -> None:
    """Do as a C extension does that runs for long and lets no other thread run."""
    note(f"{key}:began", os.getpid())
    ctypes.PyDLL(None).usleep(round(seconds * 1_000_000))
    note(f"{key}:ended", os.getpid())


def block_signals(key: str) -> None:
    """Hear nothing, and never end. (Only this thread can block for itself: the heartbeat hears, and must not suffice.)"""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    note(key, os.getpid())
    ctypes.PyDLL(None).usleep(100_000_000)
    ctypes.PyDLL(None).usleep(100_000_000)


def note_process(key: str) -> None:
    note(key, os.getpid())


_kept: list[bytearray] = []


def grow(size: int) -> None:
    """Leak."""
    _kept.append(bytearray(b"x") * size)


def exhaust_memory() -> None:
    """Ask for more than the system gives: as small pieces, so that whatever asks next fails too."""
    resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
    while True:
        _kept.append(bytearray(1_000_000))


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def exit_at_once(code: int) -> None:
    os._exit(code)


def kill_parent() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def die_with_an_heir() -> None:
    """Its connections stay open for a while after the process has died, as a child has them too."""
    if os.fork():
        os._exit(5)
    time.sleep(1)
    os._exit(0)


def fork_and_leave() -> None:
    """Go on as a child, as a program that becomes a daemon does."""
    if os.fork():
        os._exit(9)
    os._exit(0)


def flood_stdout() -> None:
    for _ in range(200):
        print("x" * 100_000)
    raise ValueError("after the flood")


def recurse() -> None:
    recurse()


class Strange(BaseException):
    pass


def raise_base_exception() -> None:
    raise Strange


def return_itself() -> object:
    return return_itself


def say(words: str) -> None:
    """It stays in the buffer of standard output."""
    if sys.stdout is not None:
        sys.stdout.write(words)


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def return_unshowable() -> object:
    return _Unshowable()


def return_deep() -> object:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def fail_without_utf8() -> None:
    raise ValueError("\ud800")


def log_around(path: str, number: int, gate: str) -> None:
    """As `log`, before and after a file is there: for tasks that run while Redis is away. The end has the highest bit set."""
    log(path, number)
    while not Path(gate).exists():
        time.sleep(0.01)
    os.write(_log(path), (2**63 + number).to_bytes(8))


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def note_and_stay(key: str) -> None:
    note(key, os.getpid())
    signal.pause()


def kill_once(key: str, name: str) -> str:
    """Kill the worker, but only once."""
    if _client().hincrby(f"{key}:{name}", "kills", 1) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "the second time"


def become_another_program(key: str) -> None:
    """Once: exec keeps the process, and nothing of what is in it."""
    if _client().incr(key) == 1:
        os.execv("/bin/sleep", ["sleep", "1000"])


def leave_an_orphan() -> None:
    subprocess.run(["/bin/sh", "-c", "(sleep 0.05 &)"], check=True)


def fail_from_now_on() -> None:
    """What comes next in this process fails."""
    global _broken  # noqa: PLW0603
    _broken = True


def fail_if_broken() -> None:
    if _broken:
        raise RuntimeError("something in this process is broken")
