"""The sweeper: brings back what a killed worker left, and keeps the notifications right."""

import contextlib
import math
import os
import random
import select
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgpack

from .bell import Bell
from .channel import Channel
from .clock import milliseconds, monotonic, now
from .connection import RedisError, ResponseError, is_cluster, same_slot
from .errors import ConfigurationError
from .guard import resident_size
from .keys import token
from .logger import logger
from .notify import Notifier
from .queue import Queue
from .signals import DUMP, SignalPipe, dump_threads

INTERVAL = 5.0  # seconds
LOSSES = 3  # after so many losses a task is buried
JITTER = (0.7, 0.9)  # of the interval: sweepers that start together do not stay together
_DUE_AT_ONCE = 1000  # tasks that one call moves from the schedule at most
_OWN_TTL = 3  # intervals that the sweeper's own lease lives


class Outcome(NamedTuple):
    """What one sweep of a queue did."""

    recovered: int = 0  # lost tasks put back
    buried: int = 0  # lost tasks moved to the dead letters
    repaired: int = 0  # notifications added or removed
    pruned: int = 0  # dead processes struck off the register


def sweep(queue: Queue, limit: int = LOSSES, sweeper: str = "") -> Outcome:
    """Sweep a queue once. It may be killed anywhere, and done by any number at the same time.

    Args:
        queue: the queue.
        limit: how many losses bury a task.
        sweeper: who sweeps, for the dead letters.
    """
    recovered = buried = repaired = pruned = 0
    sweep_id = token()
    for leases in _dead_pages(queue, queue.keys.processing):
        more = True
        while more:
            back, under, more = queue.sweep(leases, limit, sweep_id, sweeper)
            recovered += back
            buried += under
    left = 1
    while left:
        added, removed, left = queue.repair()
        repaired += added + removed
    for leases in _dead_pages(queue, queue.keys.workers):
        pruned += queue.prune(leases)
    return Outcome(recovered, buried, repaired, pruned)


def _dead_pages(queue: Queue, key: str) -> Iterator[list[str]]:
    """The pages of leases in the hash `key` in which at least one is dead."""
    cursor = -1
    while cursor:
        cursor, leases = queue.page(key, max(cursor, 0))
        leases = _checkable(queue, leases)
        if queue.alive(leases) < len(leases):
            yield leases


def _checkable(queue: Queue, leases: list[str]) -> list[str]:
    """On a cluster, a script cannot ask for keys of other slots; ours are in the queue's own."""
    if not is_cluster(queue.conn):
        return leases
    ours = [lease for lease in leases if same_slot(lease, queue.name)]
    if len(ours) < len(leases):
        logger.error(
            "%s: upstream workers hold tasks, and cannot be used on Redis Cluster: %s", queue, set(leases) - set(ours)
        )
    return ours


class Sweeper:
    """Sweeps queues until it is stopped.

    Args:
        queues: what to sweep; they may be on different servers.
        interval: seconds from one sweep to the next, at most.
        limit: how many losses bury a task.

    Raises:
        ConfigurationError: no queue, or numbers that cannot work.
    """

    def __init__(self, queues: Sequence[Queue], interval: float = INTERVAL, *, limit: int = LOSSES) -> None:
        if not queues or not interval > 0 or limit < 1:
            raise ConfigurationError("a sweeper needs a queue, an interval above 0 seconds and a limit of at least 1 loss")
        self._interval = interval
        self._limit = limit
        self._name = token()
        self._channels: dict[tuple[int, str], Channel] = {}
        self._queues = [queue.over(self._channel(queue)) for queue in queues]
        self._bells = [
            Bell([queue for queue in self._queues if self._channel(queue) is channel]) for channel in self._channels.values()
        ]
        self._stopped = False
        self._reader, self._writer = -1, -1
        self._place = ""
        self._started = now()

    def _channel(self, queue: Queue) -> Channel:
        """One connection for each server; on a cluster, where queues move, one for each queue."""
        key = (id(queue.conn), queue.name if is_cluster(queue.conn) else "")
        return self._channels.setdefault(key, Channel(queue.conn, queue.name))

    def run(self) -> None:
        """Sweep at once and then at the interval, until `stop`, or (in the main thread) SIGTERM, SIGINT, SIGHUP or SIGQUIT.

        SIGUSR1 logs the stacks of all threads.
        """
        self._reader, self._writer = os.pipe()
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        notifier = Notifier()
        names = ", ".join(queue.name for queue in self._queues)
        with SignalPipe() as signals:
            logger.info("Sweeper %s sweeps %s every %g s", self._place, names, self._interval)
            notifier.ready(f"sweeping {names}")
            while not self._stopped:
                for queue in self._queues:
                    self._sweep(queue)
                self._until_the_next_sweep(signals, notifier)
            notifier.stopping("going")
            self._goodbye()
        writer, self._writer = self._writer, -1
        os.close(writer)
        os.close(self._reader)
        logger.info("Sweeper %s stopped", self._place)

    def stop(self) -> None:
        """Let `run` return after the sweep that is under way. Safe from any thread, at any time, twice."""
        self._stopped = True
        with contextlib.suppress(OSError):  # `run` has just ended, or not begun
            os.write(self._writer, b"x")

    def _sweep(self, queue: Queue) -> None:
        channel = self._channel(queue)
        try:
            if not channel.is_open:
                channel.open()
            outcome = sweep(queue, self._limit, self._place)
            with contextlib.suppress(ResponseError):  # no memory: the sweep matters, the register does not
                self._register(queue, channel)
        except RedisError as error:
            channel.close()
            logger.warning("Sweeping %s failed, trying again in %g s: %s", queue.name, self._interval, error)
            return
        if outcome.recovered or outcome.buried:
            logger.warning(
                "%s: %d lost tasks put back, %d buried after %d losses",
                queue.name,
                outcome.recovered,
                outcome.buried,
                self._limit,
            )
        if outcome.repaired:
            logger.info("%s: repaired %d notifications", queue.name, outcome.repaired)

    def _register(self, queue: Queue, channel: Channel) -> None:
        own = queue.keys.lease(self._name)
        about = {
            "kind": "sweeper",
            "language": "python",
            "place": self._place,
            "queues": [each.name for each in self._queues],
            "started": self._started,
            "rss": resident_size(),
        }
        channel.call("SET", own, self._name, "PX", milliseconds(max(_OWN_TTL * self._interval, 10)))
        channel.call("HSET", queue.keys.workers, own, msgpack.packb(about, unicode_errors="surrogateescape"))

    def _until_the_next_sweep(self, signals: SignalPipe, notifier: Notifier) -> None:
        """Move what becomes due, until the next sweep is, or `stop` is called."""
        sweep_at = monotonic() + self._interval * random.uniform(*JITTER)
        due_at = 0.0
        while not self._stopped and monotonic() < sweep_at:
            notifier.alive()
            if monotonic() >= due_at:
                due_at = monotonic() + self._move_due()
            self._wait(min(sweep_at, due_at) - monotonic(), signals, notifier)
            if any(bell.rung for bell in self._bells):
                due_at = 0.0

    def _move_due(self) -> float:
        """Put what is due into its queue. Returns the seconds until there may be more."""
        pause = self._interval
        for queue in self._queues:
            try:
                if self._channel(queue).is_open:
                    found = queue.due([queue.keys], _DUE_AT_ONCE)
                    pause = min(pause, self._interval if found.pause is None else found.pause)
            except RedisError as error:
                self._channel(queue).close()
                logger.warning("Cannot move what is due in %s: %s", queue.name, error)
        return pause

    def _wait(self, seconds: float, signals: SignalPipe, notifier: Notifier) -> None:
        """Until a signal, `stop`, a bell, or for so long."""
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        bells = {descriptor: bell for bell in self._bells if (descriptor := bell.listen()) is not None}
        for descriptor in bells:
            poll.register(descriptor, select.POLLIN)
        pause = min(seconds, notifier.watchdog / 2 or seconds)
        for descriptor, _ in poll.poll(math.ceil(max(0.0, pause) * 1000)):
            if descriptor in bells:
                bells[descriptor].hear()
            elif descriptor == signals.fileno():
                self._obey(signals)

    def _obey(self, signals: SignalPipe) -> None:
        for number in signals.read():
            if number == DUMP:
                logger.warning("SIGUSR1:\n%s", dump_threads())
            else:
                logger.info("%s: stopping", number.name)
                self._stopped = True

    def _goodbye(self) -> None:
        for queue in self._queues:
            channel = self._channel(queue)
            own = queue.keys.lease(self._name)
            with contextlib.suppress(RedisError):  # the lease runs out by itself
                if channel.is_open:
                    channel.call("UNLINK", own)
                    channel.call("HDEL", queue.keys.workers, own)
        for channel in self._channels.values():
            channel.close()
        for bell in self._bells:
            bell.close()
