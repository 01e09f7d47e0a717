"""Tasks, and their bytes."""

from .task import GoTask, PyTask

__all__ = ["GoTask", "PyTask"]
