"""Runs tasks where they are enqueued."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from .drain import drain


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
