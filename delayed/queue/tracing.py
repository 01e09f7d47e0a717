"""What a queue tells of its enqueues to whoever traces them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from ..task.task import GoTask, PyTask, Task


class Sending(Protocol):
    """An enqueue of one task, or of many, while it is traced."""

    trace: tuple[str, str]
    """The trace context that workers shall find: see `Options.trace`."""

    def carrying(self, task: Task) -> Task:
        """The task with the trace context that its worker shall find."""

    def done(self, identity: str | None) -> None:
        """The task is there, under this id."""

    def all_done(self, count: int, workflow: str | None = None) -> None:
        """So many tasks are there, in a workflow of this id or in none."""


class Tracing(Protocol):
    """What is told of each enqueue: see `delayed.otel.Tracing`."""

    def sending(self, queue: str | None, path: str | None) -> AbstractContextManager[Sending]:
        """Around an enqueue of a task of the function at `path`; of many tasks for None. Without a queue: what is published,
        to any queue."""


def in_a_trace(task: Task) -> bool:
    """Whether it is said already in which trace context the task is enqueued, be it in none."""
    return task.options is not None and task.options.trace is not None


def carrying(sending: Sending, tasks: Iterable[Task]) -> Iterable[Task]:
    """The tasks of one call with its trace context. What is no task stays as it is, for the queue to refuse."""
    if isinstance(tasks, PyTask | GoTask):
        return tasks
    return (sending.carrying(task) if isinstance(task, PyTask | GoTask) else task for task in tasks)
