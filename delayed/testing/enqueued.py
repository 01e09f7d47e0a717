"""Reads the tasks that wait in a queue."""

from typing import Any, NamedTuple

from ..base.clock import now
from ..queue.queue import Queue
from ..redis.places import scheduled, scored
from ..task.codec import loads
from ..task.decode import decode, headers_of, is_python_path, path_of, readable
from ..task.options import Options
from .targets import Target, queues_of

_LATE = 60.0  # seconds that a test may take from an enqueue to the look at it
_UNSAID = ("enqueued", "id", "uid")  # headers that say nothing to whoever reads a failed test


class Enqueued(NamedTuple):
    """A task that waits."""

    task: str  # function path
    args: Any
    kwargs: dict[str, Any]
    retry: int
    headers: dict[str, Any]
    due: float | None  # seconds since 1970, of one that waits for its time
    queue: str = ""  # its name on Redis

    def __str__(self) -> str:
        args = self.args if isinstance(self.args, list | tuple) else () if self.args is None else (self.args,)
        given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in self.kwargs.items())])
        about: dict[str, Any] = {"retry": self.retry} if self.retry else {}
        about |= {name: value for name, value in self.headers.items() if name not in _UNSAID}
        if self.due is not None:
            about["due in"] = f"{self.due - now():.0f} s"
        return f"{self.task}({given})" + "".join(f", {name} {value}" for name, value in about.items())


def enqueued(queue: Target) -> list[Enqueued]:
    """The tasks that wait in a queue, or in all of an application: of each queue first those that can run, in order, and then
    those that wait for their time."""
    return [task for each in queues_of(queue) for task in _waiting(each)]


def _waiting(queue: Queue) -> list[Enqueued]:
    found = [_enqueued(queue, data, None) for data in queue.store.call("LRANGE", queue.keys.queue, 0, -1)]
    return found + [_enqueued(queue, scheduled(member)[1], due / 1000) for member, due in scheduled_tasks(queue)]


def scheduled_tasks(queue: Queue) -> list[tuple[bytes, int]]:
    """The tasks in the schedule with the moments at which they are due, in milliseconds."""
    found = queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1, "WITHSCORES")
    return [(member, int(due)) for member, due in scored(found)]


def _enqueued(queue: Queue, data: bytes, due: float | None) -> Enqueued:
    path, headers = path_of(data), headers_of(data)
    if not is_python_path(path):
        fields = readable(data)
        args = fields[1] if isinstance(fields, list) and len(fields) > 1 else None
        return Enqueued(path, args, {}, headers.get("retry", 0), headers, due, queue.name)
    call = decode(data)
    return Enqueued(path, list(call.args), call.kwargs, call.retry, headers, due, queue.name)


def has(task: Enqueued, wanted: Options) -> bool:
    """Whether a task has been given these options."""
    if wanted.due is not None and (task.due is None or round(task.due * 1000) != wanted.due):
        return False
    if wanted.delay is not None and not 0 <= now() + wanted.delay / 1000 - (task.due or 0) <= _LATE:
        return False
    if wanted.tracked and "id" not in task.headers:
        return False
    packed = wanted.packed(None, 0)
    headers = loads(packed) if packed else {}
    expires = headers.pop("expires", None)
    if expires is not None and not -1000 <= expires - task.headers.get("expires", 0) <= _LATE * 1000:
        return False
    return all(name in task.headers and wire(task.headers[name]) == wire(value) for name, value in headers.items())


def wire(value: Any) -> Any:
    """As it arrives: a tuple is a list."""
    if isinstance(value, list | tuple):
        return [wire(item) for item in value]
    return {name: wire(item) for name, item in value.items()} if isinstance(value, dict) else value
