"""What an operator wants of the workers' queue during the storm: that it stands still for a while, or runs few tasks at once.

Everybody has heard of it after a moment; from then on the judge watches.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from delayed.queue.queue import Queue

SETTLING = 2_500_000_000  # ns in which all hear of it, with a beat, and do what they had in hand
_FIRST, _EVERY, _LASTS = 10.0, 30.0, 4.5  # seconds


class Order(NamedTuple):
    """It was in force for certain between two moments, in nanoseconds of CLOCK_MONOTONIC."""

    most: int  # tasks at once; 0 of a queue that is paused
    begin: int
    end: int

    @property
    def heard(self) -> int:
        """From when on everybody has to heed it."""
        return self.begin + SETTLING


class Operator:
    """Gives an order now and then, and takes it back.

    Args:
        queue: the workers'.
        began: monotonic time at which the storm began.
    """

    def __init__(self, queue: Queue, began: float) -> None:
        self._queue = queue
        self._next = began + _FIRST
        self._end: Callable[[], None] | None = None  # takes back what is in force
        self._begun = 0
        self.orders: list[Order] = []

    def tend(self, now: float) -> None:
        """Do what is to be done at the monotonic time `now`."""
        if now < self._next:
            return
        if self._end is not None:
            self.rest()
            self._next = now + _EVERY - _LASTS
            return
        if len(self.orders) % 2:
            self._queue.limit(concurrency=self._most)
            self._end = self._queue.limit
        else:
            self._queue.pause()
            self._end = self._queue.resume
        self._begun = time.monotonic_ns()
        self._next = now + _LASTS

    def rest(self) -> None:
        """No order is in force any more."""
        if self._end is not None:
            self.orders.append(Order(self._most, self._begun, time.monotonic_ns()))
            self._end()
            self._end = None

    @property
    def _most(self) -> int:
        """Pause, two at once, pause, three at once, pause, two …"""
        count = len(self.orders)
        return 2 + count // 2 % 2 if count % 2 else 0
