"""Waits for tasks to come, on behalf of a worker."""

import select
from typing import Any, Protocol

from ..base.clock import monotonic
from ..queue.queue import Queue
from ..redis.channel import INTERRUPTED, Channel
from ..redis.command import RedisError
from ..system.signals import Stop
from .executors import Completions


class Waiter(Protocol):
    """Waits for notifications. The loop waits; any thread may interrupt it."""

    def notification(self, pop: bytes, seconds: float) -> Any:
        """Send a packed `BLPOP` and return its reply, or `INTERRUPTED`; give its connection up after so many seconds."""

    def rest(self, seconds: float) -> None:
        """Wait before asking again."""

    def interrupt(self) -> None:
        """Break the connections that the loop may wait for."""


class BlockingWaiter:
    """Waits over the worker's connection, until there is a reply or a stop.

    Args:
        channel: the worker's connection.
        stop: ends every wait.
    """

    def __init__(self, channel: Channel, stop: Stop) -> None:
        self._channel, self._stop = channel, stop

    def notification(self, pop: bytes, seconds: float) -> Any:
        """See `Waiter`; the connection is given up, too, when a stop comes."""
        return self._channel.block(pop, seconds, self._stop.fileno())

    def rest(self, seconds: float) -> None:
        """See `Waiter`. What has ended is said before that."""
        self._channel.settle()
        self._stop.wait(seconds)

    def interrupt(self) -> None:
        """See `Waiter`."""
        self._channel.interrupt()


class ListeningWaiter:
    """Waits over a connection of its own, so that endings can be sent meanwhile, and hears completions and a stop.

    Args:
        queue: says how to connect.
        channel: the worker's connection.
        stop: ends every wait.
    """

    def __init__(self, queue: Queue, channel: Channel, stop: Stop) -> None:
        self._channel, self._stop = channel, stop
        self._own = Channel(queue.conn, queue.name)
        self._asked_at = 0.0  # monotonic time at which a notification was asked for; 0 if none was
        self.completions = Completions()
        self.until = 0.0  # monotonic time at which the dispatcher, who writes this, has something else to do

    def notification(self, pop: bytes, seconds: float) -> Any:
        """See `Waiter`; after `INTERRUPTED` the wait goes on when this is called again."""
        if not self._asked_at:
            if not self._own.is_open:
                self._own.open()
            self._own.send(pop)
            self._asked_at = monotonic()
        self._channel.settle()
        overran = self._asked_at + seconds
        if self._own.listen(min(overran, self.until) - monotonic(), self._stop.fileno(), self.completions.fileno()):
            self._asked_at = 0.0
            return self._own.answer()
        if monotonic() >= overran:
            raise RedisError("a blocking pop did not end in time")
        return INTERRUPTED

    def rest(self, seconds: float) -> None:
        """See `Waiter`."""
        self.listen(min(seconds, max(0.0, self.until - monotonic())))

    def listen(self, seconds: float, *, completions: bool = True) -> None:
        """Wait until a task has ended or the worker shall stop (each is heard once), for so many seconds at most."""
        poll = select.poll()
        if completions:
            poll.register(self.completions, select.POLLIN)
        if not self._stop.is_set():
            poll.register(self._stop, select.POLLIN)
        poll.poll(1 + seconds * 1000)

    def forget(self) -> None:
        """Ask anew, over another connection."""
        self._asked_at = 0.0
        self._own.close()

    def interrupt(self) -> None:
        """See `Waiter`."""
        self._channel.interrupt()
        self._own.interrupt()
