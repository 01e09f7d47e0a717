"""The log lines of tasks that succeed: one for each, or, where they are many, one for each function and second."""

import logging
from collections.abc import Callable

from ..base.clock import now
from ..base.escape import escaped
from ..job.job import Job
from ..job.lines import fields, ran, words
from ..logger import logger
from ..redis.server_time import ServerTime
from .tally import LOGGED, LOGGED_FOR, OK, Totals

MOST = 50  # lines a second; of more successes there is one line for each function
_SECOND = 1.0


class TaskLog:
    """Logs what a worker's tasks come to, beside failures, which are logged where they are handled.

    The worker's loop counts all, in totals that only grow (see `tally`); its heartbeat reads them each second and logs the
    difference, so that no task waits for that. At DEBUG there is a line for each.

    Args:
        clock: of the server.
    """

    def __init__(self, clock: ServerTime) -> None:
        self._clock = clock
        self.on = False  # whether anybody reads it
        self.wake: Callable[[], None] = lambda: None  # tells the heartbeat that there is something to log in a second
        self._most: float = MOST
        self._ended = self._single = 0.0  # in this second: tasks of which it was told, and how many may have lines
        self._until = 0.0  # monotonic time at which it is over
        self.counting_until = 0.0  # likewise, if successes are only counted until then: then it need not be told of them
        self._totals: dict[str, Totals] = {}  # by queue
        self._before = 0.0  # successes in all totals when this second began
        self._logged: dict[tuple[str, str], tuple[float, float]] = {}
        self._counting = False  # since the last look of the heartbeat
        self.due = float("inf")  # monotonic time of its next look

    def refresh(self) -> None:
        """See what the log's level is now."""
        self._most = float("inf") if logger.isEnabledFor(logging.DEBUG) else MOST
        self.on = logger.isEnabledFor(logging.INFO)

    # The loop

    def totals(self, queue: str) -> Totals:
        """What is counted of a queue's functions."""
        return self._totals.setdefault(queue, Totals())

    def succeeded(self, queue: str, path: str, seconds: float | None, moment: float, job: Job | None = None) -> None:
        """A task has succeeded, at this monotonic time, and has been counted."""
        if moment >= self._until:
            self._begin_second(moment)
        self._ended += 1
        if self._ended <= self._single:
            record = self.totals(queue)[path]
            record[LOGGED] += 1
            record[LOGGED_FOR] += seconds or 0.0
            self._one(queue, path, "succeeded", seconds, job)
        elif not self._counting:
            self._counting, self.due = True, moment + _SECOND
            self.wake()

    def _begin_second(self, moment: float) -> None:
        counted = sum(total[0] for totals in self._totals.values() for total in totals.values()) - 1  # before this one
        many = counted - self._before > self._most and moment < self._until + _SECOND
        self._ended, self._before = 0, counted
        self._until = moment + _SECOND
        self._single = 0 if many else self._most
        self.counting_until = self._until if many else 0.0

    def cancelled(self, queue: str, job: Job) -> None:
        """A task has ended as cancelled."""
        self._one(queue, job.func_path, "cancelled", ran(job), job)

    def _one(self, queue: str, path: str, outcome: str, seconds: float | None, job: Job | None) -> None:
        extra = fields(queue, path, outcome, job, seconds=seconds, waited=job and self._waited(job, seconds or 0.0))
        logger.info("Task %s %s %s", escaped(path), outcome, words(extra), extra=extra)

    def _waited(self, job: Job, seconds: float) -> float | None:
        """From its enqueueing to the begin of its first attempt, of a task that says when it was enqueued."""
        if job.enqueued_at is None or job.attempt != 1:
            return None
        return max(0.0, (self._clock.now() if self._clock.known else now()) - job.enqueued_at - seconds)

    # The heartbeat, and, when that has ended, the loop

    def flush(self) -> None:
        """Log what has been counted since the last time."""
        self.due = float("inf")
        self._counting = False  # after that, and before looking: what is counted from now on asks for another look
        found = [(queue, path, total) for queue, totals in list(self._totals.items()) for path, total in list(totals.items())]
        for queue, path, record in found:
            count, seconds = record[0] - record[LOGGED], record[OK] - record[LOGGED_FOR]
            before = self._logged.get((queue, path), (0, 0.0))
            self._logged[queue, path] = (count, seconds)
            tasks, ran_for = round(count - before[0]), seconds - before[1]
            if tasks:
                extra = fields(queue, path, "succeeded", seconds=ran_for, tasks=tasks)
                says = "Task %s succeeded %d times (queue %s, ran %.6f s on average)"
                logger.info(says, escaped(path), tasks, escaped(queue), ran_for / tasks, extra=extra)
