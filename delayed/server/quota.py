"""What the bearers of a token may ask of one server: so many requests in some time, over so many connections at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..base.clock import monotonic

_MOST = 10_000  # tokens of which it is remembered how much they have asked


class Connection(Protocol):
    """A connection of a client."""

    def when_lost(self, tell: Callable[[], object]) -> None:
        """Call this when it ends."""


@dataclass(slots=True)
class _Bucket:
    """Requests that may come at once, and grow more with time."""

    left: float
    at: float  # monotonic time


class Quotas:
    """Counts what is asked with each token."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._connections: dict[str, set[int]] = {}

    def admit(self, name: str, rate: tuple[int, float], count: int = 1) -> tuple[int, float]:
        """Take note of requests.

        Args:
            name: of the token.
            rate: so many requests in so many seconds, which may come at once.
            count: how many there are.

        Returns:
            How many of them may be carried out, and the seconds after which there may be another.
        """
        most, seconds = rate
        now = monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _MOST:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[name] = _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.at) * most / seconds)
        bucket.at = now
        admitted = min(count, int(bucket.left))
        bucket.left -= admitted
        return admitted, max(0.0, 1 - bucket.left) * seconds / most

    def enter(self, name: str, most: int, connection: Connection) -> bool:
        """Whether a connection may be used with the token of this name, of which there may be so many at once."""
        held, key = self._connections.setdefault(name, set()), id(connection)
        if key in held:
            return True
        if len(held) >= most:
            return False
        held.add(key)
        connection.when_lost(lambda: self._leave(name, key))
        return True

    def _leave(self, name: str, key: int) -> None:
        held = self._connections.get(name, set())
        held.discard(key)
        if not held:
            self._connections.pop(name, None)
