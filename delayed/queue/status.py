"""Reads the state of a tracked task in Redis; what another program has written there is passed over."""

from typing import Any, NamedTuple

import msgpack

from ..base.checks import is_number
from ..errors import InvalidTask, NoResult, UnknownTask
from ..task.result import State

FIELDS = ("state", "enqueued", "due", "started", "worker", "attempt", "error", "waits", "progress")  # of the hash


class Status(NamedTuple):
    """A tracked task at one moment. Times are seconds since 1970."""

    state: State
    enqueued: float | None
    due: float | None  # when it may begin
    started: float | None  # when its last attempt began
    worker: str  # host:pid of that
    attempt: int | None  # the number of that, counted from 1
    error: str  # what the last attempt that failed said
    waits: str  # why a task whose turn it was does not run yet
    done: float | None  # what the task has reported: see `current_task().progress`
    total: float | None
    note: str


def known(identity: str | None, tracked: bool = True) -> str:
    """The id of a tracked task.

    Raises:
        NoResult: it is not tracked.
    """
    if identity is None or not tracked:
        raise NoResult("nothing is kept of this task: give it result_ttl, or track=True, where it is defined or enqueued")
    return identity


def unknown(queue: str, identity: str | None) -> UnknownTask:
    """What is raised if there is nothing under an id."""
    return UnknownTask(
        f"no task {identity} is known in {queue!r}: what was kept of it has run out (see result_ttl), or it is elsewhere"
    )


def not_waiting(queues: str, identity: str) -> UnknownTask:
    """What is raised if no task with this id waits, and nothing else could be known of it."""
    return UnknownTask(
        f"no task {identity} waits in {queues}: it runs or has ended, and no state is kept of it (see track=True)"
    )


def state_of(state: str | None, queue: str, identity: str | None) -> State:
    """The state that stands in Redis.

    Raises:
        UnknownTask: there is none, or none of ours.
    """
    if state is None:
        raise unknown(queue, identity)
    try:
        return State(state)
    except ValueError:
        pass
    raise UnknownTask(f"the state of task {identity} in {queue!r} is {state!r:.100}, which this version does not know")


def see_that_it_had_ended(state: str | None, queue: str, identity: str) -> None:
    """See that a task was in the state of one that has ended.

    Raises:
        InvalidTask: it was not.
        UnknownTask: there is none.
    """
    if state_of(state, queue, identity) in (State.QUEUED, State.SCHEDULED, State.RUNNING, State.RETRYING):
        raise InvalidTask(f"task {identity} of {queue!r} has not ended: it is {state}; cancel it first, or wait")


def moment(text: bytes | None) -> float | None:
    """An instant that is stored in milliseconds since 1970; None if there is none, or another program's nonsense."""
    number = whole(text)
    return None if number is None else number / 1000


def whole(text: bytes | None) -> int | None:
    """A whole number; None likewise."""
    return int(text) if text is not None and text.isdigit() and len(text) < 20 else None


def needs_time(found: Any) -> bool:
    """Whether the state that was found depends on what time it is."""
    return bool(found[0] == State.SCHEDULED.encode() and moment(found[FIELDS.index("due")]))


def _progress(packed: bytes | None) -> tuple[float | None, float | None, str]:
    """What a task has reported; nothing if another program has written it."""
    try:
        done, total, note = msgpack.unpackb(packed or b"\x93\xc0\xc0\xa0")
    except Exception:  # msgpack raises a dozen types
        return None, None, ""
    numbers = [each if is_number(each) else None for each in (done, total)]
    return numbers[0], numbers[1], note if isinstance(note, str) else ""


def status_of(found: Any, queue: str, identity: str | None, now: float) -> Status:
    """What `FIELDS` say that were `found` at `now`, by the server's clock.

    Raises:
        UnknownTask: it is no state.
    """
    fields: dict[str, bytes | None] = dict(zip(FIELDS, found, strict=True))
    if not any(each is not None for each in found):
        raise unknown(queue, identity)

    def text(name: str) -> str:
        return (fields[name] or b"").decode(errors="replace")

    state = state_of(text("state"), queue, identity)
    due = moment(fields["due"])
    if state is State.SCHEDULED and due is not None and due <= now:
        state = State.QUEUED
    done, total, note = _progress(fields["progress"])
    return Status(
        state=state,
        enqueued=moment(fields["enqueued"]),
        due=due or None,
        started=moment(fields["started"]),
        worker=text("worker"),
        attempt=whole(fields["attempt"]),
        error=text("error"),
        waits=text("waits"),
        done=done,
        total=total,
        note=note,
    )
