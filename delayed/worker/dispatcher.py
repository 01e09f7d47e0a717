"""The part of a worker that runs several tasks at once: its dispatcher.

A thread of its own takes tasks, hands them to executors, and ends their leases; it alone uses the worker's connection. Another
connection waits for notifications, so that endings can be sent meanwhile.
"""

import hashlib
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from ..base.clock import monotonic
from ..errors import ConfigurationError
from ..job.functions import Coroutine, Functions
from ..job.runner import Runner, interrupted
from ..redis.channel import INTERRUPTED, Channel
from ..redis.command import RedisError, pack
from ..system.signals import SignalPipe, Stop
from ..task.decode import Call, parse
from .completer import Completer
from .deferral import Deferral
from .execution import Execution
from .executors import Completions, Loop, Threads
from .fetcher import Fetcher
from .heartbeat import Heartbeat
from .leases import Lease
from .prefetch import BUDGET
from .recycling import Recycling
from .scoreboard import Scoreboard

_LOOK = 0.5  # seconds between two looks whether running coroutines have been cancelled
_PROBE = 0.1  # seconds between two looks for coroutines among tasks for which no thread is free
_SUSPICIOUS = 2  # losses after which a task runs alone: one less than what buries it by default


class BrokenOff(Exception):
    """The worker's own code has failed of a task, which has been made a dead letter, or will be over the next connection."""


class Dispatcher:
    """What `Worker` inherits; the attributes that are only named here are the worker's."""

    turns: int
    finished: int
    left: bool
    drained: bool
    deadline: float | None
    scoreboard: Scoreboard
    _burst: bool
    _stop: Stop
    _signals: SignalPipe
    _heartbeat: Heartbeat
    _functions: Functions
    _runner: Runner
    _channel: Channel
    _fetcher: Fetcher
    _completer: Completer
    _recycling: Recycling
    _in_flight: dict[str, Execution]  # by lease, until its ending has been handed to the connection
    _entered: Callable[[BaseException | None], None]
    _connect: Callable[[], None]
    _take: Callable[[], bool]
    _heed_listeners: Callable[[], None]
    _lost: Callable[[RedisError, int], float]
    _survive: Callable[[BaseException], None]
    _break_off: Callable[[Lease, bytes, BaseException], NoReturn]
    _abandon: Callable[[Lease], None]
    _defects: int
    _deferral: Deferral
    _recovered: Callable[[], int]

    def _assemble(self, async_tasks: int, threads: int) -> None:
        """Nothing is in flight yet; executors are made in the process that runs."""
        if async_tasks < 1 or threads < 0:
            raise ConfigurationError("async_tasks is above 0, and threads not below 0")
        self._async_tasks, self._threads = async_tasks, threads
        self._several = async_tasks > 1 or threads > 0  # tasks at once
        queue = self._fetcher.pools[0].store
        self._waiter = Channel(queue.conn, queue.name)  # where notifications are waited for
        self._asked_at = 0.0  # monotonic time at which it was asked for one; 0 if it was not
        self._waiting: deque[Execution] = deque()  # those for which no executor has a free place
        self._waiting_since = 0.0
        self._crowded = True  # the last tasks were for threads
        self._next_probe = 0.0  # monotonic time; for how long no thread was free for a task
        self._alone = False  # take nothing while anything is in flight
        self._watched: dict[str, Execution] = {}  # coroutines that can be cancelled
        self._next_look = 0.0
        self._rested_at = 0.0  # monotonic time until which nothing is taken
        self._defect: BaseException | None = None
        self._async: Loop | None = None

    def _run_many(self) -> None:
        """Work until the end, with the dispatcher in another thread; this one runs plain functions, or waits."""
        self._completions = Completions()
        self._sync = Threads(self._threads, self._completions, self._signals.arm)
        self._sync.start()
        if self._async_tasks > 1:
            self._async = Loop(self._async_tasks, self._completions)
            self._async.start()
        dispatcher = threading.Thread(target=self._dispatch, name="delayed-dispatcher", daemon=True)
        dispatcher.start()
        self._sync.serve()
        dispatcher.join()
        if self._async is not None:
            self._async.join()
        self._waiter.close()
        self._completions.close()
        if self._defect is not None:
            raise self._defect

    def _dispatch(self) -> None:
        try:
            self._rounds(self._round, lambda: self._stop.is_set() or self.drained or self._recycling.is_out(self.finished))
            self.left = True  # nothing is taken from here on
            self._rounds(self._finish, self._is_done)
        except BaseException as error:
            self._defect = error
            self._stop.set()
            self._heartbeat.hurry()  # what runs may end; nobody could end its lease if it did not
        finally:
            self.left = True
            self._sync.close()
            if self._async is not None:
                self._async.close()

    def _is_done(self) -> bool:
        """Whether nothing runs any more, and all has been ended that can be now."""
        return len(self._completions.ended) == len(self._in_flight) and (not self._in_flight or not self._channel.is_open)

    def _rounds(self, action: Callable[[], None], done: Callable[[], bool]) -> None:
        failures = 0
        while not done():
            self.turns += 1
            self.scoreboard.turn(self.turns, self.finished)
            try:
                if not self._channel.is_open:
                    self._connect()
                action()
                self._defects = 0
                if failures:
                    failures = self._recovered()
            except RedisError as error:
                self._forget_waiting()
                failures += 1
                self._listen(self._lost(error, failures), completions=False)
            except BaseException as error:
                self._forget_waiting()
                self._survive(error)

    def _forget_waiting(self) -> None:
        """What waits goes back when the connection does."""
        self._asked_at = 0.0
        self._waiting.clear()
        self._waiter.close()

    def _round(self) -> None:
        """Once: end what has ended, begin what can begin, take if there is room, and wait if there is nothing to do."""
        self._heed_listeners()
        self._completions.read()
        self._collect()
        self._see_cancelled()
        self._begin_waiting()
        if pause := self._deferral.rest(self.finished):
            self._rested_at = monotonic() + pause
        room = self._room()
        if room > 0:
            for pool in self._fetcher.pools:
                pool.prefetch.size = room
            if self._take():
                self._sort()
                return
            if not self._burst:
                return
            if not self._in_flight:
                self._channel.settle()
                self.drained = True
                return
        self._channel.settle()
        self._listen(self._pause())

    def _finish(self) -> None:
        """Once, after a stop: give back what has not begun, and end what has ended."""
        unbegun = [*self._fetcher.buffer, *(execution.lease for execution in self._waiting)]  # not both: see `_room`
        self._fetcher.buffer.clear()
        self._waiting.clear()
        if unbegun:
            self._give_back(unbegun)
        self._completions.read()
        self._collect()
        self._see_cancelled()
        self._channel.settle()
        if self._in_flight:
            self._listen(self._pause())

    def _room(self) -> int:
        """How many tasks to ask for. Nobody knows what they are: as long as coroutines come, as many as the loop has places;
        after tasks for threads, as many as there are free threads; and if none is free, now and then as if coroutines came."""
        self._alone = self._alone and bool(self._in_flight)
        if self._waiting or self._alone or monotonic() < self._rested_at:
            return 0
        threads = self._sync.size - self._sync.busy
        room = threads if self._async is None else self._async.size - self._async.busy
        if self._crowded and (threads or monotonic() < self._next_probe):
            room = min(room, threads)
        return min(room, self._recycling.left(self.finished + len(self._in_flight)))

    # Wait

    def _pause(self) -> float:
        """Seconds until there is something to do if nothing happens."""
        due = monotonic() + self._fetcher.wait
        if self._waiting:
            due = min(due, self._waiting_since + BUDGET)
        if monotonic() < self._rested_at:
            due = min(due, self._rested_at)
        if self._watched:
            due = min(due, self._next_look)
        if monotonic() < self._next_probe:
            due = min(due, self._next_probe)
        return max(0.0, due - monotonic())

    def _listen(self, seconds: float, *, completions: bool = True) -> None:
        """Wait until a task has ended or the worker shall stop (each is heard once), for so many seconds at most."""
        poll = select.poll()
        if completions:
            poll.register(self._completions, select.POLLIN)
        if not self._stop.is_set():
            poll.register(self._stop, select.POLLIN)
        poll.poll(1 + seconds * 1000)

    def _await_notification(self, pop: bytes) -> Any:
        """As `Channel.block`; after `INTERRUPTED` the wait goes on when this is called again."""
        if not self._asked_at:
            if not self._waiter.is_open:
                self._waiter.open()
            self._waiter.send(pop)
            self._asked_at = monotonic()
        self._channel.settle()
        overran = self._asked_at + self._fetcher.wait
        if self._waiter.listen(min(overran - monotonic(), self._pause()), self._stop.fileno(), self._completions.fileno()):
            self._asked_at = 0.0
            return self._waiter.answer()
        if monotonic() >= overran:
            raise RedisError("a blocking pop did not end in time")
        return INTERRUPTED

    # Begin

    def _sort(self) -> None:
        """Find out what has been taken, and begin it."""
        threads = self._sync.size - self._sync.busy
        plain = coroutines = 0
        while self._fetcher.buffer and not self._stop.is_set():
            execution = self._known(self._fetcher.buffer.popleft())
            coroutines += self._is_for_loop(execution)
            plain += not self._is_for_loop(execution)
            self._waiting.append(execution)
        if plain > threads:
            self._next_probe = monotonic() + _PROBE
        self._crowded = plain > threads or (self._crowded and not coroutines)
        self._waiting_since = monotonic()
        self._begin_waiting()

    def _known(self, lease: Lease) -> Execution:
        try:
            return self._execution(lease)
        except BaseException as error:
            self.finished += 1
            self._break_off(lease, lease.data or b"", error)

    def _execution(self, lease: Lease) -> Execution:
        call = function = failure = None
        try:
            call = Call(*parse(lease.data or b""))
            function = self._functions[call.func_path]
        except BaseException as error:  # a module may raise anything when it is imported
            failure = error
        execution = Execution(lease, call, self._runner, self._entered)
        execution.function = function
        if execution.job is None:  # else its middlewares shall see this
            execution.failure = failure
        return execution

    def _is_for_loop(self, execution: Execution) -> bool:
        return self._async is not None and isinstance(execution.function, Coroutine)

    def _begin_waiting(self) -> None:
        """Begin what finds a place. What has waited for longer than a moment goes back: another worker may have a place."""
        if self._waiting and not self._fetcher.is_fresh(monotonic()):
            self._waiting.clear()  # after a pause others may have it: what is still ours goes back
            self._channel.close()
            return
        left: deque[Execution] = deque()
        while self._waiting:
            execution = self._waiting.popleft()
            executor = self._async if self._async is not None and self._is_for_loop(execution) else self._sync
            if execution.lease.suspect and not self._may_begin(execution.lease):
                self._alone = True
                self._give_back([execution.lease])
            elif execution.failure is not None:
                self._begin(execution, None)
            elif executor.busy < executor.size:
                self._begin(execution, executor)
            else:
                left.append(execution)
        if left and monotonic() >= self._waiting_since + BUDGET:
            self._give_back([execution.lease for execution in left])
            left.clear()
        self._waiting = left

    def _may_begin(self, lease: Lease) -> bool:
        """A task that was lost twice runs alone. After one loss it does not: whoever was in flight with a killer is innocent
        but for one, and they may be many."""
        digest = hashlib.sha1(lease.data or b"", usedforsecurity=False).hexdigest()
        found = lease.pool.store.call("HGET", lease.pool.store.keys.lost, digest) or b"0"
        count = found.partition(b":")[0]
        self._alone = not count.isdigit() or int(count[-9:]) >= _SUSPICIOUS  # another program's may be anything
        return not self._alone or not self._in_flight

    def _begin(self, execution: Execution, executor: Threads | Loop | None) -> None:
        """Hand it to an executor, if it has one and may run."""
        lease, job = execution.lease, execution.job
        if job is not None and executor is not None and not self._may_now(execution):
            if execution.outcome is None:
                self.finished += 1
                self._completer.end(lease, execution.data, job, None)
                return
            executor = None
        self.scoreboard.work(True)
        self._fly(execution, hard=executor is not None)
        if executor is None:
            self._completions.post(execution)
            return
        if execution.state_key is not None and executor is self._async:
            self._watched[lease.name] = execution
        executor.busy += 1
        execution.executor = executor
        executor.submit(execution)

    def _may_now(self, execution: Execution) -> bool:
        try:
            return self._may_run(execution)
        except RedisError:
            raise
        except BaseException as error:
            self.finished += 1
            self._break_off(execution.lease, execution.data, error)

    def _may_run(self, execution: Execution) -> bool:
        """Whether a task with headers may; if not, `outcome` is how it ends, or None if its lease had been lost."""
        lease, job = execution.lease, execution.job
        assert job is not None
        lease.pool.grouped = lease.pool.grouped or "group" in job.headers
        go, execution.outcome = self._runner.begin(lease.pool.store, lease.name, job)
        return go

    def _fly(self, execution: Execution, *, hard: bool = True) -> None:
        """From now on it runs; `hard`: and must have ended when its hard timeout is over, if it has one."""
        self._in_flight[execution.lease.name] = execution
        limit = execution.job.milliseconds("hard_timeout") if hard and execution.job is not None else 0
        if limit:
            execution.deadline = monotonic() + limit / 1000
            self._note_deadline()
            self._heartbeat.wake()

    def _give_back(self, leases: list[Lease]) -> None:
        pool = leases[0].pool  # a take is of one queue
        pool.store.give_back([lease.name for lease in leases])
        for lease in leases:
            pool.release(lease)

    # End

    def _goodbye_to_many(self) -> None:
        """The dispatcher has left: end what ended while Redis was away."""
        if self._in_flight:
            self._collect()
            self._channel.settle()
        if self._defect is not None:  # perhaps of one of those that have not ended
            for execution in list(self._in_flight.values()):
                self._abandon(execution.lease)

    def _collect(self) -> None:
        """End the leases of what has ended. If the connection breaks before, it stays in the mail for the next one."""
        ended = self._completions.ended
        while ended:
            execution = ended[0]
            if execution.failure is not None or execution.job is not None:
                self._channel.settle()
            ended.popleft()
            del self._in_flight[execution.lease.name]
            self._watched.pop(execution.lease.name, None)
            if execution.executor is not None:
                execution.executor.busy -= 1
            if execution.deadline < float("inf"):
                self._note_deadline()
            self.finished += 1
            if not self._in_flight:
                self.scoreboard.work(False)
            try:
                self._end(execution)
            except RedisError:
                raise
            except BaseException as error:
                self._break_off(execution.lease, execution.data, error)

    def _end(self, execution: Execution) -> None:
        lease, data = execution.lease, execution.data
        if execution.job is not None:
            outcome = execution.outcome or interrupted(execution.job, execution.failure or AssertionError("it has not ended"))
            self._completer.end(lease, data, execution.job, outcome)
        elif execution.failure is not None:
            self._completer.fail(lease, data, execution.call, execution.function, execution.failure)
        else:
            self._completer.succeed(lease, self._fetcher.is_fresh(monotonic()))

    def _note_deadline(self) -> None:
        first = min((execution.deadline for execution in self._in_flight.values()), default=float("inf"))
        self.deadline = first if first < float("inf") else None
        self.scoreboard.end_by(self.deadline or 0)

    def _see_cancelled(self) -> None:
        """Ask whether somebody has cancelled a coroutine that runs, and interrupt it."""
        if not self._watched or monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK
        watched = [execution for execution in self._watched.values() if execution.job is not None and execution.job.id]
        keys = [each.lease.pool.store.keys.task(each.job.id) for each in watched if each.job and each.job.id]
        replies = self._channel.exchange(b"".join(pack("HEXISTS", key, "cancelled") for key in keys), len(keys))
        for execution, cancelled in zip(watched, replies, strict=True):
            if cancelled and execution.job is not None and self._async is not None:
                del self._watched[execution.lease.name]
                self._async.cancel(execution.job)
