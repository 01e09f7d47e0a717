"""Takes tasks for a worker: which next, from which of its queues, and under which leases."""

from collections.abc import Callable

from ..base.clock import monotonic
from ..redis.channel import INTERRUPTED, Channel
from .leases import LeasePool
from .options import WorkerOptions
from .queue_order import QueueOrder
from .state import WorkerState
from .waiters import Waiter

_LATE = 1.0  # seconds that Redis may be late with the end of a blocking pop
_ANNOUNCED = (0.005, 0.02, 0.1)  # seconds after which to look for a task that was announced before it was added


class Fetcher:
    """Takes tasks into a worker's buffer. Only the loop calls it.

    Args:
        options: what the worker is asked for.
        state: of the worker, with its leases; those of what is in flight stay when all others are given up.
        channel: the worker's connection.
        waiter: waits for notifications.
    """

    def __init__(self, options: WorkerOptions, state: WorkerState, channel: Channel, waiter: Waiter) -> None:
        self._state, self._channel, self._waiter = state, channel, waiter
        self._ttl, self._burst = options.ttl, options.burst
        self._running = state.in_flight
        self.pools = state.pools
        self._by_noti = {pool.store.keys.noti.encode(errors="surrogateescape"): pool for pool in self.pools}
        self.turns = QueueOrder(self.pools, options.weights, options.wait)
        self.wait = options.wait + _LATE  # seconds that a wait for a notification may take
        self.size = 1  # what was learnt last, of whatever queue: where one begins of which nothing is known
        self.recheck = False  # the connection broke: look what waits, as what Redis told it last may be lost
        self.interrupted = False  # a stop came during a blocking pop
        self.before_wait: Callable[[], None] = lambda: None  # called when there may be nothing more to take
        self._more_in_first = False  # the first queue had as many tasks as we asked for, and no other goes before it

    @property
    def more(self) -> bool:
        """Whether there is more to take at once, as far as is known."""
        return self._more_in_first

    def look(self) -> None:
        """There may be more to take at once, as workflows have been carried on."""
        self._more_in_first = self._more_in_first or not self.turns.weighted

    def connect(self) -> None:
        """Open a connection, and begin anew on it: endings that had no reply are sent again first, then all else that was
        held under the old names, known or not, goes back to its queue."""
        self._channel.open()
        self._state.scoreboard.connect(0, self._channel.client_id)
        self._channel.settle()  # what Redis refuses to end must not be given back: it has run
        for pool in self.pools:
            names = [name for name in pool.made if name not in self._running]
            if names:
                pool.store.give_back(names, pool.tasks())
                pool.renew(self._running)
                self._channel.call("UNLINK", *names)

    def take(self, most: int) -> bool:
        """Get tasks into the buffer, so many at most; False if there were none within the time that an idle worker waits."""
        if self._more_in_first and self._take_from(self.pools[0], most):
            return True
        self._more_in_first = False
        self.before_wait()
        self.turns.feed()
        if not self._burst and not self.recheck:
            pop, seconds = self.turns.pop()
            if not pop:  # all are paused, or have reached a limit
                self._waiter.rest(seconds)
                return False
            reply = self._waiter.notification(pop, self.wait)
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
            self._waiter.rest(pause)
            found = self._take_in_turn(pool, most, claims=1)
        return found

    def _take_in_turn(self, pool: LeasePool, most: int, claims: int = 0, waiting: bool = False) -> bool:
        """As `_take_from`, where queues may have weights and limits."""
        found = self._take_from(pool, most, claims, waiting)
        if self.turns.plain:
            return found
        self._more_in_first = self._more_in_first and not self.turns.weighted
        self.recheck = self.recheck and found  # what is left may not be taken now
        more = self.turns.took(pool, len(self._state.buffer))
        if not found and self._burst and more:  # it ends when the queues are empty, not when a limit is reached
            self._waiter.rest(self.turns.pop()[1])
        return found or more

    def _take_from(self, pool: LeasePool, most: int, claims: int = 0, waiting: bool = False) -> bool:
        now = monotonic()
        if not self._state.is_fresh(now):  # after a pause their keys may be gone: let them go, and make others
            self._channel.settle()
            for each in self.pools:
                each.renew(self._running)
            for running in self._running.values():
                running.lease.gone = True  # perhaps: so it asks
            self._state.fresh_at = now
        if not pool.prefetch.known:
            pool.prefetch.size = self.size
        leases, living = pool.get(min(pool.prefetch.size, most))
        names = [lease.name for lease in leases]
        tasks, suspect = pool.take(names, self._state.name, self._ttl, living=living, claims=claims, waiting=waiting)
        count = len(tasks)
        for lease, data in zip(leases, tasks, strict=False):
            lease.data, lease.suspect = data, suspect
        pool.unused(leases[count:], max(living - count, 0))
        self._more_in_first = count == len(leases) and pool is self.pools[0]
        self._state.buffer.extend(leases[:count])
        return count > 0

    def _rest(self) -> None:
        """An idle worker keeps no leases."""
        for pool in self.pools:
            pool.take_returned()
            held = [name for name, lease in pool.made.items() if lease.data is not None]  # the heartbeat gives these back
            if old := pool.renew({*self._running, *held}):
                self._channel.call("UNLINK", *old)
