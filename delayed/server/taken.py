"""What a server remembers of the tasks that it has handed out."""

from collections import OrderedDict

from ..base.clock import monotonic
from .line import TakenTask

_REMEMBERED, _TASKS = 8 << 20, 10_000  # bytes of tasks that were handed out, and how many, that are kept at hand


class Taken:
    """Tasks that were handed out last, by the secrets of their leases: who ends one need not read it again."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, tuple[TakenTask, float]] = OrderedDict()
        self._size = 0

    def put(self, held: TakenTask) -> None:
        """It was handed out."""
        self._tasks[held.secret] = held, monotonic()
        self._size += len(held.data)
        while self._size > _REMEMBERED or len(self._tasks) > _TASKS:
            self._size -= len(self._tasks.popitem(last=False)[1][0].data)

    def pop(self, secret: str) -> tuple[TakenTask, float] | None:
        """It is about to end. The task, and when it was handed out, by the monotonic clock; None if it is not known."""
        found = self._tasks.pop(secret, None)
        if found is not None:
            self._size -= len(found[0].data)
        return found
