"""One execution of a task."""

from .job import Job, current_task

__all__ = ["Job", "current_task"]
