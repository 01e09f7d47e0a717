"""The producer's side of a queue that is on a server."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from ..interests.table import Interest, Table
from ..queue.handle import Handle
from ..queue.limits import Limits, checked_limits
from ..queue.producer import LISTENERS, MAX_TASK_SIZE
from ..queue.queue import Queue
from ..queue.tracing import in_a_trace
from ..redis.command import Client
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.store import Store
from ..task.task import Task
from .asks import Answer, Ask
from .connections import Connections
from .handle import RemoteHandle
from .letters import Operating
from .requests import Added, NoRedis, Request, Requests, prepare
from .runs import RemoteRun, RemoteWorkflows

T = TypeVar("T")


class RemoteQueue(Operating, Queue):
    """As `Queue`, on a server: what producers and operators call. What needs Redis itself, such as a worker, cannot use it.

    Args:
        connections: to the server.
        name: its name.
        max_task_size, durability: as for `Queue`.
        durability_timeout: likewise, up to 30.

    Raises:
        ConfigurationError: the name or a number cannot work.
    """

    def __init__(
        self,
        connections: Connections,
        name: str,
        *,
        max_task_size: int = MAX_TASK_SIZE,
        durability: str = MEMORY,
        durability_timeout: float = TIMEOUT,
    ) -> None:
        prepare(self, name, max_task_size, Durability(durability, durability_timeout))
        self._connections = connections
        self.requests = Requests(self, connections.place.keep)
        self.store = cast(Store, _RemoteStore(name, connections, self.requests))
        self.conn = cast(Client, NoRedis(name, connections.place))
        self.dequeue_timeout, self.keep_alive_timeout = 2.0, None  # of workers

    def ask(self, ask: Ask) -> Answer:
        """Send a request to the server."""
        return self._connections.ask(ask)

    def done(self, request: Request[T]) -> T:
        """Send a request, and return what its answer means."""
        return request.read(self.ask(request.ask))

    @property
    def workflows(self) -> RemoteWorkflows:
        """As `Queue.workflows`."""
        return RemoteWorkflows(self)

    def run(self, flow_id: str) -> RemoteRun:
        """The handle of a workflow whose home this queue is, by its id."""
        return RemoteRun(self, flow_id)

    def len(self) -> int:
        """As `Queue.len`."""
        return self.done(self.requests.len())

    def handle(self, id: str, *, path: str = "", tracked: bool = True) -> Handle[Any]:  # noqa: A002  # its name everywhere
        """As `Queue.handle`."""
        return RemoteHandle(self, id, path=path, tracked=tracked)

    def enqueue(self, task: Task, *, id: str | None = None) -> Handle[Any]:  # noqa: A002  # likewise
        """As `Queue.enqueue`. If the connection breaks, the same request is sent again, and enqueues nothing twice.

        Raises:
            As `Queue.enqueue`, and:
            ServerAway: no answer came within the patience of the `Remote`: a note says whether the task may be there.
            AccessDenied, ServerError: the server does not enqueue it.
        """
        self._check(task)
        if self.tracing is not None and not in_a_trace(task):
            return self._enqueue_traced(self.tracing, task, id)
        sent = self.requests.enqueue(task, id)
        identity, known, path, tracked = sent.handle(self.ask(sent.ask))
        if LISTENERS and not known:
            self._tell([sent.data])
        return RemoteHandle(self, identity, known, path, tracked)

    def _add_all(self, tasks: Iterable[Task], handles: list[Handle[Any]] | None) -> int:
        added = Added(self, RemoteHandle, handles)
        try:
            for each in self.requests.enqueue_many(tasks):
                added.answered(each, self.ask(each.ask))
        except Exception as error:
            error.add_note(f"{added.count} tasks of this call had been enqueued before")
            raise
        return added.count

    def publish(self, data: Any) -> dict[str, str]:
        """As `Queue.publish`. If the connection breaks, the error says that the copies may be there: it is not sent again."""
        return self.done(self.requests.publish(data))

    def interested(self, data: Any) -> list[Interest]:
        """As `Queue.interested`."""
        return self.requests.publication(data).interested(self.interests())

    def interests(self) -> Table:
        """As `Queue.interests`, of the queues that the token is for."""
        return self.done(self.requests.interests())

    def set_interest(self, match: object, function: str, *, retry: int = 0) -> Interest:
        """As `Queue.set_interest`."""
        return self.done(self.requests.set_interest(match, function, retry))

    def remove_interest(self) -> bool:
        """As `Queue.remove_interest`."""
        return self.done(self.requests.remove_interest())

    def pause(self) -> None:
        """As `Queue.pause`."""
        self.done(self.requests.act("pause"))

    def resume(self) -> None:
        """As `Queue.resume`."""
        self.done(self.requests.act("resume"))

    def limit(self, *, concurrency: int | None = None, rate: float | None = None, burst: int | None = None) -> None:
        """As `Queue.limit`."""
        burst = checked_limits(concurrency, rate, burst)
        self.done(self.requests.limit(concurrency, rate, burst))

    def limits(self) -> Limits:
        """As `Queue.limits`."""
        return self.done(self.requests.limits())


class _RemoteStore(NoRedis):
    """What a queue's functions ask of its store, so far as a server answers it."""

    def __init__(self, name: str, connections: Connections, requests: Requests) -> None:
        super().__init__(name, connections.place)
        self._connections, self._requests = connections, requests

    def outcomes(self, ids: Sequence[str]) -> list[list[bytes | None]]:
        """As `Store.outcomes`."""
        if not ids:
            return []
        request = self._requests.results(ids)
        return request.read(self._connections.ask(request.ask))
