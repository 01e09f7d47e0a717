"""Tasks: their options, headers and bytes."""

from .task import GoTask, PyTask

__all__ = ["GoTask", "PyTask"]
