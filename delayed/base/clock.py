"""Clocks: wall time to store, monotonic time to subtract."""

import time

monotonic = time.monotonic


"""Seconds since some point in the past, as float; only differences mean something."""


now = time.time


"""Seconds since 1970 in UTC, as float."""


def milliseconds(seconds: float) -> int:
    """Seconds, as the API takes them, in the whole milliseconds that Redis takes; never less than one."""
    return max(1, round(seconds * 1000))
