"""The loop of a worker that runs one task at a time: fetch, run, complete."""

import signal

from ..base.clock import monotonic
from ..job.functions import settled
from ..job.job import Job, job_of
from ..job.outcome import Outcome
from ..job.runner import log_start
from ..redis.command import RedisError
from ..task.decode import Call, parse
from .execution import Execution
from .heartbeat import Heartbeat
from .leases import Lease
from .parts import Parts
from .prefetch import BUDGET
from .starts import Started, Starts
from .tally import OK, QUICK, slow

_RETURNING = 1.0  # seconds for which the loop waits for the heartbeat to give tasks back
_MOMENT = 0.0005  # seconds between two looks whether it has


class SerialLoop:
    """Runs one task at a time, in the thread that calls `run`, which alone uses the worker's connection.

    Args:
        parts: of the worker.
        heartbeat: which is told of what may last.
    """

    def __init__(self, parts: Parts, heartbeat: Heartbeat) -> None:
        self._options, self._state, self._signals = parts.options, parts.state, parts.signals
        self._channel, self._fetcher, self._completer = parts.channel, parts.fetcher, parts.completer
        self._functions, self._runner, self._emitter = parts.functions, parts.runner, parts.emitter
        self._deferral, self._recycling, self._recovery = parts.deferral, parts.recycling, parts.recovery
        self._alarm = parts.runner.alarm
        self._heartbeat = heartbeat
        self._log = parts.completer.task_log
        parts.runner.look()
        self._verbose = parts.runner.verbose
        self._starts = Starts(parts.channel, parts.runner, parts.completer.joins)
        self._fetcher.before_wait = self._completer.joins.finish
        self._begun: dict[str, Job] = {}  # by lease: those in the buffer of which Redis has been asked whether they may begin
        self._read: dict[str, Started] = {}  # likewise: those that have to ask

    def run(self) -> None:
        """Work until a stop, a limit, or (with `burst`) the end of the tasks."""
        state = self._state
        self._recovery.begin()
        while not state.stop.is_set() and not self._recycling.is_out(state.finished):
            try:
                if not self._round():
                    return
                self._recovery.went_well()
            except RedisError as error:
                state.stop.wait(self._recovery.lost(error))
            except BaseException as error:
                if pause := self._recovery.survive(error):
                    if self._signals.installed:  # in this thread
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    state.stop.wait(pause)

    def finish(self) -> None:
        """After `run`, over a connection that works: nothing is left to end here."""

    def _round(self) -> bool:
        """Fetch, and run what was fetched; False if there is nothing more to do."""
        state = self._state
        state.rounds += 1
        state.scoreboard.turn(state.rounds, state.finished)
        self._signals.arm()
        self._emitter.refresh(self._functions)
        if not self._channel.is_open:
            self._fetcher.connect()
        if state.returning:
            self._let_return()
        found = self._fetcher.take(self._recycling.left(state.finished))
        self._recovery.reached()
        if found:
            self._work_through()
            if pause := self._deferral.rest(state.finished):
                self._channel.settle()
                state.stop.wait(pause)
        elif self._options.burst:
            self._channel.settle()
            if not any(pool.holding for pool in state.pools):
                state.drained = True
                return False
            state.stop.wait(BUDGET)  # what waited behind a slow task is on its way back to the queue
        return True

    def _let_return(self) -> None:
        """What the heartbeat gives back comes first in the queue again."""
        until = monotonic() + _RETURNING
        while self._state.returning and not self._state.stop.is_set() and monotonic() < until:
            self._state.stop.wait(_MOMENT)

    def _work_through(self) -> None:
        """Run what is in the buffer, with one timer for all soft timeouts if there are several tasks."""
        if len(self._state.buffer) < 2:
            self._work()
            return
        self._alarm.keep()
        try:
            self._work()
        finally:
            self._alarm.release()

    def _work(self) -> None:
        """Run what is in the buffer."""
        state, stop = self._state, self._state.stop
        buffer = state.buffer
        self._begun.clear()  # the names are used again
        self._read.clear()
        if len(buffer) > 1:
            self._heartbeat.watch()
        count = size = 0
        state.scoreboard.work(True)
        began = state.began = monotonic()
        fresh = state.is_fresh(began)  # or Redis gave them to us long ago, and the reply was on its way for too long
        done = state.finished
        while not stop.is_set():
            try:
                lease = buffer.popleft()
            except IndexError:  # done, or the heartbeat has given back what was left
                break
            data = lease.data
            if data is None or lease.gone or not fresh:
                # We slept for longer than a lease lives, perhaps: others may have these tasks. What is still ours goes back.
                buffer.clear()
                self._channel.close()
                break
            size += len(data)
            count += 1
            try:
                job = self._begun.pop(lease.name, None) if self._begun else None
                fresh = self._run_one(lease, data) if job is None else self._run_job(lease, data, job)
            except RedisError:
                raise
            except BaseException as error:
                state.finished = done + count
                self._completer.break_off(lease, data, error)
        state.scoreboard.work(False)
        self._completer.histories.write()
        if self._completer.joins.waiting and self._completer.joins.carry(busy=True):
            self._fetcher.look()
        if count:
            self._fetcher.size = lease.pool.prefetch.learn(count, state.began - began, size)

    def _run_one(self, lease: Lease, data: bytes) -> bool:  # noqa: C901  # another call would cost every task
        """Run a task and end its lease. False if the other leases may have been lost meanwhile."""
        state = self._state
        call = function = failure = headers = None
        state.running = lease
        try:
            call = parse(data)
            path, args, kwargs, _, headers = call
            if headers is None:
                if self._verbose:
                    log_start(self._runner.start_level, lease.pool.store.name, path)
                if self._alarm.armed:
                    self._alarm.disarm()
                function = self._functions[path]
                value = function(*args, **kwargs)
                if value is not None:
                    settled(value)
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            failure = error
        if call is not None and headers is not None:
            return self._run_job(lease, data, Job(lease.pool.queue, call, lease.name))
        if self._signals.in_child:
            self._signals.leave_if_child(failure)
        state.running = None
        state.finished += 1
        began, now = state.began, monotonic()
        state.began = now
        fresh = state.is_fresh(now)
        if failure is None:
            self._completer.succeed(lease, fresh)
            ran, record = now - began, lease.pool.totals[path]
            if ran > QUICK:
                slow(record, ran)
            record[0] += 1
            record[OK] += ran
            if self._log.on and now >= self._log.counting_until:
                self._log.succeeded(lease.pool.store.name, path, ran, now)
            if (success := lease.pool.recorder.success) is not None:
                success((path, ran))
        else:
            self._completer.fail(lease, data, call and Call(*call), function, failure, seconds=now - began)
        return fresh

    def _run_job(self, lease: Lease, data: bytes, job: Job) -> bool:
        """As `_run_one`, for a task with headers."""
        state = self._state
        state.running, state.job = lease, job
        if "group" in job.headers:
            lease.pool.grouped = True
        try:
            if job.tracked_id is not None or "hard_timeout" in job.headers:
                outcome = self._run_watched(lease, job)
            elif "concurrency" in job.headers:
                outcome = self._run_in_slot(lease, job)
            else:
                outcome = self._runner.execute(job)
        finally:  # also if Redis did not answer
            state.job = state.running = None
        state.finished += 1
        state.began = now = monotonic()
        fresh = state.is_fresh(now)
        self._completer.end(lease, data, job, outcome, fresh)
        return fresh

    def _run_in_slot(self, lease: Lease, job: Job) -> Outcome | None:
        """Run a task that has a concurrency key, and that nobody else ends. None if its lease had been lost."""
        if job.answer is None:
            self._ask(lease, job)
        may_run, outcome = self._runner.begin(lease.pool.store, lease.name, job)
        return self._runner.execute(job) if may_run else outcome

    def _run_watched(self, lease: Lease, job: Job) -> Outcome | None:
        """Run a task that somebody else may have to end. None if its lease had been lost."""
        execution, state = Execution(lease, job, self._runner, self._signals), self._state
        if job.answer is None:
            self._ask(lease, job)
        try:
            if execution.may_run():
                if state.launch(execution):
                    self._heartbeat.wake()
                execution.outcome = self._runner.execute(job)
        finally:  # nothing runs any more that could be late
            state.in_flight.clear()
            if state.deadline is not None:
                state.note_deadline()
        return execution.outcome

    def _ask(self, lease: Lease, job: Job) -> None:
        """Learn whether this task may begin."""
        self._starts.hear()
        if job.answer is None:
            self._begin(lease, job)

    def _begin(self, lease: Lease, job: Job) -> None:
        """Ask whether this task may begin, and with it those in the buffer that have to ask, too."""
        jobs = [(lease, job)]
        if not lease.pool.limited:  # else what has not begun gives its token back
            jobs += filter(None, map(self._found, list(self._state.buffer)))
        for other, found in self._starts.ask(jobs, in_turn=True):
            if other is not lease:
                self._begun[other.name] = found

    def _found(self, lease: Lease) -> Started | None:
        """What a lease in the buffer holds, if that has to ask."""
        if lease.data is None or lease.name in self._begun:
            return None
        if found := self._read.get(lease.name):
            return found
        job = job_of(lease.pool.queue, lease.data, lease.name)
        if job is None or not job.holds_something:
            return None
        self._read[lease.name] = lease, job
        return lease, job
