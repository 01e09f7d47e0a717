"""The pages. Each reads views of `delayed.ops`, and renders them."""

from collections.abc import Iterable
from itertools import islice
from pprint import pformat
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..base.ids import FLOW, ID_FORM, is_entry, is_id
from ..base.text import clipped
from ..cron.expression import Cron
from ..cron.schedules import Listed
from ..dead_letters.letter import dead_letter
from ..dead_letters.search import Search, looked_through
from ..errors import DelayedError, UnknownTask
from ..ops.causes import causes_of_all
from ..ops.diagnosis import diagnose
from ..ops.doctor import read
from ..ops.find import find
from ..ops.flows import found_run, runs_of_all, single_states, view
from ..ops.glance import glance
from ..ops.history import recent_of
from ..ops.info import arguments
from ..ops.locate import Located
from ..ops.overview import observed, overview
from ..ops.processes import merged
from ..ops.schedules import schedules_of_all
from ..ops.seek import seek
from ..ops.shown import located_shown
from ..ops.tasks import TaskList
from ..queue.handle import Handle
from ..queue.history import OUTCOMES
from ..queue.queue import Queue
from ..queue.timeline import EVENTS
from ..task.decode import path_of
from ..task.hidden import HIDDEN, hides, is_hidden
from ..task.result import State
from ..workflow.run import Run
from .graph import MOST, drawn
from .measures import metrics
from .past import past
from .search import LEAST, parse
from .search import MOST as MOST_LOOKED_AT
from .site import Page, Site
from .words import name_in, part

_ROWS = 50  # of a list
_FEW = 10  # of a list on a page that has others
_LETTERS = 2000  # dead letters that a search looks at, whose text is long
_LOOKED_AT = 400  # dead letters of a queue, where they are not all that a page is about
_CAUSES = 20  # of a queue's dead letters
_RESULT = 10_000  # characters of a result
_SCHEDULES = 200  # of a page
_PROCESSES = 200  # likewise,
_FEW_PROCESSES = 30  # and of one that has more than them
_PINGS = 2  # round trips to measure
_TIMES = 5  # occurrences of a schedule


def home(site: Site, request: Request) -> Response:
    """All queues and processes."""
    seen = overview(queues := site.queues())
    wrong = [(each.queue, says) for each in seen.queues for says in _troubles(each)]
    interests = site.interests(queues[0]) if queues else []
    context = {"seen": seen, "wrong": wrong, "interests": interests[:_ROWS], "interests_left": max(0, len(interests) - _ROWS)}
    return site.page(request, "home.html", {"title": "Overview", "most": _FEW_PROCESSES, **context})


def _troubles(each: Any) -> Iterable[str]:
    if each.pending and not each.workers:
        yield "tasks wait, and no worker serves it"
    if each.overdue and not each.sweepers:
        yield f"{each.overdue:,} tasks are overdue, and no sweeper serves it"
    if each.limits.paused:
        yield "it is paused"


def queue(site: Site, request: Request) -> Response:
    """One queue."""
    where = site.queue(name_in(request.path_params["queue"]))
    seen, described = observed(where)
    some: dict[str, Any] = {
        **glance(where, seen, _FEW, _LOOKED_AT)._asdict(),
        "processes": merged((where.name, about) for about in described),
        "interests": [each for each in site.interests(where) if each.queue == where.name],
    }
    return site.page(request, "queue.html", {"title": where.name, "seen": seen, **some})


def found_tasks(site: Site, request: Request) -> Response:
    """A search within a budget, which can be raised."""
    text = request.query_params.get("q", "")
    look_at = min(MOST_LOOKED_AT, max(LEAST, _whole(request, "look", LEAST)))
    query = parse(text)
    if query.id is not None:
        there = f"?queue={quote(query.queues[0], safe='')}" if len(query.queues) == 1 else ""
        return RedirectResponse(site.path(request, f"/task/{query.id}{there}"), 303)
    where = [site.queue(name) for name in dict.fromkeys(query.queues)] or site.queues()
    with site.hiding(site.access(request), *query.queues):
        page = find(where, query.filter, _ROWS, look_at) if where else TaskList((), 0, 0, False)
    only = where[0] if len(where) == 1 else None
    context: dict[str, Any] = {"page": page, "only": only and only.name}
    context |= {"look": min(MOST_LOOKED_AT, look_at * 10), "most": look_at >= MOST_LOOKED_AT, "query": query}
    return site.page(request, "tasks.html", {"title": "Tasks", "q": text, **context})


def task(site: Site, request: Request) -> Response:
    """What is known of one task."""
    identity = request.path_params["task"]
    named = request.query_params.get("queue")
    queues = [site.queue(named)] if named else site.queues()
    found = seek(queues, identity) if is_id(identity) else None
    if found is None:
        return _unknown(site, request, queues, identity)
    if isinstance(found, Run):
        return RedirectResponse(site.path(request, f"/queues/{part(found.queue.name)}/flows/{identity}"), 303)
    shown = found.data
    path = path_of(shown) if shown is not None else ""
    with site.hiding(site.access(request), found.queue):
        found = located_shown(found)
        call = arguments(shown) if shown is not None else ""
        result = _result(found, site.queue(found.queue), identity, path)
    context = {
        "id": identity,
        "found": found,
        "events": EVENTS,
        "called": path,
        "call": call,
        "state": found.status.state if found.status else "running" if found.runs else "waiting" if found.waits else "dead",
        "flow": None if found.node is None else found.node.run,
        "result": result,
    }
    return site.page(request, "task.html", {"title": f"Task {identity}", **context})


def _unknown(site: Site, request: Request, queues: list[Queue], identity: str) -> Response:
    """What histories still have of a task that is nowhere."""
    events = recent_of(queues, identity) if is_id(identity) else []
    context = {"is_id": is_id(identity), "form": ID_FORM}
    context |= {"id": identity[:60], "events": events, "outcomes": OUTCOMES, "names": [each.name for each in queues][:_FEW]}
    return site.page(request, "unknown.html", {"title": f"Task {identity:.60}", **context}, 200 if events else 404)


def _result(found: Located, queue: Queue, identity: str, path: str) -> str | None:
    """What a tracked task has returned, as text; None if that is not known. Once it has ended it is not kept which function it
    was, so where arguments are hidden, all results are."""
    if found.status is None or found.status.state != State.SUCCEEDED:
        return None
    try:
        value = Handle[Any](queue, identity).result(0)
    except DelayedError:  # it has gone meanwhile
        return None
    if is_hidden(path) if path else hides():
        return HIDDEN
    try:
        return clipped(pformat(value, width=120), _RESULT)
    except RecursionError:
        return "(it is nested too deeply to be shown)"


def dead(site: Site, request: Request) -> Response:
    """Dead letters by their cause, of all queues."""
    counted = causes_of_all(site.queues(), _LOOKED_AT)
    return site.page(request, "dead.html", {"title": "Dead letters", "counted": counted, "most": _CAUSES})


def dead_of(site: Site, request: Request) -> Response:
    """The dead letters of one queue, or those of them that fit."""
    where = site.queue(name_in(request.path_params["queue"]))
    asked: dict[str, Any] = {
        name: request.query_params.get(name, "").strip() or None
        for name in ("cause", "task", "text", "error", "reason", "worker", "group")
    }
    wanted, look_at = Search(**asked), min(MOST_LOOKED_AT, max(_LETTERS, _whole(request, "look", _LETTERS)))
    found, looked = [], 0
    for letter in islice(looked_through(where, wanted), look_at):
        looked += 1
        if wanted.fits(letter):
            found.append(letter)
            if len(found) == _ROWS:
                break
    context = {"where": where.name, "letters": found, "looked": looked, "asked": asked, "arguments": arguments}
    context |= {"look": min(MOST_LOOKED_AT, look_at * 10), "most": look_at >= MOST_LOOKED_AT}
    more = looked == look_at or len(found) == _ROWS
    return site.page(request, "dead_of.html", {"title": f"Dead letters of {where.name}", "more": more, **context})


def letter(site: Site, request: Request) -> Response:
    """One dead letter."""
    where = site.queue(name_in(request.path_params["queue"]))
    name = request.path_params["letter"]
    found = dead_letter(where, name) if is_entry(name) else None
    if found is None:
        raise UnknownTask(f"there is no dead letter {name!r:.60} in {where.name}: somebody has dealt with it")
    context = {"where": where.name, "letter": found, "call": arguments(found.data)}
    return site.page(request, "letter.html", {"title": f"Dead letter {found.id}", **context})


def workers(site: Site, request: Request) -> Response:
    """All living processes."""
    return site.page(request, "workers.html", {"title": "Workers", "seen": overview(site.queues()), "most": _PROCESSES})


def flows(site: Site, request: Request) -> Response:
    """Workflows: those that go on first."""
    state = request.query_params.get("state") or None
    found = runs_of_all(site.queues(), state, _ROWS, 10 * _ROWS)
    return site.page(request, "flows.html", {"title": "Workflows", "found": found, "state": state, "most": _ROWS})


def flow(site: Site, request: Request) -> Response:
    """One workflow and its graph."""
    where = site.queue(name_in(request.path_params["queue"]))
    run = found_run([where], request.path_params["flow"])
    if run is None:
        raise UnknownTask(f"no workflow {request.path_params['flow']} is known in {where.name}")
    seen = view(run)
    context = {
        "flow": seen,
        "graph": drawn(seen, site.path(request, "/task/")),
        "left_out": max(0, len(seen.sets) - MOST),
        "states": single_states(run, seen.sets),
        "prefix": seen.id[:FLOW],
    }
    return site.page(request, "flow.html", {"title": seen.status.name or f"Workflow {seen.id}", **context})


def schedules(site: Site, request: Request) -> Response:
    """The schedules of all queues, with their next times."""
    seen = schedules_of_all(site.queues())
    found = [(name, listed, _next(listed)) for name, listed in seen.schedules[:_SCHEDULES]]
    left = max(seen.total, len(seen.schedules)) - len(found)
    return site.page(request, "schedules.html", {"title": "Schedules", "found": found, "left": left})


def _next(listed: Listed) -> list[float]:
    """The next times of a schedule."""
    if listed.next is None:
        return []
    times, moment = [listed.next], round(listed.next * 1000)
    try:
        cron = Cron(listed.expression, listed.tz)
    except DelayedError:  # another program's
        return times
    while len(times) < _TIMES and (after := cron.after(moment)) is not None:
        moment = after
        times.append(moment / 1000)
    return times


def server(site: Site, request: Request) -> Response:
    """What `delayed doctor` says of Redis, and `delayed fsck` of one queue, if one is named."""
    named, facts = request.query_params.get("queue"), read(site.client, pings=_PINGS)
    check = site.checks.of(site.queue(named), _moment(request, "since")) if named else None
    context = {"facts": facts, "advice": diagnose(facts), "names": [each.name for each in site.queues()], "check": check}
    return site.page(request, "server.html", {"title": "Redis", "most": _ROWS, **context})


def _moment(request: Request, name: str) -> float:
    try:
        return float(request.query_params.get(name, ""))
    except ValueError:
        return 0.0


def _whole(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else otherwise


PAGES: dict[str, Page] = {
    "/": home,
    "/tasks": found_tasks,
    "/task/{task}": task,
    "/dead": dead,
    "/workers": workers,
    "/flows": flows,
    "/schedules": schedules,
    "/metrics": metrics,
    "/redis": server,
    "/queues/{queue}/dead/{letter}": letter,
    "/queues/{queue}/dead": dead_of,
    "/queues/{queue}/flows/{flow}": flow,
    "/queues/{queue}/history": past,
    "/queues/{queue}": queue,
}
