"""What operators do, over HTTP. All of it is in the audit, under the name of the token."""

import asyncio
from collections.abc import Callable
from functools import partial

from ..errors import ConfigurationError, InvalidAct, InvalidTask, UnknownTask
from ..ops import actions, dead_actions
from ..ops.audit import Actor, Done, audited
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..task.headers import id_in
from .calls import Call
from .forms import text
from .http import Problem, Response
from .look import search_of


async def pause(call: Call) -> Response:
    """No worker takes a task from now on."""
    await asyncio.to_thread(actions.pause_queue, call.link.blocking, call.actor)
    return Response({})


async def resume(call: Call) -> Response:
    """They do again."""
    await asyncio.to_thread(actions.resume_queue, call.link.blocking, call.actor)
    return Response({})


async def limit(call: Call) -> Response:
    """Set all limits."""
    body = call.body
    whole = {name: None if body.get(name) is None else int(body[name]) for name in ("concurrency", "burst")}
    act = partial(actions.set_limits, call.link.blocking, call.actor, rate=body.get("rate"), **whole)
    try:
        await asyncio.to_thread(act)
    except ConfigurationError as error:
        raise Problem(422, str(error)) from None
    return Response({})


async def purge_queue(call: Call) -> Response:
    """Remove what waits."""
    done = await asyncio.to_thread(actions.purge_queue, call.link.blocking, call.actor)
    return Response({"count": done.count})


async def cancel(call: Call) -> Response:
    """Cancel a task."""
    identity, link, hard = call.names["id"], call.link, bool((call.body or {}).get("hard"))
    says = f"no task with this id is known in {text(link.name)!r}, or it runs and is not tracked"
    unknown = Problem(404, says, "unknown-task")
    if id_in({"id": identity}) is None:
        raise unknown
    try:
        done = await asyncio.to_thread(_cancel, link.blocking, call.actor, identity, hard)
    except UnknownTask:
        raise unknown from None
    except InvalidTask as error:  # a node that begins with others
        raise Problem(409, str(error), "not-now") from None
    return Response({"state": done.says})


def _cancel(queue: Queue, by: Actor, identity: str, hard: bool) -> Done:
    def do() -> Done:
        try:
            state = Handle(queue, identity).cancel(hard=hard)
        except UnknownTask:  # it is not tracked
            state = Handle(queue, identity, tracked=False).cancel(hard=hard)
        return Done("task.cancel", queue.name, 1, str(state))

    return audited(queue, by, "task.cancel", identity + (" (hard)" if hard else ""), do)


async def retry_letters(call: Call) -> Response:
    """Put dead letters back to the end of their queue."""
    return await _letters(call, dead_actions.retry_letters, dead_actions.retry_matching)


async def remove_letters(call: Call) -> Response:
    """Remove dead letters for good."""
    return await _letters(call, dead_actions.delete_letters, dead_actions.delete_matching)


async def _letters(call: Call, by_id: Callable[..., Done], by_search: Callable[..., Done]) -> Response:
    body, queue = call.body, call.link.blocking
    filters = {name: value for name, value in body.items() if name not in ("ids", "all")}
    ids = body.get("ids")
    if (ids is not None) + bool(body.get("all")) + bool(filters) != 1:
        raise Problem(422, "name the ids of dead letters, or give filters, or say all: true")
    if ids == []:
        return Response({"count": 0})
    act, chosen = (by_search, search_of(filters)) if ids is None else (by_id, ids)
    try:
        done = await asyncio.to_thread(act, queue, call.actor, chosen)
    except InvalidAct as error:
        raise Problem(422, str(error)) from None
    return Response({"count": done.count})
