"""The loop of a worker that runs several tasks at once: its dispatcher.

A thread of its own takes tasks, hands them to executors, and ends their leases; it alone uses the worker's connection. Another
connection waits for notifications, so that endings can be sent meanwhile.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable

from ..base.clock import monotonic
from ..job.functions import Coroutine
from ..job.job import Job
from ..job.outcome import Done
from ..job.runner import broken_off
from ..redis.command import RedisError, pack
from ..task.decode import Call, parse
from .execution import Execution
from .executors import Loop, Threads
from .heartbeat import Heartbeat
from .leases import Lease
from .parts import Parts
from .prefetch import BUDGET
from .starts import Starts
from .tally import OK, QUICK, slow
from .waiters import ListeningWaiter

_LOOK = 0.5  # seconds between two looks whether running coroutines have been cancelled
_GATHERING = 0.001  # seconds that a take may wait for more room
_MOST_AHEAD = 16  # tasks that may wait in front of a thread
_PROBE = 0.1  # seconds between two looks for coroutines among tasks for which no thread is free
_ENOUGH = 64  # events of a history for an entry
_SUSPICIOUS = 2  # losses after which a task runs alone: one less than what buries it by default


class Dispatcher:
    """Runs several tasks at once: hands them to executors, in a thread of its own.

    Args:
        parts: of the worker.
        heartbeat: which is told of what may last.
        waiter: hears what the executors have completed.
    """

    def __init__(self, parts: Parts, heartbeat: Heartbeat, waiter: ListeningWaiter) -> None:
        self._options, self._state, self._signals = parts.options, parts.state, parts.signals
        self._channel, self._fetcher, self._completer = parts.channel, parts.fetcher, parts.completer
        self._functions, self._runner, self._emitter = parts.functions, parts.runner, parts.emitter
        self._deferral, self._recycling, self._recovery = parts.deferral, parts.recycling, parts.recovery
        self._heartbeat, self._waiter, self._completions = heartbeat, waiter, waiter.completions
        self._runner.look()
        self._waiting_since = 0.0  # monotonic time
        self._crowded = True  # the last tasks were for threads
        self._next_probe = 0.0  # monotonic time; for how long no thread was free for a task
        self._alone = False  # take nothing while anything is in flight
        self._watched: dict[str, Execution] = {}  # coroutines that can be cancelled
        self._next_look = 0.0
        self._rested_at = 0.0  # monotonic time until which nothing is taken
        self._defect: BaseException | None = None
        self._starts = Starts(parts.channel, parts.runner, parts.completer.joins)
        self._taken_at = 0.0  # monotonic time of the last take
        self._ahead = 0  # tasks that may wait in front of the threads
        self._queued: deque[Execution] = deque()  # what the threads were given, in its order
        self._mean = 1.0  # seconds that plain functions take
        self._sync = Threads(self._options.threads, self._completions, self._signals.arm, self._lives)
        self._async: Loop | None = None

    def run(self) -> None:
        """Work until a stop, a limit, or (with `burst`) the end of the tasks; this thread runs plain functions, or waits."""
        self._completions.open()
        self._sync.start()
        if self._options.async_tasks > 1:
            self._async = Loop(self._options.async_tasks, self._completions, self._lives)
            self._async.start()
        dispatcher = threading.Thread(target=self._dispatch, name="delayed-dispatcher", daemon=True)
        dispatcher.start()
        self._sync.serve()
        dispatcher.join()
        if self._async is not None:
            self._async.join()
        self._waiter.forget()
        self._completions.close()
        if self._defect is not None:
            raise self._defect

    def finish(self) -> None:
        """After `run`, over a connection that works: end what ended while Redis was away."""
        in_flight = self._state.in_flight
        if in_flight:
            self._collect()
            self._channel.settle()
        if self._defect is not None:  # perhaps of one of those that have not ended
            for execution in list(in_flight.values()):
                self._state.abandon(execution.lease)

    def _dispatch(self) -> None:
        try:
            self._rounds(self._round, self._is_to_end)
            self._state.left = True  # nothing is taken from here on
            self._rounds(self._give_back_and_end, self._is_done)
        except BaseException as error:
            self._defect = error
            self._state.stop.set()
            self._heartbeat.hurry()  # what runs may end; nobody could end its lease if it did not
        finally:
            self._state.left = True
            self._sync.close()
            if self._async is not None:
                self._async.close()

    def _lives(self) -> bool:
        """From an executor: whether a task that was handed to it may begin, as nobody else can have it."""
        return self._state.is_fresh(monotonic())

    def _is_to_end(self) -> bool:
        """Whether nothing more is to be taken."""
        state = self._state
        return state.stop.is_set() or state.drained or self._recycling.is_out(state.finished)

    def _is_done(self) -> bool:
        """Whether nothing runs any more, and all has been ended that can be now."""
        in_flight = self._state.in_flight
        return len(self._completions.ended) == len(in_flight) and (not in_flight or not self._channel.is_open)

    def _rounds(self, action: Callable[[], None], done: Callable[[], bool]) -> None:
        state, recovery = self._state, self._recovery
        recovery.begin()
        while not done():
            state.rounds += 1
            state.scoreboard.turn(state.rounds, state.finished)
            try:
                if not self._channel.is_open:
                    self._fetcher.connect()
                action()
                recovery.went_well()
                recovery.reached()
            except RedisError as error:
                self._forget_waiting()
                self._waiter.listen(recovery.lost(error), completions=False)
            except BaseException as error:
                self._forget_waiting()
                if pause := recovery.survive(error):
                    state.stop.wait(pause)

    def _forget_waiting(self) -> None:
        """What waits goes back when the connection does."""
        self._state.waiting.clear()
        self._waiter.forget()

    def _round(self) -> None:
        """Once: end what has ended, begin what can begin, take if there is room, and wait if there is nothing to do."""
        self._emitter.refresh(self._functions)
        self._completions.read()
        self._collect()
        self._see_cancelled()
        self._take_back()
        self._begin_waiting()
        if pause := self._deferral.rest(self._state.finished):
            self._rested_at = monotonic() + pause
        room = self._room()
        if room > 0 and not self._is_to_wait_for_more(room):
            self._taken_at = monotonic()
            for pool in self._state.pools:
                pool.prefetch.size, pool.prefetch.known = room, True
            self._waiter.until = self._due()
            if self._fetcher.take(self._recycling.left(self._state.finished)):
                self._sort()
                return
            if not self._options.burst:
                return
            if not self._state.in_flight:
                self._channel.settle()
                self._state.drained = True
                return
        self._completer.histories.write()
        self._channel.settle()
        self._wait()

    def _give_back_and_end(self) -> None:
        """Once, after a stop: give back what has not begun, and end what has ended."""
        buffer, waiting = self._state.buffer, self._state.waiting
        unbegun = [*buffer, *(execution.lease for execution in waiting)]  # not both: see `_room`
        buffer.clear()
        waiting.clear()
        if unbegun:
            self._give_back(unbegun)
        self._take_back(late=0.0)
        self._completions.read()
        self._collect()
        self._see_cancelled()
        self._channel.settle()
        if self._state.in_flight:
            self._wait()

    def _room(self) -> int:
        """How many tasks to ask for. Nobody knows what they are: as long as coroutines come, as many as the loop has places;
        after tasks for threads, as many as there are free threads; and if none is free, now and then as if coroutines came."""
        self._alone = self._alone and bool(self._state.in_flight)
        if self._state.waiting or self._alone or monotonic() < self._rested_at:
            return 0
        threads = self._sync.size + self._ahead - self._sync.busy
        room = threads if self._async is None else self._async.size - self._async.busy
        if self._crowded and (threads or monotonic() < self._next_probe):
            room = min(room, threads)
        return min(room, self._recycling.left(self._state.finished + len(self._state.in_flight)))

    def _is_to_wait_for_more(self, room: int) -> bool:
        """Whether there is little room, and more soon if tasks are quick: a take of a few costs as much as one of many."""
        return 4 * room < self._sizes() and monotonic() < self._taken_at + _GATHERING

    def _sizes(self) -> int:
        threads = self._sync.size + self._ahead
        return threads if self._async is None or self._crowded else self._async.size

    def _due(self) -> float:
        """Monotonic time at which there is something to do if nothing happens."""
        now = monotonic()
        due = min(now + self._fetcher.wait, self._completer.joins.due)
        if self._state.waiting:
            due = min(due, self._waiting_since + BUDGET)
        if self._watched:
            due = min(due, self._next_look)
        if self._queued:
            due = min(due, self._queued[0].submitted + BUDGET)
        for moment in (self._rested_at, self._next_probe):
            if now < moment:
                due = min(due, moment)
        return due

    def _wait(self) -> None:
        """Until something has happened, or is to be done."""
        due = self._due()
        if self._room() > 0:  # it waits for more
            due = min(due, self._taken_at + _GATHERING)
        self._waiter.listen(max(0.0, due - monotonic()))

    # Begin

    def _sort(self) -> None:
        """Find out what has been taken, and begin it."""
        threads = self._sync.size + self._ahead - self._sync.busy
        plain = coroutines = 0
        buffer, stop = self._state.buffer, self._state.stop
        while buffer and not stop.is_set():
            execution = self._known(buffer.popleft())
            coroutines += self._is_for_loop(execution)
            plain += not self._is_for_loop(execution)
            self._state.waiting.append(execution)
        if plain > threads:
            self._next_probe = monotonic() + _PROBE
        self._crowded = plain > threads or (self._crowded and not coroutines)
        self._waiting_since = monotonic()
        self._begin_waiting()

    def _known(self, lease: Lease) -> Execution:
        try:
            return self._execution(lease)
        except BaseException as error:
            self._state.finished += 1
            self._completer.break_off(lease, lease.data or b"", error)

    def _execution(self, lease: Lease) -> Execution:
        call = function = failure = None
        try:
            call = Call(*parse(lease.data or b""))
            function = self._functions[call.func_path]
        except BaseException as error:  # a module may raise anything when it is imported
            failure = error
        job = None if call is None or call.headers is None else Job(lease.pool.queue, call, lease.name)
        if job is not None and "group" in job.headers:
            lease.pool.grouped = True
        execution = Execution(lease, job or call, self._runner, self._signals)
        execution.function = function
        if execution.job is None:  # else its middlewares shall see this
            execution.failure = failure
        return execution

    def _is_for_loop(self, execution: Execution) -> bool:
        return self._async is not None and isinstance(execution.function, Coroutine)

    def _begin_waiting(self) -> None:
        """Begin what finds a place. What has waited for longer than a moment goes back: another worker may have a place."""
        if self._state.waiting and not self._state.is_fresh(monotonic()):
            self._state.waiting.clear()  # after a pause others may have it: what is still ours goes back
            self._channel.close()
            return
        self._ask_for_all()
        left: deque[Execution] = deque()
        while self._state.waiting:
            execution = self._state.waiting.popleft()
            executor = self._async if self._async is not None and self._is_for_loop(execution) else self._sync
            if execution.lease.suspect and not self._may_begin(execution.lease):
                self._alone = True
                self._give_back([execution.lease])
            elif execution.failure is not None:
                self._begin(execution, None)
            elif executor.busy < executor.size or (executor is self._sync and self._may_queue(execution)):
                self._begin(execution, executor)
            else:
                left.append(execution)
        if left and monotonic() >= self._waiting_since + BUDGET:
            self._give_back([execution.lease for execution in left])
            left.clear()
        self._state.waiting = left

    def _ask_for_all(self) -> None:
        """Ask in one question whether those may begin that have to ask."""
        pool = self._state.waiting[0].lease.pool if self._state.waiting else None
        if pool is None or pool.limited:
            return
        asking = [each for each in self._state.waiting if each.failure is None and not each.lease.suspect]
        jobs = [(each.lease, each.job) for each in asking if each.job is not None and each.job.answer is None]
        if len(jobs) > 1:
            self._starts.ask([(lease, job) for lease, job in jobs if job.holds_something])

    def _may_queue(self, execution: Execution) -> bool:
        """Whether a task may wait in front of the threads: quick ones may, so that no thread waits for the dispatcher."""
        job = execution.job
        if execution.lease.pool.limited:  # it would take the place of one that could run elsewhere
            return False
        holds_little = job is None or job.has_only_a_state or not job.holds_something
        timed = job is not None and "hard_timeout" in job.headers
        return holds_little and not timed and self._sync.busy < self._sync.size + self._ahead

    def _take_back(self, late: float = BUDGET) -> None:
        """What has waited for so long in front of threads, which turn out to be slow, goes back: another worker may have a
        place."""
        queued = self._queued
        while queued and queued[0].begun:
            queued.popleft()
        if queued and monotonic() >= queued[0].submitted + late:
            queued.clear()
            self._ahead = 0
            back: dict[int, list[Lease]] = {}  # by queue
            for execution in self._sync.take_back():
                del self._state.in_flight[execution.lease.name]
                self._sync.busy -= 1
                back.setdefault(execution.lease.pool.index, []).append(execution.lease)
            self._state.note_deadline()
            for leases in back.values():
                self._give_back(leases)

    def _may_begin(self, lease: Lease) -> bool:
        """A task that was lost twice runs alone. After one loss it does not: whoever was in flight with a killer is innocent
        but for one, and they may be many."""
        digest = hashlib.sha1(lease.data or b"", usedforsecurity=False).hexdigest()
        found = lease.pool.store.call("HGET", lease.pool.store.keys.lost, digest) or b"0"
        count = found.partition(b":")[0]
        self._alone = not count.isdigit() or int(count[-9:]) >= _SUSPICIOUS  # another program's may be anything
        return not self._alone or not self._state.in_flight

    def _begin(self, execution: Execution, executor: Threads | Loop | None) -> None:
        """Hand it to an executor, if it has one and may run."""
        lease, job = execution.lease, execution.job
        if job is not None and executor is not None and not self._may_now(execution):
            if execution.outcome is None:
                self._state.finished += 1
                self._completer.end(lease, execution.data, job, None)
                return
            executor = None
        self._state.scoreboard.work(True)
        if self._state.launch(execution, hard=executor is not None):
            self._heartbeat.wake()
        if executor is None:
            self._completions.post(execution)
            return
        if execution.state_key is not None and executor is self._async:
            self._watched[lease.name] = execution
        executor.busy += 1
        execution.executor = executor
        if executor is self._sync:
            execution.submitted = monotonic()
            self._queued.append(execution)
        executor.submit(execution)

    def _may_now(self, execution: Execution) -> bool:
        try:
            return execution.may_run()
        except RedisError:
            raise
        except BaseException as error:
            self._state.finished += 1
            self._completer.break_off(execution.lease, execution.data, error)

    def _give_back(self, leases: list[Lease]) -> None:
        pool = leases[0].pool  # a take is of one queue
        pool.store.give_back([lease.name for lease in leases], {lease.name: lease.data for lease in leases if lease.data})
        for lease in leases:
            pool.release(lease)

    # End

    def _collect(self) -> None:
        """End the leases of what has ended. If the connection breaks before, it stays there for the next one."""
        ended = self._completions.ended
        while ended:
            execution = ended[0]
            if execution.failure is not None or not (execution.job is None or type(execution.outcome) is Done):
                self._channel.settle()
            ended.popleft()
            del self._state.in_flight[execution.lease.name]
            self._watched.pop(execution.lease.name, None)
            if execution.executor is not None:
                execution.executor.busy -= 1
            if execution.deadline < float("inf"):
                self._state.note_deadline()
            if execution.stale:  # after a pause others may have it: what is still ours goes back with the next connection
                self._channel.close()
                continue
            self._state.finished += 1
            if not self._state.in_flight:
                self._state.scoreboard.work(False)
            try:
                self._end(execution)
            except RedisError:
                raise
            except BaseException as error:
                self._completer.break_off(execution.lease, execution.data, error)
        self._completer.histories.write(_ENOUGH)
        if self._completer.joins.waiting:
            self._completer.joins.carry(busy=bool(self._state.in_flight))

    def _end(self, execution: Execution) -> None:
        lease, data = execution.lease, execution.data
        now = monotonic()
        if execution.executor is self._sync:
            self._learn(execution.seconds if execution.job is None else execution.job.seconds)
        if execution.job is not None:
            outcome = execution.outcome or broken_off(execution.job, execution.failure or AssertionError("it has not ended"))
            self._completer.end(lease, data, execution.job, outcome, self._state.is_fresh(now))
        elif execution.failure is not None:
            function, failure = execution.function, execution.failure
            self._completer.fail(lease, data, execution.call, function, failure, seconds=execution.seconds)
        else:
            self._completer.succeed(lease, self._state.is_fresh(now))
            log, call, seconds = self._completer.task_log, execution.call, execution.seconds
            if call is not None:
                record = lease.pool.totals[call.func_path]
                if seconds > QUICK:
                    slow(record, seconds)
                record[0] += 1
                record[OK] += seconds
                if (success := lease.pool.recorder.success) is not None:
                    success((call.func_path, seconds))
                if log.on and now >= log.counting_until:
                    log.succeeded(lease.pool.store.name, call.func_path, seconds, now)

    def _learn(self, seconds: float) -> None:
        """A plain function has taken so many seconds: how many may wait in front of the threads."""
        self._mean += (seconds - self._mean) / 8
        self._ahead = min(_MOST_AHEAD * self._sync.size, int(BUDGET / 2 * self._sync.size / max(self._mean, 1e-6)))

    def _see_cancelled(self) -> None:
        """Ask whether somebody has cancelled a coroutine that runs, and interrupt it."""
        if not self._watched or monotonic() < self._next_look:
            return
        self._next_look = monotonic() + _LOOK
        watched = [execution for execution in self._watched.values() if execution.job is not None and execution.job.tracked_id]
        keys = [each.lease.pool.store.keys.task(each.job.tracked_id) for each in watched if each.job and each.job.tracked_id]
        replies = self._channel.exchange(b"".join(pack("HEXISTS", key, "cancelled") for key in keys), len(keys))
        for execution, cancelled in zip(watched, replies, strict=True):
            if cancelled and execution.job is not None and self._async is not None:
                del self._watched[execution.lease.name]
                self._async.cancel(execution.job)
