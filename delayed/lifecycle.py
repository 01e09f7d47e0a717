"""Executions of tasks that ask for more than a call: those with headers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .errors import NotEncodable, Reason, TimedOut
from .functions import Functions, said, verdict
from .handle import ENDED_FOR
from .job import Again, Done, Ended, Failed, Job, Outcome
from .leases import Lease
from .logger import logger
from .middleware import Middleware, compose, expiring, retrying, timing
from .options import TRACKED_FOR, type_name
from .queue import Queue
from .results import CANCELLED, State, failure, success
from .task import Call, with_retry

_BUSY = 1.0  # seconds until a task is tried again whose unique key another one has
_LONGEST_PAUSE = 10 * 365 * 86400.0  # seconds
_BUSY_TEXT = "another task with its unique key is running"
_FULL_TEXT = "as many tasks with its concurrency key are running as may"


def late(job: Job) -> Outcome:
    """What becomes of a task that has run for longer than its hard timeout."""
    limit = job.milliseconds("hard_timeout") / 1000
    error = TimedOut(f"it ran for longer than its hard timeout of {limit:g} s; its process was ended")
    return retrying(job, lambda _: Failed(error, Reason.TIMED_OUT, str(error)))


class Lifecycle:
    """Runs tasks that have headers.

    Args:
        functions: finds what a task names.
        place: who runs them: host:pid.
        entered: called when a function has returned or raised, with what it raised.
        middlewares: the application's own, outside of those that are built in.
    """

    def __init__(
        self,
        functions: Functions,
        place: str,
        entered: Callable[[BaseException | None], None],
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        self._functions = functions
        self._place = place
        self._entered = entered
        self._execute = compose([*middlewares, retrying, expiring, timing], self._call)

    def run(self, lease: Lease, job: Job) -> Outcome | None:
        """Execute; None if the lease does not hold the task any more. The caller ends the lease, by `end`."""
        if job.concurrency is not None:
            answer = lease.book.queue.acquire(lease.name, *job.concurrency, round(TRACKED_FOR * 1000))
            if answer != 1:
                return Again(_BUSY, _FULL_TEXT, counted=False) if answer else None
        if job.id is None:
            return self._outcome(job)
        key, mode, bound = job.unique
        fate = {"while_running": "take", "while_queued": "free"}.get(mode, "leave")
        keep = round(TRACKED_FOR * 1000)
        answer = lease.book.queue.start(
            lease.name, job.id, unique=key, key=fate, bound=max(bound, 1), worker=self._place, keep=keep
        )
        if answer == 0:
            return None
        if answer == 2:
            return Ended(State.CANCELLED, CANCELLED, None, "cancelled before it began")
        return Again(_BUSY, _BUSY_TEXT, counted=False) if answer == 3 else self._outcome(job)

    def _outcome(self, job: Job) -> Outcome:
        """Execute. Whatever middlewares do is the task's failure: if it ended the worker, the next one would meet it too."""
        try:
            outcome: object = self._execute(job)
        except BaseException as error:
            return Failed(error, *verdict(None, None, error))
        if isinstance(outcome, Outcome):
            return outcome
        wrong = f"a middleware returned {type(outcome).__qualname__}: it must return what call_next(job) does"
        return Failed(TypeError(wrong), Reason.FAILED, wrong)

    def tidy(self, lease: Lease, job: Job) -> None:
        """After the end of a task: its slot counts no more, and need not lie about for a week."""
        if job.concurrency is not None:
            keys = lease.book.queue.keys
            lease.book.queue.call("HDEL", keys.slots(job.concurrency[0]), lease.name)

    def _call(self, job: Job) -> Outcome:
        call = Call(job.func_path, job.args, job.kwargs, job.retry)
        failed: BaseException | None = None
        value = None
        try:
            job.function = self._functions[job.func_path]
            value = job.function(*job.args, **job.kwargs)
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            failed = error
        self._entered(failed)
        return Done(value) if failed is None else Failed(failed, *verdict(job.function, call, failed))

    def end(self, queue: Queue, lease: str, data: bytes, job: Job, outcome: Outcome) -> str:
        """End a lease over `queue`. Returns the name of the count that this belongs to; '' for a success."""
        if isinstance(outcome, Again):
            return self._again(queue, lease, data, job, outcome)
        if isinstance(outcome, Done):
            try:
                result = success(outcome.value, "result_ttl" in job.headers)
                ended = Ended(State.SUCCEEDED, result, None, "")
            except NotEncodable as error:
                outcome = Failed(error, Reason.FAILED, str(error))
        if isinstance(outcome, Failed):
            ended = _as_ended(outcome)
        elif isinstance(outcome, Ended):
            ended = outcome
        if ended.reason is not None:
            logger.error("Task %s: %s; it is in %s\n%s", job.func_path, ended.reason, queue.keys.dead, ended.detail)
        if job.id is not None:
            keep = job.milliseconds("result_ttl") or round(ENDED_FOR * 1000)
            conclude = partial(queue.conclude, lease, job.id, unique=job.unique[0], state=ended.state, result=ended.result)
            conclude(keep=keep, reason=ended.reason, detail=ended.detail, worker=self._place)
        elif ended.reason is not None:
            queue.bury(lease, ended.reason, ended.detail, self._place)
        else:
            queue.succeed(lease)
        return _COUNTS.get(ended.reason, "buried") if ended.reason else "" if ended.state is State.SUCCEEDED else ended.state

    def _again(self, queue: Queue, lease: str, data: bytes, job: Job, outcome: Again) -> str:
        if outcome.error is _BUSY_TEXT or outcome.error is _FULL_TEXT:
            logger.info("Task %s waits: %s", job.func_path, outcome.error)
            queue.postpone(lease, data, job.id, round(outcome.pause * 1000), outcome.error)
            return "postponed"
        changes: dict[str, Any] = {"attempt": job.attempt, "error": outcome.error[:200].encode(errors="replace").decode()}
        left = job.retry
        if outcome.counted and left > 0:
            left -= 1
        elif outcome.counted and not left and job.retries > 0:
            changes["retry"] = job.retries - 1
        pause = min(outcome.pause, _LONGEST_PAUSE)  # also if it is no number
        logger.warning("Task %s failed, attempt %d; again in %.1f s: %s", job.func_path, job.attempt, pause, outcome.error)
        queue.postpone(lease, with_retry(data, left, changes), job.id, round(pause * 1000), outcome.error, group=job.group)
        return "retried"


_COUNTS = {Reason.FAILED: "failed", Reason.TIMED_OUT: "failed"}


def _as_ended(outcome: Failed) -> Ended:
    error = outcome.error
    kind = type_name(type(error)) if outcome.reason is Reason.FAILED else str(outcome.reason)
    return Ended(State.FAILED, failure(kind, said(error), outcome.detail), outcome.reason, outcome.detail)
