"""Queues: what producers and operators call."""

from typing import TYPE_CHECKING

from ..base.later import names_later
from .handle import AsyncHandle, Handle
from .queue import Queue

if TYPE_CHECKING:
    from .async_queue import AsyncQueue

__all__ = ["AsyncHandle", "AsyncQueue", "Handle", "Queue"]
__getattr__ = names_later(__name__, {"AsyncQueue": "async_queue"})
