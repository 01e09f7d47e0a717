"""What there is, for clients that look: tasks, results, queues, workers, dead letters, schedules."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, TypeVar

import msgpack

from ..base.ids import is_entry
from ..cron.schedules import Schedules
from ..dead_letters.letter import dead_letter
from ..dead_letters.search import Search, looked_through
from ..errors import DelayedError, NotDone, ResultError, UnknownTask
from ..ops.locate import Located, locate, timeline
from ..ops.overview import QueueView, known, observed
from ..ops.processes import entries, merged
from ..ops.tasks import TaskFilter, tasks
from ..queue.handle import AsyncHandle, Handle
from ..queue.node import Node, node_of
from ..queue.waits import answer_in, undecided
from ..redis.command import Command
from ..task.edit import elements_of
from ..task.headers import id_in
from ..task.result import OUTCOME, State
from .calls import Call
from .forms import call_of, letter_shown, moment_of, task_shown, text
from .http import Problem, Response
from .links import Link
from .mapping import plain
from .scaling import desired, waiting

T = TypeVar("T")
_ENDED = (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED)
_QUEUES = 50  # on one page
_LOOKED_AT = 10_000  # dead letters that one request looks at


async def _in_thread(look: Callable[[], T]) -> T:
    """Look with the commands of the operators' view, which block."""
    return await asyncio.to_thread(look)


# Tasks


async def task(call: Call) -> Response:
    """Where a task is."""
    link, identity = call.link, _id(call)
    found = await _in_thread(lambda: locate([link.blocking], identity))
    if found is None:
        raise _unknown(call)
    return Response(_status(call, identity, found))


def _status(call: Call, identity: str, found: Located) -> dict[str, Any]:
    status, data = found.status, found.data
    state = "dead" if found.letter is not None else "running" if found.runs is not None else "waiting"
    shown: dict[str, Any] = {
        "id": identity,
        "queue": call.names["queue"],
        "state": str(status.state) if status is not None else state,
        "function": call_of(data)["function"] if data is not None else None,
        "letter": None if found.letter is None else found.letter.id,
    }
    if status is not None:
        shown |= {name: value for name, value in _fields(status._asdict()).items() if name != "state"}
    return shown


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    return {name: text(value) if isinstance(value, str) else _finite(value) for name, value in found.items()}


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


async def state(call: Call) -> Response:
    """In which state a tracked task is."""
    queue, identity = call.link.blocking, _id(call)
    try:
        status, happened = await _in_thread(lambda: (Handle(queue, identity).status(), timeline(queue, identity)))
    except UnknownTask as error:
        raise Problem(404, str(error), "unknown-task") from None
    rows = [_fields(each._asdict()) for each in happened]
    return Response({"id": identity, "queue": call.names["queue"], **_fields(status._asdict()), "timeline": rows})


async def unless_stopping(stopping: asyncio.Event, wanted: Coroutine[Any, Any, T]) -> T:
    """What is waited for, unless the server is about to end.

    Raises:
        NotDone: it is.
    """
    task, end = asyncio.ensure_future(wanted), asyncio.ensure_future(stopping.wait())
    both: list[asyncio.Future[Any]] = [task, end]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise NotDone("the server stops")
    finally:
        task.cancel()
        end.cancel()


async def result(call: Call) -> Response:
    """How a task has ended."""
    link, identity, seconds = call.link, _id(call), call.wait
    try:
        return await result_of(link, identity, seconds, call.services.stopping)
    except UnknownTask:
        raise _unknown(call) from None


async def result_of(link: Link, identity: str, wait: float, stopping: asyncio.Event) -> Response:
    """How a task or a workflow has ended, or, with 202, that it has not, within so many seconds or before the server stops.

    Raises:
        UnknownTask: nothing is known of it.
    """
    handle: AsyncHandle[Any] = AsyncHandle(link.queue, identity)
    about = {"id": identity, "queue": text(link.name)}
    try:
        await (unless_stopping(stopping, handle.aresult(wait)) if wait else handle.aresult(0))
    except NotDone:
        status = await handle.astatus()
        return Response({**about, "state": str(status.state)}, 202)
    except UnknownTask:
        raise
    except ResultError:  # it says so in Redis
        pass
    found = result_shown(about, *(await _outcomes(link, [identity])))
    if found is None:
        raise UnknownTask(identity)
    return Response(found)


async def results(call: Call) -> Response:
    """How many tasks have ended."""
    link, ids = call.link, call.body["ids"]
    replies = await _outcomes(link, ids)
    abouts = [{"id": identity, "queue": text(link.name)} for identity in ids]
    return Response({"results": [result_shown(*pair) for pair in zip(abouts, replies, strict=True)]})


async def _outcomes(link: Link, ids: Sequence[str]) -> list[list[bytes | None]]:
    """State, error and result of tasks, as Redis has them; of nodes whose workflow knows more, as that says."""
    found = await _replies(link, [("HMGET", link.keys.task(identity), *OUTCOME) for identity in ids])
    asked: dict[int, Node] = {}
    for place, (identity, own) in enumerate(zip(ids, found, strict=True)):
        node = node_of(link.keys, identity)
        if node is not None and undecided(answer_in(own)):
            asked[place] = node
    said = iter(await _replies(link, [question for node in asked.values() for question in node.questions]))
    for place, node in asked.items():
        found[place] = node.outcome(next(said), next(said)) or found[place]
    return found


async def _replies(link: Link, commands: Sequence[Command]) -> list[Any]:
    replies = await link.batch(commands)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def result_shown(about: dict[str, Any], found: Sequence[bytes | None]) -> dict[str, Any] | None:
    """How a task has ended, or in which state it is; None if it is unknown."""
    state, error, stored = found
    if state is None and stored is None:
        return None
    word = (state or b"").decode(errors="replace")
    if stored is not None:  # what it says counts: it was written with the state, or by another program
        try:
            word = str(State(_text(elements_of(stored)[0])))
        except (DelayedError, IndexError, ValueError):
            return {**about, "state": word, "unreadable": True}
    return {**about, "state": word, **outcome(word, error or b"", stored)}


def outcome(state: str, error: bytes, stored: bytes | None) -> dict[str, Any]:
    """What is kept of an end: the result, or the error."""
    try:
        parts = elements_of(stored) if stored is not None else []
    except DelayedError:  # another program has written it
        parts = []
    if state == State.FAILED:
        kind, message, traceback = (_text(each) for each in parts[1:]) if len(parts) == 4 else ("", "", "")
        if not kind:
            kind, _, message = error.decode(errors="replace").partition(": ")
        return {"error": {"kind": kind, "message": message, "traceback": traceback}}
    if state == State.SUCCEEDED:
        kept = len(parts) > 1
        return {"result": plain(parts[1]) if kept else None, "kept": kept}
    return {}


def _text(packed: bytes) -> str:
    found = msgpack.unpackb(packed, unicode_errors="replace", strict_map_key=False)
    return found if isinstance(found, str) else ""


def _id(call: Call) -> str:
    identity = call.names["id"]
    if id_in({"id": identity}) is None:
        raise _unknown(call)
    return identity


def _unknown(call: Call) -> Problem:
    says = f"no task with this id is known in {text(call.names['queue'])!r}, or what was kept of it has run out"
    return Problem(404, says, "unknown-task")


async def list_tasks(call: Call) -> Response:
    """The first tasks that fit."""
    link, query = call.link, call.query
    state = {"all": None}.get(query.get("state", "all"), query.get("state"))
    wanted = TaskFilter(state, query.get("function"), query.get("text"))
    found = await _in_thread(lambda: tasks(link.blocking, wanted, query.get("limit", 50)))
    shown = [task_shown(each) for each in found.tasks]
    return Response({"tasks": shown, "looked_at": found.looked_at, "total": found.total, "more": found.more})


# Queues


async def queues(call: Call) -> Response:
    """The queues that are served."""
    links, grant, after, some = call.services.links, call.grant, call.query.get("after"), call.any_link.blocking

    def look() -> tuple[list[QueueView], str | None]:
        names = sorted(name for name in known(some) if grant.covers(name) and (after is None or name > after))
        page = names[:_QUEUES]
        views = [observed(links[name].blocking)[0] for name in page]
        return views, page[-1] if len(names) > len(page) else None

    views, following = await _in_thread(look)
    return Response({"queues": [_queue_shown(view) for view in views], "next": following})


def _queue_shown(view: QueueView) -> dict[str, Any]:
    found = view.as_dict()
    found["queue"] = text(view.queue)
    return found


async def queue(call: Call) -> Response:
    """A queue at one moment."""
    link = call.link
    view, _ = await _in_thread(lambda: observed(link.blocking))
    return Response(_queue_shown(view))


async def workers(call: Call) -> Response:
    """The processes that serve a queue."""
    link = call.link
    found = await _in_thread(lambda: merged((link.name, about) for about in entries(link.blocking).values()))
    names = ("started", "running_for")
    shown = [{**asdict(each), **{name: _finite(getattr(each, name)) for name in names}} for each in found]
    texts = ("kind", "language", "host", "running")
    return Response(
        {
            "workers": [
                {
                    **each,
                    **{name: text(each[name]) for name in texts if each[name] is not None},
                    "queues": [text(name) for name in each["queues"]],
                }
                for each in shown
            ]
        }
    )


async def scale(call: Call) -> Response:
    """What an autoscaler wants to know."""
    link, slo = call.link, call.query.get("slo", 30.0)
    view, _ = await _in_thread(lambda: observed(link.blocking))
    shown = {
        "queue": text(link.name),
        "desired": desired(view, slo),
        "workers": view.workers,
        "waiting": waiting(view),
        "running": view.running,
    }
    return Response({**shown, "oldest": view.oldest, "slo": slo})


# Dead letters and schedules


def search_of(query: dict[str, Any]) -> Search:
    """Which dead letters are meant."""
    since, until = (moment_of(query[name], name).timestamp() if name in query else None for name in ("since", "until"))
    error, words, reason, cause = (query.get(name) for name in ("error", "text", "reason", "cause"))
    return Search(query.get("function"), error, words, reason, since, until, cause)


async def letters(call: Call) -> Response:
    """Dead letters, newest first."""
    link, query = call.link, call.query
    limit, wanted, after = query.get("limit", 50), search_of(query), query.get("after")
    if after is not None and not after.strip("0-"):  # nothing is older, and Redis does not take it for a place
        return Response({"letters": [], "next": None})

    def look() -> tuple[list[Any], str | None]:
        found: list[Any] = []
        looked, last = 0, None
        for letter in islice(looked_through(link.blocking, wanted, after), _LOOKED_AT):
            if len(found) == limit:
                return found, last
            looked, last = looked + 1, letter.id
            if wanted.fits(letter):
                found.append(letter_shown(letter))
        return found, last if looked == _LOOKED_AT else None

    found, following = await _in_thread(look)
    return Response({"letters": found, "next": following})


async def letter(call: Call) -> Response:
    """One dead letter."""
    link, name = call.link, call.names["letter"]
    found = await _in_thread(lambda: dead_letter(link.blocking, name)) if is_entry(name) else None
    if found is None:
        raise Problem(404, "there is no such dead letter: it was retried or removed, or its time was over")
    return Response(letter_shown(found))


async def schedules(call: Call) -> Response:
    """The schedules of a queue."""
    link = call.link
    found = await _in_thread(lambda: Schedules(link.blocking).list())
    shown = [each._asdict() for each in found]
    return Response({"schedules": [{n: text(v) if isinstance(v, str) else v for n, v in each.items()} for each in shown]})
