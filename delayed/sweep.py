"""One sweep of a queue: what killed workers held goes back, and what else they left is put right."""

from collections.abc import Iterator
from typing import NamedTuple

from .connection import is_cluster, same_slot
from .graveyard import Graveyard, tell_swept
from .keys import token
from .logger import logger
from .queue import Queue

LOSSES = 3  # how many losses bury a task, if nothing else is said


class Outcome(NamedTuple):
    """What one sweep of a queue did."""

    recovered: int = 0  # lost tasks put back
    buried: int = 0  # lost tasks moved to the dead letters
    repaired: int = 0  # notifications added or removed
    pruned: int = 0  # dead processes struck off the register


def sweep(queue: Queue, limit: int = LOSSES, sweeper: str = "", graveyard: Graveyard | None = None) -> Outcome:
    """Sweep a queue once. It may be killed anywhere, and done by any number at the same time.

    Args:
        queue: the queue.
        limit: how many losses bury a task.
        sweeper: who sweeps, for the dead letters.
        graveyard: tells those who wait for what was buried, here or by others; None: by this sweep.
    """
    recovered = buried = pruned = 0
    sweep_id = token()
    queue.wake_all()  # before keys are set free here: each of those wakes one
    for leases in _dead_pages(queue, queue.keys.processing):
        more = True
        while more:
            back, under, more = queue.sweep(leases, limit, sweep_id, sweeper)
            recovered += back
            buried += under
    tell_swept(queue.name, sweeper, recovered, buried)
    if buried or graveyard is not None:
        (graveyard or Graveyard(queue)).tell()
    repaired = repair(queue)
    for leases in _dead_pages(queue, queue.keys.workers):
        pruned += queue.prune(leases)
    return Outcome(recovered, buried, repaired, pruned)


def repair(queue: Queue) -> int:
    """Make the notifications as many as the tasks. Returns how many were added or removed."""
    repaired, left = 0, 1
    while left:
        added, removed, left = queue.repair()
        repaired += added + removed
    return repaired


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
