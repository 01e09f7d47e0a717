"""Workflows over HTTP."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from ..base.ids import is_id
from ..errors import ConfigurationError, Duplicate, InvalidAct, InvalidTask, NotDone, NotDurable, ResultError, UnknownTask
from ..ops.actions import cancel_flow, retry_flow, signal_flow
from ..ops.flows import found_run
from ..ops.overview import known
from ..queue.handle import AsyncHandle
from ..queue.queue import Queue
from ..redis.command import Client, is_cluster
from ..redis.durability import MEMORY
from ..task.headers import trace_in
from ..workflow.graph import Block, Ref
from ..workflow.pages import run_id
from ..workflow.run import Run
from .calls import Call
from .flow_forms import FlowForm, flow_shown, node_shown
from .forms import text
from .http import Problem, Response
from .lines import durability_of, key_of, problem_of
from .links import Link
from .look import outcome, result_of, unless_stopping

HOME = "default"  # of workflows, if nothing else is said
_PAGE = 100
_LOOKED_AT = 1000  # workflows that one request looks at
_NEVER = 9007199254740991  # when a workflow is forgotten that has not ended
_LENGTH = 16  # of an id
T = TypeVar("T")


def home_link(call: Call, name: str) -> Link:
    """The queue of this name, if the client may have to do with it.

    Raises:
        Problem: it may not, or no queue can have this name.
    """
    try:
        link = call.services.links[name]
    except ConfigurationError as error:
        raise Problem(422, str(error), "queue-name") from None
    if not call.grant.covers(name):
        raise Problem(403, f"this token is not for the queue {name!r:.200}")
    return link


# Making them


async def submit(call: Call) -> Response:
    """Create a workflow, whole or not at all."""
    body = call.body
    link = home_link(call, body.get("queue", HOME))
    once, unique = _once(call), body.get("unique")
    joins = bool(body.get("join")) or (unique is None and bool(once))
    unique = f"idempotency-key {once}" if unique is None and once else unique
    home = _durable(call, link)
    form = FlowForm(body, home, call.grant, unique, once=once, trace=trace_in(call.request.headers))
    try:
        run = await asyncio.to_thread(lambda: form.flow().submit())
    except Duplicate as error:
        known = Run(home, error.id)
        if not (await asyncio.to_thread(_is_same, known, once)) and not joins:
            raise problem_of(error) from None
        return Response({"queue": text(link.name), "id": error.id, "known": True})
    except (InvalidTask, NotDurable) as error:
        raise problem_of(error) from None
    return Response({"queue": text(link.name), "id": run.id, "known": False}, 201)


def _once(call: Call) -> str:
    """By which the request is known that the client may repeat; '' if it says nothing."""
    key = key_of(call)
    return "" if key is None else hashlib.sha256(key.encode("latin-1")).hexdigest()


def _durable(call: Call, link: Link) -> Queue:
    """The home, with the durability that the client wants."""
    durability, seconds = durability_of(call)
    if durability == MEMORY:
        return link.blocking
    return Queue(link.name, link.blocking.conn, durability=durability, durability_timeout=seconds)


def _is_same(run: Run, once: str) -> bool:
    """Whether it was this request that has created a workflow.

    Raises:
        Problem: it was, and is not done with it.
    """
    store = run.queue.store
    state, found = store.call("HMGET", store.keys.flow(run.flow), "state", "once")
    if not once or found != once.encode():
        return False
    if state == b"building":
        says = f"workflow {run.id} is not whole yet; if a server was killed amid that, it is removed after a minute"
        raise Problem(503, says, "being-built")
    return True


# Looking at them


async def list_flows(call: Call) -> Response:
    """The workflows of a queue: first those that go on, then those that have ended last."""
    query = call.query
    link = home_link(call, query.get("queue", HOME))
    state, limit, ended = query.get("state"), query.get("limit", 50), query.get("ended", "true") == "true"

    def look() -> tuple[list[dict[str, Any]], str | None]:
        queue = link.blocking
        at, found = _place(queue, query.get("after")), list[dict[str, Any]]()
        for _ in range(_LOOKED_AT // _PAGE):
            page = queue.store.call(
                "ZREVRANGEBYSCORE", queue.keys.flow_ids, "+inf", "-inf" if ended else _NEVER, "LIMIT", at, _PAGE
            )
            for each in page:
                flow, at = each.decode(errors="replace"), at + 1
                shown = _shown(Run(queue, run_id(flow))) if len(run_id(flow)) == _LENGTH else None
                if shown is not None and state in (None, shown["state"]):
                    found.append(shown)
                    if len(found) == limit:
                        return found, f"{at}.{flow}"
            if len(page) < _PAGE:
                return found, None
        return found, f"{at}.{flow}"

    found, following = await asyncio.to_thread(look)
    return Response({"workflows": found, "next": following})


def _place(queue: Queue, after: str | None) -> int:
    """Where a list goes on, that ended with a workflow: behind that, or, if it is gone, where it was."""
    if after is None:
        return 0
    number, _, flow = after.partition(".")
    rank = queue.store.call("ZREVRANK", queue.keys.flow_ids, flow)
    return int(number) if rank is None else int(rank) + 1


def _shown(run: Run) -> dict[str, Any] | None:
    try:
        return flow_shown(run, run.status())
    except UnknownTask:  # gone meanwhile
        return None


async def show_flow(call: Call) -> Response:
    """How a workflow stands, at once or when it has ended."""
    run = await _run(call)
    if wait := call.wait:
        handle: AsyncHandle[Any] = AsyncHandle(call.services.links[run.queue.name].queue, run.id)
        try:
            await call.request.unless_gone(unless_stopping(call.services.stopping, handle.aresult(wait)))
        except UnknownTask:
            raise _unknown() from None
        except (NotDone, ResultError):  # its state says so, or the server stops
            pass
    shown = await asyncio.to_thread(_shown, run)
    if shown is None:
        raise _unknown()
    return Response(shown)


async def flow_result(call: Call) -> Response:
    """How a workflow has ended, and with which result."""
    run = await _run(call)
    try:
        return await result_of(call.services.links[run.queue.name], run.id, call.wait, call.services.stopping)
    except UnknownTask:
        raise _unknown() from None


async def list_nodes(call: Call) -> Response:
    """The nodes of a workflow, a page of them."""
    run, query = await _run(call), call.query
    limit = query.get("limit", _PAGE)

    def look() -> tuple[list[dict[str, Any]], int | None]:
        found = run.nodes(query.get("state"), query.get("after"))
        page = [node_shown(node) for node in islice(found, limit)]
        return page, page[-1]["number"] if len(page) == limit else None

    page, following = await asyncio.to_thread(look)
    return Response({"nodes": page, "next": following})


async def show_node(call: Call) -> Response:
    """A node of a workflow, and what it has returned."""
    run, name = await _run(call), call.names["node"]
    which: Ref | int | str = int(name) if _is_number(name) else name
    if name[:1] == "@" and _is_number(name[1:]):
        which = Ref((Block(int(name[1:]), (), ""),))

    def look() -> dict[str, Any]:
        node = run.node(which)
        stored = run.queue.store.call("HGET", run.queue.keys.flow(run.flow), f"r{node.number}")
        return {**node_shown(node), **outcome(node.state, b"", stored)}

    try:
        return Response(await asyncio.to_thread(look))
    except UnknownTask:
        says = f"the workflow has no node {text(name)[:100]!r}, or what was kept of it has run out"
        raise Problem(404, says, "unknown-node") from None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 10


# Acting on them


async def cancel_workflow(call: Call) -> Response:
    """Cancel a workflow."""
    run = await _run(call)
    await _acted(partial(cancel_flow, run, call.actor))
    shown = await asyncio.to_thread(_shown, run)
    return Response({"state": "cancelled" if shown is None else shown["state"]})


async def retry_workflow(call: Call) -> Response:
    """Let a workflow that has ended go on."""
    run = await _run(call)
    done = await _acted(partial(retry_flow, run, call.actor, (call.body or {}).get("mode", "failed_only")))
    return Response({"count": done.count})


async def signal_workflow(call: Call) -> Response:
    """Let nodes of a workflow go on that wait for a signal."""
    run, body = await _run(call), call.body
    done = await _acted(partial(signal_flow, run, call.actor, body["name"], body.get("payload")))
    return Response({"first": done.count == 1})


async def _acted(act: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(act)
    except UnknownTask:
        raise _unknown() from None
    except (InvalidAct, InvalidTask) as error:
        raise Problem(409, str(error), "not-now") from None


# Finding them


async def _run(call: Call) -> Run:
    """The workflow that stands in the path.

    Raises:
        Problem: there is none that the client may have to do with.
    """
    identity, name = call.names["id"], call.query.get("queue")
    if not is_id(identity):
        raise _unknown()
    if name is not None:
        return Run(home_link(call, name).blocking, identity)
    if is_cluster(call.services.links.blocking):
        raise Problem(422, "on Redis Cluster say the home of the workflow: ?queue=", "not-possible")
    default = call.services.links[HOME].blocking

    def look() -> Run | None:
        served = (each for each in known(default) if each != HOME)
        names = [each for each in (HOME, *served) if call.grant.covers(each)]
        return found_run(queues_of(names, default.conn), identity)

    found = await asyncio.to_thread(look)
    if found is None:
        raise _unknown()
    return found


def queues_of(names: Iterable[str], conn: Client) -> Iterator[Queue]:
    """Queues that are known by their names, which another program may have written."""
    for name in names:
        with contextlib.suppress(ConfigurationError):
            yield Queue(name, conn)


def _unknown() -> Problem:
    says = "no workflow with this id is known: its home is another queue (say ?queue=), or what was kept of it has run out"
    return Problem(404, says, "unknown-workflow")
