"""The targets of the test tools: a queue, or all queues of an application."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from ..app import App
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from .fake import beneath

__tracebackhide__ = True  # pytest shows the lines of the test instead
AnyQueue = Queue | AsyncQueue
Target = AnyQueue | App


def queues_of(target: Target) -> list[Queue]:
    """The queue itself, or all of an application, in the order in which its workers look into them."""
    return target.queues() if isinstance(target, App) else [beneath(target)]


@contextmanager
def each_queue(target: Target, entered: Callable[[AnyQueue], AbstractContextManager[object]]) -> Iterator[None]:
    """Around the block, enter `entered(queue)` for the queue, or for all of an application: also for those that it makes in
    the block."""
    with ExitStack() as stack:
        if not isinstance(target, App):
            stack.enter_context(entered(target))
            yield
            return
        known: dict[int, AnyQueue] = {}

        def enter(queue: AnyQueue) -> AnyQueue:
            if id(queue) not in known:
                known[id(queue)] = queue
                stack.enter_context(entered(queue))
            return queue

        made: list[AnyQueue] = [*target.queues(), *target._async_queues.values()]
        for queue in made:
            enter(queue)
        for name in ("queue", "async_queue"):
            _shadow(stack, target, name, enter)
        yield


def _shadow(stack: ExitStack, app: App, name: str, enter: Callable[[AnyQueue], AnyQueue]) -> None:
    """Until the end of the stack, what this method of `app` returns is entered."""
    made, own = getattr(app, name), vars(app)
    before = {name: own[name]} if name in own else {}

    def entering(*args: Any, **kwargs: Any) -> AnyQueue:
        return enter(made(*args, **kwargs))

    def restore() -> None:
        del own[name]
        own.update(before)

    own[name] = entering
    stack.callback(restore)
