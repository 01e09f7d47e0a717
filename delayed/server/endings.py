"""What a consumer says of its tasks, turned into what a worker would have done: the worker's own code ends the lease."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, Never

from ..base.place import place
from ..base.text import summary
from ..errors import Reason
from ..job.builtin import retried
from ..job.functions import Functions
from ..job.job import Job
from ..job.outcome import Again, Done, Ended, Failed, Outcome
from ..job.runner import Runner
from ..redis.command import Command
from ..system.signals import SignalPipe
from ..task.decode import Call, path_and_headers
from ..task.edit import next_retry, with_retry
from ..task.result import State, failure
from .leases import Envelope, retries_in
from .links import Link

_NAME = re.compile(r"(?:\w+\.)*\w+")
_LONGEST = 10_000  # characters of what a consumer says about an error, as of a worker's traceback


@dataclass(frozen=True, slots=True)
class Succeed:
    """The task is done.

    Args:
        result: what it has returned, which is kept if the task keeps its result.
    """

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The task has failed, and runs again as often as it says itself; after that it is a dead letter.

    Args:
        error: what went wrong.
        kind: the name of the error, `module.Name` or `Name`, by which the task may say that it is not worth another attempt.
        detail: more of it, a traceback say, for the dead letter.
        delay: seconds until the next attempt; None for what the task says.
        counted: whether this uses up one of the retries. If not, it runs again in any case.
    """

    error: str = ""
    kind: str = "Error"
    detail: str = ""
    delay: float | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Bury:
    """The task has failed for good: it is a dead letter.

    Args:
        detail: why, for the human who reads it.
        reason: the word for it.
    """

    detail: str = ""
    reason: Reason = Reason.FAILED


@dataclass(frozen=True, slots=True)
class Release:
    """The task goes back to the head of its queue, untouched."""


Ending = Succeed | Retry | Bury | Release


class Concluded(NamedTuple):
    """What ends a lease, and what is counted then."""

    command: Command
    state: str  # in which the task is then
    outcome: Outcome | None
    counted: str | None  # as a worker counts it, '' for a success; None: it has not ended


class _None(Functions):
    """No function of a task is called, or even looked for, here."""

    def __init__(self) -> None:
        super().__init__(())

    def __missing__(self, path: str) -> Never:
        raise KeyError(path)


class Endings:
    """Makes the commands that end leases."""

    def __init__(self) -> None:
        self.place = place()
        self._runner = Runner(_None(), self.place, SignalPipe())

    def job(self, link: Link, lease: str, data: bytes, envelope: Envelope | None = None) -> Job:
        """The task as a worker has it, without its arguments. Its path and headers may be known."""
        path, headers = envelope or path_and_headers(data)
        return Job(link.blocking, Call(path, (), {}, retries_in(data, path, headers), headers), lease)

    def start(self, link: Link, job: Job) -> Command:
        """The command that says of a task with a state or a concurrency key that it begins."""
        return link.recorded(lambda store: self._runner.start(store, job.lease, job))[-1]

    def end(self, link: Link, job: Job, data: bytes, ending: Ending) -> Concluded:
        """What ends a lease."""
        if isinstance(ending, Release):
            back = link.recorded(lambda store: store.give_back([job.lease], {job.lease: data}, begun=1))
            return Concluded(back[-1], State.QUEUED, None, None)
        return self.conclude(link, job, data, _outcome(job, ending))

    def conclude(self, link: Link, job: Job, data: bytes, outcome: Outcome) -> Concluded:
        """As `end`, of what a worker calls an outcome."""
        if isinstance(outcome, Again) and outcome.counted and not outcome.pause and not job.headers:
            again = with_retry(data, next_retry(job.retry))  # it stays as plain as it is
            return Concluded(
                link.recorded(lambda store: store.retry(job.lease, again))[-1], State.RETRYING, outcome, "retried"
            )
        counts: list[str] = []
        sent = link.recorded(lambda store: counts.append(self._runner.end(store, job.lease, data, job, outcome)))
        return Concluded(sent[-1], _STATES.get(counts[0], State.FAILED), outcome, counts[0])


_STATES: Mapping[str, str] = {
    "": State.SUCCEEDED,
    "retried": State.RETRYING,
    State.CANCELLED: State.CANCELLED,
    State.EXPIRED: State.EXPIRED,
}


def _outcome(job: Job, ending: Succeed | Retry | Bury) -> Outcome:
    if isinstance(ending, Succeed):
        return Done(ending.result)
    if isinstance(ending, Bury):
        return buried(ending.reason, ending.detail)
    error = _error(ending.kind, ending.error)
    if not ending.counted:
        return Again(ending.delay or 0.0, f"{type(error).__name__}: {ending.error}", counted=False, cause=error)
    detail = ending.detail or f"{ending.kind}: {ending.error}"
    outcome = retried(job, Failed(error, Reason.FAILED, detail[:_LONGEST]))
    if not isinstance(outcome, Again):  # its kind as the consumer has called it
        result = failure(ending.kind, ending.error, detail[:_LONGEST])
        return Ended(State.FAILED, result, Reason.FAILED, detail[:_LONGEST], f"{type(error).__name__}: {ending.error}")
    return outcome if ending.delay is None else replace(outcome, pause=ending.delay)


def buried(reason: Reason, detail: str) -> Ended:
    """The end of a task that becomes a dead letter."""
    words = detail[:_LONGEST] or str(reason)
    return Ended(State.FAILED, failure(str(reason), summary(words), words), reason, words, f"{reason}: {summary(words)}")


def _error(kind: str, says: str) -> Exception:
    """An error of this name, which is all that tasks know of the errors they may be retried after."""
    return _kind(kind if _NAME.fullmatch(kind) else "Error")(says)


@lru_cache(maxsize=256)
def _kind(name: str) -> type[Exception]:
    module, _, short = name.rpartition(".")
    return type(short, (Exception,), {"__module__": module or "builtins"})
