"""For the tests of applications: a queue without a server. Needs `pip install 'fakeredis[lua]'`.

```python
from delayed.testing import assert_enqueued, drain, faked, inline, travel
from myapp.tasks import queue, resize  # resize is a task of queue, with result_ttl=60


def test_resize():
    with faked(queue):
        handle = resize.delay("a.png", size=200)
        assert_enqueued(queue, resize, ["a.png"], {"size": 200})
        drain(queue)  # runs what waits
        assert handle.result() == "a.png at 200"

        resize.options(after=3600).delay("b.png", size=1)
        assert drain(queue) == 0
        travel(queue, 3600)
        assert drain(queue) == 1

        with inline(queue):  # whatever is enqueued here runs at once
            assert resize.delay("c.png", size=2).result() == "c.png at 2"
```

All of it takes an `AsyncQueue`, too. A faked queue keeps no limits, and nothing works on it by itself.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .clock import milliseconds, now
from .drain import drain
from .fake import beneath, fake_async_queue, fake_queue, faked
from .options import Options
from .queue import AsyncQueue, Queue
from .task import GoTask, PyTask
from .transitions import scheduled
from .wire import decode, headers_of, path_of, readable, with_retry

__all__ = [
    "Enqueued",
    "assert_enqueued",
    "drain",
    "enqueued",
    "fake_async_queue",
    "fake_queue",
    "faked",
    "inline",
    "travel",
]
_LATE = 60.0  # seconds that a test may take from an enqueue to the look at it
_ID = 16  # characters before the task in the schedule
_SHOWN = 20


@contextmanager
def inline(queue: Queue | AsyncQueue, *, retries: bool = False) -> Iterator[None]:
    """Inside of the block whatever is enqueued through this queue object runs at once, before `delay` or `enqueue` returns;
    what shall begin later waits for `travel` and `drain`.

    Args:
        queue: the queue.
        retries: as for `drain`. By default `delay` raises what the task raises; else the handle does.
    """

    def at_once(method: Callable[..., Any]) -> Callable[..., Any]:
        def enqueue(what: Any, **named: Any) -> Any:
            done = method(what, **named)
            drain(queue, retries=retries)
            return done

        return enqueue

    def at_once_async(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def enqueue(what: Any, **named: Any) -> Any:
            done = await method(what, **named)
            drain(queue, retries=retries)
            return done

        return enqueue

    names = ("enqueue", "enqueue_many")
    before = {name: getattr(queue, name) for name in names}
    own = {name for name in names if name in vars(queue)}
    wrapped: Any = at_once if isinstance(queue, Queue) else at_once_async
    for name in names:
        setattr(queue, name, wrapped(getattr(type(queue), name).__get__(queue)))  # of nested blocks the inner one counts
    try:
        yield
    finally:
        for name in names:
            if name in own:
                setattr(queue, name, before[name])
            else:
                delattr(queue, name)


class Enqueued(NamedTuple):
    """A task that waits."""

    task: str  # function path
    args: Any
    kwargs: dict[str, Any]
    retry: int
    headers: dict[str, Any]
    due: float | None  # seconds since 1970, of one that waits for its time

    def __str__(self) -> str:
        args = self.args if isinstance(self.args, list | tuple) else () if self.args is None else (self.args,)
        given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in self.kwargs.items())])
        about: dict[str, Any] = {"retry": self.retry} if self.retry else {}
        about |= {name: value for name, value in self.headers.items() if name not in ("enqueued", "id")}
        if self.due is not None:
            about["due in"] = f"{self.due - now():.0f} s"
        return f"{self.task}({given})" + "".join(f", {name} {value}" for name, value in about.items())


def enqueued(queue: Queue | AsyncQueue) -> list[Enqueued]:
    """The tasks that wait, in order, and then those that wait for their time."""
    queue = beneath(queue)
    call, keys = queue.call, queue.keys
    found = [_enqueued(data, None) for data in call("LRANGE", keys.queue, 0, -1)]
    return found + [_enqueued(scheduled(member)[1], due / 1000) for member, due in _scheduled(queue)]


def assert_enqueued(
    queue: Queue | AsyncQueue,
    func: Callable[..., Any] | str,
    args: Any = None,
    kwargs: Any = None,
    *,
    times: int | None = None,
    **options: Any,
) -> None:
    """Assert that a call waits in the queue.

    Args:
        queue: the queue.
        func: the function, or its path.
        args, kwargs: its arguments; None for any. `unittest.mock.ANY` stands for any one.
        times: how many such calls there are; None for at least one.
        options: `retry` and other options that it was given; those that are not named may have any value. Of `after` and
            `expires`, a minute that has passed since then is allowed.

    Raises:
        AssertionError: it does not; the message shows what is there.
        InvalidTask: there is no such option.
    """
    path = (GoTask if isinstance(func, str) and ":" not in func else PyTask)(func).func_path  # type: ignore[arg-type]
    retry = options.pop("retry", None)
    chosen = Options.of(options)
    there = enqueued(queue)
    count = 0
    for each in there:
        count += (
            each.task == path
            and (args is None or _wire(args) == _wire(each.args))
            and (kwargs is None or kwargs == each.kwargs)
            and (retry is None or retry == each.retry)
            and _has(each, chosen)
        )
    if count == times or (times is None and count):
        return
    shown = "\n".join(f"  {each}" for each in there[:_SHOWN]) or "  nothing"
    more = f"\n  and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    given = {"args": args, "kwargs": kwargs, "retry": retry, **options}
    wanted = ", ".join([path, *(f"{name}={value!r}" for name, value in given.items() if value is not None)])
    often = "it does not wait" if count == 0 else f"it waits {count} times, not {times}"
    raise AssertionError(f"{wanted}: {often} in {queue.name!r}. There is:\n{shown}{more}")


def travel(queue: Queue | AsyncQueue, seconds: float) -> None:
    """Let time pass for what is in the queue: what was to begin within these seconds is due, times to live run out, leases of
    dead workers end. Everything becomes so much older, and the clock itself stays: so it works with any queue, but code that
    asks for the time is told the real one.

    Args:
        queue: the queue, at which nobody works meanwhile.
        seconds: how long, above 0.
    """
    queue = beneath(queue)
    call, keys, passed = queue.call, queue.keys, milliseconds(seconds)
    for place, data in enumerate(call("LRANGE", keys.queue, 0, -1)):
        call("LSET", keys.queue, place, _aged(data, passed))
    for member, due in _scheduled(queue):
        call("ZREM", keys.scheduled, member)
        whose, data = scheduled(member)
        call("ZADD", keys.scheduled, due - passed, whose + _aged(data, passed))
    cursor = b""
    while cursor != b"0":
        cursor, names = call("SCAN", cursor or b"0", "COUNT", 1000)
        for name in (name.decode(errors="surrogateescape") for name in names):
            if name in keys.all().values() or keys.owns_lease(name) or keys.owns_for_a_task(name):
                _age(queue, name, passed)


def _age(queue: Queue, key: str, passed: int) -> None:
    left = queue.call("PTTL", key)
    if 0 <= left <= passed:
        queue.call("DEL", key)
        return
    if key.startswith(queue.keys.task("")) and queue.call("TYPE", key) in (b"hash", "hash"):
        for name in ("enqueued", "due", "started"):
            if int(queue.call("HGET", key, name) or 0):
                queue.call("HINCRBY", key, name, -passed)
        data = queue.call("HGET", key, "data")
        if data is not None:
            whose, task = scheduled(bytes(_ID) + data)
            queue.call("HSET", key, "data", whose[_ID:] + _aged(task, passed))
    if left > passed:
        queue.call("PEXPIRE", key, left - passed)


def _aged(data: bytes, passed: int) -> bytes:
    """A task that expires so much earlier."""
    expires = headers_of(data).get("expires")
    if not isinstance(expires, int) or ":" not in path_of(data):
        return data
    return with_retry(data, decode(data).retry, {"expires": expires - passed})


def _scheduled(queue: Queue) -> list[tuple[bytes, int]]:
    found = queue.call("ZRANGE", queue.keys.scheduled, 0, -1, "WITHSCORES")
    pairs = (
        found if found and isinstance(found[0], list | tuple) else zip(found[::2], found[1::2], strict=True)
    )  # RESP3, RESP2
    return [(member, int(float(due))) for member, due in pairs]


def _enqueued(data: bytes, due: float | None) -> Enqueued:
    path, headers = path_of(data), headers_of(data)
    if ":" not in path:
        fields = readable(data)
        args = fields[1] if isinstance(fields, list) and len(fields) > 1 else None
        return Enqueued(path, args, {}, headers.get("retry", 0), headers, due)
    call = decode(data)
    return Enqueued(path, list(call.args), call.kwargs, call.retry, headers, due)


def _has(task: Enqueued, wanted: Options) -> bool:
    """Whether a task has been given these options."""
    if wanted.due is not None and (task.due is None or round(task.due * 1000) != wanted.due):
        return False
    if wanted.delay is not None and not 0 <= now() + wanted.delay / 1000 - (task.due or 0) <= _LATE:
        return False
    if wanted.tracked and "id" not in task.headers:
        return False
    headers = wanted.headers(None, 0)
    expires = headers.pop("expires", None)
    if expires is not None and not -1000 <= expires - task.headers.get("expires", 0) <= _LATE * 1000:
        return False
    return all(name in task.headers and _wire(task.headers[name]) == _wire(value) for name, value in headers.items())


def _wire(value: Any) -> Any:
    """As it arrives: a tuple is a list."""
    if isinstance(value, list | tuple):
        return [_wire(item) for item in value]
    return {name: _wire(item) for name, item in value.items()} if isinstance(value, dict) else value
