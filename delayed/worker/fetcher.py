"""What a worker takes next, from which of its queues, and under which leases."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ..base.clock import monotonic
from ..queue.queue import Queue
from ..redis.channel import INTERRUPTED, Channel
from .leases import Lease, LeaseBook
from .queue_order import Turns
from .scoreboard import Slate

_LATE = 1.0  # seconds that Redis may be late with the end of a blocking pop


_ANNOUNCED = (0.005, 0.02, 0.1)  # seconds after which to look for a task that was announced before it was added


class _Running(Protocol):
    """A task that runs beside others."""

    lease: Lease


class Taker:
    """Takes tasks into a worker's hand. Only the thread that owns the worker's connection calls it, but for what the heartbeat
    empties and reads.

    Args:
        queues: where from, in order of priority.
        channel: the worker's connection.
        holder: the worker's name.
        ttl: seconds that a lease lives.
        slate: where the names of the leases stand.
        superseded: called with a lease that was lost while its task ran.
        running: what runs beside the hand, by lease; these leases stay when all others are given up.
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
        slate: Slate,
        superseded: Callable[[Lease], None],
        running: Mapping[str, _Running],
        weights: Sequence[float] | None,
        burst: bool,
        await_notification: Callable[[bytes], Any],
        rest: Callable[[float], object],
    ) -> None:
        self._channel, self._holder, self._ttl, self._slate = channel, holder, ttl, slate
        self._running, self._burst = running, burst
        self._await_notification, self._rest_for = await_notification, rest
        self.books = [LeaseBook(queue, channel, superseded, partial(slate.lease, index)) for index, queue in enumerate(queues)]
        self._by_noti = {book.queue.keys.noti.encode(errors="surrogateescape"): book for book in self.books}
        longest = min(queue.dequeue_timeout for queue in queues)
        self.turns = Turns(self.books, weights, longest)
        self.wait = longest + _LATE  # seconds that a wait for a notification may take
        self.hand: deque[Lease] = deque()  # taken and not begun; the heartbeat may empty it from the other end
        self.fresh_at = 0.0  # monotonic time at which all leases lived
        self.size = 1  # what was learnt last, of whatever queue: where one begins of which nothing is known
        self.look = False  # the connection broke: look what waits, as what Redis told it last may be lost
        self.interrupted = False  # a stop came during a blocking pop
        self._again = False  # the first queue had as many tasks as we asked for, and no other goes before it

    def connect(self) -> None:
        """Open a connection, and begin anew on it: endings that had no reply are sent again first, then all else that was
        held under the old names, known or not, goes back to its queue."""
        self._channel.open()
        self._slate.connect(0, self._channel.client_id)
        self._channel.settle()  # what Redis refuses to end must not be given back: it has run
        for book in self.books:
            names = [name for name in book.made if name not in self._running]
            if names:
                book.queue.give_back(names, book.tasks())
                book.renew(self._running)
                self._channel.call("UNLINK", *names)

    def is_fresh(self, moment: float) -> bool:
        """Whether the leases live for certain at this monotonic time, so that nobody can have swept what they hold."""
        return moment - self.fresh_at < self._ttl / 2

    def take(self, most: int) -> bool:
        """Get tasks in hand, so many at most; False if there were none within the time that an idle worker waits."""
        if self._again and self._take_from(self.books[0], most):
            return True
        self._again = False
        self.turns.feed()
        if not self._burst and not self.look:
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
        books = self.turns.order()
        found = books[0].queue.due([book.queue.keys for book in books])
        if found.first is None:
            self.look = False
            self._rest()
            return False
        return self._take_in_turn(books[found.first], most, waiting=True)

    def _take_announced(self, book: LeaseBook, most: int) -> bool:
        """Take what a notification has announced. Producers that know no scripts may push that before the task."""
        found = self._take_in_turn(book, most, claims=1)
        for pause in _ANNOUNCED:
            if found or not self.turns.plain:  # where there are limits, the claim has gone back
                break
            self._rest_for(pause)
            found = self._take_in_turn(book, most, claims=1)
        return found

    def _take_in_turn(self, book: LeaseBook, most: int, claims: int = 0, waiting: bool = False) -> bool:
        """As `_take_from`, where queues may have weights and limits."""
        found = self._take_from(book, most, claims, waiting)
        if self.turns.plain:
            return found
        self._again = self._again and not self.turns.weighted
        self.look = self.look and found  # what is left may not be taken now
        more = self.turns.took(book, len(self.hand))
        if not found and self._burst and more:  # it ends when the queues are empty, not when a limit is reached
            self._rest_for(self.turns.pop()[1])
        return found or more

    def _take_from(self, book: LeaseBook, most: int, claims: int = 0, waiting: bool = False) -> bool:
        now = monotonic()
        if not self.is_fresh(now):  # after a pause their keys may be gone: let them go, and make others
            for each in self.books:
                each.renew(self._running)
            for running in self._running.values():
                running.lease.gone = True  # perhaps: so it asks
            self.fresh_at = now
        if not book.pace.known:
            book.pace.size = self.size
        leases, living = book.get(min(book.pace.size, most))
        names = [lease.name for lease in leases]
        tasks, suspect = book.take(names, self._holder, self._ttl, living=living, claims=claims, waiting=waiting)
        count = len(tasks)
        for lease, data in zip(leases, tasks, strict=False):
            lease.data, lease.suspect = data, suspect
        book.unused(leases[count:], max(living - count, 0))
        self._again = count == len(leases) and book is self.books[0]
        self.hand.extend(leases[:count])
        return count > 0

    def _rest(self) -> None:
        """An idle worker keeps no leases."""
        for book in self.books:
            if old := book.renew(self._running):
                self._channel.call("UNLINK", *old)
