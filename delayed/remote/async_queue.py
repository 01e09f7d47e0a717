"""The producer's side of a queue that is on a server, for asyncio."""

from collections.abc import Iterable
from typing import Any, TypeVar, Unpack, cast

from ..interests.table import Interest, Table
from ..queue.async_queue import AsyncQueue
from ..queue.handle import AsyncHandle
from ..queue.producer import LISTENERS, MAX_TASK_SIZE
from ..queue.tracing import in_a_trace
from ..redis.async_store import AsyncStore
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..task.task import Task
from ..workflow.compose import Flow, FlowOptions, Part
from .asks import Answer, Ask
from .async_connections import AsyncConnections
from .handle import AsyncRemoteHandle
from .requests import Added, NoRedis, Request, Requests, prepare
from .runs import AsyncRemoteRun, submit_async

T = TypeVar("T")


class AsyncRemoteQueue(AsyncQueue):
    """As `AsyncQueue`, on a server.

    Args:
        connections: to the server.
        name, max_task_size, durability, durability_timeout: as for `RemoteQueue`.

    Raises:
        ConfigurationError: the name or a number cannot work.
    """

    def __init__(
        self,
        connections: AsyncConnections,
        name: str,
        *,
        max_task_size: int = MAX_TASK_SIZE,
        durability: str = MEMORY,
        durability_timeout: float = TIMEOUT,
    ) -> None:
        prepare(self, name, max_task_size, Durability(durability, durability_timeout))
        self._connections = connections
        self.requests = Requests(self, connections.place.keep)
        self.store = cast(AsyncStore, NoRedis(name, connections.place))

    async def aclose(self) -> None:
        """As `AsyncQueue.aclose`; other queues of the same `Remote` open connections of their own again."""
        await self._connections.aclose()

    async def ask(self, ask: Ask) -> Answer:
        """Send a request to the server."""
        return await self._connections.ask(ask)

    async def done(self, request: Request[T]) -> T:
        """Send a request, and return what its answer means."""
        return request.read(await self.ask(request.ask))

    async def submit(self, what: Flow | Part, **options: Unpack[FlowOptions]) -> AsyncRemoteRun:
        """Start a workflow whose home is this queue.

        Args:
            what: a `Flow`, such as `App.workflow` makes; or a call, a chain or a group.
            options: of a workflow that is not a `Flow` yet, as there.

        Raises:
            InvalidTask, Duplicate: as `Flow.submit`.
        """
        return await submit_async(self, what, options)

    def run(self, flow_id: str) -> AsyncRemoteRun:
        """The handle of a workflow whose home this queue is, by its id."""
        return AsyncRemoteRun(self, flow_id)

    async def len(self) -> int:
        """As `Queue.len`."""
        return await self.done(self.requests.len())

    def handle(self, id: str, *, path: str = "", tracked: bool = True) -> AsyncHandle[Any]:  # noqa: A002  # its name everywhere
        """As `Queue.handle`."""
        return AsyncRemoteHandle(self, id, path=path, tracked=tracked)

    async def enqueue(self, task: Task, *, id: str | None = None) -> AsyncHandle[Any]:  # noqa: A002  # likewise
        """As `RemoteQueue.enqueue`."""
        self._check(task)
        if self.tracing is not None and not in_a_trace(task):
            return await self._enqueue_traced(self.tracing, task, id)
        sent = self.requests.enqueue(task, id)
        identity, known, path, tracked = sent.handle(await self.ask(sent.ask))
        if LISTENERS and not known:
            self._tell([sent.data])
        return AsyncRemoteHandle(self, identity, known, path, tracked)

    async def _add_all(self, tasks: Iterable[Task], handles: list[AsyncHandle[Any]] | None) -> int:
        added = Added(self, AsyncRemoteHandle, handles)
        try:
            for each in self.requests.enqueue_many(tasks):
                added.answered(each, await self.ask(each.ask))
        except Exception as error:
            error.add_note(f"{added.count} tasks of this call had been enqueued before")
            raise
        return added.count

    async def publish(self, data: Any) -> dict[str, str]:
        """As `RemoteQueue.publish`."""
        return await self.done(self.requests.publish(data))

    async def interested(self, data: Any) -> list[Interest]:
        """As `Queue.interested`."""
        return await self._interested(self.requests.publication(data), await self.interests())

    async def interests(self) -> Table:
        """As `RemoteQueue.interests`."""
        return await self.done(self.requests.interests())

    async def set_interest(self, match: object, function: str, *, retry: int = 0) -> Interest:
        """As `Queue.set_interest`."""
        return await self.done(self.requests.set_interest(match, function, retry))

    async def remove_interest(self) -> bool:
        """As `Queue.remove_interest`."""
        return await self.done(self.requests.remove_interest())
