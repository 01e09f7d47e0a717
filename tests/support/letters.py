"""Dead letters, as a worker writes them."""

from collections.abc import Iterable

from delayed.queue.queue import Queue
from delayed.task.task import PyTask


def bury(queue: Queue, *tasks: PyTask, detail: str = "ValueError: no") -> list[str]:
    """The ids of the dead letters that these tasks have become."""
    return bury_many(queue, tasks, detail)


def bury_many(queue: Queue, tasks: Iterable[PyTask], detail: str = "ValueError: no") -> list[str]:
    """As `bury`."""
    with queue.conn.pipeline(transaction=False) as pipeline:
        for task in tasks:
            pipeline.xadd(queue.keys.dead, {"task": task.serialize(), "reason": "failed", "detail": detail, "worker": "h:1"})
        return [each.decode() for each in pipeline.execute()]
