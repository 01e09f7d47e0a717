"""What a worker counts of its tasks, in memory. Its heartbeat adds that to the statistics in Redis."""

import random
from bisect import bisect_left
from typing import Any

from ..job.job import Job
from ..job.outcome import Ended, Outcome
from ..redis.command import ResponseError
from ..redis.statistics import BOUNDS, OUTCOMES, RUN, WAIT, Counts, packed, summed
from ..redis.store import Store
from ..task.result import State

MOST = 250  # functions that are told apart
OTHERS = "(others)"
_LONGEST = 200  # characters of a path
OK, FAILED, LOGGED, LOGGED_FOR = len(OUTCOMES), len(OUTCOMES) + 1, len(OUTCOMES) + 2, len(OUTCOMES) + 3  # places in a record
SLOW = len(OUTCOMES) + 4  # likewise: successes that are in a bucket; the others were quick
RAN = len(OUTCOMES) + 5  # where the buckets begin
QUICK = BOUNDS[0]  # seconds: tasks that run for no longer are in the first
_PLACES = {name: place for place, name in enumerate(OUTCOMES)}

# The outcomes; seconds of those that succeeded, of others; successes with log lines of their own, and their seconds; how many
# successes were not quick; how many ran for how long.
Record = list[float]


class Totals(dict[str, Record]):
    """What is counted of one queue: a function's path → its record. The numbers only grow. The worker's loop writes
    them, and the heartbeat reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Record = [0.0] + [0] * (len(BOUNDS) + 1)  # seconds, and how many waited for how long
        self.ahead: float | None = None  # seconds of the server's clock before our monotonic one; the heartbeat's
        self.sent: dict[str, Counts] = {}  # what has been handed to Redis

    def __missing__(self, path: str) -> Record:
        """The record of a new function, or the one for others if there are too many."""
        place = path if len(self) < MOST and len(path) <= _LONGEST else OTHERS
        return self.setdefault(place, [0.0] * (RAN + len(BOUNDS) + 1))

    def succeeded(self, path: str, seconds: float | None) -> None:
        """A task has succeeded; None: nobody knows how long it ran. (The loops have this in them, for tasks without
        headers.)"""
        record = self[path]
        if seconds is None:
            record[SLOW] += 1  # in no bucket
            record[0] += 1
            return
        if seconds > QUICK:
            slow(record, seconds)
        record[0] += 1
        record[OK] += seconds

    def done(self, job: Job, seconds: float) -> None:
        """As `succeeded`, of a task with headers, which may say since when it waited."""
        record = self[job.func_path]
        if seconds > QUICK:
            slow(record, seconds)
        record[0] += 1
        record[OK] += seconds
        if "enqueued" in job.headers:
            self.began(job.headers, job.began)

    def tally(self, job: Job, outcome: Outcome | None, count: str) -> None:
        """A task with headers has ended, and is counted as `count`; '' for a success."""
        seconds = job.seconds if job.began else None
        if not count and seconds is not None:
            self.done(job, seconds)
            return
        if not count:
            self.succeeded(job.func_path, None)
            return
        late = isinstance(outcome, Ended) and outcome.state is State.EXPIRED
        self.ended(job.func_path, "expired" if late else count, None if late else seconds)
        if job.began and not late and "enqueued" in job.headers:
            self.began(job.headers, job.began)

    def ended(self, path: str, outcome: str, seconds: float | None = None) -> None:
        """A task has ended otherwise, after running for so many seconds, or without having begun. Other words do not count."""
        record, place = self[path], _PLACES.get(outcome)
        if place is not None:
            record[place] += 1
            if seconds:
                record[FAILED] += seconds
                record[RAN + bisect_left(BOUNDS, seconds)] += 1

    def began(self, headers: dict[str, Any], moment: float) -> None:
        """A task with the header `enqueued` has begun at this monotonic time: count how long it has waited, if it is the first
        attempt."""
        enqueued = headers["enqueued"]
        if self.ahead is not None and type(enqueued) is int and "attempt" not in headers:
            seconds = moment + self.ahead - enqueued / 1000
            if seconds > 0:  # the clocks are not the same
                self.waits[0] += seconds
            self.waits[1 if seconds <= QUICK else 1 + bisect_left(BOUNDS, seconds)] += 1

    # The heartbeat, and, when that has ended, the loop

    def send(self, store: Store, moment: float) -> None:
        """Add what is new to the queue's statistics; nothing is sent if nothing is.

        What had no reply is not sent again, as it may have arrived: nothing is counted twice.
        """
        now = {path: _counts(record[:], self.sent.get(path, {})) for path, record in list(self.items())}
        now[""] = summed(now.values()) | _waits(self.waits)
        deltas = [(path, packed(_less(now[path], self.sent.get(path, {})))) for path in ("", *(path for path in now if path))]
        if not deltas[0][1]:
            return
        before, self.sent = self.sent, now
        try:
            store.count(moment, 1 - random.random(), [each for each in deltas if each[1] and each[0] != OTHERS])
        except ResponseError:  # Redis is full, say: it has not been counted
            self.sent = before


def slow(record: Record, seconds: float) -> None:
    """A task that is going to be counted as succeeded was not quick. (In this order: the heartbeat may read between.)"""
    record[SLOW] += 1
    record[RAN + bisect_left(BOUNDS, seconds)] += 1


def _counts(record: Record, sent: Counts) -> Counts:
    counts = {field: round(amount) for field, amount in enumerate(record[: len(OUTCOMES)], 1)}
    counts[RUN] = round(1000 * (record[OK] + record[FAILED]))
    counts |= {RUN + place: round(amount) for place, amount in enumerate(record[RAN:], 1)}
    counts[RUN + 1] = max(counts[RUN + 1] + round(record[0] - record[SLOW]), sent.get(RUN + 1, 0))
    return counts


def _waits(record: Record) -> Counts:
    return {WAIT: round(1000 * record[0])} | {WAIT + place: round(amount) for place, amount in enumerate(record[1:], 1)}


def _less(counts: Counts, before: Counts) -> Counts:
    return {field: amount - before.get(field, 0) for field, amount in counts.items()}
