"""Runs one execution of a task: finds its function, applies middlewares, decides how it ended."""

from .job import Job, current_task

__all__ = ["Job", "current_task"]
