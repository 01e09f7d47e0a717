"""The worker: take, execute, end."""

import contextlib
import logging
import os
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from .allow import AllowAny, AllowList
from .backoff import pause_before_another
from .channel import INTERRUPTED, Channel
from .clock import monotonic, now
from .connection import RedisError, pack
from .crew import Crew
from .errors import ConfigurationError, Reason
from .events import BUS, Kind
from .executors import Execution
from .functions import Functions, verdict
from .guard import resident_size
from .heartbeat import Heartbeat, say_goodbye
from .hooks import NONE, Hooks
from .job import Job, Outcome, announce, current_task
from .keys import token
from .leases import Lease, LeaseBook
from .lifecycle import Lifecycle, late
from .logger import flush_output, logger
from .middleware import AsyncMiddleware, Middleware
from .queue import Queue
from .reporter import Reporter
from .scripts import Argument
from .settings import GRACE, KEEP_ALIVE_INTERVAL, allow_list, check_same_server, lease_ttl
from .signals import SignalPipe
from .slate import Slate
from .task import Call, parse, path_of, with_retry
from .turns import Turns

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to reach Redis again
_WEIGHING = 1.0  # seconds between two looks at the memory that the process has
_LATE = 1.0  # seconds that Redis may be late with the end of a blocking pop
_CONNECTING = 30.0  # seconds that an attempt to reach Redis may take, asking many servers in turn


class Worker(Crew):
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
        max_tasks: end after so many tasks, `worn` out; None for never.
        max_rss: likewise, between two tasks, when the process has more bytes of memory than this.
        middlewares: what wraps the execution of tasks that have headers, the outermost first.
        hooks: what to call for each of its tasks.
        slate: where its supervisor looks.
        async_tasks: how many coroutine functions may be in flight in one event loop, beside the others. With 1 each runs in
            a loop of its own, in its turn.
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
        slate: Slate | None = None,
        weights: Sequence[float] | None = None,
        async_tasks: int = 1,
        threads: int = 0,
    ) -> None:
        queues = [queue] if isinstance(queue, Queue) else list(queue)
        if not queues:
            raise ConfigurationError("a worker needs at least one queue")
        if not keep_alive_interval > 0 or not grace >= 0:
            raise ConfigurationError("keep_alive_interval is above 0 seconds, and grace not below 0")
        if not (max_tasks is None or max_tasks > 0) or not (max_rss is None or max_rss > 0):
            raise ConfigurationError("max_tasks and max_rss are above 0, or None for no limit")
        check_same_server(queues)
        self.name = token()
        self.turns = 0
        self.finished = 0
        self.running: Lease | None = None
        self.left = False
        self.fresh_at = 0.0
        self.slate = slate or Slate(len(queues))
        self.slate.call_it(self.name)
        self.worn = False  # by `max_tasks` or `max_rss`
        self.drained = False  # by `burst`
        self._next_weighing = 0.0
        self._max_tasks, self._max_rss = max_tasks, max_rss
        self._interval = keep_alive_interval
        self._ttl = lease_ttl(queues, keep_alive_interval)
        self._grace = grace
        self._burst = burst
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._reporter = Reporter(self._place, hooks, self._current, self._entered)
        self._functions = Functions(allow_list(allow), self._reporter.wrap)
        self._lifecycle = Lifecycle(self._functions, self._place, self._entered, middlewares, max(async_tasks, threads, 1))
        self._job: Job | None = None  # what runs, if it has headers
        self.deadline: float | None = None  # monotonic time at which it must have ended
        self._wait = min(queue.dequeue_timeout for queue in queues) + _LATE
        self.patience = self._wait + _CONNECTING
        self._channel = Channel(queues[0].conn, queues[0].name)
        self._books = [
            LeaseBook(queue, self._channel, self._superseded, partial(self.slate.lease, index))
            for index, queue in enumerate(queues)
        ]
        self._by_noti = {book.queue.keys.noti.encode(errors="surrogateescape"): book for book in self._books}
        self._turns = Turns(self._books, weights, min(queue.dequeue_timeout for queue in queues))
        self._hand: deque[Lease] = deque()  # taken and not begun; the heartbeat may empty it from the other end
        self._again = False  # the first queue had as many tasks as we asked for, and no other goes before it
        self._size = 1  # what was learnt last, of whatever queue: where one begins of which nothing is known
        self._look = False  # the connection broke: look what waits, as what Redis told it last may be lost
        self._now = 0.0  # when the last task ended, which is when the next one begins
        self._counts: Counter[str] = Counter()
        self._started = now()
        self._stop = threading.Event()
        self._stop_reader, self._stop_writer = -1, -1
        self._interrupted = False  # `stop` came during a blocking pop
        self._signals: SignalPipe
        self._heartbeat: Heartbeat
        self._verbose = False
        self._assemble(async_tasks, threads)

    # Life

    def run(self) -> None:
        """Work until `stop`, a signal, or (with `burst`) the end of the tasks.

        In the main thread SIGTERM, SIGINT and SIGHUP stop it as `stop` does, and the process exits with status 3 when the
        grace is over, or at once at a second SIGTERM or SIGINT or at SIGQUIT. SIGUSR1 logs what it is doing.
        """
        self._stop_reader, self._stop_writer = os.pipe()
        announce(self._current_job)
        self._verbose = logger.isEnabledFor(logging.DEBUG)
        with SignalPipe() as self._signals:
            self._heartbeat = Heartbeat(
                self, self._books[0].queue, self._signals, interval=self._interval, ttl=self._ttl, grace=self._grace
            )
            self._heartbeat.start()
            self._heartbeat.began.wait()
            names = ", ".join(book.queue.name for book in self._books)
            logger.info("Worker %s serves %s", self._place, names)
            self._reporter.say(Kind.WORKER_UP, names)
            try:
                if self._several:
                    self._run_many()
                else:
                    self._loop()
            finally:
                self.left = True
                self._heartbeat.end()
                self._goodbye()
                writer, self._stop_writer = self._stop_writer, -1
                os.close(writer)
                os.close(self._stop_reader)
                logger.info("Worker %s stopped: %s", self._place, self._summary())
                self._reporter.say(Kind.WORKER_DOWN, names)

    def stop(self) -> None:
        """Finish the task that runs, give back the others, and let `run` return. Safe from any thread, at any time, twice."""
        self._stop.set()
        with contextlib.suppress(OSError):  # `run` has just ended
            os.write(self._stop_writer, b"x")

    def _loop(self) -> None:
        failures = 0
        while not self._stop.is_set() and not self._worn_out():
            self.turns += 1
            self.slate.turn(self.turns, self.finished)
            self._signals.arm()
            self._heed_listeners()
            try:
                if not self._channel.is_open:
                    self._connect()
                found = self._take()
                failures = 0
                if found:
                    self._work()
                elif self._burst:
                    self._channel.settle()
                    self.drained = True
                    return
            except RedisError as error:
                failures += 1
                self._stop.wait(self._lost(error, failures))

    def _heed_listeners(self) -> None:
        """If others listen than before, functions are wrapped anew."""
        if self._reporter.version != BUS.version:
            self._reporter.version = BUS.version
            self._functions.clear()

    def _rest_for(self, seconds: float) -> None:
        """Wait before asking again, and hear a stop and, if several tasks run, their ends."""
        if self._several:
            self._listen(min(seconds, self._pause()))
        else:
            self._stop.wait(seconds)

    def _lost(self, error: RedisError, failures: int) -> float:
        """The connection cannot be used any more, for the `failures`th time. Returns the seconds until another is tried."""
        self._hand.clear()  # what was in it goes back when the connection does
        self.running = self._job = None  # and so does what did not come to run
        self.slate.work(bool(self._in_flight))
        self._channel.close()
        self._look = True
        for book in self._books:
            error = book.queue.explained(error)
        logger.warning("Redis: %s; trying again", error)
        return pause_before_another(failures, _FIRST_PAUSE, _LONGEST_PAUSE)

    def _connect(self) -> None:
        """Open a connection, and begin anew on it: endings that had no reply are sent again first, then all else that was
        held under the old names, known or not, goes back to its queue."""
        self._channel.open()
        self.slate.connect(0, self._channel.client_id)
        self._channel.settle()  # what Redis refuses to end must not be given back: it has run
        for book in self._books:
            names = [name for name in book.made if name not in self._in_flight]
            if names:
                book.queue.give_back(names)
                book.renew(self._in_flight)
                self._channel.call("UNLINK", *names)

    def _goodbye(self) -> None:
        try:
            if not self._channel.is_open:
                self._channel.open()
            self._channel.settle()
            self._goodbye_to_many()
            count = say_goodbye(self._channel, self)
            if count:
                logger.info("Gave back %d tasks", count)
            if self._interrupted:  # the blocking pop may have had a notification by then
                for book in self._books:
                    book.queue.repair()
        except RedisError as error:
            logger.error("Left without giving back what was held; a sweeper will: %s", error)
        finally:
            self._channel.close()

    def _worn_out(self) -> bool:
        """Whether another process should take over from this one."""
        if self._max_tasks is not None and self.finished >= self._max_tasks:
            self.worn = True
        elif self._max_rss is not None and monotonic() >= self._next_weighing:
            self._next_weighing = monotonic() + _WEIGHING
            self.worn = resident_size() > self._max_rss
        return self.worn

    # Take

    def _take(self) -> bool:
        """Get tasks in hand; False if there were none within the time that an idle worker waits."""
        if self._again and self._take_from(self._books[0]):
            return True
        self._again = False
        self._turns.feed()
        if not self._burst and not self._look:
            pop, seconds = self._turns.pop()
            if not pop:  # all are paused, or have reached a limit
                self._rest_for(seconds)
                return False
            reply = self._notification(pop) if self._several else self._channel.block(pop, self._wait, self._stop_reader)
            if reply is INTERRUPTED:
                self._interrupted = True
                return False
            if reply is not None:
                return self._take_in_turn(self._by_noti[reply[0]], claims=1)
        # Nothing was announced, or we may have missed it; look, as a notification can get lost.
        books = self._turns.order()
        found = books[0].queue.due([book.queue.keys for book in books])
        if found.first is None:
            self._look = False
            self._rest()
            return False
        return self._take_in_turn(books[found.first], waiting=True)

    def _take_in_turn(self, book: LeaseBook, claims: int = 0, waiting: bool = False) -> bool:
        """As `_take_from`, where queues may have weights and limits."""
        found = self._take_from(book, claims, waiting)
        if self._turns.plain:
            return found
        self._again = self._again and not self._turns.weighted
        self._look = self._look and found  # what is left may not be taken now
        more = self._turns.took(book, len(self._hand))
        if not found and self._burst and more:  # it ends when the queues are empty, not when a limit is reached
            self._rest_for(self._turns.pop()[1])
        return found or more

    def _take_from(self, book: LeaseBook, claims: int = 0, waiting: bool = False) -> bool:
        self._now = monotonic()
        if not self._fresh():  # after a pause their keys may be gone: let them go, and make others
            for each in self._books:
                each.renew(self._in_flight)
            for execution in self._in_flight.values():
                execution.lease.gone = True  # perhaps: so it asks
            self.fresh_at = self._now
        if not book.pace.known:
            book.pace.size = self._size
        size = book.pace.size
        if self._max_tasks is not None:
            size = min(size, self._max_tasks - self.finished)
        leases, living = book.get(size)
        names = [lease.name for lease in leases]
        tasks, suspect = book.take(names, self.name, self._ttl, living=living, claims=claims, waiting=waiting)
        count = len(tasks)
        for lease, data in zip(leases, tasks, strict=False):
            lease.data, lease.suspect = data, suspect
        book.unused(leases[count:], max(living - count, 0))
        self._again = count == len(leases) and book is self._books[0]
        self._hand.extend(leases[:count])
        return count > 0

    def _rest(self) -> None:
        """An idle worker keeps no leases."""
        for book in self._books:
            if old := book.renew(self._in_flight):
                self._channel.call("UNLINK", *old)

    # Execute

    def _work(self) -> None:
        """Run what is in hand."""
        hand = self._hand
        if len(hand) > 1:
            self._heartbeat.watch()
        count = size = 0
        fresh = True
        self.slate.work(True)
        began = self._now = monotonic()
        while not self._stop.is_set():
            try:
                lease = hand.popleft()
            except IndexError:  # done, or the heartbeat has given back what was left
                break
            data = lease.data
            if data is None or lease.gone or not fresh:
                # We slept for longer than a lease lives, perhaps: others may have these tasks. What is still ours goes back.
                hand.clear()
                self._channel.close()
                break
            size += len(data)
            count += 1
            fresh = self._run_one(lease, data)
        self.slate.work(False)
        if count:
            self._size = lease.book.pace.learn(count, self._now - began, size)

    def _run_one(self, lease: Lease, data: bytes) -> bool:
        """Run a task and end its lease. False if the other leases may have been lost meanwhile."""
        call = function = failure = headers = None
        self.running = lease
        try:
            call = parse(data)
            path, args, kwargs, _, headers = call
            if headers is None:
                if self._verbose:
                    logger.debug("Task %s starts under %s", path, lease.name)
                function = self._functions[path]
                function(*args, **kwargs)
        except BaseException as error:  # a task that raises SystemExit has failed, and nothing more
            failure = error
        if call is not None and headers is not None:
            return self._run_job(lease, data, Job(lease.book.pooled, Call(*call)))
        self._entered(failure)
        self.running = None
        self.finished += 1
        began, self._now = self._now, monotonic()
        if self._verbose:
            logger.debug("Task under %s ended after %.6f s: %r", lease.name, self._now - began, failure)
        fresh = self._fresh()
        if failure is not None:
            self._end_badly(lease, data, call and Call(*call), function, failure)
        elif lease.suspect or lease.gone or not fresh:
            lease.book.queue.over(_Asking(self._channel, lease)).succeed(lease.name)
        else:
            self._channel.post(lease)
        return fresh

    def _run_job(self, lease: Lease, data: bytes, job: Job) -> bool:
        """As `_run_one`, for a task with headers."""
        lease.book.grouped = lease.book.grouped or "group" in job.headers
        try:
            go, outcome = self._lifecycle.begin(lease, job)
            self._job = job
            hard = job.milliseconds("hard_timeout") / 1000
            if hard and go:
                self.deadline = monotonic() + hard
                self.slate.end_by(self.deadline)
                self._heartbeat.wake()
            if go:
                outcome = self._lifecycle.execute(job)
        finally:  # also if Redis did not answer: nothing runs any more that could be late
            self.deadline = None
            self.slate.end_by(0)
            self.running = self._job = None
        self.finished += 1
        self._now = monotonic()
        fresh = self._fresh()
        if outcome is None:
            lease.answered(0, repeated=False)
            self._lifecycle.tidy(lease, job)
        else:
            self._end_job(lease, data, job, outcome)
        return fresh

    def _entered(self, failure: BaseException | None) -> None:
        """A task's function has returned or raised; perhaps in a process that it has forked."""
        if self._signals.in_child:
            _leave_child(failure)

    @staticmethod
    def _current() -> tuple[str, str, Job | None]:
        """What runs here, for those who listen: queue, function path, and what is known of it if it has headers."""
        job = current_task()
        return ("", "", None) if job is None else (job.queue.keys.queue, job.func_path, job if job.headers else None)

    def _current_job(self) -> Job | None:
        """What runs in this thread: see `job.current_task`."""
        lease = self.running
        if self._job is not None or lease is None or lease.data is None:
            return self._job
        return Job(lease.book.pooled, Call(*parse(lease.data)))

    def _fresh(self) -> bool:
        """Whether the leases live for certain, so that nobody can have swept what they hold."""
        return self._now - self.fresh_at < self._ttl / 2

    # End

    def _end_plain(self, execution: Execution) -> None:
        """As at the end of `_run_one`."""
        lease = execution.lease
        if execution.failure is not None:
            self._end_badly(lease, execution.data, execution.call, execution.function, execution.failure)
        elif lease.suspect or lease.gone or not self._fresh():
            lease.book.queue.over(_Asking(self._channel, lease)).succeed(lease.name)
        else:
            self._channel.post(lease)

    def _end_job(self, lease: Lease, data: bytes, job: Job, outcome: Outcome) -> None:
        queue = lease.book.queue.over(_Asking(self._channel, lease))
        count = self._lifecycle.end(queue, lease.name, data, job, outcome)
        self._counts[count] += 1
        self._reporter.ended(queue.keys.queue, job, outcome, count)
        self._lifecycle.tidy(lease, job)

    def _end_badly(
        self, lease: Lease, data: bytes, call: Call | None, function: Callable[..., Any] | None, error: BaseException
    ) -> None:
        queue = lease.book.queue.over(_Asking(self._channel, lease))
        reason, detail = verdict(function, call, error)
        names = {"task": call.func_path, "args": call.args, "kwargs": call.kwargs} if call else {"task": path_of(data)}
        if reason is Reason.FAILED and call is not None and call.retry:
            self._counts["retried"] += 1
            left = call.retry - 1 if call.retry > 0 else call.retry
            logger.warning("Task %s failed, %s retries left\n%s", call.func_path, left if left >= 0 else "all", detail)
            queue.retry(lease.name, with_retry(data, left))
            self._reporter.retried(queue.keys.queue, function, error, detail, **names)
        else:
            self._counts["failed" if reason is Reason.FAILED else "buried"] += 1
            logger.error("Task %s: %s; it is in %s\n%s", path_of(data), reason, queue.keys.dead, detail)
            queue.bury(lease.name, reason, detail, self._place)
            self._reporter.buried(queue.keys.queue, function, error, reason, detail, **names)

    def _superseded(self, lease: Lease) -> None:
        self._counts["superseded"] += 1
        logger.error(
            "Superseded: the lease under which %s ran was lost, so another worker has the task too; was this process "
            "stopped or cut off from Redis for more than %g s?",
            path_of(lease.data or b""),
            self._ttl,
        )
        self._reporter.say(Kind.SUPERSEDED, lease.book.queue.name, task=path_of(lease.data or b""))

    # What the heartbeat asks (see `heartbeat.Holder`)

    def holdings(self) -> list[tuple[Queue, dict[str, Lease]]]:
        """The leases on each queue."""
        return [(book.queue, book.made) for book in self._books]

    def learn(self, index: int, reply: Sequence[Any]) -> None:
        """What operators want of a queue."""
        self._turns.learn(index, reply)

    def give_up_connection(self) -> None:
        """Break the connection that the main thread waits for."""
        self._channel.interrupt()
        self._waiter.interrupt()

    def unstarted(self) -> list[Lease]:
        """Hand over what has not begun."""
        leases: list[Lease] = []
        with contextlib.suppress(IndexError):
            while True:
                leases.insert(0, self._hand.pop())
        return leases

    def end_late(self, channel: Channel) -> None:
        """End the lease of the task that runs, over another connection, because its hard timeout is over."""
        runs: list[tuple[Lease | None, Job | None]] = [
            (each.lease, each.job) for each in list(self._in_flight.values()) if each.deadline <= monotonic()
        ]
        if not runs and (self.deadline is None or monotonic() < self.deadline):
            return  # it has ended meanwhile, and another may run
        for lease, job in runs or [(self.running, self._job)]:
            if lease is not None and job is not None and lease.data is not None:
                outcome: Outcome = late(job)
                self._lifecycle.end(lease.book.queue.over(channel), lease.name, lease.data, job, outcome)

    def describe(self) -> dict[str, Any]:
        """What stands in the register of workers."""
        lease, began = self.running, self._now
        in_flight = list(self._in_flight.values())
        if in_flight:
            lease, began = in_flight[0].lease, in_flight[0].began  # it runs for longest
        data = None if lease is None else lease.data
        running = None if data is None else path_of(data)
        counts = dict(self._counts)
        return {
            "kind": "worker",
            "language": "python",
            "place": self._place,
            "ttl": self._ttl,
            "queues": [book.queue.name for book in self._books],
            "started": self._started,
            "running": running,
            "running_for": monotonic() - began if running else None,
            "in_flight": len(in_flight) or int(running is not None),
            "in_hand": len(self._hand) + len(self._waiting),
            "rss": resident_size(),
            "succeeded": self.finished - sum(counts[name] for name in counts if name not in ("", "superseded")),
            **{name: counts.get(name, 0) for name in ("retried", "failed", "buried", "superseded")},
        }

    def _summary(self) -> str:
        about = self.describe()
        return ", ".join(f"{about[name]} {name}" for name in ("succeeded", "retried", "failed", "buried", "superseded"))


class _Asking:
    """Sends the script that ends `lease`, and tells the lease what it did."""

    def __init__(self, channel: Channel, lease: Lease) -> None:
        self._channel = channel
        self._lease = lease

    def call(self, *command: Argument) -> int:
        self._channel.ask(pack(*command), self._lease.answered)
        return 1


def _leave_child(failure: BaseException | None) -> NoReturn:
    """End a child that a task has forked and that came back out of the task: it must not work on its parent's connection."""
    flush_output()
    code = failure.code if isinstance(failure, SystemExit) else failure is not None
    os._exit(code if isinstance(code, int) else 1)
