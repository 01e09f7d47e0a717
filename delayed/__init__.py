"""A task queue on Redis for Python and Go.

Everything that a producer needs is here; `App`, `Worker` and `Sweeper` are imported on first use.
"""

# Before the imports: `errors` looks at it.
__version__ = "2.0.0"

from importlib import import_module
from typing import TYPE_CHECKING

from .base.ids import new_id
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
from .job.job import current_task
from .queue.async_queue import AsyncQueue
from .queue.handle import AsyncHandle, Handle
from .queue.queue import Queue
from .queue.results import results
from .task.result import State
from .task.task import GoTask, PyTask

if TYPE_CHECKING:
    from .app import App
    from .sweeper import Sweeper
    from .worker import Worker

__all__ = [
    "App",
    "AsyncHandle",
    "AsyncQueue",
    "ConfigurationError",
    "DelayedError",
    "Duplicate",
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
    "State",
    "Sweeper",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskTooLarge",
    "TimedOut",
    "UnknownTask",
    "Worker",
    "current_task",
    "delayed",
    "new_id",
    "results",
]


def __getattr__(name: str) -> object:
    """`App`, `Worker` and `Sweeper`, so that producers do not pay for their import (PEP 562)."""
    if name in ("App", "Sweeper", "Worker"):
        return getattr(import_module(f".{name.lower()}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
