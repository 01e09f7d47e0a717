"""Finds a task by its id: what is kept of it, where it waits, and its dead letter."""

from collections.abc import Iterable
from typing import NamedTuple

from ..dead_letters.letter import DeadLetter, dead_letters
from ..errors import UnknownTask
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..queue.status import Status
from ..queue.waiting import Waiting, find


class Located(NamedTuple):
    """A task, and all that is known of it."""

    queue: str
    status: Status | None  # of a tracked task
    waits: Waiting | None  # if it waits
    letter: DeadLetter | None  # its newest dead letter, if it has one

    @property
    def data(self) -> bytes | None:
        """The task itself, if it is anywhere."""
        found = self.waits or self.letter
        return None if found is None else found.data


def locate(queues: Iterable[Queue], identity: str) -> Located | None:
    """The task that has this id, in the first of the queues that knows it. Waiting tasks and dead letters are looked through
    (of those that wait in a queue itself, the first 10,000)."""
    for queue in queues:
        letter = next((each for each in dead_letters(queue) if each.task_id == identity), None)
        found = Located(queue.name, _status(queue, identity), find(queue, identity), letter)
        if any(found[1:]):
            return found
    return None


def _status(queue: Queue, identity: str) -> Status | None:
    try:
        return Handle(queue, identity).status()
    except UnknownTask:
        return None
