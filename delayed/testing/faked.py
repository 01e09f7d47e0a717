"""An application's own queues, in memory or on a server for tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from ..app import App
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..redis.connect import client_of
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
    """Inside of the block all queues of an application are on the Redis at `url`."""
    client = client_of(url)  # workers want one for all

    def attributes(queue: AnyQueue) -> dict[str, Any]:
        if isinstance(queue, AsyncQueue):
            return vars(AsyncQueue(queue.name, url))
        return {"conn": client, "store": Queue(queue.name, client).store}

    try:
        with each_queue(app, lambda found: placed(found, attributes(found))):
            yield app
    finally:
        client.close()
