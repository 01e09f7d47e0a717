"""The worker's second thread: keeps its leases alive, listens to signals, and returns what waits behind a slow task.

It has a connection of its own, and does everything that must go on while the main thread is inside a task.
"""

import contextlib
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import msgpack

from ..base.clock import milliseconds, monotonic
from ..base.escape import indented
from ..base.text import counted, traceback_of
from ..cron.schedules import restore
from ..job.functions import COROUTINES
from ..logger import logger
from ..redis.channel import Channel
from ..redis.command import RedisError, ResponseError, pack
from ..redis.connect import DEADLINE
from ..redis.outage import OutageLog
from ..redis.places import STATE_KEPT
from ..redis.register import Register
from ..system.exits import leave, leave_within
from ..system.signals import DUMP, INSIST, NOW, STOP, SignalPipe, dump_threads
from ..system.systemd import ServiceManager
from ..task.result import HARD
from .completer import Completer
from .fetcher import Fetcher
from .leases import Lease
from .options import WorkerOptions
from .prefetch import BUDGET
from .shutdown import EXIT_FORCED, end_early, leave_unheard, say_goodbye
from .state import WorkerState
from .waiters import Waiter

_LAST_MOMENTS = 1.0  # seconds that a task has to end by itself when it has been cancelled for good
_RETRY = 0.5  # seconds to the next attempt after a beat that failed
_DEATHS = 10  # in a row: then something is wrong with the heart itself
_LEAVING = 3 * DEADLINE  # seconds that a forced exit may take, whatever it meets
_KEEPING = 3600.0  # seconds between two times that the states of what runs are kept for longer


class Heartbeat(threading.Thread):
    """Beats for a worker until `end`.

    Args:
        options: what the worker is asked for. Its grace counts only where `signals` are installed, as the process is not ours
            to end otherwise.
        state: of the worker, whose leases this keeps.
        signals: where the process's signals arrive.
        fetcher: learns from each beat what operators want.
        completer: ends what must not run on.
        waiter: what the worker may wait for, which is broken when it stands still.
    """

    def __init__(
        self,
        options: WorkerOptions,
        state: WorkerState,
        signals: SignalPipe,
        *,
        fetcher: Fetcher,
        completer: Completer,
        waiter: Waiter,
    ) -> None:
        super().__init__(name="delayed-heartbeat", daemon=True)
        queue = options.queues[0]
        self._state, self._signals = state, signals
        self._fetcher, self._completer, self._waiter = fetcher, completer, waiter
        self._interval, self._ttl, self._grace = options.keep_alive_interval, options.ttl, options.grace
        self._log = completer.task_log
        self._log.wake = self.wake
        self._channel = Channel(queue.conn, queue.name)
        self._outage = OutageLog(queue.conn)
        self._service_manager = ServiceManager()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self.began = threading.Event()  # the first beat has been tried
        self._ended = False
        self._asked: frozenset[signal.Signals] = frozenset()  # a repetition of these means now
        state.leave_by = None
        self._returning: list[Lease] = []
        self._ready = False  # the service manager has been told
        self._in_doubt = False  # what is being returned may have been returned by a command that had no reply
        self._next_beat = self._next_look = self._next_alive = self._next_keep = 0.0
        self._register = Register()
        self._progress = (-1, -1)
        self._watching = False  # there may be tasks in the buffer behind a slow one
        self._seen = (-1, -1)
        self._round = (-1, -1)
        self._round_began = 0.0
        self._doomed: set[str] = set()  # keys of tasks that should end by themselves since the last beat
        self._heard = -1  # the descriptor of the connection that is listened to
        self._deaths = 0  # since the last beat

    def hurry(self) -> None:
        """The worker stops by itself: its grace begins."""
        if self._signals.installed:
            self._state.leave_by = self._state.leave_by or monotonic() + self._grace
            self.wake()

    def watch(self) -> None:
        """Look closely from now on: the worker has taken more than one task."""
        if not self._watching:
            self._watching = True
            self.wake()

    def end(self) -> None:
        """Stop beating, and wait until the thread has gone."""
        self._ended = True
        self.wake()
        self.join(_LEAVING)
        if self.is_alive():  # in a callback, or a handler of the log, that does not return
            logger.error("The heartbeat does not end within %g s; leaving it behind", _LEAVING)
            return
        self._channel.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def wake(self) -> None:
        """Look again at what is due."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"x")

    def run(self) -> None:
        """Beat, listen and watch (see `threading.Thread`). Whatever is raised here (tasks can raise what they like in any
        thread), the heart goes on; a worker without it would lose its leases and hear nothing, so it would have to stop."""
        while not self._ended:
            try:
                self._run()
            except BaseException as error:
                self._deaths += 1
                last = self._deaths >= _DEATHS
                what = "it is given up, and the worker stops" if last else "it goes on"
                logger.error("The heartbeat was interrupted; %s\n%s", what, indented(traceback_of(error)))
                if last:
                    self._state.stop.set()
                    break
                self._next_beat = monotonic() + _RETRY * random.uniform(0.5, 1)
                self._channel.close()
            finally:
                self.began.set()

    def _run(self) -> None:
        self._heard = -1
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while not self._ended:
            now = monotonic()
            if now >= self._next_beat:
                self._next_beat = now + self._interval
                self._watch_progress(now)
                self._log.refresh()
                self._log.flush()
                self._guarded(self._beat)
                self.began.set()
            if self._watching and now >= self._next_look:
                self._next_look = now + BUDGET
                self._guarded(self._return_unstarted)
            self._feed_watchdog(now)
            if now >= self._log.due:
                self._log.flush()
            if self._state.leave_by is not None and now >= self._state.leave_by:
                self._leave(f"the grace of {self._grace:g} s is over")
            late = self._state.deadline or float("inf")
            if now >= late:
                self._leave("a task exceeded its hard timeout")
            recheck = self._next_look if self._watching else float("inf")
            connection = self._hear(poll)
            due = [self._next_beat, recheck, self._next_alive, self._log.due, late, self._state.leave_by or float("inf")]
            pause = min(due) - monotonic()
            for descriptor, _ in poll.poll(max(0.0, pause) * 1000):
                if descriptor == self._wake_reader:
                    os.read(self._wake_reader, 64)
                elif descriptor == connection:  # it broke: after an outage a beat is urgent
                    self._channel.close()
                    self._next_beat = now
                else:
                    self._obey()

    def _hear(self, poll: select.poll) -> int:
        """Have `poll` listen to the connection that there is now; returns its descriptor or -1."""
        connection = self._channel.fileno()
        if connection != self._heard:
            if self._heard != -1:
                poll.unregister(self._heard)
            if connection != -1:
                poll.register(connection, select.POLLIN)
            self._heard = connection
        return connection

    def _guarded(self, action: Callable[[], None]) -> None:
        """Nothing that goes wrong in `action` may end the heart; it is tried again a little later."""
        try:
            if not self._channel.is_open:
                self._channel.open()
                self._state.scoreboard.connect(1, self._channel.client_id)
            action()
            self._outage.works("heartbeat")
        except BaseException as error:
            self._channel.close()
            again = monotonic() + min(_RETRY * random.uniform(0.5, 1), self._interval)
            self._next_beat, self._next_look = min(self._next_beat, again), again
            if isinstance(error, RedisError):
                self._outage.failed("heartbeat", error)
            else:
                logger.warning("The heartbeat failed\n%s", indented(traceback_of(error)))

    def _feed_watchdog(self, now: float) -> None:
        """While tasks run or the worker's loop goes round, all is well."""
        if now >= self._next_alive:
            seen = (self._state.rounds, self._state.finished)
            if seen != self._progress or self._state.running is not None:
                self._service_manager.alive()
            self._progress = seen
            self._next_alive = now + (self._service_manager.watchdog / 2 or float("inf"))

    def _watch_progress(self, now: float) -> None:
        """The last resort: every wait of the worker has a deadline, so it should never stand still for so long."""
        seen = (self._state.rounds, self._state.finished)
        if seen != self._round or self._state.running is not None:
            self._round, self._round_began = seen, now
        elif now - self._round_began > self._state.longest_round:
            self._round_began = now
            logger.error(
                "No progress for %g s; dropping the connection to Redis\n%s", self._state.longest_round, dump_threads()
            )
            self._waiter.interrupt()

    def _beat(self) -> None:
        """Let all leases live for another TTL, and bring the register up to date."""
        began = monotonic()
        ttl = milliseconds(self._ttl)
        state = self._state
        for pool in state.pools:
            made = pool.made
            names = list(made)
            if not names:
                continue
            lives = self._channel.exchange(b"".join(pack("PEXPIRE", name, ttl) for name in names), len(names))
            gone = [made.get(name) for name, lives_on in zip(names, lives, strict=True) if not lives_on]
            self._make_again([lease for lease in gone if lease is not None and lease.data is not None], ttl)
        state.scoreboard.beat(began)
        self._deaths = 0
        if not self._ready:
            self._ready = True
            self._service_manager.ready("working")
        fresh_at = state.fresh_at
        if not fresh_at or began - fresh_at < self._ttl / 2:
            state.fresh_at = max(began, fresh_at)
        # Else there was a gap in which leases may have run out, also some that hold nothing: the worker takes others.
        about = msgpack.packb(state.describe(), unicode_errors="surrogateescape")
        for index, pool in enumerate(state.pools):
            with contextlib.suppress(ResponseError):  # a foreign type: leases matter, the register does not
                ours = pool.store.over(self._channel)
                self._fetcher.turns.learn(index, ours.beat(state.name, self._ttl, about))
                restore(ours)
                ours.ran(pool.take_ran())
        self._ask_the_time()
        self._completer.send_counts(self._channel)
        self._see_cancelled()
        self._keep_states()
        self._completer.histories.write_over(self._channel)
        self._register.refresh(pool.store.over(self._channel) for pool in state.pools)

    def _keep_states(self) -> None:
        """A task that runs for longer than its state is kept has one nevertheless."""
        if monotonic() >= self._next_keep and (keys := self._state.tracked()):
            self._next_keep = monotonic() + _KEEPING
            self._channel.exchange(b"".join(pack("PEXPIRE", key, STATE_KEPT) for key in keys), len(keys))

    def _ask_the_time(self) -> None:
        """What expires does so by the server's clock, as what is scheduled is due by it."""
        asked = monotonic()
        reply = self._channel.call("TIME")
        self._state.clock.learn(reply, asked, monotonic())
        ahead = self._state.clock.now() - monotonic()
        for pool in self._state.pools:
            pool.totals.ahead = ahead

    def _see_cancelled(self) -> None:
        """Ask whether tasks that run were cancelled. A coroutine in a loop of its own is told (others are by the
        dispatcher); if one that was cancelled for good runs on nevertheless, the process ends with it."""
        running = {each.state_key: each.job for each in list(self._state.in_flight.values()) if each.state_key is not None}
        keys = list(running)
        replies: list[Any] = []
        if keys:
            with contextlib.suppress(ResponseError):  # a foreign type
                replies = self._channel.exchange(b"".join(pack("HGET", key, "cancelled") for key in keys), len(keys))
        for key, reply in zip(keys, replies, strict=False):
            job = running[key]
            if reply is not None and job is not None:
                job.interrupt()
        doomed = {key for key, reply in zip(keys, replies, strict=False) if reply == HARD}
        if doomed & self._doomed:
            self._leave("a task ignored a hard cancel", doomed)
        self._doomed = doomed
        if doomed:
            self._next_beat = monotonic() + min(_LAST_MOMENTS, self._interval)

    def _make_again(self, leases: list[Lease], ttl: int) -> None:
        """Keys that were gone while their leases hold tasks: nobody may have swept those yet. If somebody has, the fence tells
        the worker. (Elsewhere PEXPIRE, because Redis refuses SET when its memory is full.)"""
        for lease in leases:
            lease.gone = True
        if leases:
            commands = [pack("SET", lease.name, self._state.name, "PX", ttl) for lease in leases]
            self._channel.exchange(b"".join(commands), len(commands))

    def _return_unstarted(self) -> None:
        """Give back what waits behind a task that has run since the last look."""
        seen = (self._state.rounds, self._state.finished)
        if not self._returning and seen == self._seen:
            self._end_delayed()
            if self._completer.joins.waiting:
                self._completer.joins.carry_over(self._channel)
            self._watching = False  # before looking: a batch that comes now sets it again
            self._state.returning = True  # before the loop finds its buffer empty: it would take what comes after this
            self._returning = self._state.take_unstarted()
            self._in_doubt = False
            if self._completer.has_delayed:  # a quick one has ended meanwhile, and a slow one has begun
                self._watching = True
        self._seen = seen
        try:
            if self._returning:
                self._give_back()
        finally:  # where Redis does not answer, their order cannot be kept
            self._state.returning = False

    def _give_back(self) -> None:
        self._watching = True  # until Redis has them
        pool = self._returning[0].pool  # the buffer holds tasks of one queue
        in_doubt, self._in_doubt = self._in_doubt, True
        tasks = {lease.name: lease.data for lease in self._returning if lease.data is not None}
        pool.store.over(self._channel).give_back(list(tasks), tasks)
        for lease in self._returning:
            # If the command was sent before and had no reply, it may still arrive: these names are used no more.
            lease.gone = lease.gone or in_doubt
            pool.returned.append(lease)
        self._returning = []

    def _end_delayed(self) -> None:
        """End the tasks that have ended before the slow one, and of which the worker has only a note."""
        if delayed := self._completer.give_delayed():
            self._channel.exchange(b"".join(lease.done for lease in delayed), len(delayed))

    def _obey(self) -> None:
        for number in self._signals.read():
            if number == DUMP:
                logger.warning("SIGUSR1: %s\n%s", self._state.describe(), dump_threads())
            elif number == NOW or number in self._asked:
                self._leave(f"{number.name} says now")
            elif number in STOP:
                self._asked = INSIST if number in INSIST else self._asked
                self._state.leave_by = self._state.leave_by or monotonic() + self._grace
                self._state.stop.set()  # first of all: whoever hears that we stop may rely on it
                logger.info("%s: finishing running tasks, for at most %g s", number.name, self._grace)
                self._service_manager.stopping("finishing running tasks")

    def _leave(self, reason: str, cancelled: Collection[str] = ()) -> None:
        """Give back everything and end the process, although the main thread is inside a task; one that is late or `cancelled`
        is ended. Nothing that this meets may keep the process alive: others will have its tasks."""
        try:
            leave_within(_LEAVING, EXIT_FORCED)
            self._state.stop.set()
            self._state.take_unstarted()
            until = monotonic() + DEADLINE
            while self._state.running is None and not self._state.left and monotonic() < until:
                time.sleep(0.001)  # until the main thread cannot take any more: it runs a task, or its loop has ended
            if not self._channel.is_open:
                self._channel.open()
            COROUTINES.leave(_LAST_MOMENTS)
            self._end_delayed()
            ended = end_early(self._channel, self._state, self._completer, cancelled)
            self._completer.histories.write_over(self._channel, everything=True)
            count = say_goodbye(self._channel, self._state)
            logger.warning("%s: returned %s to the queue and exited", reason, counted(count, "task"))
            for tell in ended:
                tell()
            with contextlib.suppress(RedisError):
                self._completer.send_counts(self._channel)
        except BaseException as error:
            leave_unheard(self._state, reason, error)
        finally:
            leave(EXIT_FORCED)
