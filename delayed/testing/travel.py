"""Moves a fake queue forward in time, so that scheduled tasks become due."""

from datetime import timedelta

from ..base.clock import milliseconds
from ..queue.queue import Queue
from ..redis.places import scheduled
from ..task.decode import decode, headers_of, is_python_path, path_of
from ..task.edit import with_retry
from .enqueued import scheduled_tasks
from .targets import Target, queues_of

_ID = 16  # characters before the task in the schedule


def travel(queue: Target, seconds: float | timedelta) -> None:
    """Let time pass for what is in the queue, or in all queues of an application: what was to begin within these seconds is
    due, times to live run out, leases of dead workers end. Everything becomes so much older, and the clock itself stays: so it
    works with any queue, but code that asks for the time is told the real one.

    Args:
        queue: the queue, at which nobody works meanwhile, or the application.
        seconds: how long, above 0.
    """
    passed = milliseconds(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
    for each in queues_of(queue):
        _travel(each, passed)


def _travel(queue: Queue, passed: int) -> None:
    call, keys = queue.store.call, queue.keys
    for place, data in enumerate(call("LRANGE", keys.queue, 0, -1)):
        call("LSET", keys.queue, place, _aged(data, passed))
    for member, due in scheduled_tasks(queue):
        call("ZREM", keys.scheduled, member)
        whose, data = scheduled(member)
        call("ZADD", keys.scheduled, due - passed, whose + _aged(data, passed))
    for timer in call("ZRANGE", keys.flow_due, 0, -1):  # of workflows
        call("ZINCRBY", keys.flow_due, -passed, timer)
    cursor = b""
    while cursor != b"0":
        cursor, names = call("SCAN", cursor or b"0", "COUNT", 1000)
        for name in (name.decode(errors="surrogateescape") for name in names):
            if name in keys.all().values() or keys.owns_lease(name) or keys.owns_for_a_task(name):
                _age(queue, name, passed)


def _age(queue: Queue, key: str, passed: int) -> None:
    left = queue.store.call("PTTL", key)
    if 0 <= left <= passed:
        queue.store.call("DEL", key)
        return
    if key.startswith(queue.keys.task("")) and queue.store.call("TYPE", key) in (b"hash", "hash"):
        for name in ("enqueued", "due", "started"):
            if int(queue.store.call("HGET", key, name) or 0):
                queue.store.call("HINCRBY", key, name, -passed)
        data = queue.store.call("HGET", key, "data")
        if data is not None:
            whose, task = scheduled(bytes(_ID) + data)
            queue.store.call("HSET", key, "data", whose[_ID:] + _aged(task, passed))
    if left > passed:
        queue.store.call("PEXPIRE", key, left - passed)


def _aged(data: bytes, passed: int) -> bytes:
    """A task that expires so much earlier."""
    expires = headers_of(data).get("expires")
    if not isinstance(expires, int) or not is_python_path(path_of(data)):
        return data
    return with_retry(data, decode(data).retry, {"expires": expires - passed})
