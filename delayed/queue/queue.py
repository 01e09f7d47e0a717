"""The queue: what producers and operators call."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..base.checks import WEEK
from ..base.clock import monotonic
from ..base.ids import digest
from ..base.later import Later
from ..errors import ConfigurationError
from ..interests.table import MOST_QUEUES, Interest, Table
from ..redis.direct import Direct
from ..redis.durability import MEMORY, TIMEOUT, Durability
from ..redis.places import READY
from ..redis.pool import Pooled
from ..redis.scripts import Argument
from ..redis.store import Store
from ..redis.store_taking import TakeResult
from ..task.task import Task
from .flight import Flight
from .handle import Handle
from .limits import LIMITS, Limits, checked_limits
from .producer import LISTENERS, MAX_TASK_SIZE, Chunk, Producer, checked_id, for_the_time
from .tracing import Tracing, carrying, in_a_trace

if TYPE_CHECKING:
    from ..redis import connect
    from ..redis.command import Client
    from . import publishing, waiter
else:
    connect, waiter = Later("delayed.redis.connect"), Later("delayed.queue.waiter")
    publishing = Later("delayed.queue.publishing")


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
        durability_timeout: seconds that it waits at most; less than the client's own `socket_timeout`, but with asyncio.

    Raises:
        ConfigurationError: the name, the client or a number cannot work.
    """

    def __init__(
        self,
        name: str,
        conn: "Client | str",
        dequeue_timeout: float = 2,
        keep_alive_timeout: float | None = None,
        *,
        max_task_size: int = MAX_TASK_SIZE,
        durability: str = MEMORY,
        durability_timeout: float = TIMEOUT,
    ) -> None:
        conn = connect.client_of(conn) if not isinstance(conn, Direct) else conn
        super().__init__(name, conn, max_task_size, Durability(durability, durability_timeout))
        if not 0 < dequeue_timeout <= WEEK:
            raise ConfigurationError(
                f"dequeue_timeout must be a number of seconds above 0, and a week at most, not {dequeue_timeout}"
            )
        if keep_alive_timeout is not None and not 0 < keep_alive_timeout < 1e9:
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
        if self.tracing is not None and not in_a_trace(task):
            return self._enqueue_traced(self.tracing, task, id)
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

    def _enqueue_traced(self, tracing: Tracing, task: Task, id: str | None) -> Handle[Any]:  # noqa: A002  # likewise
        with tracing.sending(self.name, task.func_path) as sending:
            handle = self.enqueue(sending.carrying(task), id=id)
            sending.done(handle.id)
            return handle

    def ask_time(self) -> float:
        """The server's time, in seconds since 1970; it is asked once a minute at most."""
        if self.server_time.stale():
            with for_the_time():
                asked = monotonic()
                self.server_time.learn(self.store.call("TIME"), asked, monotonic())
        return self.server_time.now()

    def handle(self, id: str, *, path: str = "", tracked: bool = True) -> Handle[Any]:  # noqa: A002  # its name everywhere
        """The handle of a task that was enqueued somewhere else. Nobody is asked about it.

        Args:
            id: its id.
            path: the path of its function, if that is known.
            tracked: whether its state is kept.
        """
        return Handle(self, id, path=path, tracked=tracked)

    def waiter(self) -> "waiter.Waiter":
        """Through which handles wait for results."""
        return waiter.waiter_of(self.conn, self.name)

    def enqueue_many(self, tasks: Iterable[Task]) -> int:
        """Put tasks at the end of the queue, in order, in chunks of 1000 tasks or 1 MiB; each chunk goes in whole
        or not at all, and is durable before the next one is sent.

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
        if self.tracing is None:
            return self._add_all(tasks, handles)
        with self.tracing.sending(self.name, None) as sending:
            count = self._add_all(carrying(sending, tasks), handles)
            sending.all_done(count)
            return count

    def _add_all(self, tasks: Iterable[Task], handles: list[Handle[Any]] | None) -> int:
        flight = Flight(self.store, self._tell)
        try:
            for chunk in self._chunks(tasks):
                if isinstance(chunk, Chunk):
                    flight.send(chunk)
                    if handles is not None:
                        handles += [Handle(self, identity, tracked=chunk.tracked) for identity in chunk.ids]
                    continue
                flight.land()
                if chunk is None:
                    self.ask_time()
                    continue
                handle = self.enqueue(chunk)
                if handles is not None:
                    handles.append(handle)
                flight.count += 1
            flight.land()
        except Exception as error:
            flight.land_after(error)
            raise
        return flight.count

    def publish(self, data: Any) -> dict[str, str]:
        """Put a copy of `data` into each queue that has an interest in it, all or none of them. What an operator has changed
        about interests before this is called counts.

        Args:
            data: mostly a map; its entries are held against the patterns. What an argument of a task may be.

        Returns:
            Queue → id of its copy, in the order in which the queues had their first interest; none if nobody is interested.

        Raises:
            NotEncodable, InvalidTask: it cannot be sent, or has more than 1,000 entries; nothing was published.
            TaskTooLarge: likewise; it has more bytes than this queue takes.
            NotDurable, redis.exceptions.RedisError: as for `enqueue`.
        """
        publication = publishing.Publication(data, self.store.interests, self.max_task_size)
        if self.tracing is None:
            return self._publish(publication)
        with self.tracing.sending(None, None) as sending:
            publication.trace = sending.trace
            ids = self._publish(publication)
            sending.all_done(len(ids))
            return ids

    def _publish(self, publication: "publishing.Publication") -> dict[str, str]:
        while True:
            interested = publication.interested(self._interests)
            copies = publication.copies(interested, self._interests)
            others = self.store.publish(copies.keys, copies.arguments)
            if others is None:
                break
            self._interests = Table(others)
        if LISTENERS:
            publishing.tell(interested, copies.ids)
        return copies.ids

    def interested(self, data: Any) -> list[Interest]:
        """The interests that `publish` would find for `data`."""
        return publishing.Publication(data, self.store.interests, self.max_task_size).interested(self.interests())

    def interests(self) -> Table:
        """All interests there are (on a cluster, of the queues with the same `{tag}`)."""
        others = self.store.publish((self.store.interests,), (self._interests.version,))
        if others is not None:
            self._interests = Table(others)
        return self._interests

    def set_interest(self, match: object, function: str, *, retry: int = 0) -> Interest:
        """From now on, this queue gets a copy of what is published and fits; this replaces what was set before.

        Args:
            match: `"*"` for whatever has an entry; or a mapping of patterns for keys to patterns for values: what has an entry
                that fits one of the pairs. A pattern is a glob (`order.*`), `exact:…` or `regex:…`.
            function: the path of the function that workers call with what was published.
            retry: how often a failed call is repeated.

        Raises:
            ConfigurationError: a pattern or the path cannot be used, or 1,000 queues have an interest already.
        """
        interest = Interest.of(self.name, match, function, retry)
        return publishing.checked_interests(interest, self.store.interest(interest.packed(), MOST_QUEUES))

    def remove_interest(self) -> bool:
        """The opposite, at once. False if this queue had no interest."""
        return self.store.interest(b"", MOST_QUEUES) == 1

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
        burst = checked_limits(concurrency, rate, burst)
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
