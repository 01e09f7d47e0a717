"""A queue: what producers call. What else can be done with it is in `transitions`."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from .async_connection import AsyncPooled, explained_async, run_script_async
from .clock import monotonic, now
from .connect import async_clients_of, client_of
from .connection import AsyncClient, Client, Pooled, RedisError, ResponseError, check_cluster
from .control import Controlled
from .durability import MEMORY, TIMEOUT, Durability
from .errors import ConfigurationError, Duplicate, InvalidTask, TaskTooLarge
from .events import BUS, Event, Kind
from .handle import AsyncHandle, Handle
from .keys import Keys, digest, new_id
from .loops import PerLoop
from .options import TRACKED_FOR
from .scripts import SCRIPTS, Argument
from .server_time import ServerTime
from .task import GoTask, PyTask, Task
from .transitions import READY, STATE_KEPT, Transitions, cancellation, place, tell_cancelled
from .waiter import AsyncWaiter, Waiter, waiter_of
from .wire import headers_of, id_in, path_of

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
        self.server_time = ServerTime()
        check_cluster(conn, name, self.keys.noti)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _serialize(self, task: Task, identity: str | None = None) -> bytes:
        data = task.serialize() if task.options is None else task.serialize(identity, self.server_time.now())
        if len(data) > self.max_task_size:
            raise TaskTooLarge(
                f"the task for {task.func_path} has {len(data):,} bytes, and {self.name!r} takes {self.max_task_size:,} at "
                f"most: keep the data elsewhere and send where it is, or make the queue with a larger max_task_size"
            )
        return data

    def _asks_time(self, task: Task) -> bool:
        """Whether Redis is to be asked what time it is, before the task can be written down."""
        return task.options is not None and task.options.expires_from_now and self.server_time.stale()

    @staticmethod
    def _check(task: object) -> None:
        if not isinstance(task, PyTask | GoTask):
            raise InvalidTask(_not_a_task(task))

    def _chunks(self, tasks: Iterable[Task]) -> Iterator[dict[str | None, list[bytes]] | Task | None]:
        """Chunks of tasks that go in together, by their group, and, in between, those that ask for more; None where Redis is
        to be asked for its time first."""
        chunk: dict[str | None, list[bytes]] = {}
        count = size = 0
        if isinstance(tasks, PyTask | GoTask):
            raise InvalidTask(f"enqueue_many takes several tasks, not one: enqueue({tasks!r}), or a list of it")
        for task in tasks:
            self._check(task)
            options = task.options
            alone = options is not None and (options.tracked or options.due is not None or bool(options.delay))
            if not alone and self._asks_time(task):
                yield None
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

    def _submission(
        self, task: Task, identity: str | None = None
    ) -> tuple[tuple[str, ...], tuple[bytes, str, int, int, int, int, str]] | None:
        """Keys and arguments of the script for a task that asks for more than a place at the tail; None for others."""
        options = task.options
        if options is None or not (options.tracked or options.due is not None or options.delay or options.group is not None):
            return None
        keys, name = self.keys, identity or new_id()
        bound = options.unique_for or 0 if options.unique is not None and options.unique_mode != "while_running" else 0
        *tail, word = place(keys, options.group)
        names = (*tail, keys.scheduled, keys.wake, keys.task(name), keys.unique(options.unique or ""))
        tracked = TRACKED_FOR if options.tracked else 0
        times = (options.due or 0, options.delay or 0, round(tracked * 1000), round(bound * 1000))
        return names, (self._serialize(task, name), name, *times, word)

    def _tell(self, tasks: list[bytes]) -> None:
        """Those who listen hear of tasks that are in Redis."""
        for data in tasks:
            BUS.emit(Event(Kind.ENQUEUED, self.name, now(), task=path_of(data), id=headers_of(data).get("id")))

    def _submitted(self, task: Task, data: bytes, identity: str, reply: Any) -> tuple[str | None, bool, str]:
        """What a handle has: the id of the task that is there now, for this one or instead of it, whether it was there before,
        and the path of its function."""
        state, other = reply[0].decode(), reply[1].decode()
        options = task.options
        own = identity if options is not None and options.tracked else None
        if state == "duplicate":
            if options is None or not options.join:
                raise Duplicate(f"task {other} in {self.name!r} has the unique key already; nothing was enqueued", other)
            return other, True, task.func_path
        if state == "known":
            return own, True, task.func_path
        if _LISTENERS:
            self._tell([data])
        return own, False, task.func_path


@contextlib.contextmanager
def _for_the_time() -> Iterator[None]:
    """Around the question for the time. Who may not ask has to do with the clock of this machine."""
    try:
        yield
    except ResponseError:
        return
    except RedisError as error:
        error.add_note("this was asked for the server's time, before anything was enqueued")
        raise


def _checked_id(task: Task, identity: str | None) -> None:
    if identity is None:
        return
    if id_in({"id": identity}) is None:
        raise InvalidTask(
            f"an id has 16 characters of A-Z, a-z, 0-9, - and _, as delayed.new_id() draws one; not {identity!r:.100}"
        )
    if task.options is None or not task.options.tracked:
        raise InvalidTask("only a tracked task has an id: give it result_ttl, or track=True")


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

    def enqueue(self, task: Task, *, id: str | None = None) -> Handle[Any]:  # noqa: A002  # its name everywhere
        """Put a task at the end of the queue, or where its options say. What is enqueued twice is there twice.

        When this returns, the task is in Redis. If the connection breaks in between, the error is raised and says so: the
        task may or may not have been enqueued, and it is never sent a second time behind your back.

        Args:
            task: the task.
            id: of a tracked task: its id, as `delayed.new_id()` draws one, by which an enqueue can be repeated. While a
                task with this id is known, nothing is enqueued, and the handle is `known`. None for a new one.

        Raises:
            NotEncodable, TaskTooLarge: nothing was enqueued.
            InvalidTask: likewise; or it is no id, or the task is not tracked.
            Duplicate: another task has its unique key.
            NotDurable: the task was enqueued and may run, but it is not where `durability` wants it to be.
            redis.exceptions.RedisError: what Redis or the connection to it had to say.
        """
        self._check(task)
        if id is not None:
            _checked_id(task, id)
        if task.options is not None:
            if self._asks_time(task):
                self.ask_time()
            if submission := self._submission(task, id):
                reply = self.submit(*submission)
                if reply[0] == b"first":
                    self.turn([digest(task.options.group or "")], READY)
                return Handle(self, *self._submitted(task, *submission[1][:2], reply))
        data = self._serialize(task)
        self._add("enqueue", (self.keys.queue, self.keys.noti), [data])
        if _LISTENERS:
            self._tell([data])
        return Handle(self, None)

    def ask_time(self) -> float:
        """The server's time, in seconds since 1970; it is asked once a minute at most."""
        if self.server_time.stale():
            with _for_the_time():
                asked = monotonic()
                self.server_time.learn(self._pooled.call("TIME"), asked, monotonic())
        return self.server_time.now()

    @property
    def waiter(self) -> Waiter:
        """Through which handles wait for results."""
        return waiter_of(self.conn, self.name)

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
                if chunk is None:
                    self.ask_time()
                    continue
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
            _checked_id(task, id)
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
        if _LISTENERS:
            self._tell([data])
        return AsyncHandle(self, None)

    async def ask_time(self) -> float:
        """As `Queue.ask_time`."""
        if self.server_time.stale():
            with _for_the_time():
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
