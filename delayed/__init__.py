"""A polyglot task queue on Redis: Python and Go programs hand each other work by function path.

What a producer needs is here. Workers are in `delayed.worker`, sweepers in `delayed.sweeper`.
"""

from .delay import delayed
from .errors import ConfigurationError, DelayedError, InvalidTask, NotDurable, NotEncodable, TaskTooLarge
from .queue import AsyncQueue, Queue
from .task import GoTask, PyTask

__all__ = [
    "AsyncQueue",
    "ConfigurationError",
    "DelayedError",
    "GoTask",
    "InvalidTask",
    "NotDurable",
    "NotEncodable",
    "PyTask",
    "Queue",
    "TaskTooLarge",
    "delayed",
]
__version__ = "2.0.0"
