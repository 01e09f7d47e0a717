"""Checks of numbers that come from outside."""

from datetime import UTC, datetime

WEEK = 7 * 86_400.0  # seconds; the longest that a process waits at a time


def is_number(value: object) -> bool:
    """Whether a value is a number, which may be infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_time(seconds: float) -> str:
    """A moment (seconds since 1970) as all commands show it: in UTC, with the zone."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # another program's number
        return f"{seconds:g} s after 1970"
