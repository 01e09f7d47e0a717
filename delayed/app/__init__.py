"""An application: its tasks, its queues, and all that its workers have to know."""

from .app import App
from .task import BoundCall, Calls, Task

__all__ = ["App", "BoundCall", "Calls", "Task"]
