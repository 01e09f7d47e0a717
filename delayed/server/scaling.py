"""How many workers of a queue are wanted."""

import math

from ..ops.overview import QueueView

_FULL = 0.9  # of a limit on tasks a second: those that are there make as much of it as they may


def desired(view: QueueView, slo: float) -> int:
    """How many workers a queue should have, so that no task waits for more than `slo` seconds: as many more than there are as
    the oldest task has waited for longer, or, if no task says for how long it has waited, as all of them would."""
    if view.limits.paused or not waiting(view):
        return min(view.workers, max(view.running, 0)) if view.running else 0
    there = max(view.workers, 1)
    wanted = there * _late(view, slo)
    wanted = max(1, math.ceil(min(wanted, _for_the_rate(view))), min(view.workers, view.running))
    return wanted if view.limits.concurrency is None else min(wanted, max(1, view.limits.concurrency))


def waiting(view: QueueView) -> int:
    """Tasks that wait and are due."""
    return view.pending - view.scheduled + view.overdue


def _late(view: QueueView, slo: float) -> float:
    """How many times as long as it should a task waits."""
    if view.oldest is not None:
        return view.oldest / slo
    ready = view.waiting + view.grouped + view.overdue  # those that wait for keys no worker could begin
    if not ready:
        return 0.0
    if view.rate > 0:
        return ready / view.rate / slo
    there = max(view.workers, 1)  # nobody knows how long they take: one more, if all that there are have something to do
    return (there + 1) / there if 0 < view.workers <= view.running else 1.0


def _for_the_rate(view: QueueView) -> float:
    """How many workers make all of the queue's limit on tasks a second."""
    limit = view.limits.rate
    if limit is None or not view.workers or not view.rate:
        return math.inf
    return view.workers if view.rate >= _FULL * limit else view.workers * limit / view.rate
