"""Lists tasks by their state, within a budget, and says how far it has looked."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from ..base.text import is_of, says, summary
from ..dead_letters.letter import DeadLetter, dead_letters
from ..errors import ConfigurationError, UnknownTask
from ..queue.queue import Queue
from ..queue.status import FIELDS, Status, status_of
from ..queue.waiting import LOOKED_AT, Waiting, Wanted, candidates, in_list, state_of
from ..redis.keys import owner
from ..task.decode import headers_of, path_of, show
from ..task.headers import any_id_in, id_in, is_in_group, number_in, text_in
from ..task.hidden import said_of
from .info import arguments, hexed
from .overview import look, server_time
from .processes import entries
from .reading import asked

WAITING = ("waiting", "scheduled", "retrying", "key")
STATES = (*WAITING, "running", "dead", "tracked")
_VALUES = 10  # held tasks that are read at a time, which may be large
_SCANNED = 5000  # keys of the server at a time
_ID = 16  # characters


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task, as listings show it. What is not known is None or empty."""

    queue: str
    id: str
    state: str  # waiting, scheduled, retrying, running, dead; of one that has ended and is tracked: how
    where: str  # of those that wait: queue, group, key, scheduled
    task: str  # function path
    arguments: str
    due: float | None  # seconds since 1970, in the schedule
    since: float | None  # seconds since 1970: when it was enqueued, began, or became a dead letter
    attempt: int | None  # attempts that have failed, or the one that runs
    error: str  # what the last of them said
    worker: str  # host:pid that runs it, or ran it last
    tracked: bool
    lease: str  # of one that runs
    letter: str  # id of the dead letter
    reason: str  # of that
    data: bytes
    detail: str = ""  # the whole error, of which `error` is a line: of a dead letter with its traceback

    def as_dict(self) -> dict[str, Any]:
        """In the form of JSON."""
        found = {**asdict(self), "data": hexed(self.data)}
        del found["detail"]
        return found


@dataclass(frozen=True, slots=True)
class TaskList:
    """Tasks that were found, and how far that looked."""

    tasks: tuple[TaskView, ...]
    looked_at: int  # tasks, or keys of the server
    total: int  # that there are, at least
    more: bool  # whether there are others that were not looked at
    unit: str = "task"
    nameless: int = 0  # tracked tasks of which no function is kept, if one was asked for: they fit none


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Selects tasks; a task must match every field that is set.

    Args:
        state: one of `STATES`; None for all that wait.
        function: a pattern for the function's path, as `myapp.tasks:*`.
        text: part of the path, of the arguments as they are shown, or of the error.
        where: only those in the `queue`, in a `group`, that wait for a `key`, or are `scheduled`.
        overdue: only those in the schedule whose time has come.
        error: part of the whole error, in upper or lower case: of dead letters, of those after a failed attempt, and of those
            whose state is kept.
        worker: a pattern for the worker that runs it, or ran it last, as `web1:*`; or for its host alone, as `web1`. Without a
            state, of those that run.
        group: a pattern for the group, as `tenant-*`.

    Raises:
        ConfigurationError: a worker of what waits.
    """

    state: str | None = None
    function: str | None = None
    text: str | None = None
    where: str | None = None
    overdue: bool = False
    error: str | None = None
    worker: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if self.worker is not None and (self.state in WAITING or self.where is not None or self.overdue):
            raise ConfigurationError("no worker has what waits: ask for a worker of what is running, dead or tracked")
        if self.worker is not None and self.state is None:
            object.__setattr__(self, "state", "running")

    def fits(self, task: TaskView, moment: float) -> bool:
        """Whether this task is one of them, at this moment."""
        return (
            (self.state in (None, "key", "tracked") or task.state == self.state)
            and (not self.overdue or (task.due is not None and task.due <= moment))
            and (self.function is None or fnmatchcase(task.task, self.function))
            and (self.text is None or self.text in show(task.data) or self.text in task.error or self.text == task.id)
            and (self.error is None or says(task.detail or task.error, self.error))
            and (self.worker is None or is_of(task.worker, self.worker))
            and (self.group is None or is_in_group(headers_of(task.data), self.group))
        )


def tasks(queue: Queue, wanted: TaskFilter, count: int = 50, look_at: int = LOOKED_AT) -> TaskList:
    """The first tasks of a queue that fit, each place in its order; dead letters newest first.

    Args:
        queue: the queue.
        wanted: which.
        count: how many at most.
        look_at: how many are looked at, at most.
    """
    if wanted.state == "tracked":
        return find_tracked([queue], wanted, count, look_at)
    source, total = _source(queue, wanted)
    moment, found, looked = server_time(queue), list[TaskView](), 0
    for task in islice(source, look_at):
        if len(found) == count:
            return TaskList(tuple(found), looked, max(total, looked), True)
        looked += 1
        if wanted.fits(task, moment):
            found.append(task)
    return TaskList(tuple(found), looked, max(total, looked), looked == look_at and total > looked)


def _source(queue: Queue, wanted: TaskFilter) -> tuple[Iterator[TaskView], int]:
    """Where such tasks can be, and about how many there are."""
    name, call, keys = queue.name, queue.store.call, queue.keys
    if wanted.state == "running":
        return running(queue), int(call("HLEN", keys.processing))
    if wanted.state == "dead":
        return (of_letter(name, letter) for letter in dead_letters(queue)), int(call("XLEN", keys.dead))
    where = "key" if wanted.state == "key" else wanted.where
    state = None if wanted.state == "key" else wanted.state
    places = Wanted(where=where, state=state, overdue=wanted.overdue)
    view = look(queue)
    sizes = {"queue": view.waiting, "group": view.grouped, "key": view.for_keys, "scheduled": view.scheduled}
    in_schedule = wanted.overdue or state in ("scheduled", "retrying")
    total = view.scheduled if in_schedule else sizes[where] if where else view.pending
    return (of_waiting(name, waits) for waits in candidates(queue, places)), total


def upcoming(queue: Queue, count: int) -> list[TaskView]:
    """The tasks that are taken next: the first of the queue itself, then one of each group, in the order of their turns."""
    keys = queue.keys
    heads = [(keys.queue, "queue", data) for data in queue.store.call("LRANGE", keys.queue, 0, count - 1)]
    groups = [keys.group(each) for each in queue.store.grouped(count - len(heads))] if len(heads) < count else []
    first_ones = queue.store.batch(*[("LINDEX", key, 0) for key in groups]) if groups else []
    heads += [(key, "group", data) for key, data in zip(groups, first_ones, strict=True) if data is not None]
    return [of_waiting(queue.name, in_list(key, where, data)) for key, where, data in heads]


def of_waiting(queue: str, waits: Waiting) -> TaskView:
    """A task that waits."""
    headers = headers_of(waits.data)
    return _view(
        queue, waits.data, id=waits.id, state=state_of(waits), where=waits.where, due=waits.due, tracked=waits.tracked,
        since=_enqueued(headers), attempt=number_in(headers, "attempt") or None,
        error=said_of(waits.task, text_in(headers, "error") or ""),
    )  # fmt: skip


def of_letter(queue: str, letter: DeadLetter) -> TaskView:
    """A dead letter."""
    return _view(
        queue, letter.data, state="dead", since=letter.time, attempt=letter.attempts, error=summary(letter.said),
        worker=letter.worker, letter=letter.id, reason=letter.reason, detail=letter.said,
    )  # fmt: skip


def running(queue: Queue) -> Iterator[TaskView]:
    """The tasks that workers hold."""
    living, keys, call = entries(queue), queue.keys, queue.store.call
    for names in queue.store.pages(keys.processing):
        for some in (names[start : start + _VALUES] for start in range(0, len(names), _VALUES)):
            held = dict(zip(some, call("HMGET", keys.processing, *some), strict=True))
            ours = [lease for lease in some if keys.owns_lease(lease)]
            holders = dict(zip(ours, call("MGET", *ours), strict=True)) if ours else {}
            for lease, data in held.items():
                if data is not None:  # else it has ended meanwhile
                    holder = (holders.get(lease) or b"").decode(errors="replace")
                    about = living.get(keys.lease(holder), {})
                    yield held_view(queue.name, lease, data, str(about.get("place") or holder))


def held_view(queue: str, lease: str, data: bytes, worker: str) -> TaskView:
    """A task that a worker holds."""
    attempt = number_in(headers_of(data), "attempt") + 1
    return _view(queue, data, state="running", lease=lease, worker=worker, attempt=attempt)


def find_tracked(queues: Sequence[Queue], wanted: TaskFilter, count: int, look_at: int) -> TaskList:
    """Tasks of which a state is kept. So many keys of the server are looked at, once for all queues, as none has a list."""
    by_name, first, moment = {queue.name: queue for queue in queues}, queues[0], server_time(queues[0])
    total, pattern = int(first.store.call("DBSIZE")), _tracked_keys(queues)
    cursor, looked, found, nameless = b"", 0, list[TaskView](), 0
    while cursor != b"0" and looked < look_at and len(found) <= count:
        at_once = min(_SCANNED, look_at - looked)
        cursor, keys = first.store.call("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", at_once, "TYPE", "hash")
        looked += at_once
        ids: dict[str, list[str]] = {}
        for name in (key.decode(errors="surrogateescape") for key in keys):
            if (whose := owner(name)) in by_name:
                ids.setdefault(str(whose), []).append(name[-_ID:])
        some = known_states([by_name[name] for name in ids], ids, moment)
        found += [each for each in some if wanted.fits(each, moment)]
        nameless += sum(not each.data for each in some)
    more = cursor != b"0" or len(found) > count
    looked = total if cursor == b"0" else min(looked, total)
    return TaskList(tuple(found[:count]), looked, total, more, "key", nameless if wanted.function is not None else 0)


def _tracked_keys(queues: Sequence[Queue]) -> str:
    """A pattern for the keys of tracked tasks, of one queue or of any."""
    if len(queues) > 1:
        return f"*_task_{'?' * _ID}"
    return "".join(f"\\{each}" if each in "[]*?^\\-" else each for each in queues[0].keys.task("")) + "?" * _ID


def known_states(queues: Sequence[Queue], ids: Mapping[str, Sequence[str]], moment: float) -> list[TaskView]:
    """What is kept of tracked tasks of several queues, by their ids; what has gone meanwhile is left out."""
    states = asked(queues, lambda queue: [("HMGET", queue.keys.task(each), *FIELDS, "data") for each in ids[queue.name]])
    found = list[TaskView]()
    for queue, replies in zip(queues, states, strict=True):
        for identity, fields in zip(ids[queue.name], replies, strict=True):
            with contextlib.suppress(UnknownTask):
                status = status_of(fields[:-1], queue.name, identity, moment)
                found.append(of_status(queue.name, identity, status, fields[-1]))
    return found


def of_status(queue: str, identity: str, status: Status, data: bytes | None) -> TaskView:
    """What is kept of a tracked task."""
    return _view(
        queue, data or b"", id=identity, state=str(status.state), due=status.due, since=status.started or status.enqueued,
        attempt=status.attempt, error=said_of(path_of(data) if data else "", status.error), worker=status.worker, tracked=True,
    )  # fmt: skip


def _enqueued(headers: dict[str, Any]) -> float | None:
    moment = number_in(headers, "enqueued")
    return moment / 1000 if moment > 0 else None


def _view(queue: str, data: bytes, **known: Any) -> TaskView:
    """With nothing in what is not `known`, and with what the task itself says."""
    headers = headers_of(data)
    empty: dict[str, Any] = {
        "id": any_id_in(headers) or "", "where": "", "task": path_of(data) if data else "", "arguments": arguments(data),
        "due": None, "since": None, "attempt": None, "error": "", "worker": "", "tracked": id_in(headers) is not None,
        "lease": "", "letter": "", "reason": "",
    }  # fmt: skip
    return TaskView(queue=queue, data=data, **{**empty, **known})


def first(found: Iterable[TaskView], fits: Callable[[TaskView], bool], most: int) -> TaskView | None:
    """The first of at most so many that fits."""
    return next((each for each in islice(found, most) if fits(each)), None)
