"""`Job`: one execution of a task, as middlewares and the task itself see it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgpack

from ..base.clock import monotonic, now
from ..base.ids import node_id
from ..base.running import source as _source
from ..errors import NotInTask, TaskCancelled, Unrunnable
from ..queue.queue import Queue
from ..redis.keys import home_of
from ..task.decode import Call, Parsed, parse
from ..task.headers import (
    Holds,
    Member,
    concurrency_in,
    holds_in,
    id_in,
    member_in,
    metadata_in,
    milliseconds_in,
    number_in,
    text_in,
    uid_in,
    unique_in,
)
from .functions import cancel

if TYPE_CHECKING:  # tasks outside of workflows need none of it
    import asyncio

    from ..workflow.adding import Membership
    from ..workflow.inputs import Input, Results

_LOOK = 0.1  # seconds between two questions to Redis whether a task has been cancelled


class Job:
    """One execution of a task; inside of it, `current_task()`.

    Args:
        queue: where it was taken from; None for a call that no worker makes.
        call: what it says.
        lease: the name of that under which a worker holds it.
    """

    __slots__ = (
        "_alone", "_cancelled", "_holds", "_membership", "_next_look", "_queue", "answer", "args", "began", "ended",
        "func_path", "function", "headers", "kwargs", "lease", "retry", "task", "tracked_id",
    )  # fmt: skip

    def __init__(self, queue: Queue | None, call: Parsed, lease: str = "") -> None:
        self.func_path, self.args, self.kwargs, self.retry, headers = call
        self._queue = queue
        self.headers = headers = headers or {}
        self.lease = lease
        self.tracked_id = id_in(headers) if "id" in headers else None  # if Redis keeps its state
        self.function: Callable[..., Any] | None = None  # once it has been found
        self.task: asyncio.Task[Any] | None = None  # where its coroutine runs
        self._holds: Holds | None = None  # once it has been asked for
        self._membership: Membership | None = None  # likewise: it counts what is added
        self._alone = False  # in a loop of its own
        self._cancelled = False
        self._next_look = 0.0
        self.answer: int | None = None  # what Redis has said to its beginning, if it has been asked: see `Store.start`
        self.began = self.ended = 0.0  # monotonic times, of its function

    def __repr__(self) -> str:
        return "<a direct call>" if self.direct else f"<{self.func_path}, id {self.id}, attempt {self.attempt}>"

    @property
    def direct(self) -> bool:
        """Whether no worker runs this: the function was called directly, and this stands for that. Then there is no path, no
        id, no argument and no header; it is the first attempt, nobody cancels it, and nobody hears of its progress."""
        return self._queue is None

    @property
    def queue(self) -> Queue:
        """Where it was taken from.

        Raises:
            NotInTask: it was called directly.
        """
        if self._queue is None:
            raise NotInTask
        return self._queue

    @property
    def id(self) -> str | None:
        """The id of the task, tracked or not; None for one without."""
        return self.tracked_id or uid_in(self.headers)

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.milliseconds("attempt") + 1

    @property
    def enqueued_at(self) -> float | None:
        """When it was enqueued, in seconds since 1970; None if it is not tracked."""
        return number_in(self.headers, "enqueued") / 1000 or None

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled (it asks Redis, ten times a second at most); False if it is not tracked."""
        if self.tracked_id is not None and not self._cancelled and monotonic() >= self._next_look:
            self._next_look = monotonic() + _LOOK
            self._cancelled = bool(self.queue.store.call("HEXISTS", self.queue.keys.task(self.tracked_id), "cancelled"))
        return self._cancelled

    def cancel(self) -> None:
        """It has been cancelled: interrupt its coroutine. Call this in the thread of its loop."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    def run_by(self, task: "asyncio.Task[Any]") -> None:
        """Its coroutine runs in this asyncio task, in a loop of its own."""
        self.task = task
        self._alone = True

    def interrupt(self) -> None:
        """As `cancel`, from another thread, of a coroutine that runs in a loop of its own; others are told when they ask."""
        if self._alone and self.task is not None and not self._cancelled:
            self._cancelled = True
            cancel(self.task)

    def cancellation_known(self) -> bool:
        """Whether it is known already that the task has been cancelled."""
        return self._cancelled

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far it is, for `handle.status()`. Nothing happens if the task is not tracked."""
        if self.tracked_id is not None:
            self.queue.store.progress(self.tracked_id, msgpack.packb([done, total, note]))

    @property
    def seconds(self) -> float:
        """For how long its function has run; 0 if it has not begun."""
        return (self.ended or monotonic()) - self.began if self.began else 0.0

    @property
    def waited(self) -> float | None:
        """Seconds between its enqueue and the beginning of this attempt (or now, if it has not begun); None if it is not
        tracked."""
        if (enqueued_at := self.enqueued_at) is None:
            return None
        began = now() - (monotonic() - self.began if self.began else 0.0)
        return max(0.0, began - enqueued_at)  # the clocks are not the same

    def milliseconds(self, header: str) -> int:
        """The number in a header, or 0 if there is none; the headers may be another program's, and any nonsense."""
        return milliseconds_in(self.headers, header) if header in self.headers else 0

    @property
    def retries(self) -> int:
        """How many retries are left; negative: for ever."""
        return self.retry or number_in(self.headers, "retry")

    @property
    def unique(self) -> tuple[str, str, int]:
        """The unique key, for how long the task counts as there, and the milliseconds that bound it; ('', '', 0) for none."""
        return unique_in(self.headers)

    @property
    def concurrency(self) -> tuple[str, int] | None:
        """The key of which only so many tasks may run at once, and how many; None for a task without one."""
        return concurrency_in(self.headers)

    @property
    def holds_something(self) -> bool:
        """Whether there may be more to end than its lease: see `holds`."""
        return self.tracked_id is not None or "concurrency" in self.headers

    @property
    def has_only_a_state(self) -> bool:
        """Whether it is tracked, and holds nothing else."""
        return self.tracked_id is not None and "unique" not in self.headers and "concurrency" not in self.headers

    @property
    def holds(self) -> Holds:
        """What it may hold: its state and result, its keys."""
        if self._holds is None:
            if self.has_only_a_state:  # as most nodes do
                member = member_in(self.headers, self.tracked_id) if "flow" in self.headers else None
                self._holds = Holds(self.tracked_id, member=member)
            else:
                self._holds = holds_in(self.headers)
        return self._holds

    @property
    def member(self) -> Member | None:
        """Of which workflow it is a node; None for a task of its own."""
        return self.holds.member

    @property
    def flow(self) -> str | None:
        """The id of the workflow of which it is a node; None for a task of its own."""
        member = self.member if "flow" in self.headers else None
        return None if member is None else node_id(member.flow, -1)

    @property
    def previous(self) -> Any:
        """What the node before this one in its workflow has returned; behind a group the results of all its members, as
        `Results`; None for a task that nothing is before. Each time it is read from Redis."""
        found = self._before()
        return found if found is None or found.many else found.first().value

    @property
    def inputs(self) -> Iterable["Input"]:
        """The nodes before this one in its workflow, and how each has ended: for those that run after failures, too. After
        those that it was defined with come the nodes that these have added."""
        found = self._before()
        return () if found is None else (found.first(),) if not found.many and len(found) == 1 else found.inputs()

    def _before(self) -> "Results | None":
        member = self.member
        home = None if member is None else home_of(member.home)
        if member is None or home is None:
            return None
        store = self.queue.store
        there = store.at(home) if store.reaches(home.queue) else store.pooled_at(home)
        inputs: Any = import_module("..workflow.inputs", __package__)
        found: Results | None = inputs.results_before(there, member)
        return found

    @property
    def workflow(self) -> "Membership | None":
        """The workflow of which this is a node; None for a task of its own."""
        if self._membership is not None:
            return self._membership
        member = self.member
        home = None if member is None or self._queue is None else home_of(member.home)
        if member is None or home is None:
            return None
        adding: Any = import_module("..workflow.adding", __package__)
        self._membership = adding.Membership(self.queue, home.queue, member, self.lease)
        return self._membership

    @property
    def metadata(self) -> dict[str, str]:
        """What its producer said about it: a request id, a tenant. Tasks that it enqueues by an `App` inherit that."""
        return metadata_in(self.headers)

    def check_cancelled(self) -> None:
        """Raise `TaskCancelled` if somebody has cancelled the task; if that leaves the function, the task ends as cancelled.

        Raises:
            TaskCancelled: it has been cancelled. It asks Redis, ten times a second at most.
        """
        if self.cancelled:
            raise TaskCancelled(f"task {self.id} has been cancelled")

    @property
    def group(self) -> str | None:
        """Whose task it is."""
        return text_in(self.headers, "group")


def job_of(queue: Queue, data: bytes, lease: str = "") -> Job | None:
    """The task in `data`, if it is one for Python."""
    try:
        return Job(queue, Call(*parse(data)), lease)
    except Unrunnable:
        return None


@dataclass(frozen=True, slots=True)
class Waits:
    """The outcome of a task that has not begun, because another task has its key. Its lease holds nothing any more."""

    why: str


_DIRECT = Call("", (), {}, 0)


def current_task() -> Job:
    """The running task that this code is part of.

    Code that no worker runs has one, too, so that a function which asks for it can still be called directly: see `Job.direct`.
    A thread that a task starts has none of it (`asyncio.to_thread` has): take it before, and hand it on.
    """
    return running() or Job(None, _DIRECT)


def running() -> Job | None:
    """The execution that this code is part of; None if no worker runs it."""
    source = _source.get()
    return None if source is None else source()


def announce(source: Callable[[], Job | None]) -> None:
    """From now on `current_task` asks `source` in this thread, or in this asyncio task."""
    _source.set(source)
