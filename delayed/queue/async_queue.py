"""The producer's side of a queue, for asyncio."""

from collections.abc import Iterable
from typing import Any, Self

from ..base.clock import monotonic
from ..base.ids import digest
from ..base.loops import PerLoop
from ..redis.async_pool import AsyncPooled
from ..redis.async_store import AsyncStore
from ..redis.command import AsyncClient
from ..redis.connect import async_clients_of
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.store import READY
from ..task.task import Task
from .handle import AsyncHandle
from .producer import LISTENERS, MAX_TASK_SIZE, Chunk, Producer, checked_id, for_the_time
from .waiter import AsyncWaiter


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
                for group, some in chunk.groups.items():
                    await self._enqueue_chunk(chunk, group)
                    count += len(some)
                if handles is not None:
                    handles += [AsyncHandle(self, identity, tracked=chunk.tracked) for identity in chunk.ids]
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    async def _enqueue_chunk(self, chunk: Chunk, group: str | None) -> None:
        tasks = chunk.groups[group]
        if chunk.tracked:
            turn = await self.store.submit_many(group, chunk.named[group], tasks)
        else:
            turn = await self.store.enqueue_group(group, tasks) if group is not None else await self.store.enqueue(tasks)
        if turn and group is not None:
            await self.store.turn([digest(group)], READY)
        if LISTENERS:
            self._tell(tasks)
