"""A polyglot task queue on Redis: Python and Go programs hand each other work by function path.

What a producer needs is here. Workers are in `delayed.worker`, sweepers in `delayed.sweeper`.
"""

from .delay import delayed
from .errors import (
    ConfigurationError,
    DelayedError,
    Duplicate,
    InvalidTask,
    NoResult,
    NotDone,
    NotDurable,
    NotEncodable,
    NotInTask,
    Retry,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskTooLarge,
    TimedOut,
    UnknownTask,
)
from .job import current_task
from .keys import new_id
from .queue import AsyncQueue, Queue
from .task import GoTask, PyTask

__all__ = [
    "AsyncQueue",
    "ConfigurationError",
    "DelayedError",
    "Duplicate",
    "GoTask",
    "InvalidTask",
    "NoResult",
    "NotDone",
    "NotDurable",
    "NotEncodable",
    "NotInTask",
    "PyTask",
    "Queue",
    "Retry",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskTooLarge",
    "TimedOut",
    "UnknownTask",
    "current_task",
    "delayed",
    "new_id",
]
__version__ = "2.0.0"
