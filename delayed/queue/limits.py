"""The limits that operators set on a queue: a pause, or a certain pace.

They stand in the hash `Q_control`. Workers learn of it with their beat, so it takes effect within one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

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


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
