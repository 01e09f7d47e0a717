"""Finds a task by its id: what is kept of it, where it waits or runs, and its dead letter."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from ..dead_letters.letter import DeadLetter, dead_letters
from ..errors import UnknownTask
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..queue.status import Status
from ..queue.timeline import Happening
from ..queue.waiting import LOOKED_AT, Waiting, find
from .flows import NodeView, found_run, node_of
from .tasks import TaskView, first, running

_SCANNED = 1000  # tasks in one step through the schedule, where looking is cheap,
_STEPS = 100  # so that at least so many are taken


class Located(NamedTuple):
    """A task, and all that is known of it."""

    queue: str
    status: Status | None  # of a tracked task
    waits: Waiting | None  # if it waits
    letter: DeadLetter | None  # its newest dead letter, if it has one
    runs: TaskView | None = None  # if a worker holds it
    node: NodeView | None = None  # where it stands in its workflow, if it is a node of one
    timeline: Sequence[Happening] = ()  # of a tracked task: what has happened to it

    @property
    def data(self) -> bytes | None:
        """The task itself, if it is anywhere."""
        found = self.waits or self.runs or self.letter
        return None if found is None else found.data


def locate(queues: Sequence[Queue], identity: str, look_at: int = LOOKED_AT) -> Located | None:
    """The task that has this id, in the first of the queues that knows it; where its state is kept, that is known at once, and
    of a node of a workflow it is enough if one is the workflow's home.

    Args:
        queues: where to look.
        identity: the id.
        look_at: in each queue so many waiting tasks, held tasks and dead letters, at most; of the schedule a hundred thousand
            tasks, or that if it is more.
    """
    run = found_run(queues, identity)
    node = None if run is None else node_of(run, identity)
    if node is not None:
        home = node.run.queue
        queues = [home if node.node.queue == home.name else Queue(node.node.queue, home.conn)]
    waits = node is not None and node.node.state == "waiting"  # its workflow has not enqueued it, which `node` says
    states = {queue.name: status for queue in queues if not waits and (status := _status(queue, identity)) is not None}
    written = identity.encode()  # few letters have it in their bytes: few are decoded
    for queue in sorted(queues, key=lambda each: each.name not in states):
        found = Located(
            queue.name,
            states.get(queue.name),
            find(queue, identity, look_at, max(_STEPS, look_at // _SCANNED)),
            next(
                (each for each in islice(dead_letters(queue), look_at) if written in each.data and each.task_id == identity),
                None,
            ),
            first(running(queue), lambda each: each.id == identity, look_at),
            node,
            timeline(queue, identity) if queue.name in states else (),
        )
        if any(found[1:]):
            return found
    return None


def _status(queue: Queue, identity: str) -> Status | None:
    try:
        return Handle(queue, identity).status()
    except UnknownTask:
        return None


def timeline(queue: Queue, identity: str) -> Sequence[Happening]:
    """What has happened to a tracked task; nothing if no state is kept."""
    try:
        return Handle(queue, identity).timeline()
    except UnknownTask:
        return ()
