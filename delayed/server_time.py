"""The server's clock, as far as one process knows it: leases, schedules and expiry go by it, and not by anybody's own."""

from collections.abc import Sequence

from .clock import monotonic, now


class ServerTime:
    """Learns what time it is on the server, and counts on by itself."""

    def __init__(self) -> None:
        self._offset: float | None = None  # seconds since 1970 on the server, minus monotonic time
        self._learnt = 0.0  # monotonic time

    def learn(self, reply: Sequence[bytes | int], asked: float, answered: float) -> None:
        """The `reply` to a TIME that was sent, and answered, at these monotonic times."""
        seconds, microseconds = (int(part) for part in reply)
        self._offset = seconds + microseconds / 1e6 - (asked + answered) / 2
        self._learnt = answered

    @property
    def known(self) -> bool:
        """Whether the server has said."""
        return self._offset is not None

    def age(self) -> float:
        """Seconds since it said so; infinite before that."""
        return monotonic() - self._learnt if self.known else float("inf")

    def now(self) -> float:
        """Seconds since 1970 by the server's clock; by our own as long as that is not known."""
        return now() if self._offset is None else self._offset + monotonic()
