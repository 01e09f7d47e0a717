"""The application: its pages, what they have in common, and a page for each error."""

import contextlib
import re
import threading
from asyncio import Task, create_task
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from importlib.resources import files
from typing import Any, Self
from urllib.parse import quote, unquote

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..base.clock import monotonic, now
from ..errors import ConfigurationError, DelayedError, UnknownTask
from ..interests.table import Interest
from ..ops.acts import ROLES, may
from ..ops.register import served
from ..queue.queue import Queue
from ..redis.command import Client, RedisError
from ..redis.connect import connect
from ..task.hidden import hiding
from . import acting, words
from .access import Access, Authenticate, Rights
from .checking import Checks
from .guard import Guard
from .live import Live
from .words import name_in

_FRESH = 0.9  # seconds for which a page is shown to all who ask for it
_KEPT = 100  # pages
_AGE = re.compile(rb'<span class="age">[^<]*</span>')  # which grows while nothing happens
_ANEW = "delayed.anew"  # in the scope of a request: the page is not one that was kept
_NOT_WATCHED = ("/live", "/redis")  # what says nothing, and what measures the server anew each time

_Key = tuple[str, str, str, Rights | None]  # path, query, and by what it differs who asks
Page = Callable[["Site", Request], Response]


class Site:
    """One application.

    Args:
        client: the way to Redis.
        pages: path → page.
        readonly: nobody may act.
        environment: what the badge says.
        names: of the queues; by default all that were served.
        arguments: the role that sees arguments and results.
    """

    def __init__(
        self,
        client: Client,
        pages: Mapping[str, Page],
        *,
        readonly: bool,
        environment: str,
        names: Sequence[str],
        arguments: str = "view",
    ) -> None:
        if arguments not in ROLES:
            raise ConfigurationError(f"those who see arguments have one of the roles {', '.join(ROLES)}, not {arguments!r}")
        self._arguments = arguments
        self._access: Access | None = None  # of whom this is shown to
        self.client, self.readonly, self.environment = client, readonly, environment
        self._names, self._pages = tuple(names), pages
        self._jinja = jinja2.Environment(
            loader=jinja2.PackageLoader("delayed", "web/templates"), autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._jinja.filters |= {name: getattr(words, name) for name in ("number", "size", "clock", "part", "word")}
        self._jinja.filters["age"] = lambda seconds: Markup('<span class="age">{}</span>').format(words.age(seconds))
        self.live = Live()
        self._inner: Any = None
        self.checks = Checks()
        self._knowing: dict[str, Queue] = {}
        self._kept: dict[_Key, tuple[float, Response]] = {}
        self._locks: dict[_Key, threading.Lock] = {}
        self._working: Task[None] | None = None
        self._stopping = False

    # What pages and forms ask

    def queue(self, name: str) -> Queue:
        """A queue by its name.

        Raises:
            UnknownTask: it is none of those that are shown here.
        """
        if not self.shows(name):
            raise UnknownTask(f"the queue {name!r:.100} is not shown here")
        return Queue(name, self.client)

    def seen_by(self, access: Access) -> Self:
        """The same with the queues that they may see."""
        found = copy(self)
        found._access = access
        return found

    def hiding(self, access: Access, *queues: str) -> AbstractContextManager[None]:
        """Hides arguments meanwhile, unless they may see those of the tasks in these queues; of all, if none is named."""
        roles = [access.of(each) for each in queues] or [access.everywhere]
        return hiding(not all(may(role, self._arguments) for role in roles))

    def shows(self, name: str) -> bool:
        """Whether the queue of this name may be shown here."""
        return (not self._names or name in self._names) and (self._access is None or self._access.of(name) != "")

    def queues(self) -> list[Queue]:
        """All queues that are known, in the order of their names."""
        found = []
        for name in sorted(self._names or served(Queue("default", self.client))):
            if self.shows(name):
                with contextlib.suppress(ConfigurationError):  # another program wrote it
                    found.append(Queue(name, self.client))
        return found

    def interests(self, queue: Queue) -> list[Interest]:
        """What queues have an interest in, as this queue knows it: on a cluster, those with its hash tag."""
        known = self._knowing.setdefault(queue.store.interests, queue)  # which is only told of changes
        return [each for each in known.interests().interests if self.shows(each.queue)]

    def access(self, request: Request) -> Access:
        """Who asks."""
        found: Access = request.scope["delayed.access"]
        return found

    def path(self, request: Request, path: str) -> str:
        """A path below the prefix under which the application is mounted."""
        return str(request.scope.get("root_path", "")) + path

    def page(self, request: Request, template: str, context: Mapping[str, Any], status: int = 200) -> Response:
        """A page."""
        access = self.access(request)
        if request.method == "POST":
            self.live.acted = monotonic()  # who has acted sees no page from before
        shared = {
            **acting.context(self, request),
            "environment": self.environment,
            "role": "view" if self.readonly else access.role,
            "readonly": self.readonly,
            "moment": now(),
            "place": request.url.path.removeprefix(request.scope.get("root_path", "")),
            "shown": self._named(request),
            "q": "",
            "follows": request.method == "GET",  # a reply to a form cannot be asked for again
        }
        text = self._jinja.get_template(template).render({**shared, **context})
        return HTMLResponse(words.visible(text), status)

    def trouble(self, request: Request, status: int, title: str, says: str) -> Response:
        """A page that says what is the matter."""
        return self.page(request, "trouble.html", {"title": title, "says": says}, status)

    def _named(self, request: Request) -> str:
        """A page as `/live` takes it: its path below the root of the application, and its query."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        return quote(path, errors="surrogateescape") + (f"?{request.url.query}" if request.url.query else "")

    # The application

    def application(self, authenticate: Authenticate) -> Any:
        """What an ASGI server runs."""
        routes = [Route("/live", self._live), *acting.routes(self)]
        routes += [Route(path, self._shown(page)) for path, page in self._pages.items()]
        static = Mount("/static", StaticFiles(directory=str(files("delayed.web") / "static")))
        self._inner = Starlette(routes=[*routes, static], exception_handlers=self._errors(), lifespan=self._lifespan)
        return Guard(self._inner, authenticate)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        self.work()
        yield
        self._stopping = True
        if self._working is not None:
            self._working.cancel()

    def _errors(self) -> dict[Any, Callable[[Request, Any], Response]]:
        return {404: self._missing, RedisError: self._away}

    def _away(self, request: Request, error: RedisError) -> Response:
        return self.trouble(request, 503, "Redis cannot be asked", f"{error}. The page tries again by itself.")

    def _missing(self, request: Request, _: Exception) -> Response:
        if "delayed.access" not in request.scope:  # the guard lets anybody ask for what is static, and a page is for somebody
            return PlainTextResponse("There is no such file.", 404)
        return self.trouble(request, 404, "Not found", "There is no such page.")

    async def _live(self, request: Request) -> Response:
        page, access = request.query_params.get("page", "/"), self.access(request)
        changes = self.live.changes((page, access.role, access.rights), lambda: self._content(request.scope, page))
        return StreamingResponse(changes, media_type="text/event-stream")

    async def _content(self, scope: Mapping[str, Any], page: str) -> bytes:
        """What a page shows to whoever has asked, but for ages. The page is kept for those who ask for it next."""
        path, _, query = page.partition("?")
        path = unquote(path, errors="surrogateescape")
        if path in _NOT_WATCHED:
            return b""
        body = bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            body.extend(message.get("body", b""))

        there = {"path": scope["path"].removesuffix("/live") + path, "query_string": query.encode(), "method": "GET"}
        asked = {name: value for name, value in scope.items() if name != "raw_path"}
        await self._inner({**asked, **there, _ANEW: True}, receive, send)
        return _AGE.sub(b"", bytes(body).partition(b"<main")[2].partition(b"</main>")[0])

    def work(self) -> None:
        """Work on the jobs of operators from now on; whoever mounts an application may not start it otherwise."""
        if self._working is None and not self.readonly:
            self._working = create_task(acting.work_on_jobs(self, lambda: self._stopping))

    def _shown(self, page: Page) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            self.work()
            return await run_in_threadpool(self._answer, page, request)

        return endpoint

    def _answer(self, page: Page, request: Request) -> Response:
        """The page; whoever asks for the same within a second gets the same, however many they are."""
        access = self.access(request)
        key = (request.url.path, request.url.query, access.role, access.rights)
        with self._locks.setdefault(key, threading.Lock()):
            moment, reply = self._kept.get(key, (0.0, None))
            began = monotonic()
            if reply is None or began - moment > _FRESH or moment <= self.live.acted or request.scope.get(_ANEW):
                reply = self._answered(page, request)
                self._kept[key] = (began, reply)
        while len(self._kept) > _KEPT:
            oldest = next(iter(self._kept))
            self._kept.pop(oldest, None)
            self._locks.pop(oldest, None)
        return Response(reply.body, reply.status_code, dict(reply.headers))

    def _answered(self, page: Page, request: Request) -> Response:
        access, queue = self.access(request), request.path_params.get("queue")
        try:
            with self.hiding(access, *([name_in(queue)] if queue else [])):
                return page(self.seen_by(access), request)
        except UnknownTask as error:
            return self.trouble(request, 404, "Not found", str(error))
        except DelayedError as error:
            return self.trouble(request, 400, "That cannot be shown", str(error))
        except RedisError as error:
            return self._away(request, error)


def names_of(queues: Iterable[str] | None) -> tuple[str, ...]:
    """The names of queues, each once."""
    return tuple(dict.fromkeys(queues or ()))


def client_of(where: str | Client) -> Client:
    """The way to Redis: an address, or a client of redis-py."""
    return connect(where) if isinstance(where, str) else where
