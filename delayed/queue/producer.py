"""The part that the sync and the async queue share: names, limits, chunking."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from ..base.clock import now
from ..base.ids import new_id
from ..errors import ConfigurationError, Duplicate, InvalidTask, TaskTooLarge
from ..events import BUS, Event, Kind
from ..interests.table import Table
from ..redis.command import check_cluster, redis_errors
from ..redis.durability import Durability
from ..redis.keys import Keys
from ..redis.places import place
from ..redis.server_time import ServerTime
from ..task.decode import headers_of, is_python_path, path_of
from ..task.headers import any_id_in, id_in
from ..task.options import TRACKED_FOR, Options
from ..task.task import GoTask, PyTask, Task
from .elsewhere import Workflows
from .tracing import Tracing

MAX_TASK_SIZE = 1 << 20  # bytes
_CHUNK_TASKS = 1000  # tasks that one call of enqueue_many's script carries at most
LISTENERS = BUS.listeners(Kind.ENQUEUED)
_CHUNK_BYTES = 1 << 20  # bytes, likewise, unless a single task is larger


class Chunk:
    """Tasks of one call that go in together, all or none of them.

    Args:
        tracked: whether these are tasks that have a state.
    """

    __slots__ = ("groups", "ids", "size", "tracked")

    def __init__(self, tracked: bool) -> None:
        self.tracked = tracked
        self.groups: dict[str | None, list[bytes]] = {}  # with None for those of the queue itself
        self.ids: list[str | None] = []  # of all, in their order
        self.size = 0  # bytes

    def takes(self, tracked: bool, size: int) -> bool:
        """Whether there is a place for a task of so many bytes."""
        ids = self.ids
        return not ids or (tracked is self.tracked and len(ids) < _CHUNK_TASKS and self.size + size <= _CHUNK_BYTES)

    @property
    def states(self) -> list[str]:
        """The ids of those that have a state."""
        return [each for each in self.ids if each is not None] if self.tracked else []

    def add(self, data: bytes, identity: str | None, group: str | None) -> None:
        """One more task."""
        tasks = self.groups.get(group)
        if tasks is None:
            tasks = self.groups[group] = []
        tasks.append(data)
        self.ids.append(identity)
        self.size += len(data)


class _Kind(NamedTuple):
    """What options mean for how a task goes in."""

    alone: bool = False  # not in a chunk
    tracked: bool = False
    identified: bool = False  # it has an id
    dated: bool = False  # the time of its enqueue is in it, or follows from that
    needs_time: bool = False  # the server's, before it can be written down
    group: str | None = None

    @classmethod
    def of(cls, options: Options) -> Self:
        """Of these."""
        alone = options.scheduled or options.unique is not None
        identified = options.tracked or options.identified
        return cls(alone, options.tracked, identified, options.dated, options.needs_time, options.group)


_PLAIN = _Kind()
_MOST_KINDS = 256


class _Kinds:
    """Those of options seen before: many tasks share a few."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Options, _Kind]] = {}  # with the options, or others could get their address

    def of(self, options: Options) -> _Kind:
        """Of these."""
        found = self._known.get(id(options))
        if found is None:
            if len(self._known) >= _MOST_KINDS:
                self._known.clear()
            found = self._known[id(options)] = options, _Kind.of(options)
        return found[1]


class Producer:
    """What the sync and async queues share: names, limits, chunking.

    Attributes:
        tracing: what is told of each enqueue; None for nothing.
    """

    tracing: Tracing | None = None

    def __init__(self, name: str, conn: object, max_task_size: int, durability: Durability) -> None:
        if max_task_size < 1:
            raise ConfigurationError(f"max_task_size must be a number of bytes above 0, not {max_task_size}")
        self.name = name
        self.keys = Keys(name)
        self.max_task_size = max_task_size
        self._durability = durability
        self.server_time = ServerTime()
        self._interests = Table()
        check_cluster(conn, name, self.keys.noti)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def workflows(self) -> Workflows | None:
        """Who makes and finds its workflows; None if they are made on its Redis."""
        return None

    @staticmethod
    def _identity_of(task: Task) -> str | None:
        """A new id for a task that has one without being tracked."""
        options = task.options
        return new_id() if options is not None and options.identified else None

    def written(self, task: Task, identity: str | None = None) -> tuple[bytes, str | None]:
        """The bytes of a task and its id, if it has one: this one, or a new one."""
        options = task.options
        if options is None or not (options.tracked or options.identified):
            return self._serialize(task), None
        identity = identity or new_id()
        return self._serialize(task, identity), identity

    def _serialize(self, task: Task, identity: str | None = None) -> bytes:
        options = task.options
        data = task.serialize(identity, self.server_time.now() if options is not None and options.dated else None)
        if len(data) > self.max_task_size:
            raise self._too_large(task, data)
        return data

    def _too_large(self, task: Task, data: bytes) -> TaskTooLarge:
        return TaskTooLarge(
            f"the task for {task.func_path} has {len(data):,} bytes, and {self.name!r} takes {self.max_task_size:,} at "
            f"most: keep the data elsewhere and send where it is, or make the queue with a larger max_task_size"
        )

    def _asks_time(self, task: Task) -> bool:
        """Whether Redis is to be asked what time it is, before the task can be written down."""
        return task.options is not None and task.options.needs_time and self.server_time.stale()

    @staticmethod
    def _check(task: object) -> None:
        if not isinstance(task, PyTask | GoTask):
            raise InvalidTask(_not_a_task(task))

    def _chunks(self, tasks: Iterable[Task]) -> Iterator[Chunk | Task | None]:
        """Chunks of tasks that go in together and, in between, tasks that go in alone; None where Redis is to be asked for its
        time first."""
        _see_that_they_are_several(tasks)
        chunk, options, kind, kinds = Chunk(tracked=False), None, _PLAIN, _Kinds()
        moment, most = self.server_time.now, self.max_task_size
        for task in tasks:
            if type(task) is not PyTask:
                self._check(task)
            if task.options is not options:  # many tasks share them
                options = task.options
                kind = _PLAIN if options is None else kinds.of(options)
            if kind.alone:
                if chunk.ids:
                    yield chunk
                    chunk = Chunk(tracked=False)
                yield task
                continue
            if kind.needs_time and self.server_time.stale():
                yield None
            identity = new_id() if kind.identified else None
            data = task.serialize(identity, moment() if kind.dated else None)  # a call less than `_serialize`
            if len(data) > most:
                raise self._too_large(task, data)
            if not chunk.takes(kind.tracked, len(data)):
                yield chunk
                chunk = Chunk(kind.tracked)
            chunk.tracked = kind.tracked
            chunk.add(data, identity, kind.group)
        if chunk.ids:
            yield chunk

    def _submission(
        self, task: Task, identity: str | None = None, due: int | None = None
    ) -> tuple[tuple[str, ...], tuple[bytes, str, int, int, int, int, str]] | None:
        """Keys and arguments of the script for a task that asks for more than a place at the tail; None for others."""
        options = task.options
        if options is None or not (options.tracked or options.scheduled or options.group is not None):
            return None
        return self._submission_of(task, options, identity, due)

    def _submission_of(
        self, task: Task, options: Options, identity: str | None, due: int | None
    ) -> tuple[tuple[str, ...], tuple[bytes, str, int, int, int, int, str]]:
        """The same, of any task."""
        keys, name = self.keys, identity or new_id()
        bound = options.unique_for or 0 if options.unique is not None and options.unique_mode != "while_running" else 0
        *tail, word = place(keys, options.group)
        names = (*tail, keys.scheduled, keys.wake, keys.task(name), keys.unique(options.unique or ""))
        tracked = TRACKED_FOR if options.tracked else 0
        due, delay = (options.due or 0, options.delay or 0) if due is None else (due, 0)
        times = (due, delay, round(tracked * 1000), round(bound * 1000))
        has_id = options.tracked or options.identified
        return names, (self._serialize(task, name if has_id else None), name, *times, word)

    def _earliest(self, options: Options) -> int:
        """When a task with a rate key shall begin at the earliest, in milliseconds since 1970; 0 for at once."""
        return options.due or (round(self.server_time.now() * 1000) + options.delay if options.delay else 0)

    def _tell(self, tasks: Sequence[bytes]) -> None:
        """Those who listen hear of tasks that are in Redis."""
        for data in tasks:
            BUS.emit(Event(Kind.ENQUEUED, self.name, now(), task=path_of(data), id=any_id_in(headers_of(data))))

    def _submitted(self, task: Task, data: bytes, identity: str, reply: Any) -> tuple[str | None, bool, str]:
        """What a handle has: the id of the task that is there now, for this one or instead of it, whether it was there before,
        and the path of its function."""
        state, other = reply[0].decode(), reply[1].decode()
        options = task.options
        own = identity if options is not None and (options.tracked or options.identified) else None
        if state == "duplicate":
            if options is None or not options.join:
                raise Duplicate(f"task {other} in {self.name!r} already has this unique key; nothing was enqueued", other)
            return other, True, task.func_path
        if state == "known":
            return (other or None) if own else None, True, task.func_path
        if LISTENERS:
            self._tell([data])
        return own, False, task.func_path


@contextlib.contextmanager
def for_the_time() -> Iterator[None]:
    """Around the question for the time. Who may not ask has to do with the clock of this machine."""
    try:
        yield
    except redis_errors.ResponseError:
        return
    except redis_errors.RedisError as error:
        error.add_note("this was asked for the server's time, before anything was enqueued")
        raise


def checked_id(task: Task, identity: str | None) -> None:
    """Refuse an id that is none, and one for a task that could not keep it."""
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
        instead = f"enqueue {'PyTask' if is_python_path(what) else 'GoTask'}({what!r:.200}, (…))"
    else:
        instead = "such as PyTask('module.path:function', (1, 2))"
    return f"a queue takes a PyTask or a GoTask, not {type(what).__name__} {what!r:.200}: {instead}"


def _see_that_they_are_several(tasks: object) -> None:
    if isinstance(tasks, PyTask | GoTask):
        raise InvalidTask(f"enqueue_many takes several tasks, not one: enqueue({tasks!r}), or a list of it")
