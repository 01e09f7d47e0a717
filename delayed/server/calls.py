"""What the handler of a route is given."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..ops.audit import Actor
from ..ops.exporter import Exporter
from .access import ALL, Access, Grant
from .consumer import Consumer
from .http import Problem, Request, Response
from .hub import Hub
from .job_work import Jobs
from .later import Later
from .links import Link, Links

_ANY = "default"


@dataclass(slots=True)
class Services:
    """The parts of the server.

    Attributes:
        links: the queues.
        consumer: hands out their tasks.
        access: says who may do what.
        most: bytes that the body of a request may have.
        hub: tells of events.
        jobs: works on bulk acts.
        later: enqueues what clients do not wait for.
        exporters: have the metrics of queues.
        when_stopping: what is called as soon as the server is about to stop.
        stopping: set when the server is about to end: nobody waits any more.
    """

    links: Links
    consumer: Consumer
    access: Access
    most: int
    hub: Hub = field(init=False)
    jobs: Jobs = field(default_factory=Jobs)
    later: Later = field(default_factory=Later)
    exporters: dict[tuple[str, ...], Exporter] = field(default_factory=dict)
    when_stopping: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hub = Hub(self.links)
        self.when_stopping += (self.hub.close, self.jobs.close, self.later.close, self.consumer.close)


@dataclass(slots=True)
class Call:
    """One request, checked against the schemas of its route."""

    services: Services
    request: Request
    grant: Grant = ALL
    body: Any = None
    query: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """What stands in the path."""
        return self.request.names

    @property
    def wait(self) -> float:
        """Seconds that the client waits at most; not for longer than its token is good."""
        return min(float(self._wait), self.grant.left)

    @property
    def waits(self) -> bool:
        """Whether the client would wait."""
        return self._wait > 0

    @property
    def _wait(self) -> float:
        given = self.body.get("wait") if isinstance(self.body, dict) else None
        found: float = self.query.get("wait") or given or 0
        return found

    @property
    def any_link(self) -> Link:
        """Some queue, for what all queues have in common: on a cluster, those with the {tag} of the one that `like` says.

        Raises:
            Problem: it has to be said.
        """
        like = self.query.get("like")
        try:
            return self.services.links[like or _ANY]
        except ConfigurationError as error:
            says = str(error) if like else "on Redis Cluster say which queues are meant, by one of them: ?like={tag}name"
            raise Problem(422, says, "queue-name" if like else "not-possible") from None

    @property
    def actor(self) -> Actor:
        """Who asks, for the audit."""
        return self.grant.actor(self.request.client[0])

    @property
    def link(self) -> Link:
        """The queue that stands in the path.

        Raises:
            Problem: no queue can have this name.
        """
        try:
            return self.services.links[self.names["queue"]]
        except ConfigurationError as error:
            raise Problem(422, str(error), "queue-name") from None


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the interface.

    Args:
        method: of HTTP.
        path: with the names of what stands in it in braces.
        handler: does it.
        right: what the bearer of a token must be allowed; None: it is for everybody.
        summary: a sentence.
        takes: the name of the schema of the body, if there is one.
        required: whether the body must be there.
        gives: status → the name of the schema of what comes back, or '' for nothing.
        query: parameters behind the question mark: name → schema.
        problems: statuses of problems, beside those that all have.
        lines: whether the body may have many, one on each line.
        headers: of the request that are heeded: name → schema.
    """

    method: str
    path: str
    handler: Handler
    right: str | None
    summary: str
    takes: str | None = None
    required: bool = False
    gives: Mapping[int, str] = field(default_factory=lambda: {200: "Nothing"})
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: Sequence[int] = ()
    lines: bool = False
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.handler.__name__
