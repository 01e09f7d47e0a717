"""The end of a worker process: what is given back, and what is said."""

import contextlib

from ..base.text import said
from ..logger import logger
from ..redis.channel import Channel
from ..redis.command import ResponseError
from .state import Holder

EXIT_FORCED = 3  # the grace was over, or a second signal came: what ran was given back


def leave_unheard(worker: Holder, reason: str, error: BaseException) -> None:
    """The end of a worker while Redis cannot be reached: say what that leaves behind."""
    if not worker.abandoned and all(lease.pool.idle for _, made in worker.holdings() for lease in list(made.values())):
        worker.scoreboard.leave()  # what is left of it runs out by itself
        logger.info("%s, with nothing to give back; Redis was not told: %s", reason, said(error))
    else:
        logger.error("%s: left without giving back what was held; a sweeper will: %s", reason, said(error))


def say_goodbye(channel: Channel, worker: Holder) -> int:
    """Give back all that a worker holds and remove every trace of it. Returns how many tasks went back."""
    count = 0
    begun = worker.begun()
    for store, made in worker.holdings():
        tasks = {name: lease.data for name, lease in list(made.items()) if lease.data is not None}
        names = sorted(made, key=lambda name: name not in begun)  # those first
        own = store.keys.lease(worker.name)
        if names:
            count += store.over(channel).give_back(names, tasks, len(begun.intersection(names)))
        channel.call("UNLINK", own, *names)
        with contextlib.suppress(ResponseError):  # the tasks are back, which matters; the register does not
            channel.call("HDEL", store.keys.workers, own)
    for lease in worker.abandoned:
        channel.call("UNLINK", lease.name)  # so the next sweep finds it
    if not worker.abandoned:
        worker.scoreboard.leave()
    return count
