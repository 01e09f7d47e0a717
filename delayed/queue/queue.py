"""The queue: what producers and operators call."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..base.checks import is_number, is_whole
from ..base.clock import monotonic
from ..base.ids import digest
from ..errors import ConfigurationError
from ..redis.command import Client
from ..redis.connect import client_of
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.pool import Pooled
from ..redis.scripts import Argument
from ..redis.store import READY, Store, TakeResult
from ..task.task import Task
from .handle import Handle
from .limits import LIMITS, Limits
from .producer import LISTENERS, MAX_TASK_SIZE, Chunk, Producer, checked_id, for_the_time
from .waiter import Waiter, waiter_of


class Queue(Producer):
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
            raise ConfigurationError(f"dequeue_timeout must be a number of seconds above 0, not {dequeue_timeout}")
        if keep_alive_timeout is not None and keep_alive_timeout <= 0:
            raise ConfigurationError(f"keep_alive_timeout must be a number of seconds above 0, not {keep_alive_timeout}")
        self.conn = conn
        self.dequeue_timeout = dequeue_timeout
        self.keep_alive_timeout = keep_alive_timeout
        self.store = Store(self.keys, Pooled(conn, name), conn, self._durability)

    def call(self, *command: Argument) -> Any:
        """Send a Redis command as this queue sends its own, once. The reply is as in RESP2, with bytes for strings."""
        return self.store.call(*command)

    def take(self, leases: Sequence[str], holder: str, seconds: float, *, waiting: bool = False) -> TakeResult:
        """Take up to one task for each lease, for programs that hold tasks by themselves. See `Store.take`."""
        return self.store.take(leases, holder, seconds, waiting=waiting)

    def len(self) -> int:
        """How many tasks wait."""
        return int(self.store.call("LLEN", self.keys.queue))

    def enqueue(self, task: Task, *, id: str | None = None) -> Handle[Any]:  # noqa: A002  # its name everywhere
        """Enqueue a task. What is enqueued twice is there twice.

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
            checked_id(task, id)
        if task.options is not None:
            if self._asks_time(task):
                self.ask_time()
            due = None
            if task.options.rate_key is not None and task.options.rate is not None:
                due = self.store.reserve(task.options.rate_key, task.options.rate, self._earliest(task.options))
            if submission := self._submission(task, id, due):
                reply = self.store.submit(*submission)
                if reply[0] == b"first":
                    self.store.turn([digest(task.options.group or "")], READY)
                return Handle(self, *self._submitted(task, *submission[1][:2], reply), task.options.tracked)
        identity = None if task.options is None else self._identity_of(task)
        data = self._serialize(task, identity)
        self.store.enqueue([data])
        if LISTENERS:
            self._tell([data])
        return Handle(self, identity, path=task.func_path, tracked=False)

    def ask_time(self) -> float:
        """The server's time, in seconds since 1970; it is asked once a minute at most."""
        if self.server_time.stale():
            with for_the_time():
                asked = monotonic()
                self.server_time.learn(self.store.call("TIME"), asked, monotonic())
        return self.server_time.now()

    def waiter(self) -> Waiter:
        """Through which handles wait for results."""
        return waiter_of(self.conn, self.name)

    def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """Put tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk (or what each group has of
        it) goes in whole or not at all, and is durable before the next one is sent.

        Returns:
            How many there were.

        Raises:
            As `enqueue`; a note on the error says how many tasks are in the queue for certain.
        """
        return self._enqueue_all(tasks, None)

    def enqueue_all(self, tasks: Iterable[Task]) -> list[Handle[Any]]:
        """As `enqueue_many`, and returns a handle for each task, in their order."""
        handles: list[Handle[Any]] = []
        self._enqueue_all(tasks, handles)
        return handles

    def _enqueue_all(self, tasks: Iterable[Task], handles: list[Handle[Any]] | None) -> int:
        count = 0
        try:
            for chunk in self._chunks(tasks):
                if chunk is None:
                    self.ask_time()
                    continue
                if not isinstance(chunk, Chunk):
                    handle = self.enqueue(chunk)
                    if handles is not None:
                        handles.append(handle)
                    count += 1
                    continue
                for group, some in chunk.groups.items():
                    self._enqueue_chunk(chunk, group)
                    count += len(some)
                if handles is not None:
                    handles += [Handle(self, identity, tracked=chunk.tracked) for identity in chunk.ids]
        except Exception as error:
            error.add_note(f"{count} tasks of this call had been enqueued before")
            raise
        return count

    def _enqueue_chunk(self, chunk: Chunk, group: str | None) -> None:
        tasks = chunk.groups[group]
        if chunk.tracked:
            turn = self.store.submit_many(group, chunk.named[group], tasks)
        else:
            turn = self.store.enqueue_group(group, tasks) if group is not None else self.store.enqueue(tasks)
        if turn and group is not None:
            self.store.turn([digest(group)], READY)
        if LISTENERS:
            self._tell(tasks)

    def pause(self) -> None:
        """From now on no worker of ours takes a task from this queue. What runs goes on, and tasks can be enqueued. Workers
        hear of it at their next beat (every 3 s)."""
        self.store.call("HSET", self.keys.control, "paused", "1")

    def resume(self) -> None:
        """The opposite of `pause`. Workers hear of it at their next beat, and look within their dequeue timeout."""
        self.store.call("HDEL", self.keys.control, "paused")

    def limit(self, *, concurrency: int | None = None, rate: float | None = None, burst: int | None = None) -> None:
        """Set all limits of this queue, for all workers of ours together; what is not given is not limited any more.

        Args:
            concurrency: how many of its tasks may run at once.
            rate: how many may begin in a second, on average.
            burst: how many may begin at once after a rest; by default as many as in a second, and at least one.

        Raises:
            ConfigurationError: numbers that would let nothing run; for that there is `pause`.
        """
        if concurrency is not None and (not is_whole(concurrency) or concurrency < 1):
            raise ConfigurationError(
                f"concurrency must be a number of tasks above 0, not {concurrency!r}; to stop a queue, pause it"
            )
        if rate is not None and not (is_number(rate) and 0 < rate < float("inf")):
            raise ConfigurationError(
                f"rate must be a number of tasks a second above 0, not {rate!r}; to stop a queue, pause it"
            )
        if burst is not None and (rate is None or not is_whole(burst) or burst < 1):
            raise ConfigurationError(f"burst must be a number of tasks above 0, and goes with a rate; it is {burst!r}")
        if rate is not None and burst is None:
            burst = max(1, round(rate))
        given = zip(LIMITS, (concurrency, rate, burst), strict=True)
        chosen = [part for name, value in given if value is not None for part in (name, value)]
        # One command, so that there is no moment without limits: an empty value is none.
        empty = [value for name in LIMITS if name not in chosen for value in (name, "")]
        if chosen:
            self.store.call("HSET", self.keys.control, *chosen, *empty)
        else:
            self.store.call("HDEL", self.keys.control, *LIMITS)

    def limits(self) -> Limits:
        """What operators want of this queue at the moment."""
        names = [name.encode() for name in ("paused", *LIMITS)]
        found = zip(names, self.store.call("HMGET", self.keys.control, *names), strict=True)
        return Limits.of([part for name, value in found if value is not None for part in (name, value)])
