"""The sweeper's view of a Redis server: its connection, and the server's health."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgpack

from ..base.clock import monotonic
from ..logger import logger
from ..redis.channel import Channel
from ..redis.command import RedisError, ResponseError
from ..redis.outage import OutageLog
from ..redis.register import Register
from ..redis.scripts import Argument
from ..redis.store import Store
from .caution import SETTLING, TIMES, Caution, Suspects
from .wake import WakeListener

_LONGEST_TTL = 3600.0  # seconds of a lease; longer ones are not waited for
_OVERSLEPT = 1.0  # seconds longer than asked for that speak of a process which was stopped, as others may have been


class _Line:
    """Sends commands over a channel, and checks before each whether to stop.

    Args:
        channel: the connection.
        heed: raises if it is time to stop.
    """

    def __init__(self, channel: Channel, heed: Callable[[], None]) -> None:
        self._channel, self._heed = channel, heed

    def call(self, *command: Argument) -> Any:
        """As `Channel.call`."""
        self._heed()
        return self._channel.call(*command)


class SweptServer:
    """One server, and the queues on it that a sweeper sweeps.

    Args:
        store: of one of them.
        heed: is called before each command of a queue, and may raise.
    """

    def __init__(self, store: Store, heed: Callable[[], None]) -> None:
        self.channel = Channel(store.conn, store.name)
        self.stores: list[Store] = []
        self.suspects: dict[int, Suspects] = {}
        self.wake_listener: WakeListener
        self.register = Register()
        self.failures = 0  # attempts since it worked
        self.caution = Caution()
        self._outage = OutageLog(store.conn)
        self._line = _Line(self.channel, heed)
        self._doubts = ""  # why living workers may not have been able to beat since the last look

    def add(self, store: Store) -> Store:
        """Sweep this queue, too. Returns it with its commands sent from here."""
        ours = store.over(self._line)
        self.stores.append(ours)
        self.suspects[id(ours)] = Suspects(self.caution)
        self.wake_listener = WakeListener(self.stores)
        return ours

    @property
    def names(self) -> str:
        """The queues, for people."""
        return ", ".join(store.name for store in self.stores)

    def broke(self) -> None:
        """The connection has to be opened again."""
        self.channel.close()
        self.caution.broke()
        self.failures += 1
        self._doubts = "its connection broke"

    def attempt(self, what: str, action: Callable[[], object], store: Store | None = None) -> bool:
        """Do one of several things: whatever goes wrong, the others have their turn. Returns whether that makes sense: else
        there is no connection."""
        try:
            if not self.channel.is_open:
                self.channel.open()
                self.caution.opened(monotonic())
            action()
        except ResponseError as error:  # it answers, so it was not away
            self._outage.failed(what, error if store is None else store.explained(error))
        except RedisError as error:
            self.broke()
            self._outage.failed(what, error)
            return False
        except Exception:  # what other programs wrote, or a defect
            logger.exception("%s failed, and will be tried again", what)
            self.channel.close()  # there may be replies that nobody has read
            self.caution.broke()
            return True
        else:
            self._outage.works(what)
        self.caution.heard(monotonic())
        return True

    def waited(self, overslept: float) -> None:
        """Nothing was asked for a while; the process has slept for so many seconds more than it wanted to."""
        if overslept > _OVERSLEPT:
            self._doubts = self._doubts or f"this process was stopped for {overslept:.1f} s"
            if self.channel.is_open:
                self.caution.opened(monotonic())
        else:
            self.caution.heard(monotonic())

    def answered(self, asked: float, answered: float) -> None:
        """At each look: postpone the judgement of leases, if there is reason to."""
        self.failures = 0
        if self.caution.stalled(asked, answered):
            self._doubts = self._doubts or f"it took {answered - asked:.2f} s to answer"
        if self._doubts:
            self._postpone(SETTLING)
        else:
            self.caution.trust()

    def look_at_the_clock(self) -> None:
        """Leases run out by the server's clock: if it was set forward, those of living workers are gone."""
        asked = monotonic()
        try:
            seconds, microseconds = self.channel.call("TIME")
        except ResponseError as error:
            self._outage.failed(f"look at the clock for {self.names}", error)
            return
        step = self.caution.step(asked, monotonic(), int(seconds) + int(microseconds) / 1e6)
        if step > 0:
            logger.warning(
                "%s: the clock of the Redis server was set forward by %.1f s, so leases of living workers have run out",
                self.names,
                step,
            )
            if self.caution.postponed < TIMES:  # a clock that steps again and again acquits nobody for ever
                for suspects in self.suspects.values():
                    suspects.acquit()
            self._doubts = "the server's clock was set forward"
            self._postpone(max(SETTLING, self._longest_beat()))
        elif step < 0:
            logger.warning(
                "%s: the clock of the Redis server was set back by %.1f s: what workers held that died before comes back "
                "later by as much",
                self.names,
                -step,
            )

    def look_again(self) -> None:
        """Leases seem to be dead: is there a reason for doubt by now?"""
        self.look_at_the_clock()
        self.caution.heard(monotonic())

    def _postpone(self, settling: float) -> None:
        """Living workers go first."""
        caution, why, self._doubts = self.caution, self._doubts, ""
        caution.doubt(settling)
        logger.info("%s: after the outage (%s), leases are judged in %g s", self.names, why, caution.remains)
        times, odd = divmod(caution.postponed, TIMES)
        if not odd and times.bit_count() == 1:  # the 3rd, 6th, 12th … time
            logger.warning(
                "%s: leases could not be judged at once %d times running, the last time as %s; it takes at least %g s until "
                "what a killed worker held comes back. Is the network unreliable, or this machine too busy?",
                self.names,
                caution.postponed,
                why,
                caution.settling,
            )

    def _longest_beat(self) -> float:
        """Seconds in which each living worker beats: it does so at least twice while its leases live."""
        longest = 0.0
        for store in self.stores:
            with contextlib.suppress(ResponseError):  # a foreign type
                for about in store.call("HVALS", store.keys.workers):
                    longest = max(longest, _ttl_in(about) / 2 + 1)
        return longest


def _ttl_in(about: bytes) -> float:
    """Seconds that the leases of a process live that says this `about` itself; 0 if it does not say."""
    try:
        ttl = msgpack.unpackb(about, unicode_errors="surrogateescape")["ttl"]
    except Exception:  # any program may have written anything
        return 0.0
    return float(ttl) if type(ttl) in (int, float) and 0 < ttl <= _LONGEST_TTL else 0.0
