"""Where an application's queues are, if that is not a Redis of its own."""

from abc import ABC, abstractmethod
from typing import Any

from .async_queue import AsyncQueue
from .queue import Queue


class Origin(ABC):
    """Makes the producer's side of queues, such as those of a server (see `delayed.remote`)."""

    @abstractmethod
    def queue(self, name: str, **options: Any) -> Queue:
        """The queue of this name."""

    @abstractmethod
    def async_queue(self, name: str, **options: Any) -> AsyncQueue:
        """As `queue`, for asyncio."""
