"""Sweepers' work on dead letters: notifies those who wait for a lost task, and removes the oldest letters."""

import contextlib
from typing import Any

from ..base.clock import monotonic, now
from ..errors import ConfigurationError, Reason
from ..events import BUS, Event, Kind
from ..logger import logger
from ..queue.history import HistoryBound
from ..redis.command import RedisError, ResponseError, pairs
from ..redis.store import Store
from ..task.decode import headers_of
from ..task.headers import holds_in, milliseconds_in
from ..task.options import ENDED_FOR, TRACKED_FOR
from ..task.result import failure

_SCANNED = 1000  # letters that a sweeper which knows nothing looks at in one call, from the newest
_PAGE = 50
_TRIMMING = 60.0  # seconds between two looks whether there are too many


class LostTasks:
    """The dead letters of one queue.

    A sweep that buries a tracked task tells those who wait for it in the same step. Sweepers of older versions do not, so each
    sweeper looks at the letters that have come since it looked last.

    Args:
        queue: the queue.
        most: about how many letters are kept, the newest; None for all.
        days: about how many days they are kept; None for ever.

    Raises:
        ConfigurationError: bounds that keep nothing.
    """

    def __init__(self, store: Store, most: int | None = None, days: float | None = None) -> None:
        if (most is not None and most < 1) or (days is not None and not days > 0):
            raise ConfigurationError("dead_max must be at least 1 letter, and dead_days above 0, or None for no bound")
        self._store, self._most, self._days = store, most, days
        self._seen: str | None = None  # the newest letter that we know
        self._unseen = "+"  # where the older ones begin that we do not know; empty: there are none of whom to tell
        self._trim_at = 0.0
        self.history = HistoryBound(store)

    def tell(self) -> int:
        """Tell those who wait for tasks that have been buried as lost. Returns how many tasks there were."""
        count = 0
        page = [None] * _PAGE
        while self._seen is not None and len(page) == _PAGE:
            page = self._store.call("XRANGE", self._store.keys.dead, f"({self._seen}", "+", "COUNT", _PAGE)
            for letter in page:
                count += self._tell_or_say(letter)
                self._seen = letter[0].decode()
        return count + self._tell_older()

    @property
    def told(self) -> bool:
        """Whether all letters have been read whose tasks somebody may wait for."""
        return not self._unseen

    def _tell_older(self) -> int:
        """Who has just begun does not know what others had left to do: read backwards, some at each call, until the end, or
        until what is kept of their tasks has run out."""
        count = 0
        for _ in range(0, _SCANNED + 1, _PAGE):  # a page more, to see that there are no others
            if not self._unseen:
                break
            page = self._store.call("XREVRANGE", self._store.keys.dead, self._unseen, "-", "COUNT", _PAGE)
            for letter in page:
                count += self._tell_or_say(letter)
            if self._seen is None:
                self._seen = page[0][0].decode() if page else "0-0"
            last = page[-1][0].decode() if page else ""
            done = len(page) < _PAGE or _age(self._seen, last) > TRACKED_FOR
            self._unseen = "" if done else f"({last}"
        return count

    def _tell_or_say(self, letter: Any) -> bool:
        """A letter that any program may have written stops no others."""
        try:
            return self._tell(letter)
        except RedisError:
            raise
        except Exception:
            logger.exception("%s: nobody can be told of dead letter %r", self._store.name, letter[0])
            return False

    def _tell(self, letter: Any) -> bool:
        entry_id, fields = letter
        named = pairs(fields)
        if named.get(b"reason") != Reason.LOST.encode():
            return False
        headers = headers_of(named.get(b"task", b""))
        holds = holds_in(headers)
        if holds.id is None:
            return False
        result = failure(str(Reason.LOST), named.get(b"detail", b"").decode(errors="replace"), "")
        return self._store.tell_lost(
            entry_id.decode(),
            holds,
            result=result,
            keep=milliseconds_in(headers, "result_ttl") or round(ENDED_FOR * 1000),
        )

    def trim(self) -> int:
        """Remove the oldest letters that are too many or too old, if it is time to look, and if those who may wait for their
        tasks have been told. Returns how many those were."""
        if monotonic() < self._trim_at:
            return 0
        with contextlib.suppress(ResponseError):  # to tell is refused: what makes room matters more
            self.tell()
            if not self.told:
                return 0
        self._trim_at = monotonic() + _TRIMMING
        call, key = self._store.call, self._store.keys.dead
        many = old = 0
        if self._most is not None:
            many = int(call("XTRIM", key, "MAXLEN", "~", self._most))
        if self._days is not None:
            oldest = int(call("TIME")[0]) - round(self._days * 86400)
            old = int(call("XTRIM", key, "MINID", "~", max(oldest, 0) * 1000))
        if many or old:
            logger.warning(
                "%s: removed the oldest dead letters: %d as there were more than %s, %d as they were older than %s days",
                self._store.name,
                many,
                self._most,
                old,
                self._days,
            )
        return many + old


def tell_swept(queue: str, sweeper: str, recovered: int, buried: int) -> None:
    """Emit the events of a sweep."""
    if recovered:
        BUS.emit(Event(Kind.LOST, queue, now(), worker=sweeper, tasks=recovered))
    if buried:
        BUS.emit(Event(Kind.BURIED, queue, now(), worker=sweeper, reason=str(Reason.LOST), tasks=buried))


def _age(newer: str, older: str) -> float:
    """Seconds between two letters."""
    return (int(newer.partition("-")[0]) - int(older.partition("-")[0])) / 1000
