"""Chunks of tasks on their way to Redis."""

from collections.abc import Callable, Generator, Sequence

from ..redis.places import READY
from ..redis.store import Store
from .producer import LISTENERS, Chunk


class Flight:
    """Puts chunks of tasks into a queue, one after another: while Redis works on one, the caller writes the next one down. A
    chunk is sent when the one before is in.

    Args:
        store: of the queue.
        tell: lets those who listen know of tasks that are in.
    """

    def __init__(self, store: Store, tell: Callable[[Sequence[bytes]], None]) -> None:
        self.count = 0  # tasks that are in for certain
        self._store = store
        self._tell = tell
        self._chunk = Chunk(tracked=False)  # the last one
        self._adding: Generator[None, None, list[str]] | None = None  # what reads the reply to it

    def send(self, chunk: Chunk) -> None:
        """Send one more."""
        self.land()
        adding = self._store.adding(chunk.groups, chunk.states)
        next(adding)
        self._chunk, self._adding = chunk, adding

    def land(self) -> None:
        """Wait until what was sent is in."""
        adding, self._adding = self._adding, None
        if adding is None:
            return
        try:
            next(adding)
        except StopIteration as end:
            first = end.value
        self.count += len(self._chunk.ids)
        if first:
            self._store.turn(first, READY)
        if LISTENERS:
            for tasks in self._chunk.groups.values():
                self._tell(tasks)

    def land_after(self, error: Exception) -> None:
        """As `land`, where nothing more is sent because of an `error`, which says how many tasks are in."""
        try:
            self.land()
        except Exception as other:
            error.add_note(f"of the {len(self._chunk.ids)} tasks that were sent last: {other}")
        error.add_note(f"{self.count} tasks of this call had been enqueued before")
