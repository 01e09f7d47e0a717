"""Estimates the clock of a Redis server, by which relative times count."""

import contextlib
from collections.abc import Callable, Sequence

from ..base.clock import monotonic, now
from .command import redis_errors

_TRUSTED = 60.0  # seconds for which what the server has said is good enough
_STEP = 0.5  # seconds that this machine's two clocks may part in that time: more is a step, or a sleep


class ServerTime:
    """An estimate of the server's clock: what `TIME` said, and what has passed since by our monotonic clock.

    Args:
        ask: sends `TIME`, for who needs the time before anybody has learned it.
    """

    def __init__(self, ask: Callable[[], Sequence[bytes | str | int]] | None = None) -> None:
        self._ask = ask
        self._ahead = 0.0  # of the server's clock, before our monotonic one
        self._apart = 0.0  # of our own two clocks, when the server was asked
        self._learned: float | None = None  # monotonic time

    def learn(self, reply_of_TIME: Sequence[bytes | str | int], asked: float, answered: float) -> None:  # noqa: N803  # the command's name
        """Take note of a reply to `TIME`, which was asked for and came at these monotonic times."""
        seconds, microseconds = reply_of_TIME
        self._ahead = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2
        self._apart = now() - monotonic()
        self._learned = answered

    @property
    def known(self) -> bool:
        """Whether the server has ever been asked."""
        return self._learned is not None

    def age(self) -> float:
        """Seconds since it was; infinity if it never was."""
        return float("inf") if self._learned is None else monotonic() - self._learned

    def stale(self) -> bool:
        """Whether it is time to ask: never asked, not for a minute, or this machine has slept or its clock was set since."""
        return self.age() > _TRUSTED or abs(now() - monotonic() - self._apart) > _STEP

    def now(self) -> float:
        """Seconds since 1970, by the server's clock; by our own, if the server does not say."""
        if self._learned is None and self._ask is not None:
            asked = monotonic()
            with contextlib.suppress(redis_errors.RedisError):  # an outage, or no permission: our own clock has to do
                self.learn(self._ask(), asked, monotonic())
        return now() if self._learned is None else monotonic() + self._ahead
