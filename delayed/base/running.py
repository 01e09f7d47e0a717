"""Remembers which execution of a task this code is part of."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

source: ContextVar[Callable[[], Any] | None] = ContextVar("delayed_source", default=None)


"""What gives the `Job` that runs in this thread, or in this asyncio task."""


def running() -> Any:
    """That `Job`; None if no worker runs this code."""
    asked = source.get()
    return None if asked is None else asked()
