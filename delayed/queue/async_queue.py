"""The producer's side of a queue, for asyncio."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from ..base.clock import monotonic
from ..base.ids import digest
from ..base.loops import PerLoop
from ..interests.table import MOST_QUEUES, Interest, Table
from ..redis.async_pool import AsyncPooled
from ..redis.async_store import AsyncStore
from ..redis.command import AsyncClient
from ..redis.connect import async_clients_of
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.places import READY
from ..task.task import Task
from .handle import AsyncHandle
from .producer import LISTENERS, MAX_TASK_SIZE, Chunk, Producer, checked_id, for_the_time
from .publishing import Publication, checked_interests, tell
from .tracing import Tracing, carrying, in_a_trace
from .waiter import AsyncWaiter

Check = Callable[[Sequence[Interest]], object]


def _nothing(interested: Sequence[Interest]) -> None:
    """Everybody may have a copy."""


class AsyncQueue(Producer):
    """The producer's side of a queue, for asyncio.

    Args:
        name: as for `Queue`.
        conn: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`, which belongs to one event loop, or a URL as for
            `Queue`, with connections of its own in each event loop; `aclose`, or the end of an `async with` block, closes
            what a URL has opened, and so does the end of the loop (`asyncio.run`).
        max_task_size, durability, durability_timeout: as for `Queue`.

    Raises:
        ConfigurationError: the name, the client or a number cannot work.
    """

    def __init__(
        self,
        name: str,
        conn: AsyncClient | str,
        *,
        max_task_size: int = MAX_TASK_SIZE,
        durability: str = MEMORY,
        durability_timeout: float = TIMEOUT,
    ) -> None:
        client, clients = async_clients_of(conn)
        super().__init__(name, client, max_task_size, Durability(durability, durability_timeout))
        self.store = AsyncStore(self.keys, AsyncPooled(clients, name), self._durability)
        self._waiters = PerLoop(lambda: AsyncWaiter(self.store.client, name), AsyncWaiter.aclose, AsyncWaiter.abandon)

    async def aclose(self) -> None:
        """Close the connections of this event loop that are the queue's own. Safe to call twice; the next command opens
        others."""
        await self._waiters.close()
        await self.store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def len(self) -> int:
        """How many tasks wait."""
        return int(await self.store.call("LLEN", self.keys.queue))

    async def enqueue(self, task: Task, *, id: str | None = None) -> AsyncHandle[Any]:  # noqa: A002  # its name everywhere
        """As `Queue.enqueue`."""
        self._check(task)
        if self.tracing is not None and not in_a_trace(task):
            return await self._enqueue_traced(self.tracing, task, id)
        if id is not None:
            checked_id(task, id)
        if task.options is not None:
            if self._asks_time(task):
                await self.ask_time()
            due = None
            if task.options.rate_key is not None and task.options.rate is not None:
                due = await self.store.reserve(task.options.rate_key, task.options.rate, self._earliest(task.options))
            if submission := self._submission(task, id, due):
                reply = await self.store.submit(*submission)
                if reply[0] == b"first":
                    await self.store.turn([digest(task.options.group or "")], READY)
                return AsyncHandle(self, *self._submitted(task, *submission[1][:2], reply), task.options.tracked)
        identity = None if task.options is None else self._identity_of(task)
        data = self._serialize(task, identity)
        await self.store.enqueue([data])
        if LISTENERS:
            self._tell([data])
        return AsyncHandle(self, identity, path=task.func_path, tracked=False)

    async def _enqueue_traced(self, tracing: Tracing, task: Task, id: str | None) -> AsyncHandle[Any]:  # noqa: A002  # likewise
        with tracing.sending(self.name, task.func_path) as sending:
            handle = await self.enqueue(sending.carrying(task), id=id)
            sending.done(handle.id)
            return handle

    def handle(self, id: str, *, path: str = "", tracked: bool = True) -> AsyncHandle[Any]:  # noqa: A002  # likewise
        """As `Queue.handle`."""
        return AsyncHandle(self, id, path=path, tracked=tracked)

    async def ask_time(self) -> float:
        """As `Queue.ask_time`."""
        if self.server_time.stale():
            with for_the_time():
                asked = monotonic()
                self.server_time.learn(await self.store.call("TIME"), asked, monotonic())
        return self.server_time.now()

    async def waiter(self) -> AsyncWaiter:
        """Through which handles wait for results, in this event loop."""
        return await self._waiters.here()

    async def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """As `Queue.enqueue_many`."""
        return await self._enqueue_all(tasks, None)

    async def enqueue_all(self, tasks: Iterable[Task]) -> list[AsyncHandle[Any]]:
        """As `enqueue_many`, and returns a handle for each task, in their order."""
        handles: list[AsyncHandle[Any]] = []
        await self._enqueue_all(tasks, handles)
        return handles

    async def _enqueue_all(self, tasks: Iterable[Task], handles: list[AsyncHandle[Any]] | None) -> int:
        if self.tracing is None:
            return await self._add_all(tasks, handles)
        with self.tracing.sending(self.name, None) as sending:
            count = await self._add_all(carrying(sending, tasks), handles)
            sending.all_done(count)
            return count

    async def _add_all(self, tasks: Iterable[Task], handles: list[AsyncHandle[Any]] | None) -> int:
        count = 0
        try:
            for chunk in self._chunks(tasks):
                if chunk is None:
                    await self.ask_time()
                    continue
                if not isinstance(chunk, Chunk):
                    handle = await self.enqueue(chunk)
                    if handles is not None:
                        handles.append(handle)
                    count += 1
                    continue
                await self._enqueue_chunk(chunk)
                count += len(chunk.ids)
                if handles is not None:
                    handles += [AsyncHandle(self, identity, tracked=chunk.tracked) for identity in chunk.ids]
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    async def _enqueue_chunk(self, chunk: Chunk) -> None:
        await self._added(chunk, await self.store.submit_many(chunk.groups, chunk.states))

    async def _added(self, chunk: Chunk, first: Sequence[str]) -> None:
        """A chunk is in, and these groups had no tasks before."""
        if first:
            await self.store.turn(first, READY)
        if LISTENERS:
            for tasks in chunk.groups.values():
                self._tell(tasks)

    async def publish(self, data: Any) -> dict[str, str]:
        """As `Queue.publish`."""
        return await self.publish_checked(data, _nothing)

    async def publish_checked(self, data: Any, check: Check, trace: tuple[str, str] | None = None) -> dict[str, str]:
        """As `publish`, if who publishes may not enqueue into every queue.

        Args:
            data: what.
            check: is called with those interested. What it raises ends this, and nothing is published.
            trace: the trace context in which it is published, if somebody else has begun that: see `Options.trace`.
        """
        publication = Publication(data, await self.store.interests(), self.max_task_size)
        publication.trace = trace
        if trace is not None or self.tracing is None:
            return await self._publish(publication, check)
        with self.tracing.sending(None, None) as sending:
            publication.trace = sending.trace
            ids = await self._publish(publication, check)
            sending.all_done(len(ids))
            return ids

    async def _publish(self, publication: Publication, check: Check) -> dict[str, str]:
        while True:
            table = self._interests
            interested = await self._interested(publication, table)
            check(interested)
            copies = publication.copies(interested, table)
            others = await self.store.publish(copies.keys, copies.arguments)
            if others is None:
                break
            self._interests = Table(others)
        if LISTENERS:
            tell(interested, copies.ids)
        return copies.ids

    @staticmethod
    async def _interested(publication: Publication, table: Table) -> list[Interest]:
        if publication.is_large(table):
            return await asyncio.to_thread(publication.interested, table)
        return publication.interested(table)

    async def interested(self, data: Any) -> list[Interest]:
        """As `Queue.interested`."""
        publication = Publication(data, await self.store.interests(), self.max_task_size)
        return await self._interested(publication, await self.interests())

    async def interests(self) -> Table:
        """As `Queue.interests`."""
        others = await self.store.publish((await self.store.interests(),), (self._interests.version,))
        if others is not None:
            self._interests = Table(others)
        return self._interests

    async def set_interest(self, match: object, function: str, *, retry: int = 0) -> Interest:
        """As `Queue.set_interest`."""
        interest = Interest.of(self.name, match, function, retry)
        return checked_interests(interest, await self.store.interest(interest.packed(), MOST_QUEUES))

    async def remove_interest(self) -> bool:
        """As `Queue.remove_interest`."""
        return await self.store.interest(b"", MOST_QUEUES) == 1
