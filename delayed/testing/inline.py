"""Runs tasks where they are enqueued."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..queue.queue import Queue
from .drain import drain
from .targets import AnyQueue, Target, each_queue

__tracebackhide__ = True  # pytest shows the lines of the test instead
_NAMES = ("enqueue", "enqueue_many", "enqueue_all")


@contextmanager
def inline(queue: Target, *, retries: bool = False) -> Iterator[None]:
    """Inside of the block whatever is enqueued through this queue object, or through this application, runs at once, before
    `delay` or `enqueue` returns; what shall begin later waits for `travel` and `drain`.

    Args:
        queue: the queue, or the application.
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

    @contextmanager
    def wrapped(each: AnyQueue) -> Iterator[None]:
        wrap: Any = at_once if isinstance(each, Queue) else at_once_async
        before = {name: vars(each)[name] for name in _NAMES if name in vars(each)}
        for name in _NAMES:
            setattr(each, name, wrap(getattr(type(each), name).__get__(each)))  # of nested blocks the inner one counts
        try:
            yield
        finally:
            for name in _NAMES:
                delattr(each, name)
            vars(each).update(before)

    with each_queue(queue, wrapped):
        yield
