"""Ends the leases of tasks that a worker has run, counts them, and emits their events."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from ..base.clock import monotonic, now
from ..base.escape import escaped
from ..base.text import name_of, said, shortened, summary, traceback_of
from ..errors import DelayedError, Reason
from ..events import Kind
from ..job.emitter import Emitter
from ..job.failure import verdict
from ..job.job import Job, Waits
from ..job.lines import exc_info, fields, log_dead, ran, words
from ..job.outcome import Again, Done, Ended, Failed, Outcome
from ..job.runner import Runner, value_for_flow
from ..logger import logger
from ..redis.channel import Channel, Delayed
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
from .history import Histories
from .joins import Joins
from .leases import Finish, Lease, Noted
from .state import WorkerState
from .task_log import TaskLog

_NOT_ITS_OWN = "not the task's own code, but the worker failed when it had to do with this task"
_TOO_LATE = 2  # what `Store.defer` answers if it has done nothing
_INLINE = 1 << 16  # bytes of an ending that may be kept here until it is confirmed
_DELAY = 0.001  # seconds that an ending that is noted may be delayed while other tasks run
_SOME = 32  # delayed endings that do more than HDEL: Redis has work for as long as other tasks run
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
        self.joins = Joins(channel)
        self.histories = Histories(channel, state.place)
        self._delayed_at = 0.0  # monotonic time since which endings are delayed; 0 for none
        channel.confirmed = self._confirmed

    def send_counts(self, channel: Channel) -> None:
        """Add what has been counted to the statistics in Redis, over this connection."""
        moment = self._state.clock.now() if self._state.clock.known else now()
        for pool in self._state.pools:
            pool.totals.send(pool.store.over(channel), moment)

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

    def _delay(self, ending: Delayed) -> None:
        """It is noted, where the supervisor finds it if this process is killed: so it can be sent with others."""
        count = self._channel.delay(ending)
        if self._delayed_at == 0.0:
            self._delayed_at = self._state.began
        elif self._state.began - self._delayed_at > _DELAY or (ending.more and count >= _SOME):
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
            lease.pool.totals.ended(call.func_path, "retried", seconds)
            left = call.retry - 1 if call.retry > 0 else call.retry
            about = fields(store.name, call.func_path, "retried", seconds=seconds, task_detail=detail)
            says = "Task %s failed and runs again, with %s retries left after that %s"
            count = left if left >= 0 else "all"
            logger.warning(says, escaped(call.func_path), count, words(about), extra=about, exc_info=exc_info(error))
            store.retry(lease.name, with_retry(data, left))
            self._emitter.retried(store.name, function, error, detail, **names)
            _tell_history(lease, "retried", path_of(data), names["seconds"], detail=detail)
        else:
            count = "failed" if reason is Reason.FAILED else "buried"
            self._counts[count] += 1
            lease.pool.totals.ended(path_of(data), count, names["seconds"])
            log_dead(store.name, path_of(data), reason, detail, error=error, seconds=seconds)
            store.bury(lease.name, reason, detail, self._place)
            self._emitter.buried(store.name, function, error, reason, detail, **names)
            _tell_history(lease, count, path_of(data), names["seconds"], detail=detail)

    def end(self, lease: Lease, data: bytes, job: Job, outcome: Outcome | None, fresh: bool = False) -> None:
        """A task with headers has ended; None if its lease had been lost before it began. `fresh`: its lease lives for
        certain."""
        if "flow" in job.headers:
            self.joins.tell(lease.pool, job.member)
        silent = type(outcome) is Done and self._emitter.silent(job.function)
        if type(outcome) is Done and self._posted(lease, job, outcome, fresh, silent):
            log, seconds = self.task_log, job.ended - job.began
            lease.pool.totals.done(job, seconds)
            _tell_success(lease, job, seconds)
            if log.on and job.ended >= log.counting_until:
                log.succeeded(lease.pool.store.name, job.func_path, seconds, job.ended, job)
            if not silent:
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
            self._tally(lease, job, outcome, count)
            _tell_history_of(lease, job, outcome, count)
            self._said(store.name, job, outcome, count)

    def _posted(self, lease: Lease, job: Job, outcome: Done, fresh: bool, silent: bool) -> bool:
        """End the lease of a task that has succeeded without waiting for the reply, if that can be; False if not. `silent`:
        nobody is told before Redis has its value."""
        if not job.holds_something:
            self.succeed(lease, fresh)
            return True
        if lease.suspect or lease.gone or not fresh:
            return False
        try:
            ending = self._packed(lease, job, outcome, note=self._noting and silent)
        except DelayedError:  # of the result
            return False
        if type(ending) is Finish and len(ending.done) > _INLINE:
            return False
        if lease.pool.deferred:
            _note_run(lease)
        if type(ending) is Noted:
            self._delay(ending)
        else:
            self._channel.post(ending)
        return True

    def _packed(self, lease: Lease, job: Job, outcome: Done, *, note: bool) -> Finish | Noted:
        """What ends the lease of a task that has succeeded and holds something; noted, if it may be and has a place."""
        holds, ttl = job.holds, job.milliseconds("result_ttl")
        result, keep = success(outcome.value, ttl > 0), ttl or round(ENDED_FOR * 1000)
        store, scoreboard = lease.pool.store, self._state.scoreboard
        part = store.part(lease.field, holds, result, keep) if note else None
        if part is not None and (text := part.text) and scoreboard.note(lease.pool.index, lease.number, text):
            return Noted(lease, part)
        return Finish(lease, store.finish(lease.name, holds, result, keep, value=value_for_flow(job, outcome)))

    def _tally(self, lease: Lease, job: Job, outcome: Outcome, count: str) -> None:
        """Count for the statistics how a task has ended, whose count is called so."""
        lease.pool.totals.tally(job, outcome, count)

    def _said(self, queue: str, job: Job, outcome: Outcome, count: str) -> None:
        if self.task_log.on and not count and (moment := monotonic()) >= self.task_log.counting_until:
            self.task_log.succeeded(queue, job.func_path, ran(job), moment, job)
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
            _tell_history(lease, "deferred", path_of(data), None, detail=cause)
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
        lease.pool.totals.ended(path_of(data), "failed")
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
        self._tally(lease, job, outcome, count)
        _tell_history_of(lease, job, outcome, count)
        return partial(self._emitter.ended, store.name, job, outcome, count)

    @property
    def has_delayed(self) -> bool:
        """Whether there are endings that the worker has only noted."""
        return self._channel.has_delayed

    def give_delayed(self) -> list[Delayed]:
        """From the heartbeat: the endings that the worker has only noted. See `Channel.give_delayed`."""
        return self._channel.give_delayed()

    def superseded(self, lease: Lease) -> None:
        """The lease of a task was lost while it ran."""
        self._counts["superseded"] += 1
        path = path_of(lease.data or b"")
        lease.pool.totals.ended(path, "superseded")
        logger.error(
            "Superseded: the lease under which %s ran is gone, so that its end counts for nothing, and another worker may "
            "have the task; was this process stopped or cut off from Redis for more than %g s, or has Redis lost its data?",
            escaped(path),
            self._state.ttl,
            extra=fields(lease.pool.store.name, path, "superseded"),
        )
        self._emitter.say(Kind.SUPERSEDED, lease.pool.store.name, task=path)
        _tell_history(lease, "superseded", path, None)
        if lease.pool.recorder.on:
            lease.pool.recorder.superseded = lease

    def _asking(self, lease: Lease) -> Store:
        return lease.pool.store.over(_Asking(self._channel, lease))


def _note_run(lease: Lease) -> None:
    """Others of the same bytes may be noted as such that could not run elsewhere: see `Store.ran`."""
    if len(lease.pool.ran) < _MOST_RUN:
        lease.pool.ran.add(hashlib.sha1(lease.data or b"", usedforsecurity=False).hexdigest())


def _tell_success(lease: Lease, job: Job, seconds: float) -> None:
    """Note for the history, if that keeps successes, that a task with headers has succeeded."""
    recorder = lease.pool.recorder
    success = recorder.success
    if success is not None and recorder.superseded is not lease:
        get = job.headers.get
        success((job.func_path, seconds, job.tracked_id or job.id, job.ended, get("enqueued"), get("attempt")))


def _tell_history(
    lease: Lease, outcome: str, path: str, seconds: float | None, *, detail: str = "", job: Job | None = None
) -> None:
    """Note for the history what a task has come to, unless its lease was lost by then."""
    recorder = lease.pool.recorder
    if not recorder.on:
        return
    if recorder.superseded is not lease:
        recorder.note(outcome, path, job, seconds=seconds, said=summary(detail))
    recorder.superseded = None


def _tell_history_of(lease: Lease, job: Job, outcome: Outcome, count: str) -> None:
    """As `_tell_history`, of a task with headers, as its worker counts it (see `Runner.end`)."""
    seconds = job.seconds if job.began else None
    if not count:
        _tell_success(lease, job, seconds or 0.0)
    elif isinstance(outcome, Again):
        _tell_history(lease, count, job.func_path, seconds, detail=outcome.error, job=job)
    elif isinstance(outcome, Ended) and outcome.state is State.EXPIRED:
        _tell_history(lease, "expired", job.func_path, None, job=job)
    else:
        _tell_history(lease, count, job.func_path, seconds, detail=getattr(outcome, "detail", ""), job=job)


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
