"""An application's own queues, in memory or on a server for tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from ..app import App
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from .fake import fake_attributes, fake_server, placed
from .targets import AnyQueue, Target, each_queue

Either = TypeVar("Either", Queue, AsyncQueue, App)


@contextmanager
def faked(queue: Either, *others: Target) -> Iterator[Either]:
    """Inside of the block an application's own `Queue` or `AsyncQueue` object, to which its tasks are bound, is a fake one; so
    are all queues of an `App`. `others` share its memory: queues of one name are one queue."""
    server = fake_server()
    with ExitStack() as stack:
        for each in (queue, *others):
            stack.enter_context(each_queue(each, lambda found: placed(found, fake_attributes(found, server))))
        yield queue


@contextmanager
def on_server(app: App, url: str) -> Iterator[App]:
    """Inside of the block all queues of an application are on the Redis at `url`, with what they have of limits in time."""

    def attributes(queue: AnyQueue) -> dict[str, Any]:
        if isinstance(queue, AsyncQueue):
            return vars(AsyncQueue(queue.name, url))
        there = Queue(queue.name, url)
        return {"conn": there.conn, "store": there.store}

    with each_queue(app, lambda found: placed(found, attributes(found))):
        yield app
