"""Producers over HTTP."""

import hashlib
from base64 import urlsafe_b64encode

from ..base.clock import now
from ..base.ids import new_id
from ..errors import Duplicate, InvalidTask, NotDurable, TaskTooLarge
from ..queue.async_queue import AsyncQueue
from ..queue.once import enqueue_once
from ..queue.producer import checked_id
from ..task.task import Task
from .calls import Call
from .http import NDJSON, Problem, Response
from .lines import DAY, enqueue_lines, has_id, invalid, problem_of, queue_of, request_of, task_in


async def enqueue(call: Call) -> Response:
    """Enqueue one task, or many."""
    if call.request.media == NDJSON:
        return await enqueue_lines(call)
    queue, task = queue_of(call), task_in(call, call.body)
    identity, request = call.body.get("id"), request_of(call)
    if request is not None and "idempotency-for" not in call.request.headers:
        task, identity, request = *_keyed(task, request.name, identity), None
    later = _later(call, queue, task, identity) if request is None and "respond-async" in _preferences(call) else None
    if later is not None:
        return later
    try:
        if request is not None:
            handle = await enqueue_once(queue, has_id(task, identity), identity, request)
        else:
            handle = await queue.enqueue(task, id=identity)
    except (Duplicate, InvalidTask, NotDurable) as error:
        raise problem_of(error) from None
    known = handle.known
    return Response({"queue": call.names["queue"], "id": handle.id, "known": known}, 200 if known else 201)


def _preferences(call: Call) -> set[str]:
    """What the client would like (RFC 7240)."""
    words = call.request.headers.get("prefer", "").lower().split(",")
    return {word.partition(";")[0].strip() for word in words}


def _later(call: Call, queue: AsyncQueue, task: Task, identity: str | None) -> Response | None:
    """The answer before Redis has the task; None if too much is under way already: so it waits, as if it had not asked."""
    tracked = task.options is not None and task.options.tracked
    identity = identity or (new_id() if tracked else None)
    try:
        checked_id(task, identity)
        size = len(task.serialize(identity, now()))
        if size > queue.max_task_size:
            raise TaskTooLarge(f"the task has {size:,} bytes, and a queue takes {queue.max_task_size:,}")
    except InvalidTask as error:
        raise invalid(error) from None
    if not call.services.later.takes(size):
        return None
    what = f"{task.func_path} for {queue.name!r}"
    call.services.later.add(what, lambda: queue.enqueue(task, id=identity), size, again=tracked)
    body = {"queue": call.names["queue"], "id": identity, "known": None}
    return Response(body, 202, {"preference-applied": "respond-async"})


def _keyed(task: Task, key: str, identity: str | None) -> tuple[Task, str]:
    """The task with an id that follows from a key: as long as that is known, nothing is enqueued again."""
    if identity is not None:
        raise Problem(422, "a task has an id of its own, or one of the header Idempotency-Key: not both; see Idempotency-For")
    kept = None if task.options is None else task.options.result_ttl
    changed = task.but({"result_ttl": max(kept or 0.0, DAY)})
    name = urlsafe_b64encode(hashlib.sha256(key.encode("latin-1")).digest()[:12]).decode()
    return changed, f"_{name[1:]}" if name[0] == "-" else name
