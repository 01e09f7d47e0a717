"""A queue: what producers call. What else can be done with it is in `transitions`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from .clock import now
from .connect import async_client_of, client_of, close_async
from .connection import (
    AsyncClient,
    AsyncPooled,
    Client,
    Pooled,
    ResponseError,
    check_cluster,
    explained_async,
    reply_timeout,
    run_script_async,
)
from .control import Controlled
from .durability import MEMORY, TIMEOUT, Durability
from .errors import ConfigurationError, Duplicate, InvalidTask, TaskTooLarge
from .events import BUS, Event, Kind
from .handle import AsyncHandle, Handle
from .keys import Keys, digest, token
from .options import TRACKED_FOR
from .scripts import SCRIPTS, Argument
from .task import GoTask, PyTask, Task
from .transitions import READY, STATE_KEPT, Transitions, cancellation, place, tell_cancelled
from .wire import headers_of, path_of

MAX_TASK_SIZE = 1 << 20  # bytes
_CHUNK_TASKS = 1000  # tasks that one call of enqueue_many's script carries at most
_LISTENERS = BUS.listeners(Kind.ENQUEUED)
_CHUNK_BYTES = 1 << 20  # bytes, likewise, unless a single task is larger


class _Named:
    """What a queue is apart from its connection."""

    def __init__(self, name: str, conn: object, max_task_size: int, durability: Durability) -> None:
        if max_task_size < 1:
            raise ConfigurationError(f"max_task_size is a number of bytes above 0, not {max_task_size}")
        self.name = name
        self.keys = Keys(name)
        self.max_task_size = max_task_size
        self._durability = durability
        self.faked = False  # nothing works on it but what a test drains
        check_cluster(conn, name, self.keys.noti)
        self.reply_timeout = reply_timeout(conn)

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

    @staticmethod
    def _check(task: object) -> None:
        if not isinstance(task, PyTask | GoTask):
            raise InvalidTask(_not_a_task(task))

    def _chunks(self, tasks: Iterable[Task]) -> Iterator[dict[str | None, list[bytes]] | Task]:
        """Chunks of tasks that go in together, by their group, and, in between, those that ask for more."""
        chunk: dict[str | None, list[bytes]] = {}
        count = size = 0
        if isinstance(tasks, PyTask | GoTask):
            raise InvalidTask(f"enqueue_many takes several tasks, not one: enqueue({tasks!r}), or a list of it")
        for task in tasks:
            self._check(task)
            options = task.options
            alone = options is not None and (options.tracked or options.due is not None or bool(options.delay))
            data = b"" if alone else self._serialize(task)
            if chunk and (alone or count == _CHUNK_TASKS or size + len(data) > _CHUNK_BYTES):
                yield chunk
                chunk, count, size = {}, 0, 0
            if alone:
                yield task
                continue
            chunk.setdefault(options.group if options is not None else None, []).append(data)
            count += 1
            size += len(data)
        if chunk:
            yield chunk

    def _submission(self, task: Task) -> tuple[tuple[str, ...], tuple[Argument, ...]] | None:
        """Keys and arguments of the script for a task that asks for more than a place at the tail; None for others."""
        options = task.options
        if options is None or not (options.tracked or options.due is not None or options.delay or options.group is not None):
            return None
        keys, identity = self.keys, task.id or token()
        bound = options.unique_for or 0 if options.unique is not None and options.unique_mode != "while_running" else 0
        *tail, word = place(keys, options.group)
        names = (*tail, keys.scheduled, keys.wake, keys.task(identity), keys.unique(options.unique or ""))
        tracked = TRACKED_FOR if options.tracked else 0
        times = (options.due or 0, options.delay or 0, round(tracked * 1000), round(bound * 1000))
        return names, (self._serialize(task), identity, *times, word)

    def _tell(self, tasks: list[bytes]) -> None:
        """Those who listen hear of tasks that are in Redis."""
        for data in tasks:
            BUS.emit(Event(Kind.ENQUEUED, self.name, now(), task=path_of(data), id=headers_of(data).get("id")))

    def _submitted(self, task: Task, reply: Any) -> str | None:
        """The id of the task that is there now, for this one or instead of it."""
        state, identity = reply[0].decode(), reply[1].decode()
        if state != "duplicate":
            if _LISTENERS:
                self._tell([task.serialize()])
            return task.id
        if task.options is not None and task.options.join:
            return str(identity)
        raise Duplicate(f"task {identity} in {self.name!r} has the unique key already; nothing was enqueued", identity)


def _not_a_task(what: object) -> str:
    name = getattr(what, "__name__", "f")
    if hasattr(what, "delay"):
        instead = f"call {name}.delay(…), or enqueue PyTask({name}, (…))"
    elif callable(what):
        instead = f"enqueue PyTask({name}, (…))"
    elif isinstance(what, str):
        instead = f"enqueue {'PyTask' if ':' in what else 'GoTask'}({what!r:.200}, (…))"
    else:
        instead = "such as PyTask('module.path:function', (1, 2))"
    return f"a queue takes a PyTask or a GoTask, not {type(what).__name__} {what!r:.200}: {instead}"


class Queue(_Named, Transitions, Controlled):
    """A task queue on Redis.

    Args:
        name: its name, and the first part of all its keys. On Redis Cluster it holds a `{tag}`.
        conn: a `redis.Redis` (also `Sentinel.master_for(…)`) or `redis.RedisCluster`, or a URL as for `connect.connect`.
        dequeue_timeout: seconds that an idle worker waits for a notification before it looks for itself.
        keep_alive_timeout: seconds after which the tasks of a worker that stopped beating are taken from it; fractions
            count. By default 10, or three beats of the worker if that is longer.
        max_task_size: bytes that a task may have.
        durability: what an enqueue waits for: `memory` (nothing), `aof` (the primary's disk: WAITAOF, or `appendfsync always`
            before Redis 7.2), `replicas:N` (N replicas: WAIT).
        durability_timeout: seconds that it waits at most; less than the client's own `socket_timeout`.

    Raises:
        ConfigurationError: the name, the client or a number cannot work.
    """

    def __init__(
        self,
        name: str,
        conn: Client | str,
        dequeue_timeout: float = 2,
        keep_alive_timeout: float | None = None,
        *,
        max_task_size: int = MAX_TASK_SIZE,
        durability: str = MEMORY,
        durability_timeout: float = TIMEOUT,
    ) -> None:
        conn = client_of(conn)
        super().__init__(name, conn, max_task_size, Durability(durability, durability_timeout))
        if dequeue_timeout <= 0:
            raise ConfigurationError(f"dequeue_timeout is a number of seconds above 0, not {dequeue_timeout}")
        if keep_alive_timeout is not None and keep_alive_timeout <= 0:
            raise ConfigurationError(f"keep_alive_timeout is a number of seconds above 0, not {keep_alive_timeout}")
        self.conn = conn
        self.dequeue_timeout = dequeue_timeout
        self.keep_alive_timeout = keep_alive_timeout
        self._pooled = Pooled(conn, name)
        Transitions.__init__(self, self.keys, self._pooled, conn)

    def len(self) -> int:
        """How many tasks wait."""
        return int(self.call("LLEN", self.keys.queue))

    def enqueue(self, task: Task) -> Handle[Any]:
        """Put a task at the end of the queue, or where its options say.

        When this returns, the task is in Redis. If the connection breaks in between, the error is raised and says so: the
        task may or may not have been enqueued, and it is never sent a second time behind your back.

        Raises:
            NotEncodable, TaskTooLarge: nothing was enqueued.
            Duplicate: another task has its unique key.
            NotDurable: the task was enqueued and may run, but it is not where `durability` wants it to be.
            redis.exceptions.RedisError: what Redis or the connection to it had to say.
        """
        self._check(task)
        if task.options is not None and (submission := self._submission(task)):
            reply = self.submit(*submission)
            if reply[0] == b"first":
                self.turn([digest(task.options.group or "")], READY)
            return Handle(self, self._submitted(task, reply))
        self._add("enqueue", (self.keys.queue, self.keys.noti), [self._serialize(task)])
        if _LISTENERS:
            self._tell([task.serialize()])
        return Handle(self, None)

    def submit(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes]:
        """Put one task into the queue that asks for more than a place at the tail. Returns its state and an id."""
        reply: list[bytes] = self._add("submit", keys, arguments)
        return reply

    def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """Put tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk (or what each group has of
        it) goes in whole or not at all, and is durable before the next one is sent.

        Returns:
            How many there were.

        Raises:
            As `enqueue`; a note on the error says how many tasks are in the queue for certain.
        """
        count = 0
        try:
            for chunk in self._chunks(tasks):
                if not isinstance(chunk, dict):
                    self.enqueue(chunk)
                    count += 1
                    continue
                for group, some in chunk.items():
                    if group is None:
                        self._add("enqueue", (self.keys.queue, self.keys.noti), some)
                    elif self.enqueue_group(group, some):
                        self.turn([digest(group)], READY)
                    count += len(some)
                    if _LISTENERS:
                        self._tell(some)
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    def enqueue_group(self, group: str, tasks: Sequence[bytes]) -> bool:
        """Put tasks, which are there in bytes, at the end of their group. Returns whether it had none: its turn may be now."""
        own, name = self.keys, digest(group)
        return bool(self._add("enqueue_group", (own.group(name), own.groups), [name, *tasks]))

    def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        """Run a script that adds tasks, and see that they are durable."""
        durability = self._durability
        if not durability.waits:
            return self._run(script, keys, *arguments)
        with durability.trying():
            proof = durability.proof or durability.learn(self._pooled.batch(*durability.questions))
            return durability.judge(proof, self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof))


class AsyncQueue(_Named):
    """The producer's side of a queue, for asyncio.

    Args:
        name: as for `Queue`.
        conn: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`, or a URL as for `Queue`; `aclose`, or the end of an
            `async with` block, closes what a URL has opened.
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
        client = async_client_of(conn)
        super().__init__(name, client, max_task_size, Durability(durability, durability_timeout))
        self._own = client if isinstance(conn, str) else None
        self._pooled = AsyncPooled(client, name)

    async def aclose(self) -> None:
        """Close the connections, if they are this queue's own. Safe to call twice; the next command opens others."""
        if self._own is not None:
            await close_async(self._own)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def len(self) -> int:
        """How many tasks wait."""
        return int(await self._pooled.call("LLEN", self.keys.queue))

    async def enqueue(self, task: Task) -> AsyncHandle[Any]:
        """As `Queue.enqueue`."""
        self._check(task)
        if task.options is not None and (submission := self._submission(task)):
            reply = await self._add("submit", *submission)
            if reply[0] == b"first":
                await self._turn(digest(task.options.group or ""))
            return AsyncHandle(self, self._submitted(task, reply))
        await self._add("enqueue", (self.keys.queue, self.keys.noti), [self._serialize(task)])
        if _LISTENERS:
            self._tell([task.serialize()])
        return AsyncHandle(self, None)

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
                    if _LISTENERS:
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
