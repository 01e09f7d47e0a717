"""The built-in middlewares: expiry, retries, timeouts, cancellation. What an event loop waits for has `async` ones."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

from ..backoff import backoff_from
from ..base.clock import now
from ..base.escape import escaped
from ..base.text import name_of, said
from ..errors import Reason, Retry, TimedOut
from ..logger import logger
from ..task.headers import texts_in
from ..task.options import type_name
from ..task.result import CANCELLED, EXPIRED, State
from .functions import Coroutine
from .job import Job
from .middleware import AsyncStep, Step
from .outcome import Again, Ended, Failed, Outcome

INTERRUPTED = Ended(State.CANCELLED, CANCELLED, None, "cancelled while it ran")
_warned: set[str] = set()  # functions whose timeout is not kept


def expiring(job: Job, call_next: Step, clock: Callable[[], float] = now) -> Outcome:
    """A task whose time has passed does not begin. `clock` says which time it is: the server's, as far as it is known."""
    return _expired(job, clock) or call_next(job)


async def expiring_async(job: Job, call_next: AsyncStep, clock: Callable[[], float] = now) -> Outcome:
    """As `expiring`."""
    return _expired(job, clock) or await call_next(job)


def _expired(job: Job, clock: Callable[[], float]) -> Ended | None:
    expires = job.milliseconds("expires")
    overran = clock() - expires / 1000
    if expires and overran > 0:
        return Ended(State.EXPIRED, EXPIRED, Reason.EXPIRED, f"it expired {overran:.1f} s before a worker took it")
    return None


def retrying(job: Job, call_next: Step) -> Outcome:
    """A task that failed runs again if it has retries left, or asks for it."""
    return retried(job, call_next(job))


async def retrying_async(job: Job, call_next: AsyncStep) -> Outcome:
    """As `retrying`."""
    return retried(job, await call_next(job))


def retried(job: Job, outcome: Outcome) -> Outcome:
    """What becomes of `outcome` when a task that failed may run again."""
    if not isinstance(outcome, Failed):
        return outcome
    asked = _asked_for(outcome.error)
    if asked is not None:
        return Again(asked.after, said(asked), counted=False, cause=outcome.error)
    if not job.retries or outcome.reason not in (Reason.FAILED, Reason.TIMED_OUT) or not _worth_it(job, outcome.error):
        return outcome
    backoff = backoff_from(job.headers.get("backoff"))
    pause = backoff.pause(job.attempt) if backoff is not None else 0.0
    return Again(pause, f"{name_of(type(outcome.error))}: {said(outcome.error)}", counted=True, cause=outcome.error)


def _worth_it(job: Job, error: BaseException) -> bool:
    """What the task says about errors of this type, or of those that it is derived from; a group of errors is what all of them
    are, and what it is itself."""
    only, never = texts_in(job.headers, "retry_on"), texts_in(job.headers, "give_up_on")
    if only is None and never is None:
        return True
    itself, parts = _names(error), [_names(leaf) for leaf in _leaves(error)]
    if never is not None and any(not names.isdisjoint(never) for names in (itself, *parts)):
        return False
    return only is None or not itself.isdisjoint(only) or all(not names.isdisjoint(only) for names in parts)


def _names(error: BaseException) -> set[str]:
    kinds = type.__dict__["__mro__"].__get__(type(error))  # past a metaclass of the task's making
    return {type_name(kind) for kind in kinds} | {name_of(kind) for kind in kinds}


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of errors, and in those that are in it; of another error, itself."""
    found: list[BaseException] = []
    left = [error]
    while left:
        each = left.pop()
        if issubclass(type(each), BaseExceptionGroup):
            left += BaseExceptionGroup.__dict__["exceptions"].__get__(each)
        else:
            found.append(each)
    return found


def _asked_for(error: BaseException) -> Retry | None:
    """The `Retry` that a task has raised; of several, in a group in which nothing else has failed, the one with the longest
    pause."""
    leaves = _leaves(error)
    asked = [cast(Retry, leaf) for leaf in leaves if issubclass(type(leaf), Retry) and _is_pause(leaf)]
    others = [leaf for leaf in leaves if not issubclass(type(leaf), (Retry, asyncio.CancelledError))]
    return max(asked, key=lambda each: each.after) if asked and not others else None


def _is_pause(asked: Any) -> bool:
    """Whether it still says how long to wait: it may be of the task's making."""
    try:
        return type(asked.after) in (int, float) and asked.after >= 0
    except BaseException:
        return False


async def cancelling(job: Job, call_next: AsyncStep) -> Outcome:
    """A coroutine is interrupted when its task is cancelled: see `Job.cancel`."""
    job.task = asyncio.current_task()
    if job.cancellation_known():
        return INTERRUPTED
    outcome = await call_next(job)
    job.task = None
    return interrupted(job, outcome.error, outcome) if isinstance(outcome, Failed) else outcome


def interrupted(job: Job, error: BaseException, otherwise: Outcome) -> Outcome:
    """How a task ends whose execution has raised `error`, if that is because it was cancelled; else, `otherwise`."""
    return INTERRUPTED if job.cancellation_known() and issubclass(type(error), asyncio.CancelledError) else otherwise


def timing(job: Job, call_next: Step) -> Outcome:
    """`TimedOut` is raised in a task that runs for longer than its soft timeout; only in the main thread, by a timer. In
    others the log says that it is not kept, once for each function."""
    seconds = job.milliseconds("timeout") / 1000

    def ring(_signum: int, _frame: FrameType | None) -> None:
        raise TimedOut(f"it exceeded its timeout of {seconds:g} s")

    if not seconds or isinstance(job.function, Coroutine):  # that is cancelled by its loop
        return call_next(job)
    try:
        before = signal.signal(signal.SIGALRM, ring)
    except ValueError:  # not the main thread: an exception cannot be raised in another one safely
        _warn_once(job.func_path, seconds)
        return call_next(job)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return call_next(job)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimedOut as error:  # it rang in the last moment, outside of the task's own code
        return Failed(error, Reason.FAILED, str(error))
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def _warn_once(path: str, seconds: float) -> None:
    if path not in _warned:
        _warned.add(path)
        logger.warning(
            "Task %s has a timeout of %g s, which is not kept in a thread: make it `async def`, run it by a worker without "
            "--threads, or give it a hard_timeout",
            escaped(path),
            seconds,
        )
