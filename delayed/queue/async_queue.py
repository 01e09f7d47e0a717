"""The producer's side of a queue, for asyncio."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from ..base.clock import monotonic
from ..base.ids import digest
from ..base.loops import PerLoop
from ..redis.async_pool import AsyncPooled, explained_async, run_script_async
from ..redis.command import AsyncClient, ResponseError
from ..redis.connect import async_clients_of
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.scripts import SCRIPTS, Argument
from ..redis.store import READY, STATE_KEPT, cancellation, tell_cancelled
from ..task.task import Task
from .handle import AsyncHandle
from .producer import LISTENERS, MAX_TASK_SIZE, Producer, checked_id, for_the_time
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
        self._pooled = AsyncPooled(clients, name)
        self._waiters = PerLoop(lambda: AsyncWaiter(self._pooled.client, name), AsyncWaiter.aclose, AsyncWaiter.abandon)

    async def aclose(self) -> None:
        """Close the connections of this event loop that are the queue's own. Safe to call twice; the next command opens
        others."""
        await self._waiters.close()
        await self._pooled.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def len(self) -> int:
        """How many tasks wait."""
        return int(await self._pooled.call("LLEN", self.keys.queue))

    async def enqueue(self, task: Task, *, id: str | None = None) -> AsyncHandle[Any]:  # noqa: A002  # its name everywhere
        """As `Queue.enqueue`."""
        self._check(task)
        if id is not None:
            checked_id(task, id)
        if task.options is not None:
            if self._asks_time(task):
                await self.ask_time()
            if submission := self._submission(task, id):
                reply = await self._add("submit", *submission)
                if reply[0] == b"first":
                    await self._turn(digest(task.options.group or ""))
                return AsyncHandle(self, *self._submitted(task, *submission[1][:2], reply))
        data = self._serialize(task)
        await self._add("enqueue", (self.keys.queue, self.keys.noti), [data])
        if LISTENERS:
            self._tell([data])
        return AsyncHandle(self, None)

    async def ask_time(self) -> float:
        """As `Queue.ask_time`."""
        if self.server_time.stale():
            with for_the_time():
                asked = monotonic()
                self.server_time.learn(await self._pooled.call("TIME"), asked, monotonic())
        return self.server_time.now()

    async def waiter(self) -> AsyncWaiter:
        """Through which handles wait for results, in this event loop."""
        return await self._waiters.here()

    async def _turn(self, name: str) -> None:
        """It may be the turn of the group with this digest."""
        keys = self.keys
        turn = (keys.queue, keys.noti, keys.groups, keys.group(name)), (READY, name)
        await run_script_async(self._pooled, SCRIPTS["turn"], *turn)

    async def call(self, *command: Argument) -> Any:
        """As `Queue.call`."""
        return await self._pooled.call(*command)

    async def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None:
        """As `Queue.cancel`."""
        found = await self.call("HMGET", self.keys.task(identity), "unique", "place")
        keys, words = cancellation(self.keys, identity, *found), (identity, result, keep, how, STATE_KEPT)
        state = (await run_script_async(self._pooled, SCRIPTS["cancel"], keys, words)).decode()
        tell_cancelled(self.name, identity, state)
        return state or None

    async def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """As `Queue.enqueue_many`."""
        count = 0
        try:
            for chunk in self._chunks(tasks):
                if chunk is None:
                    await self.ask_time()
                    continue
                if not isinstance(chunk, dict):
                    await self.enqueue(chunk)
                    count += 1
                    continue
                for group, some in chunk.items():
                    if group is None:
                        await self._add("enqueue", (self.keys.queue, self.keys.noti), some)
                    else:
                        name = digest(group)
                        if await self._add("enqueue_group", (self.keys.group(name), self.keys.groups), [name, *some]):
                            await self._turn(name)
                    count += len(some)
                    if LISTENERS:
                        self._tell(some)
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    async def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        try:
            return await self._added(script, keys, arguments)
        except ResponseError as error:
            raise await explained_async(error, self._pooled, self.keys, keys) from error

    async def _added(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        durability = self._durability
        if not durability.waits:
            return await run_script_async(self._pooled, SCRIPTS[script], keys, tuple(arguments))
        with durability.trying():
            proof = durability.proof or durability.learn(await self._pooled.batch(*durability.questions))
            return durability.judge(proof, await self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof))
