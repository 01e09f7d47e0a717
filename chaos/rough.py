"""A worker of a rough application: `python -m chaos.rough QUEUE TTL BEAT GRACE`. Its middlewares, hooks and listeners raise
what no exception should be, now and then."""

import os
import random
import sys

from delayed.events import Event, subscribe
from delayed.hooks import Hooks
from delayed.job.allow import AllowList
from delayed.job.job import Job
from delayed.job.middleware import Step
from delayed.job.outcome import Outcome
from delayed.logger import setup_logger
from delayed.queue.queue import Queue
from delayed.worker.worker import Worker

from .notes import SPOILED, note
from .odd import worst

_SPOILED = 0.02  # share of the tasks with headers of which a middleware makes a failure
_HOOKED = 0.002  # share of the events of which a hook, and a listener, makes something


def before(job: Job, call_next: Step) -> Outcome:
    """Raises instead of going on."""
    if random.random() < _SPOILED:
        note(SPOILED, job.args[0])
        raise worst()
    return call_next(job)


def after(job: Job, call_next: Step) -> Outcome:
    """Raises, or returns nothing of use, when all is done."""
    outcome = call_next(job)
    if random.random() < _SPOILED:
        note(SPOILED, job.args[0])
        if random.random() < 0.5:
            raise worst()
        return None  # type: ignore[return-value]  # as applications do
    return outcome


def hear(_event: Event) -> None:
    """Raises; nobody shall care. (A KeyboardInterrupt is the program's, and is passed on.)"""
    if random.random() < _HOOKED and not isinstance(error := worst(), KeyboardInterrupt):
        raise error


def main() -> None:
    """Until SIGTERM."""
    name, (ttl, beat, grace) = sys.argv[1], map(float, sys.argv[2:5])
    setup_logger(log_level="WARNING")
    subscribe(hear)
    queue = Queue(name, os.environ["DELAYED_REDIS_URL"], 0.5, ttl)
    Worker(
        queue,
        beat,
        allow=AllowList(["chaos.tasks:*"]),
        grace=grace,
        middlewares=[before, after],
        hooks=Hooks(on_start=hear, on_success=hear, on_failure=hear, on_retry=hear),
    ).run()


if __name__ == "__main__":
    main()
