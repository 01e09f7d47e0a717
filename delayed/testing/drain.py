"""A worker for tests: it runs what waits in the calling thread, without a connection of its own."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

from ..base.ids import token
from ..base.text import said
from ..errors import Reason, Unrunnable
from ..hooks import NONE
from ..job.allow import AllowAny
from ..job.emitter import Emitter
from ..job.failure import verdict
from ..job.functions import Functions, settled
from ..job.job import Job, announce
from ..job.outcome import Again, Ended, Failed, Outcome
from ..job.runner import Runner
from ..queue.async_queue import AsyncQueue
from ..queue.queue import Queue
from ..task.decode import Call, decode, path_of
from ..task.edit import next_retry, with_retry
from ..task.options import type_name
from ..task.result import State, failure
from .fake import beneath

_PLACE = "test"


def drain(queue: Queue | AsyncQueue, *, retries: bool = False) -> int:
    """Run the waiting Python tasks here and now, in order, as well as those that they enqueue and those that are due. Works
    with any `Queue`, and with a fake `AsyncQueue`. Handles have the results afterwards, and callbacks are called. Pauses and
    limits of the queue are for workers: this runs what waits.

    Where an event loop runs, it runs the tasks in another thread, as `async def` tasks have loops of their own, and waits for
    it.

    Args:
        queue: the queue.
        retries: do with tasks that fail as a worker does: repeat them (without the pauses; one that always fails and may be
            repeated for ever is), and bury them at the end. Else a task that fails raises its exception here and is gone,
            without retries and without a dead letter, so that a test sees it.

    Returns:
        How many ran, each attempt counted.

    Raises:
        Unrunnable: a worker would have buried the task.
    """
    context, runner = copy_context(), _Runner(beneath(queue), retries)  # what a task that drains knows of itself stays
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none
        return context.run(runner.run)
    with ThreadPoolExecutor(1, "delayed-drain") as thread:
        return thread.submit(context.run, runner.run).result()


class _Runner:
    """Runs what waits as a worker does."""

    def __init__(self, queue: Queue, retries: bool) -> None:
        self.queue, self._retries = queue, retries
        self.name = ""
        self._path = ""
        self._job: Job | None = None
        self._call: Call | None = None  # a task without headers
        self._emitter = Emitter(_PLACE, NONE, lambda: (queue.name, self._path, self._job), lambda _: None)
        self._functions = Functions(AllowAny(), self._emitter.wrap)
        self._runner = Runner(self._functions, _PLACE, lambda _: None)

    def run(self) -> int:
        announce(self._current)
        own, count = token(), 0
        while True:
            self.queue.store.due([self.queue.keys])
            self.name = self.queue.keys.lease(own, count)
            tasks, _ = self.queue.store.take([self.name], own, 3600, waiting=True)
            if not tasks:
                return count
            count += 1
            try:
                self._execute(tasks[0])
            finally:
                self.queue.store.succeed(self.name)  # if it has not ended: an error is on its way to the test
                self.queue.store.call("DEL", self.name)
                self._job = self._call = None

    def _current(self) -> Job | None:
        return self._job if self._call is None else Job(self.queue, self._call)

    def _execute(self, data: bytes) -> None:
        self._path = path_of(data)
        try:
            call = decode(data)
        except Unrunnable as error:
            if not self._retries:
                raise
            self.queue.store.bury(self.name, error.reason, error.detail, _PLACE)
            self._emitter.buried(self.queue.name, None, error, error.reason, error.detail, task=self._path)
            return
        if call.headers is None:
            self._plain(data)
            return
        self._job = job = Job(self.queue, call)
        go, outcome = self._runner.begin(self.queue.store, self.name, job)
        if go:
            outcome = self._runner.execute(job)
        if outcome is not None:
            end, error_raised = (_at_once(outcome), None) if self._retries else _revealed(outcome)
            count = self._runner.end(self.queue.store, self.name, data, job, end)
            self._emitter.ended(self.queue.name, job, outcome if error_raised else end, count)
            if error_raised is not None:
                raise error_raised

    def _plain(self, data: bytes) -> None:
        self._call = call = decode(data)
        function = None
        names = {"task": call.func_path, "args": call.args, "kwargs": call.kwargs}
        try:
            function = self._functions[call.func_path]
            settled(function(*call.args, **call.kwargs))
        except KeyboardInterrupt:  # somebody stops the tests
            raise
        except BaseException as error:
            if not self._retries:
                raise
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
    return Ended(State.FAILED, failure(type_name(type(error)), said(error), ""), None, ""), error
