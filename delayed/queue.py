"""A queue: what producers call, and one short method for each Lua script."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from .clock import milliseconds
from .connection import (
    AsyncClient,
    AsyncPooled,
    Caller,
    Client,
    Pooled,
    RedisError,
    ResponseError,
    check_cluster,
    connect,
    explained,
    explained_async,
    run_script,
    run_script_async,
)
from .errors import ConfigurationError, Reason, TaskTooLarge
from .keys import Keys
from .scripts import SCRIPTS, Argument
from .task import Task

MAX_TASK_SIZE = 1 << 20  # bytes
_CHUNK_TASKS = 1000  # tasks that one call of enqueue_many's script carries at most
_CHUNK_BYTES = 1 << 20  # bytes, likewise, unless a single task is larger
_REPAIR_STEP = 4000  # notifications that one call of repair adds or removes at most


class Taken(NamedTuple):
    """What `Queue.take` got: task i is held under lease i."""

    tasks: list[bytes]
    suspect: bool  # the only task has been lost before


class Swept(NamedTuple):
    """What `Queue.sweep` did."""

    recovered: int  # tasks put back
    buried: int  # tasks lost too often
    more: bool  # there was too much for one call


class _Named:
    """What a queue is apart from its connection."""

    def __init__(self, name: str, conn: object, max_task_size: int) -> None:
        if max_task_size < 1:
            raise ConfigurationError(f"max_task_size is a number of bytes above 0, not {max_task_size}")
        self.name = name
        self.keys = Keys(name)
        self.max_task_size = max_task_size
        check_cluster(conn, name, self.keys.noti)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _serialize(self, task: Task) -> bytes:
        data = task.serialize()
        if len(data) > self.max_task_size:
            raise TaskTooLarge(
                f"the task for {task.func_path} has {len(data):,} bytes, and {self.name!r} takes {self.max_task_size:,} at "
                f"most: keep the data elsewhere and send where it is, or make the queue with a larger max_task_size"
            )
        return data

    def _chunks(self, tasks: Iterable[Task]) -> Iterator[list[bytes]]:
        chunk: list[bytes] = []
        size = 0
        for task in tasks:
            data = self._serialize(task)
            if chunk and (len(chunk) == _CHUNK_TASKS or size + len(data) > _CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append(data)
            size += len(data)
        if chunk:
            yield chunk


class Queue(_Named):
    """A task queue on Redis.

    Args:
        name: its name, and the first part of all its keys. On Redis Cluster it holds a `{tag}`.
        conn: a `redis.Redis` (also `Sentinel.master_for(…)`) or `redis.RedisCluster`, or a URL as for `connection.connect`.
        dequeue_timeout: seconds that an idle worker waits for a notification before it looks for itself.
        keep_alive_timeout: seconds after which the tasks of a worker that stopped beating are taken from it; fractions
            count. By default 10, or three beats of the worker if that is longer.
        max_task_size: bytes that a task may have.

    Raises:
        ConfigurationError: the name or a number cannot work.
    """

    def __init__(
        self,
        name: str,
        conn: Client | str,
        dequeue_timeout: float = 2,
        keep_alive_timeout: float | None = None,
        *,
        max_task_size: int = MAX_TASK_SIZE,
    ) -> None:
        if isinstance(conn, str):
            conn = connect(conn)
        super().__init__(name, conn, max_task_size)
        if dequeue_timeout <= 0:
            raise ConfigurationError(f"dequeue_timeout is a number of seconds above 0, not {dequeue_timeout}")
        if keep_alive_timeout is not None and keep_alive_timeout <= 0:
            raise ConfigurationError(f"keep_alive_timeout is a number of seconds above 0, not {keep_alive_timeout}")
        self.conn = conn
        self.dequeue_timeout = dequeue_timeout
        self.keep_alive_timeout = keep_alive_timeout
        self._caller: Caller = Pooled(conn, name)

    def over(self, caller: Caller) -> Self:
        """The same queue with its commands sent through `caller`, for example a worker's own connection."""
        other = copy.copy(self)
        other._caller = caller
        return other

    def _run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        try:
            return run_script(self._caller, SCRIPTS[script], keys, arguments)
        except ResponseError as error:
            raise self.explained(error) from error

    def call(self, *command: Argument) -> Any:
        """Send a Redis command as this queue sends its own. The reply is as in RESP2, with bytes for strings."""
        try:
            return self._caller.call(*command)
        except ResponseError as error:
            raise self.explained(error) from error

    def explained(self, error: RedisError) -> RedisError:
        """`error`, or, if a key of this queue has a foreign type, a `ForeignType` that names it and says what to do."""
        return explained(error, self.conn, self.keys)

    def len(self) -> int:
        """How many tasks wait."""
        return int(self.call("LLEN", self.keys.queue))

    # Producers

    def enqueue(self, task: Task) -> None:
        """Put a task at the end of the queue.

        When this returns, the task is in Redis. If the connection breaks in between, the error is raised and says so: the
        task may or may not have been enqueued, and it is never sent a second time behind your back.

        Raises:
            NotEncodable, TaskTooLarge: nothing was enqueued.
            redis.exceptions.RedisError: what Redis or the connection to it had to say.
        """
        self._run("enqueue", (self.keys.queue, self.keys.noti), self._serialize(task))

    def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """Put tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk goes in whole or not at
        all.

        Returns:
            How many there were.

        Raises:
            As `enqueue`; a note on the error says how many tasks are in the queue for certain.
        """
        count = 0
        try:
            for chunk in self._chunks(tasks):
                self._run("enqueue", (self.keys.queue, self.keys.noti), *chunk)
                count += len(chunk)
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    # Workers

    def take(
        self, leases: Sequence[str], holder: str, seconds: float, *, living: int = 0, claims: int = 0, waiting: bool = False
    ) -> Taken:
        """Take up to one task for each lease, together with its notification.

        Args:
            leases: names that no other worker uses and that hold nothing now.
            holder: who takes, for humans: the value of a lease's key.
            seconds: how long the leases' keys, where they are made now, live.
            living: how many of the leases, from the first, have a living key already.
            claims: how many notifications the caller has popped already.
            waiting: take whatever waits. Else take no more tasks than there are notifications, as each of the others is on
                its way to the worker that has popped its notification.
        """
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost, *leases)
        limit = "waiting" if waiting else "notified"
        suspect, *tasks = self._run("take", keys, claims, limit, living, holder, milliseconds(seconds))
        return Taken(tasks, bool(suspect))

    def succeed(self, lease: str) -> bool:
        """End a lease: its task is done. False if the caller was superseded."""
        return bool(self._run("succeed", (self.keys.processing, self.keys.lost), lease))

    def retry(self, lease: str, data: bytes) -> bool:
        """End a lease: its task waits again, as `data`. False if the caller was superseded."""
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost)
        return bool(self._run("retry", keys, lease, data))

    def bury(self, lease: str, reason: Reason, detail: str, worker: str) -> bool:
        """End a lease: its task becomes a dead letter. False if the caller was superseded."""
        keys = (self.keys.processing, self.keys.lost, self.keys.dead)
        return bool(self._run("bury", keys, lease, reason, detail.encode(errors="replace"), worker))

    def give_back(self, leases: Sequence[str]) -> int:
        """End leases: their tasks go back to the head of the queue, untouched. Returns how many went."""
        return int(self._run("give_back", (self.keys.queue, self.keys.noti, self.keys.processing), *leases))

    def first(self, queues: Sequence[str]) -> int | None:
        """The index of the first of `queues` that has waiting tasks, if one has."""
        position = int(self._run("first", tuple(queues)))
        return position - 1 if position else None

    # Sweepers

    def page(self, key: str, cursor: int = 0, count: int = 100) -> tuple[int, list[str]]:
        """Some leases named in the hash `key` (`keys.processing` or `keys.workers`), and the cursor of the next page or 0."""
        cursor_after, *names = self._run("page", (key,), cursor, count)
        return int(cursor_after), [name.decode(errors="surrogateescape") for name in names]

    def alive(self, leases: Sequence[str]) -> int:
        """How many of the leases live."""
        return int(self.call("EXISTS", *leases)) if leases else 0

    def sweep(self, leases: Sequence[str], limit: int, sweep_id: str, sweeper: str) -> Swept:
        """End those of the leases that have died: their tasks go back to the head of the queue, or, at the `limit`th loss,
        to the dead letters."""
        own = self.keys
        keys = (own.queue, own.noti, own.processing, own.lost, own.dead, own.stats, *leases)
        recovered, buried, more = self._run("sweep", keys, limit, sweep_id, sweeper)
        return Swept(recovered, buried, bool(more))

    def repair(self) -> tuple[int, int, int]:
        """Bring the notifications nearer to one for each waiting task. Returns how many were added, removed, and are left
        for another call."""
        added, removed, left = self._run("repair", (self.keys.queue, self.keys.noti), _REPAIR_STEP)
        return added, removed, left

    def prune(self, leases: Sequence[str]) -> int:
        """Strike workers whose own lease has died off the register. Returns how many."""
        return int(self._run("prune", (self.keys.workers, *leases)))

    # Operators

    def dead_retry(self, ids: Sequence[str]) -> int:
        """Move dead letters, as they came, to the end of the queue. Returns how many were there."""
        return int(self._run("dead_retry", (self.keys.queue, self.keys.noti, self.keys.dead), *ids))


class AsyncQueue(_Named):
    """The producer's side of a queue, for asyncio.

    Args:
        name: as for `Queue`.
        conn: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`.
        max_task_size: as for `Queue`.
    """

    def __init__(self, name: str, conn: AsyncClient, *, max_task_size: int = MAX_TASK_SIZE) -> None:
        super().__init__(name, conn, max_task_size)
        self._caller = AsyncPooled(conn, name)

    async def len(self) -> int:
        """How many tasks wait."""
        return int(await self._caller.call("LLEN", self.keys.queue))

    async def enqueue(self, task: Task) -> None:
        """As `Queue.enqueue`."""
        await self._enqueue([self._serialize(task)])

    async def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """As `Queue.enqueue_many`."""
        count = 0
        try:
            for chunk in self._chunks(tasks):
                await self._enqueue(chunk)
                count += len(chunk)
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    async def _enqueue(self, chunk: Sequence[bytes]) -> None:
        try:
            await run_script_async(self._caller, SCRIPTS["enqueue"], (self.keys.queue, self.keys.noti), tuple(chunk))
        except ResponseError as error:
            raise await explained_async(error, self._caller, self.keys) from error
