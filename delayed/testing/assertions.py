"""Assertions on what was enqueued."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..base.clock import now
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..redis.store import scheduled, scored
from ..task.decode import decode, headers_of, is_python_path, path_of, readable
from ..task.options import Options
from ..task.task import GoTask, PyTask
from .fake import beneath

_LATE = 60.0  # seconds that a test may take from an enqueue to the look at it
_SHOWN = 20


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
    call, keys = queue.store.call, queue.keys
    found = [_enqueued(data, None) for data in call("LRANGE", keys.queue, 0, -1)]
    return found + [_enqueued(scheduled(member)[1], due / 1000) for member, due in scheduled_tasks(queue)]


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
    path = (GoTask if isinstance(func, str) and not is_python_path(func) else PyTask)(func).func_path  # type: ignore[arg-type]
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


def scheduled_tasks(queue: Queue) -> list[tuple[bytes, int]]:
    """The tasks in the schedule with the moments at which they are due, in milliseconds."""
    found = queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1, "WITHSCORES")
    return [(member, int(due)) for member, due in scored(found)]


def _enqueued(data: bytes, due: float | None) -> Enqueued:
    path, headers = path_of(data), headers_of(data)
    if not is_python_path(path):
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
