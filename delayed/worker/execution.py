"""One task in execution, and where it may run."""

from collections.abc import Callable
from typing import Any, Protocol

from ..base.clock import monotonic
from ..job.functions import Coroutine, awaited, settled
from ..job.job import Job, announce
from ..job.outcome import Outcome
from ..job.runner import Runner, log_start
from ..system.signals import SignalPipe
from ..task.decode import Call
from .leases import Lease


class Execution:
    """One task that a worker has, and how it ended.

    Args:
        lease: under which it is held.
        task: what it says: a call, or, if it has headers, a job; None if it cannot be decoded.
        runner: runs it, if it has headers.
        signals: of the process.
    """

    __slots__ = (
        "_runner", "_signals", "began", "begun", "call", "data", "deadline", "executor", "failure", "function", "job", "lease",
        "outcome", "seconds", "stale", "submitted",
    )  # fmt: skip

    def __init__(self, lease: Lease, task: Call | Job | None, runner: Runner, signals: SignalPipe) -> None:
        self.lease = lease
        self.job = task if type(task) is Job else None
        self.call = task if type(task) is Call else None
        self.data = lease.data or b""
        self._runner, self._signals = runner, signals
        self.function: Callable[..., Any] | None = None
        self.failure: BaseException | None = None  # what it raised
        self.outcome: Outcome | None = None  # likewise, of a task with headers
        self.deadline = float("inf")  # monotonic time at which it must have ended
        self.began = monotonic()
        self.seconds = 0.0  # that a function without headers ran
        self.executor: Executor | None = None  # where it runs
        self.submitted = 0.0  # monotonic time at which it was given to threads
        self.begun = False  # one of them has it
        self.stale = False  # it has not begun, as its lease might have run out

    @property
    def state_key(self) -> str | None:
        """The key with the state of the task; None if it is not tracked."""
        return None if self.job is None or self.job.tracked_id is None else self.job.queue.keys.task(self.job.tracked_id)

    def current(self) -> Job:
        """See `job.current_task`."""
        if self.job is not None:
            return self.job
        assert self.call is not None
        return Job(self.lease.pool.queue, self.call)

    def may_run(self) -> bool:
        """Of a task with headers: whether it may; if not, `outcome` is how it ends, or None if its lease had been lost."""
        lease, job = self.lease, self.job
        assert job is not None
        go, self.outcome = self._runner.begin(lease.pool.store, lease.name, job)
        return go

    def run(self) -> None:
        """Run it in this thread, which is in a context of its own."""
        announce(self.current)
        if self.job is not None:
            self.outcome = self._runner.execute(self.job)
            return
        assert self.call is not None
        assert self.function is not None
        self._log_start()
        began = monotonic()
        try:
            settled(self.function(*self.call.args, **self.call.kwargs))
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            self.failure = error
        self.seconds = monotonic() - began
        self._signals.leave_if_child(self.failure)

    def _log_start(self) -> None:
        if self._runner.verbose and self.call is not None:
            log_start(self._runner.start_level, self.lease.pool.store.name, self.call.func_path)

    async def run_async(self) -> None:
        """Run it in this asyncio task."""
        announce(self.current)
        if self.job is not None:
            self.job.function = self.function
            self.outcome = await self._runner.execute_async(self.job)
            return
        assert self.call is not None
        assert isinstance(self.function, Coroutine)
        self._log_start()
        began = monotonic()
        try:
            await awaited(self.function.begin(*self.call.args, **self.call.kwargs))
        except BaseException as error:  # likewise, and a CancelledError that it raises by itself
            self.failure = error
        self.seconds = monotonic() - began
        self._signals.leave_if_child(self.failure)


class Executor(Protocol):
    """Where tasks run. One thread submits, and counts what is in flight."""

    size: int  # how many may be in flight
    busy: int  # how many are, those included whose end the dispatcher has not seen

    def start(self) -> None:
        """Be ready to run tasks."""

    def submit(self, execution: Execution) -> None:
        """Run it. `busy` is below `size`."""

    def close(self) -> None:
        """Nothing will be submitted any more."""

    def join(self) -> None:
        """After `close`: wait for the end."""
