"""The worker: take, execute, end."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn, cast

from ..base.clock import monotonic, now
from ..base.escape import escaped, indented
from ..base.ids import token
from ..base.pauses import pause_before_another
from ..base.text import counted, shown, traceback_of
from ..errors import ConfigurationError
from ..events import BUS, Kind
from ..hooks import NONE, Hooks
from ..job.allow import AllowAny, AllowList
from ..job.emitter import Emitter
from ..job.functions import Functions, settled
from ..job.job import Job, announce, running
from ..job.middleware import AsyncMiddleware, Middleware
from ..job.runner import KILLED, Runner, overran
from ..logger import logger
from ..queue.queue import Queue
from ..redis.channel import Channel
from ..redis.command import RedisError
from ..redis.outage import OutageLog
from ..redis.server_time import ServerTime
from ..redis.store import Store
from ..system.exits import leave
from ..system.process import resident_size
from ..system.signals import SignalPipe, Stop
from ..task.decode import Call, parse, path_of
from .completer import Completer
from .deferral import PATIENCE, Deferral
from .dispatcher import BrokenOff, Dispatcher
from .execution import Execution
from .fetcher import Fetcher
from .heartbeat import Heartbeat
from .leases import Lease
from .options import GRACE, KEEP_ALIVE_INTERVAL, allow_list, check_same_server, check_times, lease_ttl
from .recycling import Recycling
from .scoreboard import Scoreboard
from .shutdown import leave_unheard, say_goodbye

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to reach Redis again
_DEFECTS = 10  # interruptions in a row that are no accident
_CONNECTING = 30.0  # seconds that an attempt to reach Redis may take, asking many servers in turn


class Worker(Dispatcher):
    """Runs the Python tasks of one or several queues: in this thread, one at a time, if nothing else is said.

    Args:
        queue: a queue, or several in order of priority: a later one is served when the earlier ones are empty.
        weights: for several queues, the share of each while all of them have tasks; None for strict priority.
        keep_alive_interval: seconds between two beats; fractions count.
        id_bits: accepted for upstream's sake, and ignored: leases have names that cannot clash.
        allow: which functions may run: patterns as in `AllowList`. None allows every importable function, with a warning;
            `AllowAny()` does so without.
        grace: seconds that a stopped worker has to finish its task; after that the task is given back and the process exits.
        burst: end when all queues are empty.
        max_tasks: end after so many tasks, `recycled` out; None for never.
        max_rss: likewise, between two tasks, when the process has more bytes of memory than this.
        middlewares: what wraps the execution of tasks that have headers, the outermost first.
        hooks: what to call for each of its tasks.
        slate: where its supervisor looks.
        async_tasks: how many coroutine functions may be in flight in one event loop, beside the others. With 1 each runs in
            a loop of its own, in its turn.
        unready_for: seconds that a task waits for a worker that can run it, if this one cannot (it does not know the function,
            or may not run it); after that it is buried.
        threads: how many threads run what is not in that loop; 0 for the thread that calls `run`, where soft timeouts work.

    Raises:
        ConfigurationError: numbers, queues or patterns that cannot work.
    """

    def __init__(
        self,
        queue: Queue | Sequence[Queue],
        keep_alive_interval: float = KEEP_ALIVE_INTERVAL,
        id_bits: int = 16,  # noqa: ARG002  # see the docstring
        *,
        allow: Iterable[str] | AllowList | AllowAny | None = None,
        grace: float = GRACE,
        burst: bool = False,
        max_tasks: int | None = None,
        max_rss: int | None = None,
        middlewares: Sequence[Middleware | AsyncMiddleware] = (),
        hooks: Hooks = NONE,
        scoreboard: Scoreboard | None = None,
        weights: Sequence[float] | None = None,
        async_tasks: int = 1,
        threads: int = 0,
        unready_for: float = PATIENCE,
    ) -> None:
        queues = [queue] if isinstance(queue, Queue) else list(queue)
        if not queues:
            raise ConfigurationError("a worker needs at least one queue")
        check_times(keep_alive_interval, grace)
        if not 0 <= unready_for < 1e9:
            raise ConfigurationError(f"unready_for is a number of seconds, 0 or more, not {unready_for:g}")
        check_same_server(queues)
        self._recycling = Recycling(max_tasks, max_rss)
        self._interval, self._grace, self._burst = keep_alive_interval, grace, burst
        self._ttl = lease_ttl(queues, keep_alive_interval)
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._started = now()

        self.name = token()
        self.turns = 0
        self.finished = 0
        self.running: Lease | None = None
        self.deadline: float | None = None  # monotonic time at which it must have ended
        self.drained = False  # by `burst`
        self.left = False
        self.abandoned: list[Lease] = []
        self.clock = ServerTime(lambda: cast(Sequence[bytes], queues[0].store.call("TIME")))
        self.scoreboard = scoreboard or Scoreboard(len(queues))
        self.scoreboard.set_name(self.name)
        self._now = 0.0  # when the last task ended, which is when the next one begins
        self._in_flight: dict[str, Execution] = {}  # what runs, by lease, if it has headers or others run beside it
        self._stop = Stop()

        self._emitter = Emitter(self._place, hooks, self._current, self._entered)
        self._functions = Functions(allow_list(allow), self._emitter.wrap)
        at_once = max(async_tasks, threads, 1)
        self._runner = Runner(self._functions, self._place, self._entered, middlewares, at_once, clock=self.clock.now)
        self._deferral = Deferral(unready_for)
        self._channel = Channel(queues[0].conn, queues[0].name)
        self._outage = OutageLog(queues[0].conn)
        self._work_name = f"work on {', '.join(each.name for each in queues)}"
        self._completer = Completer(
            self._channel, self._runner, self._emitter, self._deferral, place=self._place, ttl=self._ttl
        )
        self._fetcher = Fetcher(
            queues, self._channel, holder=self.name, ttl=self._ttl, scoreboard=self.scoreboard, running=self._in_flight,
            superseded=self._completer.superseded, weights=weights, burst=burst, rest=self._rest_for,
            await_notification=self._notification,
        )  # fmt: skip
        self.longest_round = self._fetcher.wait + _CONNECTING
        self._signals: SignalPipe
        self._heartbeat: Heartbeat
        self._verbose = False
        self._defects = 0  # interruptions since the last round that went well
        self._assemble(async_tasks, threads)

    # Life

    def run(self) -> None:
        """Work until `stop`, a signal, or (with `burst`) the end of the tasks.

        In the main thread SIGTERM, SIGINT and SIGHUP stop it as `stop` does, and the process exits with status 3 when the
        grace is over, or at once at a second SIGTERM or SIGINT or at SIGQUIT. SIGUSR1 logs what it is doing.
        """
        announce(self._current_job)
        self._verbose = logger.isEnabledFor(logging.DEBUG)
        with self._stop, SignalPipe() as self._signals:
            self._heartbeat = Heartbeat(
                self, self._fetcher.pools[0].queue, self._signals, interval=self._interval, ttl=self._ttl, grace=self._grace
            )
            self._heartbeat.start()
            self._heartbeat.began.wait()
            names = ", ".join(pool.store.name for pool in self._fetcher.pools)
            logger.info("Worker %s serves %s", self._place, names)
            self._emitter.say(Kind.WORKER_UP, names)
            try:
                if self._several:
                    self._run_many()
                else:
                    self._loop()
            except BaseException:
                self._channel.close()  # it may owe a reply, which would be taken for that to something else
                raise
            finally:
                self.left = True
                self._heartbeat.end()
                self._goodbye()
                logger.info("Worker %s stopped: %s", self._place, self._summary())
                self._emitter.say(Kind.WORKER_DOWN, names)

    def stop(self) -> None:
        """Finish the task that runs, give back the others, and let `run` return. Safe from any thread, at any time, twice."""
        self._stop.set()

    @property
    def grace_left(self) -> float:
        """Seconds that are left of the grace, after a stop."""
        return self._heartbeat.grace_left

    @property
    def recycled(self) -> bool:
        """Whether another process should take over from this one: see `max_tasks` and `max_rss`."""
        return self._recycling.due

    def _loop(self) -> None:
        failures = 0
        while not self._stop.is_set() and not self._recycling.is_out(self.finished):
            try:
                self.turns += 1
                self.scoreboard.turn(self.turns, self.finished)
                self._signals.arm()
                self._heed_listeners()
                if not self._channel.is_open:
                    self._connect()
                found = self._take()
                if failures:
                    failures = self._recovered()
                if found:
                    self._work()
                    if pause := self._deferral.rest(self.finished):
                        self._stop.wait(pause)
                elif self._burst:
                    self._channel.settle()
                    self.drained = True
                    return
                self._defects = 0
            except RedisError as error:
                failures += 1
                self._stop.wait(self._lost(error, failures))
            except BaseException as error:
                self._survive(error)

    def _survive(self, error: BaseException) -> None:
        """Something has come out of our own code, or of what a task has left behind, such as a timer. The connection may be
        out of step; what was in the buffer goes back over the next one. But whatever comes again and again is no accident."""
        self._drop_connection()
        if self.abandoned:
            raise error
        if type(error) is not BrokenOff:
            self._defects += 1
            if self._defects >= _DEFECTS:
                raise error
            trace = indented(traceback_of(error))
            logger.error("Interrupted by what a task has left behind, or by a defect of the worker; going on\n%s", trace)
            if self._signals.installed and not self._several:  # in this thread
                signal.setitimer(signal.ITIMER_REAL, 0)
            self._stop.wait(pause_before_another(self._defects, _FIRST_PAUSE, _LONGEST_PAUSE))

    def _heed_listeners(self) -> None:
        """If others listen than before, functions are wrapped anew."""
        if self._emitter.version != BUS.version:
            self._emitter.version = BUS.version
            self._functions.clear()

    def _connect(self) -> None:
        self._fetcher.connect()

    def _lost(self, error: RedisError, failures: int) -> float:
        """The connection cannot be used any more, for the `failures`th time. Returns the seconds until another is tried."""
        self._drop_connection()
        for pool in self._fetcher.pools:
            error = pool.store.explained(error)
        self._outage.failed(self._work_name, error)
        return pause_before_another(failures, _FIRST_PAUSE, _LONGEST_PAUSE)

    def _drop_connection(self) -> None:
        self._fetcher.buffer.clear()  # what was in it goes back when the connection does
        self.running = None  # and so does what did not come to run
        self.scoreboard.work(bool(self._in_flight))
        self._channel.close()
        self._fetcher.recheck = True

    def _recovered(self) -> int:
        """The connection works again. Returns how many failures there have been since: none."""
        self._outage.works(self._work_name)
        return 0

    def _goodbye(self) -> None:
        try:
            if not self._channel.is_open:
                self._channel.open()
            self._channel.settle()
            self._goodbye_to_many()
            count = say_goodbye(self._channel, self)
            if count:
                logger.info("Gave back %s", counted(count, "task"))
            if self._fetcher.interrupted:  # the blocking pop may have had a notification by then
                for pool in self._fetcher.pools:
                    pool.store.repair()
        except BaseException as error:  # of Redis, or of what a task has left behind
            leave_unheard(self, "Stopped", error)
        finally:
            self._channel.close()

    # Take

    def _take(self) -> bool:
        return self._fetcher.take(self._recycling.left(self.finished))

    def _notification(self, pop: bytes) -> Any:
        if self._several:
            return self._await_notification(pop)
        return self._channel.block(pop, self._fetcher.wait, self._stop.fileno())

    def _rest_for(self, seconds: float) -> None:
        """Wait before asking again, and hear a stop and, if several tasks run, their ends."""
        if self._several:
            self._listen(min(seconds, self._pause()))
        else:
            self._stop.wait(seconds)

    # Execute

    def _work(self) -> None:
        """Run what is in the buffer."""
        buffer = self._fetcher.buffer
        if len(buffer) > 1:
            self._heartbeat.watch()
        count = size = 0
        self.scoreboard.work(True)
        began = self._now = monotonic()
        fresh = self._fetcher.is_fresh(began)  # or Redis gave them to us long ago, and the reply was on its way for too long
        done = self.finished
        while not self._stop.is_set():
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
                self.finished = done + count
                self._break_off(lease, data, error)
        self.scoreboard.work(False)
        if count:
            self._fetcher.size = lease.pool.prefetch.learn(count, self._now - began, size)

    def _run_one(self, lease: Lease, data: bytes) -> bool:
        """Run a task and end its lease. False if the other leases may have been lost meanwhile."""
        call = function = failure = headers = None
        self.running = lease
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
            return self._run_job(Execution(lease, Call(*call), self._runner, self._entered))
        self._entered(failure)
        self.running = None
        self.finished += 1
        began, self._now = self._now, monotonic()
        if self._verbose:
            logger.debug("Task under %s ended after %.6f s: %s", lease.name, self._now - began, shown(failure))
        fresh = self._fetcher.is_fresh(self._now)
        if failure is None:
            self._completer.succeed(lease, fresh)
        else:
            self._completer.fail(lease, data, call and Call(*call), function, failure)
        return fresh

    def _run_job(self, execution: Execution) -> bool:
        """As `_run_one`, for a task with headers."""
        job = execution.job
        assert job is not None
        try:
            if self._may_run(execution):
                self._fly(execution)
                execution.outcome = self._runner.execute(job)
        finally:  # also if Redis did not answer: nothing runs any more that could be late
            self._in_flight.clear()
            self._note_deadline()
            self.running = None
        self.finished += 1
        self._now = monotonic()
        self._completer.end(execution.lease, execution.data, job, execution.outcome)
        return self._fetcher.is_fresh(self._now)

    def _break_off(self, lease: Lease, data: bytes, error: BaseException) -> NoReturn:
        """Neither the task nor the connection, but our own code has failed, of this task. It becomes a dead letter; and if
        even that fails, the task is lost with this process, and whoever sweeps counts it: nothing may go round for ever."""
        self._entered(error)
        try:
            self._completer.break_off(lease, data, error)
        except BaseException:
            self._abandon(lease)
            raise
        raise BrokenOff from error

    def _abandon(self, lease: Lease) -> None:
        """Nobody gives it back."""
        lease.pool.made.pop(lease.name, None)
        self.abandoned.append(lease)

    def _entered(self, failure: BaseException | None) -> None:
        """A task's function has returned or raised; perhaps in a process that it has forked."""
        if self._signals.in_child:
            _leave_child(failure)

    @staticmethod
    def _current() -> tuple[str, str, Job | None]:
        """What runs here, for those who listen: queue, function path, and what is known of it if it has headers."""
        job = running()
        return ("", "", None) if job is None else (job.queue.keys.queue, job.func_path, job if job.headers else None)

    def _current_job(self) -> Job | None:
        """What runs in this thread: see `job.current_task`."""
        for execution in self._in_flight.values():
            return execution.job
        lease = self.running
        return None if lease is None or lease.data is None else Job(lease.pool.queue, Call(*parse(lease.data)))

    # What the heartbeat asks (see `holder.Holder`)

    def holdings(self) -> list[tuple[Store, dict[str, Lease]]]:
        """The leases on each queue."""
        return [(pool.store, pool.made) for pool in self._fetcher.pools]

    def begun(self) -> set[str]:
        """The leases whose tasks have begun."""
        running = self.running
        return set(self._in_flight) if running is None else {running.name, *self._in_flight}

    @property
    def fresh_at(self) -> float:
        """Monotonic time at which all leases lived."""
        return self._fetcher.fresh_at

    @fresh_at.setter
    def fresh_at(self, moment: float) -> None:
        self._fetcher.fresh_at = moment

    def learn(self, index: int, reply: Sequence[Any]) -> None:
        """What operators want of a queue."""
        self._fetcher.turns.learn(index, reply)

    def ran(self, index: int) -> list[str]:
        """The SHA-1 of tasks of a queue that have run here since this was asked last, if anybody wants to know."""
        pool = self._fetcher.pools[index]
        ran, pool.ran = pool.ran, set()
        return list(ran)

    def give_up_connection(self) -> None:
        """Break the connection that the main thread waits for."""
        self._channel.interrupt()
        self._waiter.interrupt()

    def unstarted(self) -> list[Lease]:
        """Hand over what has not begun."""
        leases: list[Lease] = []
        with contextlib.suppress(IndexError):
            while True:
                leases.insert(0, self._fetcher.buffer.pop())
        return leases

    def tracked(self) -> list[str]:
        """The keys with the state of the tracked tasks that run."""
        return [each.state_key for each in list(self._in_flight.values()) if each.state_key is not None]

    def end_early(self, channel: Channel, cancelled: Collection[str]) -> list[Callable[[], None]]:
        """End the leases of tasks that run, over another connection: of those that are over their hard timeout, and of those
        whose state is under one of the keys `cancelled`. Returns what tells those who listen."""
        given_back = []
        for execution in list(self._in_flight.values()):
            if execution.job is not None and execution.state_key in cancelled:
                given_back.append(self._completer.end_early(channel, execution.lease, execution.job, KILLED))
            elif execution.job is not None and execution.deadline <= monotonic():
                given_back.append(self._completer.end_early(channel, execution.lease, execution.job, overran(execution.job)))
        return given_back

    def describe(self) -> dict[str, Any]:
        """What stands in the register of workers."""
        lease, began = self.running, self._now
        in_flight = list(self._in_flight.values())
        if in_flight:
            lease, began = in_flight[0].lease, in_flight[0].began  # it runs for longest
        data = None if lease is None else lease.data
        running = None if data is None else path_of(data)
        return {
            "kind": "worker",
            "language": "python",
            "place": self._place,
            "ttl": self._ttl,
            "queues": [pool.store.name for pool in self._fetcher.pools],
            "started": self._started,
            "running": running,
            "running_for": monotonic() - began if running else None,
            "in_flight": len(in_flight) or int(running is not None),
            "in_hand": len(self._fetcher.buffer) + len(self._waiting),
            "rss": resident_size(),
            **self._completer.counted(self.finished),
        }

    def _summary(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self._completer.counted(self.finished).items())


def _leave_child(failure: BaseException | None) -> NoReturn:
    """End a child that a task has forked and that came back out of the task: it must not work on its parent's connection."""
    code: object = 1
    try:
        code = cast(SystemExit, failure).code if issubclass(type(failure), SystemExit) else int(failure is not None)
    finally:
        leave(code if type(code) is int else int(code is not None))
