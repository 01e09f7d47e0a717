"""What operators want of a queue: that it stands still, or goes at a certain pace.

It stands in the hash `Q_control`. Workers learn of it with their beat, so it takes effect within one.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..base.checks import is_number, is_whole
from ..errors import ConfigurationError
from ..redis.keys import Keys

_LIMITS = ("concurrency", "rate", "burst")


class Limits(NamedTuple):
    """What operators want of a queue at the moment."""

    paused: bool = False
    concurrency: int | None = None  # tasks that all workers together hold at once
    rate: float | None = None  # tasks that may begin in a second, on average
    burst: int | None = None  # tasks that may begin at once after a rest

    @classmethod
    def of(cls, fields: Sequence[bytes]) -> "Limits":
        """The limits in the names and values, in turn, of the control hash. What makes no sense is no limit."""
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        concurrency, rate, burst = (_number(found.get(name.encode())) for name in _LIMITS)
        whole = {"concurrency": concurrency, "burst": burst}
        return cls(
            paused=b"paused" in found,
            rate=rate,
            **{name: None if value is None else int(value) for name, value in whole.items()},
        )

    @property
    def any(self) -> bool:
        """Whether there is any limit to keep."""
        return self.paused or self.concurrency is not None or self.rate is not None


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class LimitsMixin:
    """What operators can say to a queue; a part of `Queue`."""

    keys: Keys

    def call(self, *command: Any) -> Any:
        """See `Store.call`."""
        raise NotImplementedError

    def pause(self) -> None:
        """From now on no worker of ours takes a task from this queue. What runs goes on, and tasks can be enqueued. Workers
        hear of it at their next beat (every 3 s)."""
        self.call("HSET", self.keys.control, "paused", "1")

    def resume(self) -> None:
        """The opposite of `pause`. Workers hear of it at their next beat, and look within their dequeue timeout."""
        self.call("HDEL", self.keys.control, "paused")

    def limit(self, *, concurrency: int | None = None, rate: float | None = None, burst: int | None = None) -> None:
        """Set all limits of this queue, for all workers of ours together; what is not given is not limited any more.

        Args:
            concurrency: how many of its tasks may run at once.
            rate: how many may begin in a second, on average.
            burst: how many may begin at once after a rest; by default as many as in a second, and at least one.

        Raises:
            ConfigurationError: numbers that would let nothing run; for that there is `pause`.
        """
        if concurrency is not None and (not is_whole(concurrency) or concurrency < 1):
            raise ConfigurationError(
                f"concurrency must be a number of tasks above 0, not {concurrency!r}; to stop a queue, pause it"
            )
        if rate is not None and not (is_number(rate) and 0 < rate < float("inf")):
            raise ConfigurationError(
                f"rate must be a number of tasks a second above 0, not {rate!r}; to stop a queue, pause it"
            )
        if burst is not None and (rate is None or not is_whole(burst) or burst < 1):
            raise ConfigurationError(f"burst must be a number of tasks above 0, and goes with a rate; it is {burst!r}")
        if rate is not None and burst is None:
            burst = max(1, round(rate))
        chosen = [
            value for pair in zip(_LIMITS, (concurrency, rate, burst), strict=True) if pair[1] is not None for value in pair
        ]
        # One command, so that there is no moment without limits: an empty value is none.
        empty = [value for name in _LIMITS if name not in chosen for value in (name, "")]
        if chosen:
            self.call("HSET", self.keys.control, *chosen, *empty)
        else:
            self.call("HDEL", self.keys.control, *_LIMITS)

    def limits(self) -> Limits:
        """What operators want of this queue at the moment."""
        names = [name.encode() for name in ("paused", *_LIMITS)]
        found = zip(names, self.call("HMGET", self.keys.control, *names), strict=True)
        return Limits.of([part for name, value in found if value is not None for part in (name, value)])
