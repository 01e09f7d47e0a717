"""The queue: what producers and operators call."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..base.clock import monotonic
from ..base.ids import digest
from ..errors import ConfigurationError
from ..redis.command import Client
from ..redis.connect import client_of
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.pool import Pooled
from ..redis.scripts import SCRIPTS, Argument
from ..redis.store import READY, Store
from ..task.task import Task
from .handle import Handle
from .limits import LimitsMixin
from .producer import LISTENERS, MAX_TASK_SIZE, Producer, checked_id, for_the_time
from .waiter import Waiter, waiter_of


class Queue(Producer, Store, LimitsMixin):
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
        self._pooled = Pooled(conn, name)
        Store.__init__(self, self.keys, self._pooled, conn)

    def len(self) -> int:
        """How many tasks wait."""
        return int(self.call("LLEN", self.keys.queue))

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
            if submission := self._submission(task, id):
                reply = self.submit(*submission)
                if reply[0] == b"first":
                    self.turn([digest(task.options.group or "")], READY)
                return Handle(self, *self._submitted(task, *submission[1][:2], reply))
        data = self._serialize(task)
        self._add("enqueue", (self.keys.queue, self.keys.noti), [data])
        if LISTENERS:
            self._tell([data])
        return Handle(self, None)

    def ask_time(self) -> float:
        """The server's time, in seconds since 1970; it is asked once a minute at most."""
        if self.server_time.stale():
            with for_the_time():
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
                    if LISTENERS:
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
