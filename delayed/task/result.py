"""Stores and reads how a tracked task ended: a MessagePack array of the state and what belongs to it."""

from enum import StrEnum
from typing import Any

import msgpack

from ..base.text import name_of, said, shown
from ..errors import NoResult, NotEncodable, ResultError, ResultTooLarge, TaskCancelled, TaskExpired, TaskFailed
from .codec import dumps, loads
from .extensions import UnknownType

MAX_RESULT_SIZE = 64 << 20  # bytes. Redis takes 512 MB at most (proto-max-bulk-len), and what it refuses could never be ended


class State(StrEnum):
    """The state of a tracked task."""

    QUEUED = "queued"  # it waits in the queue
    SCHEDULED = "scheduled"  # it waits for its time
    RUNNING = "running"
    RETRYING = "retrying"  # it has failed, and waits for its next attempt
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_SUCCEEDED: bytes = msgpack.packb([State.SUCCEEDED])
MARKS: dict[str, str] = {
    State.SUCCEEDED: "s",
    State.FAILED: "f",
    State.EXPIRED: "x",
    State.CANCELLED: "c",
}  # of the nodes of a workflow


def success(value: Any, kept: bool) -> bytes:
    """What a task has returned; not `kept` if only its state matters.

    Raises:
        NotEncodable: MessagePack cannot carry the value.
        ResultTooLarge: it has more than `MAX_RESULT_SIZE` bytes.
    """
    if not kept:
        return _SUCCEEDED
    try:
        packed = dumps([State.SUCCEEDED, value])
    except BaseException as error:  # the value may be an object of the task's making
        raise NotEncodable(f"it returned {shown(value)}, which MessagePack cannot carry: {said(error, 1000)}") from None
    if len(packed) > MAX_RESULT_SIZE:
        raise ResultTooLarge(
            f"it returned {name_of(type(value))} of {len(packed):,} bytes, and a result may have {MAX_RESULT_SIZE:,}: "
            f"keep it elsewhere and return where it is"
        )
    return packed


def failure(kind: str, message: str, traceback: str) -> bytes:
    """That a task has failed; see `TaskFailed`."""
    packed: bytes = msgpack.packb([State.FAILED, kind, message, traceback], unicode_errors="replace")
    return packed


NODE_STATES = {"": "waiting", "\0": "waiting", "q": "released", "k": "skipped"}  # what those marks mean
NODE_STATES |= {mark: str(state) for state, mark in MARKS.items()}  # likewise
OUTCOME = ("state", "error", "result")  # fields of a task's state that say how it has ended
EXPIRED: bytes = msgpack.packb([State.EXPIRED])
CANCELLED: bytes = msgpack.packb([State.CANCELLED])
_EXPIRED, _CANCELLED = "{}: it expired before a worker took it", "{}: it was cancelled"


# What stands in the field `cancelled` of a task's state.
ASKED, HARD = b"1", b"hard"  # it is asked to end; its process ends if it does not


def without_result(state: bytes, error: bytes, task: str) -> ResultError | None:
    """Why a task in this state, which is called `task` in messages, has no result and will have none; None if it may have
    one."""
    kind, _, message = error.decode(errors="replace").partition(": ")
    endings: dict[str, ResultError] = {
        State.FAILED: TaskFailed(kind or str(State.FAILED), message, ""),
        State.EXPIRED: TaskExpired(_EXPIRED.format(task)),
        State.CANCELLED: TaskCancelled(_CANCELLED.format(task)),
        State.SUCCEEDED: NoResult(f"{task} has succeeded, and what it returned is not kept any more: see result_ttl"),
    }
    return endings.get(state.decode(errors="replace"))


def value_of(data: bytes, task: str) -> Any:
    """What a task has returned, which is called `task` in messages.

    Raises:
        TaskFailed, TaskExpired, TaskCancelled: it did not.
        NoResult: it did, and it was not kept.
        ResultError: it is of a type that this process does not know.
    """
    try:
        state, *rest = loads(data)
    except UnknownType as unknown:
        raise ResultError(f"what {task} returned cannot be read here: {unknown.detail}") from unknown
    if state == State.FAILED:
        raise TaskFailed(*rest)
    if state == State.EXPIRED:
        raise TaskExpired(_EXPIRED.format(task))
    if state == State.CANCELLED:
        raise TaskCancelled(_CANCELLED.format(task))
    if not rest:
        raise NoResult(f"{task} keeps no result: give it result_ttl, some seconds, where it is defined or enqueued")
    return rest[0]
