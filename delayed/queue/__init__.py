"""Queues: what producers and operators call."""

from .async_queue import AsyncQueue
from .handle import AsyncHandle, Handle
from .queue import Queue

__all__ = ["AsyncHandle", "AsyncQueue", "Handle", "Queue"]
