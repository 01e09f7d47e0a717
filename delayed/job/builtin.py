"""What becomes of a task that has expired, failed or been cancelled."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from ..backoff import backoff_from
from ..base.text import name_of, said
from ..errors import Reason, Retry
from ..task.headers import texts_in
from ..task.options import type_name
from ..task.result import CANCELLED, EXPIRED, State
from .job import Job
from .outcome import Again, Ended, Failed, Outcome

INTERRUPTED = Ended(State.CANCELLED, CANCELLED, None, "cancelled while it ran")


def expired(job: Job, clock: Callable[[], float]) -> Ended | None:
    """How a task ends whose time has passed before it began; None if it may begin. `clock` is the server's, as far as that is
    known."""
    expires = job.milliseconds("expires")
    overran = clock() - expires / 1000
    if expires and overran > 0:
        return Ended(State.EXPIRED, EXPIRED, Reason.EXPIRED, f"it expired {overran:.1f} s before a worker took it")
    return None


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


def interrupted(job: Job, error: BaseException, otherwise: Outcome) -> Outcome:
    """How a task ends whose execution has raised `error`, if that is because it was cancelled; else, `otherwise`."""
    return INTERRUPTED if job.cancellation_known() and issubclass(type(error), asyncio.CancelledError) else otherwise
