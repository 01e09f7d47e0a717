"""Says that the name of a queue may be misspelled."""

from collections.abc import Iterable

from ..ops.audit import Done
from ..ops.register import doubt
from ..queue.queue import Queue
from .acting import tell
from .common import hint


def tell_of(queue: Queue, done: Done) -> None:
    """As `tell`; if nothing was done, the name of the queue may be misspelled."""
    if not done.count:
        doubt_names([queue])
    tell(done)


def doubt_names(queues: Iterable[Queue]) -> None:
    """Say, on standard error, which of the queues no worker or sweeper has served, while others are served."""
    for queue in queues:
        if says := doubt(queue):
            hint(f"note: {says}")
