"""Asks many queues at once: however many they are, it takes few commands."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..queue.queue import Queue
from ..redis.command import Command, ResponseError, is_cluster

AT_ONCE = 2000  # commands that Redis runs in one instant, during which it does nothing else


def read(queues: Sequence[Queue], commands: Callable[[Queue], Sequence[Command]]) -> list[list[Any]]:
    """What each of the queues, which are on one Redis, replies to its commands; what may not be read is an error among them.

    Args:
        queues: which.
        commands: what one of them is asked: only commands that read.
    """
    return _read(queues, [list(commands(queue)) for queue in queues])


def _read(queues: Sequence[Queue], given: Sequence[Sequence[Command]]) -> list[list[Any]]:
    replies = [list[Any]() for _ in queues]
    for part in _parts(queues, given):
        found = iter(queues[part[0]].store.read(*(command for place in part for command in given[place])))
        for place in part:
            replies[place] = [next(found) for _ in given[place]]
    return replies


def _parts(queues: Sequence[Queue], given: Sequence[Sequence[Command]]) -> Iterator[list[int]]:
    """The places of those that are asked together: on a cluster each by itself, as its keys are where no others are."""
    part, size = list[int](), 0
    for place, (queue, commands) in enumerate(zip(queues, given, strict=True)):
        if part and commands and (is_cluster(queue.conn) or size + len(commands) > AT_ONCE):
            yield part
            part, size = [], 0
        if commands:
            part.append(place)
            size += len(commands)
    if part:
        yield part


def sound(queue: Queue, commands: Sequence[Command], replies: Sequence[Any]) -> list[Any]:
    """The replies.

    Raises:
        ResponseError: one of them is an error.
    """
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ResponseError):
            raise queue.store.explained(reply, [each for each in command if isinstance(each, str)]) from reply
    return list(replies)


def asked(queues: Sequence[Queue], commands: Callable[[Queue], Sequence[Command]]) -> list[list[Any]]:
    """As `read`.

    Raises:
        ResponseError: something may not be read.
    """
    given = [list(commands(queue)) for queue in queues]
    return [sound(*each) for each in zip(queues, given, _read(queues, given), strict=True)]
