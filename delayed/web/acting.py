"""The acting side of the web UI: the routes of its forms, its jobs and the audit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol, Self
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ..base.ids import is_entry
from ..errors import ConfigurationError, DelayedError
from ..logger import logger
from ..ops.acts import ACTS, Act, Forbidden, Form, editable
from ..ops.audit import NAMES, Actor, AuditEntry, AuditFilter, AuditPage, Done, read
from ..ops.job_records import Job, job_of, jobs_of_all
from ..ops.jobs import Runner
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..task.decode import path_of
from ..task.hidden import HIDDEN, hides_all
from .access import Access
from .words import clock, name_in, part

DANGEROUS = frozenset(act.name for act in ACTS.values() if act.asks is not None)
_LARGEST = 1 << 20  # bytes of a form
_ENTRIES = 100  # of the audit, on a page
_LOOKED_AT = 4000  # of them, for a page
_IDLE = 2.0  # seconds after which it is looked for jobs that others have begun
_AWAY = 5.0  # seconds after which Redis is tried again


class Site(Protocol):
    """What the acting side needs of the application that it is a part of."""

    @property
    def readonly(self) -> bool:
        """Whether nobody may act."""

    def queue(self, name: str) -> Queue:
        """A queue by its name."""

    def shows(self, name: str) -> bool:
        """Whether the queue of this name may be shown here."""

    def queues(self) -> Iterable[Queue]:
        """All queues that are known."""

    def access(self, request: Request) -> Access:
        """Who asks."""

    def seen_by(self, access: Access) -> Self:
        """The same with the queues that they may see."""

    def hiding(self, access: Access, *queues: str) -> AbstractContextManager[None]:
        """Hides arguments meanwhile, unless they may see those of the tasks in these queues; of all, if none is named."""

    def path(self, request: Request, path: str) -> str:
        """A path below the prefix under which the application is mounted."""

    def page(self, request: Request, template: str, context: Mapping[str, Any], status: int = 200) -> Response:
        """A page."""


def routes(site: Site) -> list[Route]:
    """The routes of the acting side."""
    acting = _Acting(site)
    return [
        Route("/queues/{queue}/acts/{act}", acting.act, methods=["GET", "POST"], name="act"),
        Route("/queues/{queue}/jobs/{job}", acting.job, name="job"),
        Route("/jobs", acting.jobs, name="jobs"),
        Route("/audit", acting.audit, name="audit"),
    ]


def context(site: Site, request: Request) -> dict[str, Any]:
    """What the templates of the acting side use: buttons that cannot be used are not shown."""
    access, query = site.access(request), request.url.query
    return {
        "allowed": lambda act, queue: not site.readonly and not access.refusal(ACTS[act], queue),
        "dangerous": DANGEROUS,
        "editable": lambda data: None if access.refusal_of(path_of(data)) else editable(data),
        "path": lambda path: site.path(request, path),
        "here": request.url.path + (f"?{query}" if query else ""),
        "clock": clock,
        "part": part,
    }


class _Acting:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def act(self, request: Request) -> Response:
        """Do what a form says, or ask first."""
        if request.method != "POST":  # such as a page that asks whether it has changed
            return PlainTextResponse("This is where a form is sent, and no page.", 405, {"Allow": "POST"})
        act, access = ACTS.get(request.path_params["act"]), self._site.access(request)
        queue = name_in(request.path_params["queue"])
        refusal = self._refusal(act, access, queue, request.path_params["act"])
        if refusal is not None or act is None:
            return self._refused(request, *(refusal or (404, "there is no such act")))
        body = await _body(request)
        if body is None:
            return self._refused(request, 413, "this form is too large: choose all that match instead")
        try:
            form = Form(parse_qs(body.decode(), max_num_fields=10_000), access.refusal_of)
        except ValueError:  # no UTF-8, or too many fields
            return self._refused(request, 400, "this is no form")
        origin = request.client.host if request.client else "?"
        by = Actor(access.name, f"ui {origin}")
        with self._site.hiding(access, queue):
            return await self._answer(self._done, request, act, by, form)

    def _refusal(self, act: Act | None, access: Access, queue: str, named: str) -> tuple[int, str] | None:
        """Why a form is not even read."""
        if self._site.readonly:
            return 403, "this server is read-only"
        if act is None:
            return 404, f"there is no act {named!r:.100}"
        says = access.refusal(act, queue)
        return (403, says) if says else None

    def _refused(self, request: Request, status: int, says: str, *, unsure: bool = False) -> Response:
        return self._site.page(request, "acts/refused.html", {"title": "Refused", "says": says, "unsure": unsure}, status)

    async def _answer(self, page: Callable[..., Response], request: Request, *more: object) -> Response:
        """A page, or a form that is sent; Redis may be away."""
        try:
            return await run_in_threadpool(page, request, *more)
        except RedisError as error:
            return self._refused(request, 503, f"Redis cannot be asked: {error}", unsure=request.method == "POST")

    def _done(self, request: Request, act: Act, by: Actor, form: Form) -> Response:
        try:
            queue = self._site.queue(name_in(request.path_params["queue"]))
            if act.asks is not None and not form.is_set("sure"):
                context = {"title": "Are you sure?", "asks": act.asks(queue, form), "act": act.name, "queue": queue.name}
                return self._site.page(
                    request, "acts/confirm.html", {**context, "fields": list(form), "back": self._back(request, form)}
                )
            done = act.do(queue, by, form)
        except DelayedError as error:
            return self._refused(request, 403 if isinstance(error, Forbidden) else 400, str(error))
        if isinstance(done, Job):
            return RedirectResponse(self._site.path(request, job_path(done)), 303)
        return self._tell(request, done, self._back(request, form))

    def _tell(self, request: Request, done: Done, back: str) -> Response:
        return self._site.page(request, "acts/done.html", {"title": "Done", "done": done, "back": back})

    def _back(self, request: Request, form: Form) -> str:
        """Where to go on: a page of ours."""
        back = form.text("back") or ""
        root = self._site.path(request, "/")
        return back if back.startswith(root) and not back.startswith("//") and "\\" not in back else root

    async def job(self, request: Request) -> Response:
        """A job, and how far it is."""
        return await self._answer(self._job, request)

    def _job(self, request: Request) -> Response:
        try:
            found = job_of(self._seen(request).queue(name_in(request.path_params["queue"])), request.path_params["job"])
        except DelayedError as error:
            return self._refused(request, 404, str(error))
        return self._site.page(request, "acts/job.html", {"title": f"Job {found.id}", "job": found, "share": share(found)})

    async def jobs(self, request: Request) -> Response:
        """The jobs of all queues, the newest first."""
        return await self._answer(self._jobs, request)

    def _jobs(self, request: Request) -> Response:
        found = jobs_of_all(list(self._seen(request).queues()))
        return self._site.page(request, "acts/jobs.html", {"title": "Jobs", "jobs": found[:_ENTRIES], "path_of": job_path})

    async def audit(self, request: Request) -> Response:
        """What operators have done."""
        return await self._answer(self._audit, request)

    def _audit(self, request: Request) -> Response:
        asked = {name: request.query_params.get(name, "").strip() or None for name in ("queue", "who", "act", "text")}
        try:
            wanted = AuditFilter(asked["queue"], asked["who"], asked["act"], asked["text"])
        except ConfigurationError as error:
            return self._refused(request, 400, str(error))
        before = request.query_params.get("before", "")
        seen = self._seen(request)
        where = next(iter(seen.queues()), None)
        page = AuditPage((), 0, "")
        if where is not None:
            page = read(where, wanted, _ENTRIES, before if is_entry(before) else "", _LOOKED_AT)
        entries = (self._without_arguments(request, entry) for entry in page.entries if seen.shows(entry.queue))
        page = page._replace(entries=tuple(filter(wanted.fits, entries)))
        return self._site.page(
            request, "acts/audit.html", {"title": "Audit", "page": page, "asked": asked, "acts_known": NAMES}
        )

    def _seen(self, request: Request) -> Site:
        return self._site.seen_by(self._site.access(request))

    def _without_arguments(self, request: Request, entry: AuditEntry) -> AuditEntry:
        """An entry of the audit as whoever asks may see it: an edit names the new arguments."""
        if entry.act == "dead.edit":
            with self._site.hiding(self._site.access(request), entry.queue):
                if hides_all():
                    return replace(entry, what=f"{entry.what.partition(': ')[0]}: {HIDDEN}")
        return entry


def job_path(job: Job) -> str:
    """The page of a job, below the root of the application."""
    return f"/queues/{part(job.queue)}/jobs/{part(job.id)}"


def share(job: Job) -> int:
    """How much of a job is done, in hundredths."""
    if job.state == "done":
        return 100
    return min(99, 100 * job.looked // max(job.total, job.looked, 1))


async def _body(request: Request) -> bytes | None:
    """The body of a request; None if it is too large."""
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > _LARGEST:
            return None
    return bytes(found)


async def work_on_jobs(
    site: Site, stopping: Callable[[], bool], pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Work on the jobs of all queues, until it is cancelled; what it does not finish, another process does."""
    runner = Runner(site.queues, stopping)
    while not stopping():
        try:
            worked = await asyncio.to_thread(runner.step)
        except RedisError as error:
            logger.warning("jobs of operators wait for Redis: %s", error)
            await pause(_AWAY)
            continue
        if not worked:
            await pause(_IDLE)
