"""A worker for tests: runs the waiting tasks in the calling thread, without a connection of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from ..app import App
from ..base.clock import monotonic
from ..base.ids import token
from ..base.text import said
from ..errors import Reason, Unrunnable
from ..hooks import NONE
from ..job.allow import AllowAny
from ..job.emitter import Emitter
from ..job.failure import own_frames, verdict
from ..job.functions import Functions, settled
from ..job.job import Job, announce
from ..job.outcome import Again, Ended, Failed, Outcome
from ..job.runner import Runner
from ..system.signals import SignalPipe
from ..task.decode import Call, decode, path_of
from ..task.edit import next_retry, with_retry
from ..task.options import type_name
from ..task.result import State, failure
from ..workflow.tend import tend
from .targets import Target, queues_of

__tracebackhide__ = True  # pytest shows the lines of the test and of the task instead
_PLACE = "test"


def drain(queue: Target, *, retries: bool = False) -> int:
    """Run the waiting Python tasks here and now, in order, as well as those that they enqueue, those that are due, and those
    that workflows release. Works with any `Queue`, with a fake `AsyncQueue`, and with an `App`: then with all its queues,
    exactly its tasks, and its middlewares, as its workers do (`on_start` and `on_stop`, which belong to processes, are not
    called). Handles have the results afterwards, and callbacks are called. Pauses and limits of the queue are for workers:
    this runs what waits.

    Where an event loop runs, it runs the tasks in another thread, as `async def` tasks have loops of their own, and waits for
    it.

    Args:
        queue: the queue, or the application.
        retries: do with tasks that fail as a worker does: repeat them (without the pauses; one that always fails and may be
            repeated for ever is), and bury them at the end. Else a task that fails raises its exception here and is gone,
            without retries and without a dead letter, so that a test sees it.

    Returns:
        How many ran, each attempt counted.

    Raises:
        Unrunnable: a worker would have buried the task.
    """
    context, drained = copy_context(), _Drain(queue, retries)  # what a task that drains knows of itself stays
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none
        return context.run(drained.run)
    with ThreadPoolExecutor(1, "delayed-drain") as thread:
        return thread.submit(context.run, drained.run).result()


class _Drain:
    """Runs what waits on queues as a worker does."""

    def __init__(self, target: Target, retries: bool) -> None:
        self._target, self._retries = target, retries
        self.queue, *_ = queues_of(target)  # from which the present task is
        self.name = ""
        self._job: Job | None = None  # what runs
        signals = SignalPipe()  # which is not in use: nobody's signals are taken over
        self._emitter = Emitter(_PLACE, NONE, signals)
        app = target if isinstance(target, App) else None
        self._functions = Functions(app.allow if app is not None and app.tasks else AllowAny(), self._emitter.wrap)
        self._runner = Runner(self._functions, _PLACE, signals, app.middlewares if app is not None else ())

    def run(self) -> int:
        announce(lambda: self._job)
        own, count = token(), 0
        while (data := self._take(own, count)) is not None:
            count += 1
            try:
                self._execute(data)
            finally:
                self.queue.store.succeed(self.name)  # if it has not ended: an error is on its way to the test
                self.queue.store.call("DEL", self.name)
                self._job = None
        return count

    def _take(self, own: str, count: int) -> bytes | None:
        """The next task, from the first queue that has one; if none has, what workflows release."""
        return self._take_waiting(own, count) or (self._carry() and self._take_waiting(own, count)) or None

    def _carry(self) -> bool:
        """Carry on the workflows of the nodes that have ended."""
        for queue in queues_of(self._target):
            tend(queue.store)
        return True

    def _take_waiting(self, own: str, count: int) -> bytes | None:
        for queue in queues_of(self._target):
            queue.store.due([queue.keys])
            name = queue.keys.lease(own, count)
            tasks, _ = queue.store.take([name], own, 3600, waiting=True)
            if tasks:
                self.queue, self.name = queue, name
                return tasks[0]
        return None

    def _execute(self, data: bytes) -> None:
        try:
            call = decode(data)
        except Unrunnable as error:
            if not self._retries:
                raise
            self.queue.store.bury(self.name, error.reason, error.detail, _PLACE)
            self._emitter.buried(self.queue.name, None, error, error.reason, error.detail, task=path_of(data))
            return
        self._job = job = Job(self.queue, call, self.name)
        if call.headers is None:
            self._plain(data, call)
            return
        go, outcome = self._runner.begin(self.queue.store, self.name, job)
        if go:
            outcome = self._runner.execute(job)
        if outcome is not None:
            end, error_raised = (_at_once(outcome), None) if self._retries else _revealed(outcome)
            count = self._runner.end(self.queue.store, self.name, data, job, end)
            self._emitter.ended(self.queue.name, job, outcome if error_raised else end, count)
            if error_raised is not None:
                raise error_raised

    def _plain(self, data: bytes, call: Call) -> None:
        function = None
        names: dict[str, Any] = {"task": call.func_path, "args": call.args, "kwargs": call.kwargs}
        began = monotonic()
        try:
            function = self._functions[call.func_path]
            settled(function(*call.args, **call.kwargs))
        except KeyboardInterrupt:  # somebody stops the tests
            raise
        except BaseException as error:
            if not self._retries:
                raise
            names["seconds"] = monotonic() - began if function is not None else 0.0
            reason, detail, _ = verdict(function, call, error)
            if reason is Reason.FAILED and call.retry:
                self.queue.store.retry(self.name, with_retry(data, next_retry(call.retry)))
                self._emitter.retried(self.queue.name, function, error, detail, **names)
            else:
                self.queue.store.bury(self.name, reason, detail, _PLACE)
                self._emitter.buried(self.queue.name, function, error, reason, detail, **names)


def _at_once(outcome: Outcome) -> Outcome:
    """Without the pause before the next attempt."""
    return replace(outcome, pause=0.0) if isinstance(outcome, Again) and outcome.counted else outcome


def _revealed(outcome: Outcome) -> tuple[Outcome, BaseException | None]:
    """How a task ends whose error the test shall see, and that error."""
    error = outcome.cause if isinstance(outcome, Again) and outcome.counted else None
    if isinstance(outcome, Failed):
        error = outcome.error
    if error is None:
        return outcome, None
    revealed = BaseException.with_traceback(error, own_frames(error))
    return Ended(State.FAILED, failure(type_name(type(error)), said(error), ""), None, ""), revealed
