"""Sweeps a queue once: recovers what dead workers held, and repairs what else they left."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..base.ids import token
from ..dead_letters.lost import LostTasks, tell_swept
from ..dead_letters.retention import LOSSES
from ..job.lines import NAMED, lost
from ..logger import logger
from ..redis.command import ResponseError, is_cluster, same_slot
from ..redis.store import Store
from .caution import Suspects

_MOST = 1000  # calls of `repair` in one sweep: who adds tasks meanwhile cannot keep it busy for ever


class Outcome(NamedTuple):
    """The result of one sweep of a queue."""

    recovered: int = 0  # lost tasks put back
    buried: int = 0  # lost tasks moved to the dead letters
    repaired: int = 0  # notifications added or removed
    pruned: int = 0  # dead processes struck off the register


class Judge:
    """Decides which leases are dead: those whose keys are gone.

    Args:
        suspects: where that may be doubted; None to believe it.
        look: what to do, when some seem dead, before that is believed: it may find reasons for doubt.
    """

    def __init__(self, suspects: Suspects | None = None, look: Callable[[], None] = lambda: None) -> None:
        self._suspects, self._look = suspects, look

    def dead(self, store: Store, key: str) -> Iterator[list[str]]:
        """The dead leases named in the hash `key`, in pages."""
        for leases in store.pages(key):
            gone = _gone(store, _checkable(store, leases))
            if gone and self._suspects is not None:
                self._look()
                gone = self._suspects.dead(key, gone)
            if gone:
                yield gone
        if self._suspects is not None:
            self._suspects.looked(key)


class Pass:
    """One pass over a queue. Its steps fail one by one: each may be done though another is refused.

    Args:
        queue: the queue.
        limit: how many losses bury a task.
        sweeper: who sweeps, for the dead letters.
        graveyard: tells those who wait for what was buried, here or by others; None: by this pass.
        judge: which leases are dead.
    """

    def __init__(self, store: Store, limit: int, sweeper: str, lost_tasks: LostTasks | None, judge: Judge) -> None:
        self._store, self._limit, self._sweeper, self._lost_tasks, self._judge = store, limit, sweeper, lost_tasks, judge
        self.tasks: list[dict[str, str]] = []  # what the log says of the first of those that were lost
        self.recovered = self.buried = self.repaired = self.pruned = 0
        self.steps: list[tuple[str, Callable[[], object]]] = [
            ("wake of what waits for a key", store.wake_all),  # before keys are set free here: each of those wakes one
            ("sweep", self._bring_back),
            ("repair of the notifications", self._repair),
            ("register", self._prune),
            ("news of lost tasks", self._tell),
        ]
        if lost_tasks is not None:
            self.steps.append(("bound of the dead letters", lost_tasks.trim))
            self.steps.append(("bound of the history", lost_tasks.history.keep))

    def _bring_back(self) -> None:
        sweep_id = token()
        recovered = buried = 0
        try:
            for leases in self._judge.dead(self._store, self._store.keys.processing):
                if self._lost_tasks is not None and len(self.tasks) <= NAMED:  # there is a log
                    held = self._store.call("HMGET", self._store.keys.processing, *leases[: NAMED + 1])
                    self.tasks += lost(held)
                more = True
                while more:
                    back, under, more = self._store.sweep(leases, self._limit, sweep_id, self._sweeper)
                    recovered, buried = recovered + back, buried + under
        finally:
            self.recovered, self.buried = recovered, buried
            tell_swept(self._store.name, self._sweeper, recovered, buried)

    def _tell(self) -> None:
        if self.buried or self._lost_tasks is not None:
            (self._lost_tasks or LostTasks(self._store)).tell()

    def _repair(self) -> None:
        self.repaired = repair(self._store)

    def _prune(self) -> None:
        for leases in self._judge.dead(self._store, self._store.keys.workers):
            self.pruned += self._store.prune(leases)

    @property
    def outcome(self) -> Outcome:
        """What has been done so far."""
        return Outcome(self.recovered, self.buried, self.repaired, self.pruned)


def sweep(store: Store, limit: int = LOSSES, sweeper: str = "") -> Outcome:
    """Sweep a queue once. It may be killed anywhere, and done by any number at the same time.

    Args:
        queue: the queue.
        limit: how many losses bury a task.
        sweeper: who sweeps, for the dead letters.

    Raises:
        redis.exceptions.ResponseError: Redis refused a step; the others have been done.
    """
    this = Pass(store, limit, sweeper, None, Judge())
    refusals = []
    for _, step in this.steps:
        try:
            step()
        except ResponseError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]
    return this.outcome


def repair(store: Store) -> int:
    """Make the notifications as many as the tasks. Returns how many were added or removed."""
    repaired = 0
    for _ in range(_MOST):
        added, removed, left = store.repair()
        repaired += added + removed
        if not left:
            break
    return repaired


def _gone(store: Store, leases: list[str]) -> list[str]:
    """Those of the leases whose keys are gone. (A key of another type than a string has no value either: the scripts see that
    it lives.)"""
    if store.alive(leases) == len(leases):
        return []
    return [lease for lease, holder in zip(leases, store.call("MGET", *leases), strict=True) if holder is None]


def _checkable(store: Store, leases: list[str]) -> list[str]:
    """On a cluster, a script cannot ask for keys of other slots; ours are in the queue's own."""
    if not is_cluster(store.conn):
        return leases
    ours = [lease for lease in leases if same_slot(lease, store.name)]
    if len(ours) < len(leases):
        logger.error("%s: old workers hold tasks, and cannot be used on Redis Cluster: %s", store, set(leases) - set(ours))
    return ours
