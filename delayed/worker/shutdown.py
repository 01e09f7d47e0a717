"""The end of a worker process: what is given back, and what is said."""

import contextlib
from collections.abc import Callable, Collection

from ..base.clock import monotonic
from ..base.text import said
from ..job.runner import KILLED, overran
from ..logger import logger
from ..redis.channel import Channel
from ..redis.command import ResponseError
from .completer import Completer
from .state import WorkerState

EXIT_FORCED = 3  # the grace was over, or a second signal came: what ran was given back


def leave_unheard(state: WorkerState, reason: str, error: BaseException) -> None:
    """The end of a worker while Redis cannot be reached: say what that leaves behind."""
    if not state.abandoned and all(not pool.made or pool.idle for pool in state.pools):
        state.scoreboard.leave()  # what is left of it runs out by itself
        logger.info("%s: held no tasks; could not sign off from Redis: %s", reason, said(error))
    else:
        logger.error("%s: exiting without returning the tasks it holds; a sweeper will recover them: %s", reason, said(error))


def say_goodbye(channel: Channel, state: WorkerState) -> int:
    """Give back all that a worker holds and remove every trace of it. Returns how many tasks went back."""
    count = 0
    begun = state.begun()
    for pool in state.pools:
        store, made, tasks = pool.store, pool.made, pool.tasks()
        names = sorted(made, key=lambda name: name not in begun)  # those first
        own = store.keys.lease(state.name)
        if names:
            count += store.over(channel).give_back(names, tasks, len(begun.intersection(names)))
        channel.call("UNLINK", own, *names)
        with contextlib.suppress(ResponseError):  # the tasks are back, which matters; the register does not
            channel.call("HDEL", store.keys.workers, own)
    for lease in state.abandoned:
        channel.call("UNLINK", lease.name)  # so the next sweep finds it
    if not state.abandoned:
        state.scoreboard.leave()
    return count


def end_early(
    channel: Channel, state: WorkerState, completer: Completer, cancelled: Collection[str]
) -> list[Callable[[], None]]:
    """End the leases of tasks that run, over another connection: of those that are over their hard timeout, and of those
    whose state is under one of the keys `cancelled`. Returns what tells those who listen."""
    ended = []
    for execution in list(state.in_flight.values()):
        if execution.job is not None and execution.state_key in cancelled:
            ended.append(completer.end_early(channel, execution.lease, execution.job, KILLED))
        elif execution.job is not None and execution.deadline <= monotonic():
            ended.append(completer.end_early(channel, execution.lease, execution.job, overran(execution.job)))
    return ended
