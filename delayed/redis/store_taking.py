"""The scripts by which workers find and take tasks: a part of `store.Store`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..base.clock import milliseconds, now
from .command import is_cluster
from .keys import Keys, register_of
from .places import READY, scored
from .statistics import DAY, TIERS
from .store_base import BaseStore

MOST_SERVED = 10_000  # queues of the register that are read
SERVED_FOR = 90 * 86400  # seconds for which a queue is known that nobody serves any more


class TakeResult(NamedTuple):
    """What `Store.take` got: task i is held under lease i."""

    tasks: list[bytes]
    suspect: bool  # the only task has been lost before


class LimitedTakeResult(NamedTuple):
    """What `take_limited` got."""

    tasks: list[bytes]
    suspect: bool
    pause: float | None  # seconds after which to ask again, if a limit was in the way; None if the queue is paused


class Due(NamedTuple):
    """What `due` found."""

    first: int | None  # the first queue that has waiting tasks
    moved: int  # tasks that were due
    pause: float | None  # seconds until the next task is due; 0 if more are due now, None if nothing is scheduled


class Taking(BaseStore):
    """What workers do with a queue before a task begins."""

    def take(
        self, leases: Sequence[str], holder: str, seconds: float, *, living: int = 0, claims: int = 0, waiting: bool = False
    ) -> TakeResult:
        """Take up to one task for each lease, together with its notification.

        Args:
            leases: names that no other worker uses and that hold nothing now.
            holder: who takes, for humans: the value of a lease's key.
            seconds: how long the leases' keys, where they are made now, live.
            living: how many of the leases, from the first, have a living key already.
            claims: how many notifications the caller has popped already.
            waiting: take whatever waits. Else take no more tasks than there are notifications, as each of the others is on
                its way to the worker that has popped its notification.
        """
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost, *leases)
        limit = "waiting" if waiting else "notified"
        suspect, *tasks = self._run("take", keys, claims, limit, living, holder, milliseconds(seconds))
        return TakeResult(tasks, bool(suspect))

    def take_limited(
        self, leases: Sequence[str], holder: str, seconds: float, *, living: int = 0, claims: int = 0, waiting: bool = False
    ) -> LimitedTakeResult:
        """As `take`, within the queue's limits. A claim that a limit stands in the way of goes back."""
        own = self.keys
        keys = (own.queue, own.noti, own.processing, own.lost, own.control, own.bucket, *leases)
        limit = "waiting" if waiting else "notified"
        suspect, pause, *tasks = self._run("take_limited", keys, claims, limit, living, holder, milliseconds(seconds))
        return LimitedTakeResult(tasks, bool(suspect), None if pause < 0 else pause / 1000)

    def due(self, queues: Sequence[Keys], most: int = 100) -> Due:
        """Move tasks that are due to their queues, and look which of the `queues` has waiting tasks. They are on this
        queue's server (and, on a cluster, in its slot)."""
        keys = tuple(key for each in queues for key in (each.queue, each.noti, each.scheduled))
        position, moved, pause, stayed = self._run("due", keys, most, "leave")
        if stayed:
            back = self._to_groups(queues[stayed - 1], most)
            position, others, pause, _ = self._run("due", keys, most, "leave")
            moved += back + others
        return Due(position - 1 if position else None, moved, None if pause < 0 else pause / 1000)

    def _to_groups(self, keys: Keys, most: int) -> int:
        """Let tasks of groups that are due wait in their groups, and some in the queue. Returns how many there were."""
        queue = self.at(keys)
        _, digests = queue.regroup([], most)
        moved, _ = queue.regroup(digests, most)
        queue.feed(READY)
        return moved

    def regroup(self, digests: Sequence[str], most: int) -> tuple[int, list[str]]:
        """Of the first `most` tasks in the schedule, move those that are due and belong to one of these groups to its list.
        Returns how many there were, and which other groups have tasks that are due."""
        own = self.keys
        keys = (own.queue, own.noti, own.scheduled, own.groups, *map(own.group, digests))
        moved, *others = self._run("regroup", keys, most, *digests)
        return moved, [each.decode(errors="surrogateescape") for each in others]

    def turn(self, digests: Sequence[str], most: int) -> int:
        """Fill the queue up to `most` tasks from the lists of these groups, which are the first in the rotation. Returns how
        many were moved."""
        own = self.keys
        keys = (own.queue, own.noti, own.groups, *map(own.group, digests))
        return int(self._run("turn", keys, most, *digests))

    def grouped(self, most: int, start: int = 0) -> list[str]:
        """The digests of at most so many groups that have waiting tasks, in the order of their turns."""
        found = self.call("LRANGE", self.keys.groups, start, start + most - 1)
        return [each.decode(errors="surrogateescape") for each in found]

    def feed(self, most: int) -> bool:
        """Fill the queue up to `most` tasks from its groups, in turns. False if no group has any."""
        digests = self.grouped(most)
        if digests:
            self.turn(digests, most)
        return bool(digests)

    def beat(self, holder: str, seconds: float, about: bytes) -> list[Any]:
        """Say that the process `holder` lives for so many `seconds`, and what it says `about` itself. Returns 1 if groups have
        waiting tasks, plus 2 if tasks are noted that could not run somewhere (see `ran`), and then the fields of the control
        hash and their values in turn."""
        keys = (self.keys.lease(holder), self.keys.workers, self.keys.control, self.keys.groups, self.keys.deferred)
        reply: list[Any] = self._run("beat", keys, holder, milliseconds(seconds), about)
        return reply

    def count(self, moment: float, chance: float, deltas: Sequence[tuple[str, bytes]]) -> bool:
        """Add what a worker has counted to the queue's statistics.

        Args:
            moment: now, in seconds since 1970.
            chance: drawn evenly from above 0 to 1, for functions that compete for a place.
            deltas: a function's path and its counts (see `statistics.packed`); the first is '', with the sum of all.
        """
        keys = (self.keys.stats_total, *(self.keys.stats_of(tier.name, tier.key(moment)) for tier in TIERS))
        words = [word for delta in deltas for word in delta]
        return bool(self._run("count", keys, *(tier.row(moment) for tier in TIERS), int(moment // DAY), chance, *words))

    def serve(self) -> None:
        """Say that this queue has a worker or a sweeper. Queues that have had none for long are forgotten."""
        register, seconds = register_of(self.name, is_cluster(self.conn)), round(now())
        self.call("ZADD", register, seconds, self.name)
        self.call("ZREMRANGEBYSCORE", register, "-inf", seconds - SERVED_FOR)

    def served(self, most: int = MOST_SERVED) -> dict[str, float]:
        """The queues that have workers or sweepers, or had some in the last 90 days: their names → when these last said so, in
        seconds since 1970, the latest first. On a cluster those with this queue's hash tag."""
        found = self.call("ZREVRANGE", register_of(self.name, is_cluster(self.conn)), 0, most - 1, "WITHSCORES")
        return {name.decode(errors="surrogateescape"): moment for name, moment in scored(found)}

    def forget(self) -> None:
        """The opposite of `serve`."""
        self.call("ZREM", register_of(self.name, is_cluster(self.conn)), self.name)

    def ran(self, digests: Sequence[str]) -> None:
        """Tasks with these SHA-1 have run here. What is noted of others with the same bytes, because they could not run
        somewhere, is forgotten: it must not make the time shorter for which the next one waits."""
        if digests:
            self.call("HDEL", self.keys.deferred, *digests)
