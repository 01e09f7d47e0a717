"""The handles of workflows whose home is a queue on a server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

from ..errors import NoResult, TaskCancelled, TaskFailed
from ..queue.async_queue import AsyncQueue
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..workflow.again import RetryMode
from ..workflow.compose import Flow, FlowOptions, Part, flow_of
from ..workflow.graph import Ref
from ..workflow.run import FlowStatus, NodeStatus, Run
from .flow_requests import FlowRequests, listing, submission
from .handle import AsyncRemoteHandle, RemoteHandle
from .requests import Request, Requests

T = TypeVar("T")


class _Queue(Protocol):
    name: str
    requests: Requests

    def done(self, request: Request[T]) -> T: ...


class _AsyncQueue(Protocol):
    name: str
    requests: Requests

    async def done(self, request: Request[T]) -> T: ...


class RemoteRun(Run):
    """As `Run`. What reads the graph of a workflow as it is stored needs Redis itself."""

    def __init__(self, queue: Any, id: str) -> None:  # noqa: A002  # its name everywhere
        super().__init__(queue, id)
        self._place: _Queue = queue
        self._requests = FlowRequests(queue.name, self.id)

    @property
    def handle(self) -> Handle[Any]:
        """As `Run.handle`."""
        return RemoteHandle(self.queue, self.id)

    def status(self) -> FlowStatus:
        """As `Run.status`."""
        return self._place.done(self._requests.status())

    def result(self, timeout: float | None = None) -> Any:
        """As `Run.result`."""
        try:
            return self.handle.result(timeout)
        except NoResult:  # it has several ends
            return None

    def nodes(self, state: str | None = None, after: int | None = None) -> Iterator[NodeStatus]:
        """As `Run.nodes`."""
        while True:
            page, after = self._place.done(self._requests.nodes(state, after))
            yield from page
            if after is None:
                return

    def node(self, which: Ref | int | str) -> NodeStatus:
        """As `Run.node`."""
        return self._place.done(self._requests.node(which))

    def value(self, which: Ref | int | str) -> Any:
        """As `Run.value`."""
        return self._place.done(self._requests.value(which))

    def cancel(self) -> None:
        """As `Run.cancel`."""
        self._place.done(self._requests.cancel())

    def signal(self, name: str, payload: Any = None) -> bool:
        """As `Run.signal`. If an answer was lost, it is sent again, and may say that this was not the first."""
        return self._place.done(self._requests.signal(name, payload))

    def retry(self, mode: RetryMode = "failed_only") -> int:
        """As `Run.retry`. If the connection breaks, the error says that it may go on: it is not sent again."""
        return self._place.done(self._requests.retry(mode))


class AsyncRemoteRun:
    """As `Run`, of a queue for asyncio; each method is to be awaited, but for `nodes`.

    Args:
        queue: its home.
        id: its id.
    """

    def __init__(self, queue: AsyncQueue, id: str) -> None:  # noqa: A002  # its name everywhere
        self.queue, self.id = queue, id
        self._place = cast(_AsyncQueue, queue)
        self._requests = FlowRequests(queue.name, id)

    def __repr__(self) -> str:
        return f"AsyncRemoteRun({self.queue.name!r}, {self.id!r})"

    async def status(self) -> FlowStatus:
        """As `Run.status`."""
        return await self._place.done(self._requests.status())

    async def result(self, timeout: float | None = None) -> Any:
        """As `Run.result`."""
        try:
            return await AsyncRemoteHandle[Any](self.queue, self.id).aresult(timeout)
        except NoResult:  # it has several ends
            return None

    async def wait(self, timeout: float | None = None) -> str:
        """As `Run.wait`."""
        with suppress(TaskFailed, TaskCancelled):
            await self.result(timeout)
        return (await self.status()).state

    async def nodes(self, state: str | None = None, after: int | None = None) -> AsyncIterator[NodeStatus]:
        """As `Run.nodes`."""
        while True:
            page, after = await self._place.done(self._requests.nodes(state, after))
            for each in page:
                yield each
            if after is None:
                return

    async def node(self, which: Ref | int | str) -> NodeStatus:
        """As `Run.node`."""
        return await self._place.done(self._requests.node(which))

    async def value(self, which: Ref | int | str) -> Any:
        """As `Run.value`."""
        return await self._place.done(self._requests.value(which))

    async def cancel(self) -> None:
        """As `Run.cancel`."""
        await self._place.done(self._requests.cancel())

    async def signal(self, name: str, payload: Any = None) -> bool:
        """As `RemoteRun.signal`."""
        return await self._place.done(self._requests.signal(name, payload))

    async def retry(self, mode: RetryMode = "failed_only") -> int:
        """As `RemoteRun.retry`."""
        return await self._place.done(self._requests.retry(mode))


class RemoteWorkflows:
    """The workflows whose home is one queue.

    Args:
        queue: that.
    """

    def __init__(self, queue: Any) -> None:
        self._queue: Queue = queue
        self._place: _Queue = queue

    def submit(self, flow: Flow) -> RemoteRun:
        """As `Flow.submit`."""
        if self._queue.tracing is None:
            return self._submit(flow)
        with self._queue.tracing.sending(self._queue.name, None) as sending:
            flow.trace = sending.trace
            run = self._submit(flow)
            sending.all_done(flow.size, run.id)
            return run

    def _submit(self, flow: Flow) -> RemoteRun:
        return self.run(self._place.done(self.asked(flow)))

    def asked(self, flow: Flow) -> Request[str]:
        """The request that starts a workflow."""
        return submission(self._place.requests, flow, self._place.name)

    def run(self, identity: str) -> RemoteRun:
        """The handle of one of them."""
        return RemoteRun(self._queue, identity)

    def runs(self, ended: bool) -> Iterator[RemoteRun]:
        """All that are known, or those that go on."""
        after: str | None = None
        while True:
            page, after = self._place.done(listing(self._place.name, ended=ended, after=after))
            yield from map(self.run, page)
            if after is None:
                return


async def submit_async(queue: Any, what: Flow | Part, options: FlowOptions) -> AsyncRemoteRun:
    """Start a workflow, or one that is made of this part; see `AsyncRemoteQueue.submit`."""
    place: _AsyncQueue = queue
    flow = what if isinstance(what, Flow) else flow_of(what, queue, options)
    tracing = queue.tracing
    if tracing is None:
        return AsyncRemoteRun(queue, await place.done(submission(place.requests, flow, place.name)))
    with tracing.sending(place.name, None) as sending:
        flow.trace = sending.trace
        run = AsyncRemoteRun(queue, await place.done(submission(place.requests, flow, place.name)))
        sending.all_done(flow.size, run.id)
        return run
