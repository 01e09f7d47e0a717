"""Ends the leases of tasks that a worker has run, counts them, and emits their events."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from ..base.clock import monotonic
from ..base.escape import escaped
from ..base.text import name_of, said, shortened, summary, traceback_of
from ..errors import DelayedError, Reason
from ..events import Kind
from ..job.emitter import Emitter
from ..job.failure import verdict
from ..job.job import Job, Waits
from ..job.lines import exc_info, fields, log_dead, ran, words
from ..job.outcome import Done, Failed, Outcome
from ..job.runner import Runner
from ..logger import logger
from ..redis.channel import Channel, Ending
from ..redis.command import RedisError, pack
from ..redis.scripts import Argument
from ..redis.store import Store
from ..system.signals import SignalPipe
from ..task.decode import Call, headers_of, path_of
from ..task.edit import with_retry
from ..task.headers import holds_in, id_in, milliseconds_in, text_in
from ..task.options import ENDED_FOR
from ..task.result import State, failure, success
from .deferral import Deferral
from .leases import Finish, Lease
from .starts import Packing
from .state import WorkerState
from .task_log import TaskLog

_NOT_ITS_OWN = "not the task's own code, but the worker failed when it had to do with this task"
_TOO_LATE = 2  # what `Store.defer` answers if it has done nothing
_INLINE = 1 << 16  # bytes of an ending that may be kept here until it is confirmed
_DELAY = 0.001  # seconds that an ending that is noted may be delayed while other tasks run
_MOST_RUN = 1000  # different tasks between two beats of which it is noted that they have run


class BrokenOff(Exception):
    """The worker's own code has failed of a task, which has been made a dead letter, or will be over the next connection."""


class Completer:
    """The endings of one worker's tasks. The loop calls it; `end_early` is the heartbeat's.

    Args:
        state: of the worker.
        channel: its connection.
        runner: ends what has headers.
        emitter: tells those who listen.
        deferral: of tasks that cannot be run now.
        signals: of the process.
    """

    def __init__(
        self,
        state: WorkerState,
        channel: Channel,
        runner: Runner,
        *,
        emitter: Emitter,
        deferral: Deferral,
        signals: SignalPipe,
    ) -> None:
        self._state, self._channel, self._runner = state, channel, runner
        self._emitter, self._deferral, self._signals = emitter, deferral, signals
        self.task_log = TaskLog(state.clock)
        self._place, self._counts = state.place, state.counts
        self._noting = state.scoreboard.supervised and not state.endings_at_once
        self._delayed_at = 0.0  # monotonic time since which endings are delayed; 0 for none
        channel.confirmed = self._confirmed

    def succeed(self, lease: Lease, fresh: bool) -> None:
        """A task without headers has returned; `fresh`: its lease lives for certain."""
        if lease.pool.deferred:
            _note_run(lease)
        if lease.suspect or lease.gone or not fresh:
            self._asking(lease).succeed(lease.name)
        elif self._noting and self._state.scoreboard.note(lease.pool.index, lease.number):
            self._delay(lease)
        else:
            self._channel.post(lease)

    def _delay(self, lease: Lease) -> None:
        """Its end is noted, where the supervisor finds it if this process is killed: so it can be sent with others."""
        self._channel.delay(lease)
        if self._delayed_at == 0.0:
            self._delayed_at = self._state.began
        elif self._state.began - self._delayed_at > _DELAY:
            self._delayed_at = 0.0
            self._channel.push()

    def _confirmed(self) -> None:
        self._delayed_at = 0.0
        self._state.scoreboard.clear()

    def fail(
        self,
        lease: Lease,
        data: bytes,
        call: Call | None,
        function: Callable[..., Any] | None,
        error: BaseException,
        *,
        seconds: float,
    ) -> None:
        """A task without headers has raised `error` after so many seconds, or could not be run; `call` and `function` as far
        as they are known."""
        headers = headers_of(data) if call is None else {}
        if id_in(headers) is not None:  # it is one for Go, say, and somebody waits for it
            job = Job(lease.pool.queue, Call(path_of(data), (), {}, 0, headers))
            self.end(lease, data, job, Failed(error, *verdict(None, None, error)))
            return
        store = self._asking(lease)
        reason, detail, ready = verdict(function, call, error)
        if not ready and not (reason is Reason.FAILED and call is not None and call.retry):
            late = self._put_off(lease, data, reason, detail)
            if late is None:
                return
            detail = late
        elif lease.pool.deferred:
            _note_run(lease)
        names: dict[str, Any] = {"task": path_of(data), "seconds": seconds if function is not None else 0.0}
        if call is not None:
            names |= {"args": call.args, "kwargs": call.kwargs}
        if reason is Reason.FAILED and call is not None and call.retry:
            self._counts["retried"] += 1
            left = call.retry - 1 if call.retry > 0 else call.retry
            about = fields(store.name, call.func_path, "retried", seconds=seconds, task_detail=detail)
            says = "Task %s failed and runs again, with %s retries left after that %s"
            count = left if left >= 0 else "all"
            logger.warning(says, escaped(call.func_path), count, words(about), extra=about, exc_info=exc_info(error))
            store.retry(lease.name, with_retry(data, left))
            self._emitter.retried(store.name, function, error, detail, **names)
        else:
            self._counts["failed" if reason is Reason.FAILED else "buried"] += 1
            log_dead(store.name, path_of(data), reason, detail, error=error, seconds=seconds)
            store.bury(lease.name, reason, detail, self._place)
            self._emitter.buried(store.name, function, error, reason, detail, **names)

    def end(self, lease: Lease, data: bytes, job: Job, outcome: Outcome | None, fresh: bool = False) -> None:
        """A task with headers has ended; None if its lease had been lost before it began. `fresh`: its lease lives for
        certain."""
        if type(outcome) is Done and self._posted(lease, job, outcome, fresh):
            log, seconds = self.task_log, job.ended - job.began
            if log.on and not log.counted(lease.pool.totals, job.func_path, seconds, job.ended):
                log.succeeded(lease.pool.store.name, job.func_path, seconds, job.ended, job)
            if not self._emitter.silent(job.function):
                self._emitter.ended(lease.pool.store.name, job, outcome, "")
        elif outcome is None:
            lease.answered(0, repeated=False)
        elif isinstance(outcome, Waits):  # the script that should have begun it has ended the lease
            lease.answered(1, repeated=False)
            self._counts["postponed"] += 1
        else:
            if isinstance(outcome, Failed) and not outcome.ready:
                late = self._put_off(lease, data, outcome.reason, outcome.detail)
                if late is None:
                    return
                outcome = replace(outcome, detail=late)
            elif lease.pool.deferred:
                _note_run(lease)
            store = self._asking(lease)
            count = self._runner.end(store, lease.name, data, job, outcome)
            self._counts[count] += 1
            self._said(store.name, job, outcome, count)

    def _posted(self, lease: Lease, job: Job, outcome: Done, fresh: bool) -> bool:
        """End the lease of a task that has succeeded without waiting for the reply, if that can be; False if not."""
        if not job.holds_something:
            self.succeed(lease, fresh)
            return True
        if lease.suspect or lease.gone or not fresh:
            return False
        try:
            done = self._packed(lease, job, outcome)
        except DelayedError:  # of the result
            return False
        if len(done) > _INLINE:
            return False
        if lease.pool.deferred:
            _note_run(lease)
        self._channel.post(Finish(lease, done))
        return True

    def _packed(self, lease: Lease, job: Job, outcome: Done) -> bytes:
        """The command that ends the lease of a task that has succeeded and holds something."""
        if job.has_only_a_state:
            ttl = job.milliseconds("result_ttl")
            result, keep = success(outcome.value, ttl > 0), ttl or round(ENDED_FOR * 1000)
            return lease.pool.store.finish(lease.name, job.tracked_id or "", result, keep, self._place)
        packing = Packing(lease.pool.store)
        self._runner.succeed(packing.store, lease.name, job, outcome)
        return packing.packed

    def _said(self, queue: str, job: Job, outcome: Outcome, count: str) -> None:
        if self.task_log.on and not count:
            self.task_log.succeeded(queue, job.func_path, ran(job), monotonic(), job)
        elif self.task_log.on and count == State.CANCELLED:
            self.task_log.cancelled(queue, job)
        self._emitter.ended(queue, job, outcome, count)

    def _put_off(self, lease: Lease, data: bytes, reason: Reason, detail: str) -> str | None:
        """Let a task that cannot be run here now wait for a worker that can. None if it does, or if the lease was lost; else
        it has waited for long enough, and this is what its dead letter says."""
        headers = headers_of(data)
        cause = f"no worker could run it yet, {reason}: {summary(detail)}"
        found = self._asking(lease).defer(
            lease.name, holds_in(headers), limit=self._deferral.seconds, cause=cause, group=text_in(headers, "group")
        )
        if found.answer == _TOO_LATE:
            waited = f"\n(it waited for {found.age:.0f} s for a worker that can run it)" if found.age else ""
            return detail.rstrip("\n") + waited
        if found.answer:
            self._deferral.put_off(path_of(data), str(reason), detail)
            self._counts["deferred"] += 1
        return None

    def break_off(self, lease: Lease, data: bytes, error: BaseException) -> NoReturn:
        """The worker's own code has raised `error` while it had to do with this task: that makes it a dead letter, or the
        next worker would meet it, too. If even that fails, the task is lost with this process, and whoever sweeps counts it:
        nothing may go round for ever.

        Raises:
            BrokenOff: it is a dead letter, or will be.
        """
        self._signals.leave_if_child(error)
        try:
            self._bury_broken(lease, data, error)
        except BaseException:
            self._state.abandon(lease)
            raise
        raise BrokenOff from error

    def _bury_broken(self, lease: Lease, data: bytes, error: BaseException) -> None:
        """The connection may be out of step by now: this goes over the next, before all else."""
        self._channel.close()
        self._counts["failed"] += 1
        detail = shortened(f"{_NOT_ITS_OWN}\n{traceback_of(error)}", 10_000)
        log_dead(lease.pool.store.name, path_of(data), Reason.FAILED, detail, error=error)
        store, headers = self._asking(lease), headers_of(data)
        holds = holds_in(headers)
        words = f"{name_of(type(error))}: {said(error, 1000)}"
        keep = milliseconds_in(headers, "result_ttl") or round(ENDED_FOR * 1000)
        with contextlib.suppress(RedisError):  # it is noted, and is sent as soon as there is a connection
            if holds.id is None:
                store.bury(lease.name, Reason.FAILED, detail, self._place, holds)
            else:
                result = failure(str(Reason.FAILED), words, detail)
                conclude = partial(store.conclude, lease.name, holds, state=State.FAILED)
                conclude(result=result, keep=keep, reason=Reason.FAILED, detail=detail, worker=self._place, error=words)
        self._emitter.buried(store.name, None, error, Reason.FAILED, detail, task=path_of(data), id=holds.id)

    def end_early(self, channel: Channel, lease: Lease, job: Job, outcome: Outcome) -> Callable[[], None]:
        """As `end`, from the heartbeat's thread while the task runs, and over its connection. Returns what tells those who
        listen."""
        store = lease.pool.store.over(channel)
        count = self._runner.end(store, lease.name, lease.data or b"", job, outcome)
        self._counts[count] += 1
        return partial(self._emitter.ended, store.name, job, outcome, count)

    def give_delayed(self) -> list[Ending]:
        """From the heartbeat: the endings that the worker has only noted. See `Channel.give_delayed`."""
        return self._channel.give_delayed()

    def superseded(self, lease: Lease) -> None:
        """The lease of a task was lost while it ran."""
        self._counts["superseded"] += 1
        path = path_of(lease.data or b"")
        logger.error(
            "Superseded: the lease under which %s ran is gone, so that its end counts for nothing, and another worker may "
            "have the task; was this process stopped or cut off from Redis for more than %g s, or has Redis lost its data?",
            escaped(path),
            self._state.ttl,
            extra=fields(lease.pool.store.name, path, "superseded"),
        )
        self._emitter.say(Kind.SUPERSEDED, lease.pool.store.name, task=path)

    def _asking(self, lease: Lease) -> Store:
        return lease.pool.store.over(_Asking(self._channel, lease))


def _note_run(lease: Lease) -> None:
    """Others of the same bytes may be noted as such that could not run elsewhere: see `Store.ran`."""
    if len(lease.pool.ran) < _MOST_RUN:
        lease.pool.ran.add(hashlib.sha1(lease.data or b"", usedforsecurity=False).hexdigest())


class _Asking:
    """Sends a script that may end `lease`, and lets the lease know what it has done."""

    def __init__(self, channel: Channel, lease: Lease) -> None:
        self._channel = channel
        self._lease = lease

    def call(self, *command: Argument) -> Any:
        self._reply: Any = None
        self._channel.ask(pack(*command), self._answered)
        return self._reply

    def _answered(self, reply: Any, repeated: bool) -> None:
        self._reply = reply
        ended = reply[0] if isinstance(reply, list) else reply
        if ended != _TOO_LATE:
            self._lease.answered(ended, repeated)
