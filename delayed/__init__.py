"""A task queue on Redis for Python and Go.

What enqueues a task is here; what is in `_LATER` is imported on first use.
"""

# Before the imports: `errors` looks at it.
__version__ = "2.0.0"

from typing import TYPE_CHECKING

from .base.ids import new_id
from .base.later import names_later
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
from .queue.handle import AsyncHandle, Handle
from .queue.queue import Queue
from .task.result import State
from .task.task import GoTask, PyTask

if TYPE_CHECKING:
    from .app import App
    from .delay import delayed
    from .job.job import current_task
    from .queue.async_queue import AsyncQueue
    from .queue.results import results
    from .sweeper import Sweeper
    from .worker import Worker
    from .workflow import Flow, Run, chain, group, linked, on, quorum

__all__ = [
    "App",
    "AsyncHandle",
    "AsyncQueue",
    "ConfigurationError",
    "DelayedError",
    "Duplicate",
    "Flow",
    "GoTask",
    "Handle",
    "InvalidTask",
    "NoResult",
    "NotDone",
    "NotDurable",
    "NotEncodable",
    "NotInTask",
    "PyTask",
    "Queue",
    "Retry",
    "Run",
    "State",
    "Sweeper",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskTooLarge",
    "TimedOut",
    "UnknownTask",
    "Worker",
    "chain",
    "current_task",
    "delayed",
    "group",
    "linked",
    "new_id",
    "on",
    "quorum",
    "results",
]

_LATER = {"App": "app", "Sweeper": "sweeper", "Worker": "worker", "delayed": "delay", "current_task": "job.job"}
_LATER |= {"AsyncQueue": "queue.async_queue", "results": "queue.results"}
_LATER |= dict.fromkeys(("Flow", "Run", "chain", "group", "linked", "on", "quorum"), "workflow")
__getattr__ = names_later(__name__, _LATER)
