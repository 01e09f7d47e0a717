"""Logs an outage of Redis: a line at once, one every ten seconds, and one when it is back."""

import os
import threading
from dataclasses import dataclass, field

from ..base.clock import monotonic
from ..base.escape import escaped
from ..logger import logger
from .command import AsyncClient, Client, RedisError, ResponseError
from .connect import address

_EVERY = 10.0  # seconds between two lines
_BLINK = 1.0  # seconds: what was shorter does not earn the next one a line at once


@dataclass
class _Outage:
    failing: set[str] = field(default_factory=set)  # what does not work now
    since: float = 0.0  # monotonic time of its begin,
    line_at: float = 0.0  # and from which it may be told of
    told: bool = False


_outages: dict[tuple[int, str, str], _Outage] = {}  # by process: a fork begins anew
_lock = threading.Lock()


class OutageLog:
    """Logs the outages of one server. All messages of a process about the server pass through here, so each appears once.

    Args:
        client: says which server.
    """

    def __init__(self, client: Client | AsyncClient) -> None:
        self._where = escaped(address(client))
        self._failing: set[str] = set()

    def failed(self, what: str, error: RedisError) -> None:
        """`what` (as in "heartbeat", "sweep of q") does not work because of `error`; it is tried again."""
        self._failing.add(what)
        now = monotonic()
        # What Redis refuses is not an outage: it concerns this alone, and would hide others.
        key = (os.getpid(), self._where, what if isinstance(error, ResponseError) else "")
        with _lock:
            trouble = _outages.setdefault(key, _Outage())
            if not trouble.failing:
                trouble.since, trouble.told = now, False
            trouble.failing.add(what)
            silent = now < trouble.line_at
            if not silent:
                trouble.line_at, trouble.told = now + _EVERY, True
        if silent:
            logger.debug("Redis at %s: %s: %s", self._where, what, escaped(error))
            return
        says = "Redis at %s: %s: %s; retrying; next message in %g s"
        logger.warning(says, self._where, what, escaped(error), _EVERY)

    def works(self, what: str) -> None:
        """`what` works. This costs next to nothing if it did before."""
        if what in self._failing:
            self._failing.discard(what)
            self._end("", what, "is back")
            self._end(what, what, f"lets us do it again: {what}")

    def _end(self, group: str, what: str, says: str) -> None:
        with _lock:
            trouble = _outages.get((os.getpid(), self._where, group))
            if trouble is None or what not in trouble.failing:
                return
            trouble.failing.discard(what)
            if trouble.failing:
                return
            lasted = monotonic() - trouble.since
            if lasted > _BLINK:
                trouble.line_at = 0.0
        if trouble.told:
            logger.info("Redis at %s %s, after %.1f s", self._where, says, lasted)
