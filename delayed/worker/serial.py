"""The loop of a worker that runs one task at a time: fetch, run, complete."""

import logging
import signal

from ..base.clock import monotonic
from ..base.escape import escaped
from ..base.text import shown
from ..job.functions import settled
from ..logger import logger
from ..redis.command import RedisError
from ..task.decode import Call, parse
from .execution import Execution
from .heartbeat import Heartbeat
from .leases import Lease
from .parts import Parts


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
        self._heartbeat = heartbeat
        self._verbose = logger.isEnabledFor(logging.DEBUG)

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
        found = self._fetcher.take(self._recycling.left(state.finished))
        self._recovery.reached()
        if found:
            self._work()
            if pause := self._deferral.rest(state.finished):
                state.stop.wait(pause)
        elif self._options.burst:
            self._channel.settle()
            state.drained = True
            return False
        return True

    def _work(self) -> None:
        """Run what is in the buffer."""
        state, stop = self._state, self._state.stop
        buffer = state.buffer
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
                fresh = self._run_one(lease, data)
            except RedisError:
                raise
            except BaseException as error:
                state.finished = done + count
                self._completer.break_off(lease, data, error)
        state.scoreboard.work(False)
        if count:
            self._fetcher.size = lease.pool.prefetch.learn(count, state.began - began, size)

    def _run_one(self, lease: Lease, data: bytes) -> bool:
        """Run a task and end its lease. False if the other leases may have been lost meanwhile."""
        state = self._state
        call = function = failure = headers = None
        state.running = lease
        try:
            call = parse(data)
            path, args, kwargs, _, headers = call
            if headers is None:
                if self._verbose:
                    logger.debug("Task %s starts under %s", escaped(path), lease.name)
                function = self._functions[path]
                value = function(*args, **kwargs)
                if value is not None:
                    settled(value)
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            failure = error
        if call is not None and headers is not None:
            return self._run_job(Execution(lease, Call(*call), self._runner, self._signals))
        if self._signals.in_child:
            self._signals.leave_if_child(failure)
        state.running = None
        state.finished += 1
        began, now = state.began, monotonic()
        state.began = now
        if self._verbose:
            logger.debug("Task under %s ended after %.6f s: %s", lease.name, now - began, shown(failure))
        fresh = state.is_fresh(now)
        if failure is None:
            self._completer.succeed(lease, fresh)
        else:
            self._completer.fail(lease, data, call and Call(*call), function, failure, seconds=now - began)
        return fresh

    def _run_job(self, execution: Execution) -> bool:
        """As `_run_one`, for a task with headers."""
        state, job = self._state, execution.job
        assert job is not None
        try:
            if execution.may_run():
                if state.launch(execution):
                    self._heartbeat.wake()
                execution.outcome = self._runner.execute(job)
        finally:  # also if Redis did not answer: nothing runs any more that could be late
            state.in_flight.clear()
            state.note_deadline()
            state.running = None
        state.finished += 1
        state.began = monotonic()
        self._completer.end(execution.lease, execution.data, job, execution.outcome)
        return state.is_fresh(state.began)
