"""The sweeper: recovers the tasks of dead workers, moves due tasks, runs schedules, and repairs notifications."""

import contextlib
import math
import os
import random
import select
from collections.abc import Sequence
from functools import partial

import msgpack

from ..base.clock import milliseconds, monotonic, now
from ..base.ids import token
from ..base.pauses import pause_before_another
from ..base.place import place
from ..base.text import counted
from ..cron.schedules import Schedules
from ..dead_letters.lost import LostTasks
from ..dead_letters.retention import DAYS, LETTERS, LOSSES
from ..errors import ConfigurationError
from ..events import BUS, Event, Kind
from ..job.lines import names_of
from ..logger import logger
from ..queue.queue import Queue
from ..redis.channel import Channel
from ..redis.command import RedisError, ResponseError, is_cluster, pack
from ..redis.places import READY
from ..redis.store import Store
from ..system.process import resident_size
from ..system.signals import DUMP, SignalPipe, dump_threads
from ..system.systemd import ServiceManager
from ..workflow.tend import tend
from .server import SweptServer
from .sweep import Judge, Pass

INTERVAL = 5.0  # seconds
JITTER = (0.7, 0.9)  # of the interval: sweepers that start together do not stay together
_DUE_AT_ONCE = 1000  # tasks that one call moves from the schedule at most
_POLL = 1.0  # seconds between two looks at a schedule whose notifications cannot be listened to
_OWN_TTL = 3  # intervals that the sweeper's own lease lives
_SLICE = 0.5  # seconds for the schedules that are due, before other things have their turn
_HEED = 1.0  # seconds between two looks, in the middle of a sweep, whether a signal has come
_ALIVE = 1.0  # seconds between two signs of life for the service manager, in the middle of a sweep
_FINISH = 1.0  # seconds that a sweeper which is asked to stop goes on with what it is doing
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0  # seconds between two attempts to reach Redis again


class _Halt(BaseException):
    """It is time to stop, between two commands: each leaves all in order. (What catches exceptions does not catch this.)"""


class Sweeper:
    """Sweeps queues until it is stopped.

    After an outage (its connection broke, or an answer took much longer than usual: a restart, a failover, a stall; or the
    server's clock was set forward) it repairs the notifications at once, and judges leases once the workers that live have had
    `SETTLING` seconds to say so. A lease that was dead before and after so many seconds is dead, however often there is
    another outage in between.

    Args:
        queues: a queue, or several; they may be on different servers.
        interval: seconds from one sweep to the next, at most.
        limit: how many losses bury a task.
        dead_max: about how many dead letters a queue keeps, the newest; None for all.
        dead_days: about how many days; None for ever.
        notifies: the sweeper is what the process is for, and tells the service manager of itself.

    Raises:
        ConfigurationError: no queue, or numbers that cannot work.
    """

    def __init__(
        self,
        queues: Queue | Sequence[Queue],
        interval: float = INTERVAL,
        *,
        limit: int = LOSSES,
        dead_max: int | None = LETTERS,
        dead_days: float | None = DAYS,
        notifies: bool = True,
    ) -> None:
        self._notifies = notifies
        several = [queues] if isinstance(queues, Queue) else list(queues)
        if not several or not interval > 0 or limit < 1:
            raise ConfigurationError("a sweeper needs a queue, an interval above 0 seconds and a limit of at least 1 loss")
        self._interval = interval
        self._limit = limit
        self._name = token()
        self._servers: dict[tuple[int, str], SweptServer] = {}
        self._stores = [self._server(each.store).add(each.store) for each in several]
        self._lost_tasks = {id(each): LostTasks(each, dead_max, dead_days) for each in self._stores}
        self._schedules = {id(each): Schedules(each) for each in self._stores}
        self._signals: SignalPipe | None = None
        self._service_manager: ServiceManager | None = None
        self._alive_at = 0.0
        self._stopped = False
        self._halt_at = math.inf  # monotonic time
        self._heed_at = 0.0
        self._reader, self._writer = -1, -1
        self._place = ""
        self._started = now()

    def _server(self, store: Store) -> SweptServer:
        """One connection for each server; on a cluster, where queues move, one for each store."""
        key = (id(store.conn), store.name if is_cluster(store.conn) else "")
        if key not in self._servers:
            self._servers[key] = SweptServer(store, self._heed)
        return self._servers[key]

    def run(self) -> None:
        """Sweep at once and then at the interval, until `stop`, or (in the main thread) SIGTERM, SIGINT, SIGHUP or SIGQUIT.

        SIGUSR1 logs the stacks of all threads.
        """
        self._reader, self._writer = os.pipe()
        self._place = place()
        notifier = self._service_manager = ServiceManager(silent=not self._notifies)
        names = ", ".join(store.name for store in self._stores)
        with SignalPipe() as signals:
            logger.info("Sweeper %s sweeps %s every %g s", self._place, names, self._interval)
            notifier.ready(f"sweeping {names}")
            BUS.emit(Event(Kind.SWEEPER_UP, names, now(), worker=self._place))
            self._signals = signals
            self._heed_at = monotonic() + _HEED
            with contextlib.suppress(_Halt):
                while not self._stopped:
                    for server in self._servers.values():
                        self._visit(server)
                    self._until_the_next_sweep(signals, notifier)
            self._signals = None
            notifier.stopping("going")
            self._goodbye()
        writer, self._writer = self._writer, -1
        os.close(writer)
        os.close(self._reader)
        logger.info("Sweeper %s stopped", self._place)
        BUS.emit(Event(Kind.SWEEPER_DOWN, names, now(), worker=self._place))

    def stop(self) -> None:
        """Let `run` return after what is under way, or a second. Safe from any thread, at any time, twice."""
        self._stopped = True
        with contextlib.suppress(OSError):  # `run` has just ended, or not begun
            os.write(self._writer, b"x")

    def _heed(self) -> None:
        """Between two commands: hear signals, say that we live, and stop if we should."""
        moment = monotonic()
        if self._signals is not None and moment >= self._heed_at:
            self._heed_at = moment + _HEED
            self._obey(self._signals)
            self._live()
        if self._signals is not None and self._stopped:
            self._halt_at = min(self._halt_at, moment + _FINISH)
            if moment >= self._halt_at:
                raise _Halt

    def _live(self) -> None:
        """Tell the service manager that all is well, now and then."""
        if self._service_manager is not None and monotonic() >= self._alive_at:
            self._alive_at = monotonic() + min(_ALIVE, self._service_manager.watchdog / 4 or _ALIVE)
            self._service_manager.alive()

    def _visit(self, server: SweptServer) -> None:
        """Sweep the queues of a server."""
        if server.attempt(f"look at {server.names}", partial(self._greet, server)):
            for store in server.stores:
                self._sweep(store)

    def _greet(self, server: SweptServer) -> None:
        """Say that we live; what the answers tell of the server's health decides whether leases are judged."""
        asked = monotonic()
        server.look_at_the_clock()
        for store in server.stores:
            with contextlib.suppress(ResponseError):  # no memory: the sweep matters, the register does not
                self._register(store, server.channel)
        server.answered(asked, monotonic())
        server.register.refresh(store.over(server.channel) for store in server.stores)

    def _sweep(self, store: Store) -> None:
        server = self._server(store)
        judge = Judge(server.suspects[id(store)], server.look_again)
        this = Pass(store, self._limit, self._place, self._lost_tasks[id(store)], judge)
        for name, step in this.steps:
            if not server.attempt(f"{name} of {store.name}", step, store):
                break
        if this.recovered or this.buried:
            logger.warning(
                "%s: %s put back, %d buried after %s%s",
                store.name,
                counted(this.recovered, "lost task"),
                this.buried,
                counted(self._limit, "loss", "losses"),
                names_of(this.tasks),
                extra={"queue": store.name, "tasks": this.tasks, "outcome": "lost"},
            )
        if this.repaired:
            logger.info("%s: repaired %s", store.name, counted(this.repaired, "notification"))

    def _register(self, store: Store, channel: Channel) -> None:
        own = store.keys.lease(self._name)
        about = {
            "kind": "sweeper",
            "language": "python",
            "place": self._place,
            "queues": [each.name for each in self._stores],
            "started": self._started,
            "rss": resident_size(),
        }
        lives = pack("SET", own, self._name, "PX", milliseconds(max(_OWN_TTL * self._interval, 10)))
        is_here = pack("HSET", store.keys.workers, own, msgpack.packb(about, unicode_errors="surrogateescape"))
        channel.exchange(lives + is_here, 2)

    def _until_the_next_sweep(self, signals: SignalPipe, notifier: ServiceManager) -> None:
        """Move what becomes due, until the next sweep is, or a connection breaks, or `stop` is called."""
        sweep_at = monotonic() + self._pause()
        due_at = 0.0
        while not self._stopped and monotonic() < sweep_at:
            self._live()
            if monotonic() >= due_at:
                due_at = monotonic() + self._move_due()
                if any(server.failures for server in self._servers.values()):  # it broke before we could wait for that
                    sweep_at = min(sweep_at, monotonic() + self._pause())
            if self._wait(min(sweep_at, due_at) - monotonic(), signals, notifier):
                return
            if any(server.wake_listener.woken or not server.wake_listener.listening for server in self._servers.values()):
                due_at = 0.0

    def _pause(self) -> float:
        """Seconds until the next sweep."""
        failures = max(server.failures for server in self._servers.values())
        if failures:
            return min(pause_before_another(failures, _FIRST_PAUSE, _LONGEST_PAUSE), self._interval)
        unsettled = [server.caution.remains for server in self._servers.values() if not server.caution.settled]
        ripening = [suspects.remains for server in self._servers.values() for suspects in server.suspects.values()]
        return min([*unsettled, *ripening, self._interval * random.uniform(*JITTER)])

    def _move_due(self) -> float:
        """Put what is due into its store. Returns the seconds until there may be more."""
        pauses = [self._interval]
        for store in self._stores:
            server = self._server(store)
            for name, step in (
                ("turns of the groups of", partial(store.feed, READY)),
                ("move of what is due in", partial(self._move, store, pauses)),
                ("run of the schedules of", partial(self._fire, store, pauses)),
                ("workflows of", partial(self._tend, store, pauses)),
            ):
                if not server.channel.is_open or not server.attempt(f"{name} {store.name}", step, store):
                    break
        return min(pauses)

    def _move(self, store: Store, pauses: list[float]) -> None:
        """Move tasks that are due, and note the seconds until others are."""
        pause = store.due([store.keys], _DUE_AT_ONCE).pause
        if pause is not None:
            pauses.append(pause)

    def _fire(self, store: Store, pauses: list[float]) -> None:
        """Run schedules that are due, and note the seconds until others are."""
        enough = monotonic() + _SLICE
        pause = self._schedules[id(store)].fire(lambda: monotonic() > enough)
        if pause is not None:
            pauses.append(pause)

    def _tend(self, store: Store, pauses: list[float]) -> None:
        """Carry on workflows, and note the seconds until there is more to do for them."""
        pause = tend(store)
        if pause is not None:
            pauses.append(pause)

    def _wait(self, seconds: float, signals: SignalPipe, notifier: ServiceManager) -> bool:
        """Until a signal, `stop`, a notification, or for so long. Returns whether a connection has broken."""
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        wake_listeners = {server.wake_listener.listen(): server.wake_listener for server in self._servers.values()}
        if -1 in wake_listeners:  # what cannot be heard is looked at now and then
            seconds = min(seconds, _POLL)
        servers = {server.channel.fileno(): server for server in self._servers.values()}
        for descriptor in {*wake_listeners, *servers} - {-1}:
            poll.register(descriptor, select.POLLIN)
        pause = min(seconds, notifier.watchdog / 2 or seconds)
        broken = False
        began = monotonic()
        ready = poll.poll(math.ceil(max(0.0, pause) * 1000))
        overslept = monotonic() - began - max(0.0, pause)
        self._heed_at = monotonic() + _HEED
        for server in self._servers.values():
            server.waited(overslept)
        for descriptor, _ in ready:
            if descriptor in wake_listeners:
                wake_listeners[descriptor].hear()
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
        for store in self._stores:
            channel = self._server(store).channel
            own = store.keys.lease(self._name)
            with contextlib.suppress(RedisError):  # the lease runs out by itself
                if channel.is_open:
                    channel.call("UNLINK", own)
                    channel.call("HDEL", store.keys.workers, own)
        for server in self._servers.values():
            server.channel.close()
            server.wake_listener.close()
