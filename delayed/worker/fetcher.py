"""What a worker takes next, from which of its queues, and under which leases."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ..base.clock import monotonic
from ..queue.queue import Queue
from ..redis.channel import INTERRUPTED, Channel
from .leases import Lease, LeasePool
from .queue_order import QueueOrder
from .scoreboard import Scoreboard

_LATE = 1.0  # seconds that Redis may be late with the end of a blocking pop
_ANNOUNCED = (0.005, 0.02, 0.1)  # seconds after which to look for a task that was announced before it was added


class _Running(Protocol):
    """A task that runs beside others."""

    lease: Lease


class Fetcher:
    """Takes tasks into a worker's buffer. Only the thread that owns the worker's connection calls it, but for what the
    heartbeat empties and reads.

    Args:
        queues: where from, in order of priority.
        channel: the worker's connection.
        holder: the worker's name.
        ttl: seconds that a lease lives.
        slate: where the names of the leases stand.
        superseded: called with a lease that was lost while its task ran.
        running: what runs beside the buffer, by lease; these leases stay when all others are given up.
        weights: the share of each queue; None for strict priority.
        burst: do not wait for tasks.
        await_notification: sends a packed `BLPOP` and returns its reply, or `INTERRUPTED`.
        rest: waits for so many seconds.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        channel: Channel,
        *,
        holder: str,
        ttl: float,
        scoreboard: Scoreboard,
        superseded: Callable[[Lease], None],
        running: Mapping[str, _Running],
        weights: Sequence[float] | None,
        burst: bool,
        await_notification: Callable[[bytes], Any],
        rest: Callable[[float], object],
    ) -> None:
        self._channel, self._holder, self._ttl, self._scoreboard = channel, holder, ttl, scoreboard
        self._running, self._burst = running, burst
        self._await_notification, self._rest_for = await_notification, rest
        self.pools = [
            LeasePool(queue, channel, superseded, partial(scoreboard.lease, index)) for index, queue in enumerate(queues)
        ]
        self._by_noti = {pool.store.keys.noti.encode(errors="surrogateescape"): pool for pool in self.pools}
        longest = min(queue.dequeue_timeout for queue in queues)
        self.turns = QueueOrder(self.pools, weights, longest)
        self.wait = longest + _LATE  # seconds that a wait for a notification may take
        self.buffer: deque[Lease] = deque()  # taken and not begun; the heartbeat may empty it from the other end
        self.fresh_at = 0.0  # monotonic time at which all leases lived
        self.size = 1  # what was learnt last, of whatever queue: where one begins of which nothing is known
        self.recheck = False  # the connection broke: look what waits, as what Redis told it last may be lost
        self.interrupted = False  # a stop came during a blocking pop
        self._more_in_first = False  # the first queue had as many tasks as we asked for, and no other goes before it

    def connect(self) -> None:
        """Open a connection, and begin anew on it: endings that had no reply are sent again first, then all else that was
        held under the old names, known or not, goes back to its queue."""
        self._channel.open()
        self._scoreboard.connect(0, self._channel.client_id)
        self._channel.settle()  # what Redis refuses to end must not be given back: it has run
        for pool in self.pools:
            names = [name for name in pool.made if name not in self._running]
            if names:
                pool.store.give_back(names, pool.tasks())
                pool.renew(self._running)
                self._channel.call("UNLINK", *names)

    def is_fresh(self, moment: float) -> bool:
        """Whether the leases live for certain at this monotonic time, so that nobody can have swept what they hold."""
        return moment - self.fresh_at < self._ttl / 2

    def take(self, most: int) -> bool:
        """Get tasks into the buffer, so many at most; False if there were none within the time that an idle worker waits."""
        if self._more_in_first and self._take_from(self.pools[0], most):
            return True
        self._more_in_first = False
        self.turns.feed()
        if not self._burst and not self.recheck:
            pop, seconds = self.turns.pop()
            if not pop:  # all are paused, or have reached a limit
                self._rest_for(seconds)
                return False
            reply = self._await_notification(pop)
            if reply is INTERRUPTED:
                self.interrupted = True
                return False
            if reply is not None:
                return self._take_announced(self._by_noti[reply[0]], most)
        # Nothing was announced, or we may have missed it; look, as a notification can get lost.
        pools = self.turns.order()
        found = pools[0].store.due([pool.store.keys for pool in pools])
        if found.first is None:
            self.recheck = False
            self._rest()
            return False
        return self._take_in_turn(pools[found.first], most, waiting=True)

    def _take_announced(self, pool: LeasePool, most: int) -> bool:
        """Take what a notification has announced. Producers that know no scripts may push that before the task."""
        found = self._take_in_turn(pool, most, claims=1)
        for pause in _ANNOUNCED:
            if found or not self.turns.plain:  # where there are limits, the claim has gone back
                break
            self._rest_for(pause)
            found = self._take_in_turn(pool, most, claims=1)
        return found

    def _take_in_turn(self, pool: LeasePool, most: int, claims: int = 0, waiting: bool = False) -> bool:
        """As `_take_from`, where queues may have weights and limits."""
        found = self._take_from(pool, most, claims, waiting)
        if self.turns.plain:
            return found
        self._more_in_first = self._more_in_first and not self.turns.weighted
        self.recheck = self.recheck and found  # what is left may not be taken now
        more = self.turns.took(pool, len(self.buffer))
        if not found and self._burst and more:  # it ends when the queues are empty, not when a limit is reached
            self._rest_for(self.turns.pop()[1])
        return found or more

    def _take_from(self, pool: LeasePool, most: int, claims: int = 0, waiting: bool = False) -> bool:
        now = monotonic()
        if not self.is_fresh(now):  # after a pause their keys may be gone: let them go, and make others
            for each in self.pools:
                each.renew(self._running)
            for running in self._running.values():
                running.lease.gone = True  # perhaps: so it asks
            self.fresh_at = now
        if not pool.prefetch.known:
            pool.prefetch.size = self.size
        leases, living = pool.get(min(pool.prefetch.size, most))
        names = [lease.name for lease in leases]
        tasks, suspect = pool.take(names, self._holder, self._ttl, living=living, claims=claims, waiting=waiting)
        count = len(tasks)
        for lease, data in zip(leases, tasks, strict=False):
            lease.data, lease.suspect = data, suspect
        pool.unused(leases[count:], max(living - count, 0))
        self._more_in_first = count == len(leases) and pool is self.pools[0]
        self.buffer.extend(leases[:count])
        return count > 0

    def _rest(self) -> None:
        """An idle worker keeps no leases."""
        for pool in self.pools:
            if old := pool.renew(self._running):
                self._channel.call("UNLINK", *old)
