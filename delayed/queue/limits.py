"""The limits that operators set on a queue: a pause, or a certain pace.

They stand in the hash `Q_control`. Workers learn of it with their beat, so it takes effect within one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..base.checks import is_number, is_whole
from ..errors import ConfigurationError

_MOST = 1 << 53  # of which scripts can count each
LIMITS = ("concurrency", "rate", "burst")


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
        concurrency, rate, burst = (_number(found.get(name.encode())) for name in LIMITS)
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


def checked_limits(concurrency: int | None, rate: float | None, burst: int | None) -> int | None:
    """See that limits can work. Returns `burst`, or what it is if only a rate is given.

    Raises:
        ConfigurationError: they would let nothing run.
    """
    if concurrency is not None and (not is_whole(concurrency) or concurrency < 1):
        raise ConfigurationError(
            f"concurrency must be a number of tasks above 0, not {concurrency!r}; to stop a queue, pause it"
        )
    if rate is not None and not (is_number(rate) and 0 < rate < float("inf")):
        raise ConfigurationError(f"rate must be a number of tasks a second above 0, not {rate!r}; to stop a queue, pause it")
    if burst is not None and (rate is None or not is_whole(burst) or burst < 1):
        raise ConfigurationError(f"burst must be a number of tasks above 0, and goes with a rate; it is {burst!r}")
    for name, value in (("concurrency", concurrency), ("rate", rate), ("burst", burst)):
        if value is not None and value > _MOST:
            raise ConfigurationError(f"{name} is at most {_MOST:,}, and not {value!s:.30}: leave it out for no limit")
    return max(1, round(rate)) if rate is not None and burst is None else burst


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
