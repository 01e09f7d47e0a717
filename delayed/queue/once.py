"""Enqueues that may be said again: Redis remembers the request with the step that carries it out."""

from typing import Any, NamedTuple

from ..base.clock import milliseconds
from ..base.ids import digest
from ..redis.keys import request_of
from ..redis.places import READY, STATE_KEPT
from ..task.options import Options
from ..task.task import Task
from .async_queue import AsyncQueue
from .handle import AsyncHandle
from .producer import Chunk


class Request(NamedTuple):
    """What may be said again.

    Args:
        name: by which it is known.
        keep: seconds for which it is.
    """

    name: str
    keep: float

    def key(self, queue: str, *part: object) -> str:
        """What remembers a part of it."""
        return request_of(queue, digest("\0".join((*map(str, part), self.name))))


class KnownId(Exception):
    """A task with one of the ids is known, and none of those that should go in together was enqueued."""


async def enqueue_once(
    queue: AsyncQueue, task: Task, identity: str | None, request: Request | None, *part: object
) -> AsyncHandle[Any]:
    """Enqueue one task.

    Args:
        queue: where.
        task: the task; its bytes are what they are without a request.
        identity: its id, if it has one; None for a new one.
        request: if it was carried out already, nothing happens, and the handle is `known`.
        part: which part of the request this is.

    Raises:
        As `AsyncQueue.enqueue`.
    """
    options = task.options or Options()
    if options.needs_time:
        await queue.ask_time()
    due = None
    if options.rate_key is not None and options.rate is not None:
        due = await queue.store.reserve(options.rate_key, options.rate, queue._earliest(options))
    keys, words = queue._submission_of(task, options, identity, due)
    remembering = () if request is None else (request.key(queue.name, *part),)
    remembered = () if request is None else (milliseconds(request.keep),)
    reply = await queue.store.submit((*keys, *remembering), (*words, *remembered))
    if reply[0] == b"first":
        await queue.store.turn([digest(options.group or "")], READY)
    return AsyncHandle(queue, *queue._submitted(task, *words[:2], reply), options.tracked)


async def enqueue_chunk_once(queue: AsyncQueue, chunk: Chunk, request: Request | None, *part: object) -> None:
    """Enqueue tasks, all or none of them.

    Raises:
        KnownId: it is so, and none was.
    """
    key = None if request is None else request.key(queue.name, *part)
    kept = STATE_KEPT if request is None or chunk.tracked else milliseconds(request.keep)
    first = await queue.store.submit_once(chunk.groups, chunk.states, key, kept)
    if first is not None:
        await queue._added(chunk, first)
    elif key is None or not await queue.store.call("EXISTS", key):
        raise KnownId
