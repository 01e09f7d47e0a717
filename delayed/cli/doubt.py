"""Says that the name of a queue may be misspelled."""

from collections.abc import Iterable

from ..ops.register import doubt
from ..queue.queue import Queue
from .common import hint


def doubt_names(queues: Iterable[Queue]) -> None:
    """Say, on standard error, which of the queues no worker or sweeper has served, while others are served."""
    for queue in queues:
        if says := doubt(queue):
            hint(f"note: {says}")
