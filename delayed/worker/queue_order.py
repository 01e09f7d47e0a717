"""Decides which of its queues a worker asks for tasks, and in which order: strict or by weights, without those that it may
not take from at the moment."""

from collections.abc import Sequence
from typing import Any

from ..base.clock import monotonic
from ..queue.history import Keeping
from ..queue.limits import Limits
from ..redis.command import pack
from ..redis.store_taking import TakeResult
from .leases import LeasePool

_SHORTEST = 0.01  # seconds; to Redis, no time at all means for ever
_LOOK = 1.0  # seconds after which a queue is asked again that was paused when we did not know it yet
_LONGEST = 5.0  # seconds after which a queue is asked again in any case
_AHEAD = 2  # batches that a queue with groups has ready: a longer queue would make groups wait


class QueueGate:
    """One queue of a worker, and whether the worker may take from it.

    Args:
        pool: its leases on the queue.
        weight: its share.
    """

    def __init__(self, pool: LeasePool, weight: float) -> None:
        self.pool = pool
        self.weight = weight
        self.limits = Limits()
        self.opens_at = 0.0  # monotonic time from which it is worth asking
        self.served = 0.0  # tasks taken, divided by the weight, counted from where the others were when it had none

    def learn(self, limits: Limits) -> None:
        """What operators want now; said by the heartbeat, from its thread: `pool.take` is changed in one step."""
        if limits != self.limits:
            self.opens_at = 0.0
        self.limits = limits
        self.pool.limited = limits.any
        self.pool.take = self._take_limited if limits.any else self.pool.store.take

    @property
    def open(self) -> bool:
        """Whether it is worth asking."""
        return not self.limits.paused and (not self.opens_at or monotonic() >= self.opens_at)

    @property
    def opens_soon(self) -> bool:
        """Whether only time stands in the way."""
        return not self.limits.paused and not self.open

    def _take_limited(self, leases: Sequence[str], holder: str, seconds: float, **how: Any) -> TakeResult:
        tasks, suspect, pause = self.pool.store.take_limited(leases, holder, seconds, **how)
        self.opens_at = monotonic() + (_LOOK if pause is None else min(pause, _LONGEST)) if pause != 0 else 0.0
        return TakeResult(tasks, suspect)


class QueueOrder:
    """The queues of a worker.

    Args:
        pools: its leases on each, in order of priority.
        weights: the share of each; None for strict priority.
        seconds: how long to wait for a notification.
    """

    def __init__(self, pools: Sequence[LeasePool], weights: Sequence[float] | None, seconds: float) -> None:
        self.weighted = weights is not None
        self._gates = [QueueGate(pool, weight) for pool, weight in zip(pools, weights or [1.0] * len(pools), strict=True)]
        self._seconds = seconds
        self._pop = pack("BLPOP", *(pool.store.keys.noti for pool in pools), seconds)
        self._level = 0.0  # `served` of the queue that was served last
        self.plain = not self.weighted  # strict order, and no limits: the first queue that has tasks is the one

    def learn(self, index: int, reply: Sequence[Any]) -> None:
        """What a beat has brought from queue `index`; called by the heartbeat."""
        flags, *fields = reply
        self._gates[index].learn(Limits.of(fields))
        self.plain = not self.weighted and not any(gate.limits.any for gate in self._gates)
        pool = self._gates[index].pool
        pool.grouped = pool.grouped or bool(flags & 1)
        pool.deferred = bool(flags & 2)
        pool.recorder.learn(Keeping.of(fields))

    def feed(self) -> None:
        """Let groups take turns where there are any."""
        for gate in self._gates:
            pool = gate.pool
            if pool.grouped:
                pool.grouped = pool.store.feed(_AHEAD * pool.prefetch.size)

    def pop(self) -> tuple[bytes, float]:
        """The command that waits for a notification, packed, or nothing if no queue may be asked; and the seconds to wait."""
        if self.plain:
            return self._pop, self._seconds
        now, seconds, notis = monotonic(), self._seconds, []
        for gate in self._sorted():
            if gate.open:
                notis.append(gate.pool.store.keys.noti)
            elif gate.opens_soon:
                seconds = min(seconds, max(gate.opens_at - now, _SHORTEST))
        return pack("BLPOP", *notis, seconds) if notis else b"", seconds

    def order(self) -> list[LeasePool]:
        """The queues in the order in which to look; those that may not be asked come last."""
        if self.plain:
            return [gate.pool for gate in self._gates]
        return [gate.pool for gate in sorted(self._sorted(), key=lambda gate: not gate.open)]

    def took(self, pool: LeasePool, count: int) -> bool:
        """So many tasks came from a queue. Returns whether more may come from it, but for a limit, after a while."""
        gate = next(gate for gate in self._gates if gate.pool is pool)
        if self.weighted and count:
            # A queue that had nothing for a while begins where the others are: it has saved nothing up.
            gate.served = self._level = max(gate.served, self._level)
            gate.served += count / gate.weight
        return not count and gate.opens_soon

    def _sorted(self) -> list[QueueGate]:
        """By what each has had of its share; strictly if there are no weights, as then nobody counts."""
        return sorted(self._gates, key=lambda gate: max(gate.served, self._level)) if self.weighted else self._gates
