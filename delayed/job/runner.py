"""Runs tasks that have headers, and decides how they end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import CoroutineType
from typing import Any

from ..base.clock import monotonic, now
from ..base.escape import escaped
from ..base.text import name_of, said
from ..errors import NotEncodable, Reason, ResultTooLarge, Retry, TaskCancelled, TimedOut, Unrunnable
from ..logger import logger
from ..redis.foreign import ForeignType
from ..redis.store import Store
from ..system.alarm import Alarm
from ..system.signals import SignalPipe
from ..task.decode import Call
from ..task.edit import next_retry, with_retry
from ..task.headers import HOLDS_NOTHING
from ..task.options import ENDED_FOR, type_name
from ..task.result import CANCELLED, State, failure, success
from .builtin import INTERRUPTED, expired, interrupted, retried
from .failure import verdict
from .functions import Coroutine, Functions, bounded, run, settled
from .job import Job, Waits
from .lines import exc_info, fields, log_dead, ran, words
from .middleware import AsyncMiddleware, Middleware, compose, compose_async
from .outcome import Again, Done, Ended, Failed, Outcome

_LONGEST_PAUSE = 10 * 365 * 86400.0  # seconds
_THREADS = 32  # in which middlewares that are plain functions wait for coroutines, if nothing else is said
KILLED = Ended(State.CANCELLED, CANCELLED, None, "cancelled while it ran; its process was ended")
_BEGUN, _SUPERSEDED, _CANCELLED = 1, 0, 2  # what `Store.start` says; else it waits
_WAITS = {3: "another task with its unique key is running", 4: "as many tasks with its concurrency key are running as may"}


def overran(job: Job) -> Outcome:
    """The end of a task that exceeded its hard timeout."""
    limit = job.milliseconds("hard_timeout") / 1000
    error = TimedOut(f"it exceeded its hard timeout of {limit:g} s; its process was ended")
    return retried(job, Failed(error, Reason.TIMED_OUT, str(error)))


def broken_off(job: Job, error: BaseException) -> Outcome:
    """What becomes of a task whose execution did not reach its end."""
    return retried(job, interrupted(job, error, Failed(error, *verdict(None, None, error))))


class Runner:
    """Runs tasks that have headers.

    Args:
        functions: finds what a task names.
        place: who runs them: host:pid.
        signals: of the process.
        middlewares: the application's own, outside of those that are built in.
        coroutines: how many may run in one loop.
        clock: the time by which tasks expire.
        start_level: at which the log has a line when a task begins.
    """

    def __init__(
        self,
        functions: Functions,
        place: str,
        signals: SignalPipe,
        middlewares: Sequence[Middleware | AsyncMiddleware] = (),
        coroutines: int = _THREADS,
        *,
        clock: Callable[[], float] = now,
        start_level: int = logging.DEBUG,
    ) -> None:
        self.start_level, self.verbose = start_level, False
        self._functions = functions
        self.place = place  # host:pid
        self._signals = signals
        self._clock = clock
        self.alarm = Alarm()
        threads = ThreadPoolExecutor(coroutines, "delayed-middleware")  # it begins none before it needs one
        self._execute = compose(middlewares, self._attempt)
        self._execute_async = compose_async(middlewares, self._attempt_async, threads)

    def execute(self, job: Job) -> Outcome:
        """Run the function in this thread. The caller ends the lease, by `end`."""
        if self.alarm.armed and "timeout" not in job.headers:
            self.alarm.disarm()
        self._begin(job)
        try:
            outcome = self._execute(job)
            return outcome if type(outcome) is Done else _checked(outcome)
        except BaseException as error:  # of a middleware: if it ended the worker, the next one would meet it too
            return Failed(error, *verdict(None, None, error))

    async def execute_async(self, job: Job) -> Outcome:
        """Run the coroutine function in this loop. The caller ends the lease, by `end`."""
        self._begin(job)
        try:
            return _checked(await self._execute_async(job))
        except BaseException as error:
            return broken_off(job, error)

    def look(self) -> None:
        """See whether anybody reads that a task begins: a hot path does not ask for each."""
        self.verbose = logger.isEnabledFor(self.start_level)

    def _begin(self, job: Job) -> None:
        job.began = monotonic()
        if self.verbose:
            log_start(self.start_level, job.queue.name, job.func_path, job)

    def begin(self, store: Store, lease: str, job: Job) -> tuple[bool, Outcome | None]:
        """Whether to execute; if not, how the task ends, or None if the lease of that name does not hold it any more."""
        try:
            return self._begun(store, lease, job)
        except ForeignType as error:
            if not error.narrow:  # then no task of the queue can be worked on
                raise
            reason, words = Reason.FOREIGN_KEY, str(error)
            return False, Ended(State.FAILED, failure(str(reason), words, ""), reason, words, words)

    def start(self, store: Store, lease: str, job: Job) -> int:
        """Ask whether a task may begin: see `Store.start`."""
        start = partial(store.start, lease, job.holds, group=job.group)
        return start(bound=job.unique[2], worker=self.place, attempt=job.attempt)

    def _begun(self, store: Store, lease: str, job: Job) -> tuple[bool, Outcome | None]:
        if not job.holds_something or (job.answer is None and job.holds == HOLDS_NOTHING):
            return True, None
        answer = self.start(store, lease, job) if job.answer is None else job.answer
        if answer in (_BEGUN, _SUPERSEDED):
            return answer == _BEGUN, None
        if answer == _CANCELLED:
            return False, Ended(State.CANCELLED, CANCELLED, None, "cancelled before it began")
        about = fields(store.name, job.func_path, "waits", job)
        logger.info("Task %s waits: %s %s", escaped(job.func_path), _WAITS[answer], words(about), extra=about)
        return False, Waits(_WAITS[answer])

    # An attempt: what the application's middlewares are around. It must not begin too late; what fails may run again.

    def _attempt(self, job: Job) -> Outcome:
        if "expires" in job.headers and (late := expired(job, self._clock)):
            return late
        try:  # outside of the time that it has
            job.function = function = self._functions[job.func_path]
        except BaseException as error:
            return retried(job, Failed(error, *verdict(None, _call_of(job), error)))
        job.began = monotonic()
        try:
            if "timeout" in job.headers or type(function) is Coroutine:
                value = self._call(job, function)
            else:
                value = function(*job.args, **job.kwargs)
                if value is not None:
                    value = settled(value, job=job)
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            return retried(job, self._failed(job, error))
        job.ended = monotonic()
        if self._signals.in_child:
            self._signals.leave_if_child(None)
        return Done(value)

    def _call(self, job: Job, function: Callable[..., Any]) -> Any:
        """Call what has a timeout, or a loop of its own."""
        seconds = _timeout(job)
        if isinstance(function, Coroutine):  # its loop keeps the time
            return run(function.begin(*job.args, **job.kwargs), seconds, job=job)
        if not self.alarm.set(seconds, job.func_path):
            return settled(function(*job.args, **job.kwargs), seconds, job.began, job)
        try:
            return settled(function(*job.args, **job.kwargs), seconds, job.began, job)
        finally:
            self.alarm.stop()

    async def _attempt_async(self, job: Job) -> Outcome:
        if "expires" in job.headers and (late := expired(job, self._clock)):
            return late
        job.task = asyncio.current_task()
        if job.cancellation_known():
            return INTERRUPTED
        outcome = await self._call_async(job)
        job.task = None
        return outcome if type(outcome) is Done else retried(job, outcome)

    async def _call_async(self, job: Job) -> Outcome:
        function = job.function
        assert isinstance(function, Coroutine)
        job.began = monotonic()
        try:
            value = await bounded(function.begin(*job.args, **job.kwargs), _timeout(job))
        except BaseException as error:  # likewise; and it is not for us to be cancelled
            return self._failed(job, error)
        job.ended = monotonic()
        if self._signals.in_child:
            self._signals.leave_if_child(None)
        return Done(value)

    def _failed(self, job: Job, error: BaseException) -> Outcome:
        job.ended = monotonic()
        self._signals.leave_if_child(error)
        if job.cancellation_known() and issubclass(type(error), (TaskCancelled, asyncio.CancelledError)):
            return INTERRUPTED
        return Failed(error, *verdict(job.function, _call_of(job), error))

    def end(self, store: Store, lease: str, data: bytes, job: Job, outcome: Outcome) -> str:
        """End a lease over `store`. Returns the name of the count that this belongs to; '' for a success."""
        if isinstance(outcome, Waits):
            return "postponed"
        if isinstance(outcome, Again):
            return self._again(store, lease, data, job, outcome)
        if isinstance(outcome, Done):
            try:
                self.succeed(store, lease, job, outcome)
                return ""
            except (NotEncodable, ResultTooLarge) as error:
                outcome = Failed(error, Reason.FAILED, str(error))
        cause = outcome.error if isinstance(outcome, Failed) else None
        if isinstance(outcome, Failed):
            ended = _as_ended(outcome)
        elif isinstance(outcome, Ended):
            ended = outcome
        try:
            self._conclude(store, lease, job, ended)
        finally:  # whoever reads the log may be slow, or may have gone: the lease comes first
            if ended.reason is not None:
                log_dead(store.name, job.func_path, ended.reason, ended.detail, job=job, error=cause, seconds=ran(job))
        if ended is outcome and ended.reason is not None and job.function is None:
            self._find_callbacks(job)
        return _COUNTS.get(ended.reason, "buried") if ended.reason else "" if ended.state is State.SUCCEEDED else ended.state

    def succeed(self, store: Store, lease: str, job: Job, outcome: Done) -> None:
        """End the lease of a task that has succeeded.

        Raises:
            NotEncodable, ResultTooLarge: what it returned cannot be stored.
        """
        result = success(outcome.value, job.milliseconds("result_ttl") > 0)
        self._conclude(store, lease, job, Ended(State.SUCCEEDED, result, None, ""), value_for_flow(job, outcome))

    def _find_callbacks(self, job: Job) -> None:
        """A task that ended before its function was needed may have callbacks, which are the function's."""
        with contextlib.suppress(BaseException):  # whatever its module raises: the task has ended
            job.function = self._functions[job.func_path]

    def _conclude(self, store: Store, lease: str, job: Job, ended: Ended, value: bytes | None = None) -> None:
        if job.tracked_id is not None:
            keep = job.milliseconds("result_ttl") or round(ENDED_FOR * 1000)
            conclude = partial(store.conclude, lease, job.holds, state=ended.state, result=ended.result)
            conclude(keep=keep, reason=ended.reason, detail=ended.detail, worker=self.place, error=ended.error, value=value)
        elif ended.reason is not None:
            store.bury(lease, ended.reason, ended.detail, self.place, job.holds)
        else:
            store.succeed(lease, job.holds)

    def _again(self, store: Store, lease: str, data: bytes, job: Job, outcome: Again) -> str:
        changes: dict[str, Any] = {"attempt": job.attempt, "error": outcome.error[:200].encode(errors="replace").decode()}
        left = next_retry(job.retry) if outcome.counted else job.retry
        if outcome.counted and not job.retry and job.retries > 0:
            changes["retry"] = next_retry(job.retries)
        pause = min(outcome.pause, _LONGEST_PAUSE)  # also if it is no number
        again = with_retry(data, left, changes)
        try:
            store.postpone(lease, again, job.holds, round(pause * 1000), outcome.error, group=job.group)
        finally:  # likewise
            self._log_again(store.name, job, outcome, pause)
        return "retried"

    def _log_again(self, queue: str, job: Job, outcome: Again, pause: float) -> None:
        about = fields(queue, job.func_path, "retried", job, seconds=ran(job), again_in=pause)
        asked = issubclass(type(outcome.cause), Retry)  # that is no failure
        says = "Task %s asked for another attempt, in %.1f s: %s %s" if asked else "Task %s failed; again in %.1f s: %s %s"
        path, why = escaped(job.func_path), escaped(outcome.error)
        cause = None if asked else exc_info(outcome.cause)
        logger.warning(says, path, pause, why, words(about), extra=about, exc_info=cause)


def value_for_flow(job: Job, outcome: Done) -> bytes:
    """What the workflow of a node keeps of what it has returned, for those that come after; empty for nothing.

    Raises:
        NotEncodable, ResultTooLarge: it cannot be stored.
    """
    return b"" if "flow" not in job.headers or outcome.value is None else success(outcome.value, kept=True)


def log_start(level: int, queue: str, path: str, job: Job | None = None) -> None:
    """A task begins."""
    about = fields(queue, path, "started", job)
    logger.log(level, "Task %s starts %s", escaped(path), words(about), extra=about)


def _checked(outcome: object) -> Outcome:
    """What came out of the chain, if it is an outcome."""
    if isinstance(outcome, Outcome):
        return outcome
    if type(outcome) is CoroutineType:
        outcome.close()  # nobody is going to wait for it
    wrong = f"a middleware returned {name_of(type(outcome))}: it must return what call_next(job) does"
    return Failed(TypeError(wrong), Reason.FAILED, wrong)


def _timeout(job: Job) -> float:
    return job.milliseconds("timeout") / 1000


def _call_of(job: Job) -> Call:
    return Call(job.func_path, job.args, job.kwargs, job.retry)


_COUNTS = {Reason.FAILED: "failed", Reason.TIMED_OUT: "failed"}


def _as_ended(outcome: Failed) -> Ended:
    error = outcome.error
    kind = type_name(type(error)) if outcome.reason is Reason.FAILED else str(outcome.reason)
    words = outcome.detail if issubclass(type(error), Unrunnable) else said(error)  # which says its reason first
    result = failure(kind, words, "" if words is outcome.detail else outcome.detail)
    short = name_of(type(error)) if outcome.reason is Reason.FAILED else kind
    return Ended(State.FAILED, result, outcome.reason, outcome.detail, f"{short}: {words}")
