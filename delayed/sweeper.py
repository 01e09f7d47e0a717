"""The sweeper: brings back what a killed worker left, and keeps the notifications right."""

import contextlib
import math
import os
import random
import select
import socket
from collections.abc import Sequence

import msgpack

from .backoff import pause_before_another
from .bell import Bell
from .channel import Channel
from .clock import milliseconds, monotonic, now
from .connection import RedisError, ResponseError, is_cluster
from .errors import ConfigurationError
from .events import BUS, Event, Kind
from .graveyard import DAYS, LETTERS, Graveyard
from .keys import token
from .logger import logger
from .notify import Notifier
from .outage import Outage
from .queue import Queue
from .schedules import Schedules
from .signals import DUMP, SignalPipe, dump_threads
from .sweep import LOSSES, Outcome, repair, sweep
from .transitions import READY
from .wear import resident_size
from .words import counted

INTERVAL = 5.0  # seconds
JITTER = (0.7, 0.9)  # of the interval: sweepers that start together do not stay together
_DUE_AT_ONCE = 1000  # tasks that one call moves from the schedule at most
SETTLING = 5.0  # seconds after an outage in which living workers say that they live, before a lease is held to be dead
_DEAF = 1.0  # seconds between two looks at a schedule whose bell cannot be heard
_OWN_TTL = 3  # intervals that the sweeper's own lease lives
_STALLED = 0.25  # seconds for an answer that speak of an outage, though the connection did not break
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0  # seconds between two attempts to reach Redis again


class _Server:
    """A connection, and what it tells of the server's health."""

    def __init__(self, queue: Queue) -> None:
        self.channel = Channel(queue.conn, queue.name)
        self.outage = Outage(queue.conn)
        self.bell: Bell
        self.failures = 0  # attempts since it worked
        self.settled_at = 0.0  # monotonic time from which a lease without a key is dead

    def broke(self) -> None:
        """It has to be opened again."""
        self.channel.close()
        self.failures += 1

    def works(self) -> None:
        """It answers, after failures or a pause: leases may have run out because nobody could beat."""
        self.failures = 0
        self.settled_at = monotonic() + SETTLING

    @property
    def settled(self) -> bool:
        """Whether living workers have had the time to beat."""
        return monotonic() >= self.settled_at


class Sweeper:
    """Sweeps queues until it is stopped.

    After an outage (its connection broke, or an answer took long: a restart, a failover, a stall) it repairs the notifications
    at once, and judges leases once the workers that live have had `SETTLING` seconds to say so.

    Args:
        queues: what to sweep; they may be on different servers.
        interval: seconds from one sweep to the next, at most.
        limit: how many losses bury a task.
        dead_max: about how many dead letters a queue keeps, the newest; None for all.
        dead_days: about how many days; None for ever.

    Raises:
        ConfigurationError: no queue, or numbers that cannot work.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        interval: float = INTERVAL,
        *,
        limit: int = LOSSES,
        dead_max: int | None = LETTERS,
        dead_days: float | None = DAYS,
    ) -> None:
        if not queues or not interval > 0 or limit < 1:
            raise ConfigurationError("a sweeper needs a queue, an interval above 0 seconds and a limit of at least 1 loss")
        self._interval = interval
        self._limit = limit
        self._name = token()
        self._servers: dict[tuple[int, str], _Server] = {}
        self._queues = [queue.over(self._server(queue).channel) for queue in queues]
        self._graveyards = {id(queue): Graveyard(queue, dead_max, dead_days) for queue in self._queues}
        for server in self._servers.values():
            server.bell = Bell([queue for queue in self._queues if self._server(queue) is server])
        self._stopped = False
        self._reader, self._writer = -1, -1
        self._place = ""
        self._started = now()

    def _server(self, queue: Queue) -> _Server:
        """One connection for each server; on a cluster, where queues move, one for each queue."""
        key = (id(queue.conn), queue.name if is_cluster(queue.conn) else "")
        return self._servers.setdefault(key, _Server(queue))

    def run(self) -> None:
        """Sweep at once and then at the interval, until `stop`, or (in the main thread) SIGTERM, SIGINT, SIGHUP or SIGQUIT.

        SIGUSR1 logs the stacks of all threads.
        """
        self._reader, self._writer = os.pipe()
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        notifier = Notifier()
        names = ", ".join(queue.name for queue in self._queues)
        with SignalPipe() as signals:
            logger.info("Sweeper %s sweeps %s every %g s", self._place, names, self._interval)
            notifier.ready(f"sweeping {names}")
            BUS.emit(Event(Kind.SWEEPER_UP, names, now(), worker=self._place))
            while not self._stopped:
                for queue in self._queues:
                    self._sweep(queue)
                self._until_the_next_sweep(signals, notifier)
            notifier.stopping("going")
            self._goodbye()
        writer, self._writer = self._writer, -1
        os.close(writer)
        os.close(self._reader)
        logger.info("Sweeper %s stopped", self._place)
        BUS.emit(Event(Kind.SWEEPER_DOWN, names, now(), worker=self._place))

    def stop(self) -> None:
        """Let `run` return after the sweep that is under way. Safe from any thread, at any time, twice."""
        self._stopped = True
        with contextlib.suppress(OSError):  # `run` has just ended, or not begun
            os.write(self._writer, b"x")

    def _sweep(self, queue: Queue) -> None:
        server = self._server(queue)
        try:
            if not server.channel.is_open:
                server.channel.open()
            asked = monotonic()
            with contextlib.suppress(ResponseError):  # no memory: the sweep matters, the register does not
                self._register(queue, server.channel)
            if server.failures or monotonic() - asked > _STALLED:
                server.works()
                logger.info("%s: after the outage, leases are judged in %g s", queue.name, SETTLING)
            settled = server.settled
            graveyard = self._graveyards[id(queue)]
            outcome = sweep(queue, self._limit, self._place, graveyard) if settled else Outcome(repaired=repair(queue))
            graveyard.trim()
        except RedisError as error:
            if isinstance(error, ResponseError):  # it answers, so it was not away
                server.channel.close()
            else:
                server.broke()
            server.outage.failed(f"sweep of {queue.name}", queue.explained(error))
            return
        server.outage.works(f"sweep of {queue.name}")
        if outcome.recovered or outcome.buried:
            logger.warning(
                "%s: %s put back, %d buried after %s",
                queue.name,
                counted(outcome.recovered, "lost task"),
                outcome.buried,
                counted(self._limit, "loss", "losses"),
            )
        if outcome.repaired:
            logger.info("%s: repaired %s", queue.name, counted(outcome.repaired, "notification"))

    def _register(self, queue: Queue, channel: Channel) -> None:
        own = queue.keys.lease(self._name)
        about = {
            "kind": "sweeper",
            "language": "python",
            "place": self._place,
            "queues": [each.name for each in self._queues],
            "started": self._started,
            "rss": resident_size(),
        }
        channel.call("SET", own, self._name, "PX", milliseconds(max(_OWN_TTL * self._interval, 10)))
        channel.call("HSET", queue.keys.workers, own, msgpack.packb(about, unicode_errors="surrogateescape"))

    def _until_the_next_sweep(self, signals: SignalPipe, notifier: Notifier) -> None:
        """Move what becomes due, until the next sweep is, or a connection breaks, or `stop` is called."""
        sweep_at = monotonic() + self._pause()
        due_at = 0.0
        while not self._stopped and monotonic() < sweep_at:
            notifier.alive()
            if monotonic() >= due_at:
                due_at = monotonic() + self._move_due()
                if any(server.failures for server in self._servers.values()):  # it broke before we could wait for that
                    sweep_at = min(sweep_at, monotonic() + self._pause())
            if self._wait(min(sweep_at, due_at) - monotonic(), signals, notifier):
                return
            if any(server.bell.rung or not server.bell.audible for server in self._servers.values()):
                due_at = 0.0

    def _pause(self) -> float:
        """Seconds until the next sweep."""
        failures = max(server.failures for server in self._servers.values())
        if failures:
            return min(pause_before_another(failures, _FIRST_PAUSE, _LONGEST_PAUSE), self._interval)
        unsettled = [server.settled_at - monotonic() for server in self._servers.values() if not server.settled]
        return min([*unsettled, self._interval * random.uniform(*JITTER)])

    def _move_due(self) -> float:
        """Put what is due into its queue. Returns the seconds until there may be more."""
        pause = self._interval
        for queue in self._queues:
            server = self._server(queue)
            try:
                if server.channel.is_open:
                    queue.feed(READY)
                    found = queue.due([queue.keys], _DUE_AT_ONCE)
                    pauses = [found.pause, self._fire(queue)]
                    pause = min([pause, *(each for each in pauses if each is not None)])
                    server.outage.works(f"move of what is due in {queue.name}")
            except RedisError as error:
                server.broke()
                server.outage.failed(f"move of what is due in {queue.name}", error)
        return pause

    def _fire(self, queue: Queue) -> float | None:
        """Run the schedules that are due. Returns the seconds until the next one is."""
        outage = self._server(queue).outage
        try:
            pause = Schedules(queue).fire()
        except ResponseError as error:  # no memory, or a foreign key: what else there is to do matters as much
            outage.failed(f"run of the schedules of {queue.name}", error)
            return None
        outage.works(f"run of the schedules of {queue.name}")
        return pause

    def _wait(self, seconds: float, signals: SignalPipe, notifier: Notifier) -> bool:
        """Until a signal, `stop`, a bell, or for so long. Returns whether a connection has broken."""
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        bells = {server.bell.listen(): server.bell for server in self._servers.values()}
        if -1 in bells:  # what cannot be heard is looked at now and then
            seconds = min(seconds, _DEAF)
        servers = {server.channel.fileno(): server for server in self._servers.values()}
        for descriptor in {*bells, *servers} - {-1}:
            poll.register(descriptor, select.POLLIN)
        pause = min(seconds, notifier.watchdog / 2 or seconds)
        broken = False
        for descriptor, _ in poll.poll(math.ceil(max(0.0, pause) * 1000)):
            if descriptor in bells:
                bells[descriptor].hear()
            elif descriptor in servers:
                servers[descriptor].broke()
                broken = True
            elif descriptor == signals.fileno():
                self._obey(signals)
        return broken

    def _obey(self, signals: SignalPipe) -> None:
        for number in signals.read():
            if number == DUMP:
                logger.warning("SIGUSR1:\n%s", dump_threads())
            else:
                logger.info("%s: stopping", number.name)
                self._stopped = True

    def _goodbye(self) -> None:
        for queue in self._queues:
            channel = self._server(queue).channel
            own = queue.keys.lease(self._name)
            with contextlib.suppress(RedisError):  # the lease runs out by itself
                if channel.is_open:
                    channel.call("UNLINK", own)
                    channel.call("HDEL", queue.keys.workers, own)
        for server in self._servers.values():
            server.channel.close()
            server.bell.close()
