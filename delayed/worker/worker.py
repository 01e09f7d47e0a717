"""The worker: its parts, and its life."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Self

from ..base.clock import monotonic
from ..base.text import counted
from ..events import Kind
from ..hooks import NONE, Hooks
from ..job.allow import AllowAny, AllowList
from ..job.emitter import Emitter
from ..job.functions import Functions
from ..job.job import announce
from ..job.middleware import AsyncMiddleware, Middleware
from ..job.runner import Runner
from ..logger import logger
from ..queue.queue import Queue
from ..redis.channel import Channel
from ..redis.command import RedisError
from ..system.signals import SignalPipe
from .completer import Completer
from .deferral import PATIENCE, Deferral
from .dispatcher import Dispatcher
from .fetcher import Fetcher
from .heartbeat import Heartbeat
from .leases import LeasePool
from .options import GRACE, KEEP_ALIVE_INTERVAL, WorkerOptions, allow_list
from .parts import Parts
from .recovery import Recovery
from .recycling import Recycling
from .scoreboard import Scoreboard
from .serial import SerialLoop
from .shutdown import leave_unheard, say_goodbye
from .state import WorkerState
from .waiters import BlockingWaiter, ListeningWaiter

_CONNECTING = 30.0  # seconds that an attempt to reach Redis may take, asking many servers in turn


class Worker:
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
        scoreboard: where its supervisor looks.
        async_tasks: how many coroutine functions may be in flight in one event loop, beside the others. With 1 each runs in
            a loop of its own, in its turn.
        unready_for: seconds that a task waits for a worker that can run it, if this one cannot (it does not know the function,
            or may not run it); after that it is buried.
        endings_at_once: under a supervisor, tell Redis of each task's end before the next one begins, as others do. Else
            ends of tasks without a state are noted where the supervisor finds them, and said together.
        log_starts: log a line at INFO when a task begins; else it is at DEBUG.
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
        endings_at_once: bool = False,
        log_starts: bool = False,
    ) -> None:
        options = WorkerOptions(
            queues=(queue,) if isinstance(queue, Queue) else tuple(queue),
            allow=allow_list(allow),
            keep_alive_interval=keep_alive_interval,
            grace=grace,
            burst=burst,
            max_tasks=max_tasks,
            max_rss=max_rss,
            middlewares=tuple(middlewares),
            hooks=hooks,
            weights=weights,
            async_tasks=async_tasks,
            threads=threads,
            unready_for=unready_for,
            endings_at_once=endings_at_once,
            log_starts=log_starts,
        )
        self._assemble(options, scoreboard)

    @classmethod
    def of(cls, options: WorkerOptions, scoreboard: Scoreboard | None = None) -> Self:
        """A worker with options that were checked before."""
        worker = cls.__new__(cls)
        worker._assemble(options, scoreboard)
        return worker

    def _assemble(self, options: WorkerOptions, scoreboard: Scoreboard | None) -> None:
        """Make the parts, of which each is given those that it works with."""
        first = options.queues[0]
        signals, channel = SignalPipe(), Channel(first.conn, first.name)
        state = WorkerState(options, scoreboard or Scoreboard(len(options.queues)))
        emitter = Emitter(state.place, options.hooks, signals)
        functions = Functions(options.allow, emitter.wrap)
        level = logging.INFO if options.log_starts else logging.DEBUG
        at_once = max(options.async_tasks, options.threads, 1)
        runner = Runner(
            functions, state.place, signals, options.middlewares, at_once, clock=state.clock.now, start_level=level
        )
        deferral = Deferral(options.unready_for)
        completer = Completer(state, channel, runner, emitter=emitter, deferral=deferral, signals=signals)
        state.pools += [
            LeasePool(queue, channel, completer.superseded, partial(state.scoreboard.lease, index), index)
            for index, queue in enumerate(options.queues)
        ]
        for pool in state.pools:
            pool.totals = completer.task_log.totals(pool.store.name)
            completer.histories.attach(pool)
        self._waiter: BlockingWaiter | ListeningWaiter = (
            ListeningWaiter(first, channel, state.stop) if options.several else BlockingWaiter(channel, state.stop)
        )
        fetcher = Fetcher(options, state, channel, self._waiter)
        state.longest_round = fetcher.wait + _CONNECTING
        self.options, self.state = options, state
        self._heartbeat: Heartbeat  # of a run, and
        self._loop: SerialLoop | Dispatcher  # likewise
        self._parts = Parts(
            options=options, state=state, signals=signals, channel=channel, functions=functions, runner=runner,
            emitter=emitter, deferral=deferral, completer=completer, fetcher=fetcher,
            recovery=Recovery(options, state, channel, fetcher), recycling=Recycling(options.max_tasks, options.max_rss),
        )  # fmt: skip

    def run(self) -> None:
        """Work until `stop`, a signal, or (with `burst`) the end of the tasks.

        In the main thread SIGTERM, SIGINT and SIGHUP stop it as `stop` does, and the process exits with status 3 when the
        grace is over, or at once at a second SIGTERM or SIGINT or at SIGQUIT. SIGUSR1 logs what it is doing.
        """
        with self.options.lifespan():
            self._run()

    def _run(self) -> None:
        parts, state, waiter = self._parts, self.state, self._waiter
        announce(state.current_job)
        with state.stop, parts.signals:
            heartbeat = self._heartbeat = Heartbeat(
                self.options, state, parts.signals, fetcher=parts.fetcher, completer=parts.completer, waiter=waiter
            )
            self._loop = self._make_loop(heartbeat)
            heartbeat.start()
            heartbeat.began.wait()
            names = ", ".join(pool.store.name for pool in state.pools)
            logger.info("Worker %s serves %s", state.place, names)
            parts.emitter.say(Kind.WORKER_UP, names)
            try:
                self._loop.run()
            except BaseException:
                parts.channel.close()  # it may owe a reply, which would be taken for that to something else
                raise
            finally:
                state.left = True
                heartbeat.end()
                parts.completer.task_log.flush()
                self._goodbye()
                summary = ", ".join(f"{count} {name}" for name, count in state.counted().items())
                logger.info("Worker %s stopped: %s", state.place, summary)
                parts.emitter.say(Kind.WORKER_DOWN, names)

    def stop(self) -> None:
        """Finish the task that runs, give back the others, and let `run` return. Safe from any thread, at any time, twice."""
        self.state.stop.set()

    def _make_loop(self, heartbeat: Heartbeat) -> SerialLoop | Dispatcher:
        if isinstance(self._waiter, ListeningWaiter):
            return Dispatcher(self._parts, heartbeat, self._waiter)
        return SerialLoop(self._parts, heartbeat)

    def _goodbye(self) -> None:
        """Give back what is held, and end the connection."""
        channel, state = self._parts.channel, self.state
        try:
            if not channel.is_open:
                channel.open()
            self._parts.completer.histories.write()
            channel.settle()
            self._loop.finish()
            count = say_goodbye(channel, state)
            if count:
                logger.info("Gave back %s", counted(count, "task"))
            if self._parts.fetcher.interrupted:  # the blocking pop may have had a notification by then
                for pool in state.pools:
                    pool.store.repair()
            with contextlib.suppress(RedisError):  # a sweeper does it else
                self._parts.completer.joins.finish()
            with contextlib.suppress(RedisError):  # all that matters is done
                self._parts.completer.send_counts(channel)
        except BaseException as error:  # of Redis, or of what a task has left behind
            leave_unheard(state, "Stopped", error)
        finally:
            channel.close()

    # For whoever runs it

    @property
    def name(self) -> str:
        """The token of its own lease."""
        return self.state.name

    @property
    def finished(self) -> int:
        """How many tasks it has ended."""
        return self.state.finished

    @property
    def drained(self) -> bool:
        """Whether it has ended since its queues were empty: see `burst`."""
        return self.state.drained

    @property
    def recycled(self) -> bool:
        """Whether another process should take over from this one: see `max_tasks` and `max_rss`."""
        return self._parts.recycling.due

    @property
    def grace_left(self) -> float:
        """Seconds that are left of the grace, after a stop."""
        by = self.state.leave_by
        return self.options.grace if by is None else max(0.0, by - monotonic())

    def describe(self) -> dict[str, Any]:
        """What stands in the register of workers."""
        return self.state.describe()
