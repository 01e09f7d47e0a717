"""Emits a worker's events: to subscribers, to a task's callbacks, and to the worker's own."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any

from ..base.clock import monotonic, now
from ..base.escape import escaped, indented
from ..base.text import traceback_of
from ..errors import Reason
from ..events import BUS, Event, Kind, notify
from ..hooks import NONE, Hooks
from ..logger import logger
from ..system.signals import SignalPipe
from ..task.result import State
from .functions import Functions, awaited, settled
from .job import Job, running
from .observed import Observed
from .outcome import Again, Done, Ended, Failed, Outcome

_began: ContextVar[float] = ContextVar("delayed_began", default=0.0)  # each execution has a context, or the thread, to itself


class Emitter:
    """The events of one worker.

    Args:
        place: host:pid.
        hooks: the worker's own.
        signals: of the process.
    """

    def __init__(self, place: str, hooks: Hooks, signals: SignalPipe) -> None:
        self._place, self._hooks, self._signals = place, hooks, signals
        self._version = BUS.version

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, or, if somebody wants to know when it is called, one that says so."""
        heard = (Kind.STARTED, Kind.SUCCEEDED)  # of the others the worker knows what there is to say
        hooks = (Hooks.of(function), self._hooks)
        if any(BUS.listeners(kind) for kind in heard) or any(each.on_start or each.on_success for each in hooks):
            return self._heard_coroutine(function) if inspect.iscoroutinefunction(function) else self._heard(function)
        return function

    def refresh(self, functions: Functions) -> None:
        """If others listen than before, `functions` are wrapped anew."""
        if self._version != BUS.version:
            self._version = BUS.version
            functions.clear()

    def _heard(self, function: Callable[..., Any]) -> Observed:
        def before(_: Observed, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            self._start(function, args, kwargs)

        def after(_heard: Observed, args: Sequence[Any], kwargs: Mapping[str, Any], value: Any) -> Any:
            _, _, job = _current()
            # Of a task with headers what was returned is waited for later, within the time that it has.
            come = settled(value) if job is None else value
            self._return(function, args, kwargs, come)
            return come

        return Observed(function, before, after)

    def _heard_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def heard(*args: Any, **kwargs: Any) -> Any:
            self._start(function, args, kwargs)
            value = await awaited(function(*args, **kwargs))
            self._return(function, args, kwargs, value)
            return value

        return heard

    def say(self, kind: Kind, queue: str, function: Any = None, **fields: Any) -> None:
        """Something has happened to a task of `function`, if that is known."""
        hooks = [each for each in (Hooks.of(function), self._hooks) if each is not NONE]
        if not BUS.listeners(kind) and not hooks:
            return
        event = Event(kind, queue, now(), worker=self._place, **fields)
        BUS.emit(event)
        for each in hooks:
            try:
                hook = each.hook(kind)
            except BaseException as error:  # of its module
                task, trace = escaped(event.task), indented(traceback_of(error))
                logger.error("A callback of %s cannot be found; nothing else changes\n%s", task, trace)
                continue
            if hook is not None:
                notify(hook, event)

    def _tell(self, kind: Kind, queue: str, function: Any, **fields: Any) -> None:
        """As `say`, of what has ended: whatever a callback raises, it raises too late."""
        try:
            self.say(kind, queue, function, **fields)
        except BaseException as error:
            logger.error("A callback for %r failed; nothing else changes\n%s", str(kind), indented(traceback_of(error)))

    def _start(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        queue, path, job = _current()
        waited = None if job is None else job.waited
        self.say(Kind.STARTED, queue, function, args=args, kwargs=kwargs, waited=waited, **_names(path, job))
        _began.set(monotonic())
        if job is not None:
            job.began = _began.get()

    def _return(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], value: Any) -> None:
        seconds = monotonic() - _began.get()
        self._signals.leave_if_child(None)
        queue, path, job = _current()
        if job is None:  # else it is said when the value has been stored
            about = {"args": args, "kwargs": kwargs, "value": value, "seconds": seconds, **_names(path, job)}
            self.say(Kind.SUCCEEDED, queue, function, **about)

    def retried(self, queue: str, function: Any, error: BaseException, detail: str, **call: Any) -> None:
        """An attempt of a task without headers failed, and there will be another."""
        self._tell(Kind.RETRYING, queue, _bare(function), error=error, detail=detail, **call)

    def buried(self, queue: str, function: Any, error: BaseException | None, reason: Reason, detail: str, **call: Any) -> None:
        """A task has become a dead letter."""
        about = {"error": error, "reason": str(reason), "detail": detail, **call}
        if reason in (Reason.FAILED, Reason.TIMED_OUT):
            self._tell(Kind.FAILED, queue, _bare(function), **about)
        self._tell(Kind.BURIED, queue, _bare(function), **about)

    def silent(self, function: Any) -> bool:
        """Whether nobody wants to hear of the tasks of this function."""
        return not BUS.heard and self._hooks is NONE and Hooks.of(_bare(function)) is NONE

    def ended(self, queue: str, job: Job, outcome: Outcome, count: str) -> None:
        """A task with headers has ended, as its worker counts it (see `Runner.end`)."""
        about_it = {**_names(job.func_path, job), "seconds": job.seconds, "waited": job.waited}
        call = {"args": job.args, "kwargs": job.kwargs, **about_it}
        function = _bare(job.function)
        if isinstance(outcome, Again):
            if count == "retried":
                about = {"error": outcome.cause, "detail": outcome.error, "pause": outcome.pause}
                self._tell(Kind.RETRYING, queue, function, **about, **call)
        elif isinstance(outcome, Failed):
            self.buried(queue, function, outcome.error, outcome.reason, outcome.detail, **call)
        elif isinstance(outcome, Ended) and outcome.reason is not None:
            self.buried(queue, function, None, outcome.reason, outcome.detail, **call)
        elif isinstance(outcome, Ended) and outcome.state is State.CANCELLED:
            self._tell(Kind.CANCELLED, queue, function, **about_it)
        elif isinstance(outcome, Done) and count:
            self.buried(queue, function, None, Reason.FAILED, "what it returned cannot be stored", **call)
        elif isinstance(outcome, Done):
            self._tell(Kind.SUCCEEDED, queue, function, value=outcome.value, **call)


def _current() -> tuple[str, str, Job | None]:
    """What runs here: the name of the queue, the function path, and what is known of it if it has headers."""
    job = running()
    return ("", "", None) if job is None else (job.queue.keys.queue, job.func_path, job if job.headers else None)


def _bare(function: Any) -> Any:
    return function.__wrapped__ if isinstance(function, Observed) else function


def _names(path: str, job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"task": path}
    return {"task": path, "id": job.id, "attempt": job.attempt, "flow": job.flow}
