"""Finds a task by its id in many queues, for a page: by about ten commands, within a budget."""

from collections.abc import Sequence
from typing import Any

from ..base.ids import FLOW
from ..dead_letters.letter import DeadLetter, letter_of
from ..errors import UnknownTask
from ..queue.queue import Queue
from ..queue.status import FIELDS, Status, status_of
from ..queue.timeline import TIMELINE, timeline_of
from ..queue.waiting import Waiting
from ..redis.command import Command
from ..task.decode import path_of
from ..task.result import State
from ..workflow.run import Run
from .find import held, places, walk
from .flows import node_of
from .locate import Located
from .overview import server_time
from .reading import asked
from .tasks import TaskView

_WAITING = 5000  # tasks that are looked at,
_CALLS = 4  # by so many commands
_LETTERS = 500  # newest dead letters, and those of a few seconds around the end of a task
_HELD = 1000  # tasks that workers hold
_LEAST = 20  # of each of many queues
_AROUND = 5.0  # seconds
_PLANNED = (State.SCHEDULED, State.RETRYING)
_OVER = (State.SUCCEEDED, State.CANCELLED)  # after which a task is nowhere
_BURIED = (State.FAILED, State.EXPIRED)


def seek(queues: Sequence[Queue], identity: str) -> Located | Run | None:
    """The task that has this id, or the workflow. Where a state is kept of it, that is found at once; of others so much is
    looked at as a page may.

    Args:
        queues: where to look.
        identity: the id.
    """
    flow, names = identity[:FLOW], (*FIELDS, "data", *TIMELINE)  # `data` of what waits for its time or for a key

    def first(queue: Queue) -> list[Command]:
        return [("EXISTS", queue.keys.flow(flow)), ("HMGET", queue.keys.task(identity), *names)]

    replies = dict(zip((queue.name for queue in queues), asked(queues, first), strict=True))
    run = next((Run(queue, identity) for queue in queues if replies[queue.name][0]), None)
    node = None if run is None else node_of(run, identity)
    if run is not None and node is None:
        return run
    if node is not None:
        home = node.run.queue
        queues = [home if node.node.queue == home.name else Queue(node.node.queue, home.conn)]
        replies = dict(zip((queue.name for queue in queues), asked(queues, first), strict=True))
    begun = node is None or node.node.state != "waiting"
    for queue in queues:
        kept = replies[queue.name][1]
        if begun and (status := _status(queue, identity, kept)) is not None:
            found = _located(queue, identity, status, kept[len(FIELDS) :])
            return found._replace(node=node)
    return _elsewhere(queues, identity) if node is None else Located(queues[0].name, None, None, None, None, node)


def _status(queue: Queue, identity: str, kept: Sequence[bytes | None]) -> Status | None:
    if not any(each is not None for each in kept[: len(FIELDS)]):
        return None
    try:
        return status_of(kept[: len(FIELDS)], queue.name, identity, server_time(queue))
    except UnknownTask:
        return None


def _located(queue: Queue, identity: str, status: Status, kept: Sequence[bytes | None]) -> Located:
    """A task of which a state is kept."""
    data, log = kept[0], kept[1:]
    happened = timeline_of(log, queue.name, identity)
    found = Located(queue.name, status, None, None, timeline=happened)
    if status.state in _OVER:
        return found
    if data is not None:
        where = "scheduled" if status.state in _PLANNED else "key"
        due = status.due if where == "scheduled" else None
        return found._replace(waits=Waiting(identity, where, due, path_of(data), data, True, "", b""))
    if status.state in _BURIED:
        ends = [each.time for each in happened if each.event == status.state and each.time is not None]
        return found._replace(letter=_letter([queue], identity, ends)[1])
    if status.state == State.RUNNING:
        return found._replace(runs=_run([queue], identity))
    return found._replace(waits=_wait([queue], identity)[1])


def _elsewhere(queues: Sequence[Queue], identity: str) -> Located | None:
    """A task of which no state is kept."""
    if (runs := _run(queues, identity)) is not None:
        return Located(runs.queue, None, None, None, runs)
    name, letter = _letter(queues, identity, [])
    if letter is not None:
        return Located(name, None, None, letter)
    name, waits = _wait(queues, identity)
    return None if waits is None else Located(name, None, waits, None)


def _run(queues: Sequence[Queue], identity: str) -> TaskView | None:
    share = max(_LEAST, _HELD // max(1, len(queues)))
    return next((each for each in held(queues, share) if each.id == identity), None)


def _letter(queues: Sequence[Queue], identity: str, ends: Sequence[float]) -> tuple[str, DeadLetter | None]:
    share = max(_LEAST, _LETTERS // max(1, len(queues)))

    def pages(queue: Queue) -> list[Command]:
        times = [(max(0, round((end - _AROUND) * 1000)), max(0, round((end + _AROUND) * 1000))) for end in ends[-1:]]
        around: list[Command] = [("XRANGE", queue.keys.dead, low, high, "COUNT", share) for low, high in times]
        return [*around, ("XREVRANGE", queue.keys.dead, "+", "-", "COUNT", share)]

    sought = identity.encode()
    for queue, replies in zip(queues, asked(queues, pages), strict=True):
        entries: list[Any] = [entry for page in replies for entry in page if any(sought in each for each in entry[1])]
        for letter in (letter_of(*entry) for entry in entries):
            if letter.task_id == identity:
                return queue.name, letter
    return "", None


def _wait(queues: Sequence[Queue], identity: str) -> tuple[str, Waiting | None]:
    sought = identity.encode()
    for place, page in walk(places(queues, most=_WAITING), _WAITING, _CALLS):
        if any(sought in each for each in page):
            for waits in place.tasks(page):
                if waits.id == identity:
                    return place.queue.name, waits
    return "", None
