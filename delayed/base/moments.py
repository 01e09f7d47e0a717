"""Reads times as people write them."""

import re
from datetime import UTC, datetime

from .clock import now

FORMS = "90m, 12h, 7d or 2026-01-31T12:00"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)([smhd])", re.ASCII)


def seconds_of(text: str) -> float | None:
    """A length of time, such as 90m, in seconds; None if it is none."""
    match = _AGE.fullmatch(text)
    return float(match[1]) * UNITS[match[2]] if match else None


def moment_of(text: str) -> float:
    """An ISO date or time in seconds since 1970, which is the first; in UTC if it names no zone, as times are shown.

    Raises:
        ValueError: it is none.
    """
    found = datetime.fromisoformat(text)
    return max(0.0, (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def moment_since(text: str) -> float:
    """`90m` is as long ago; else as `moment_of`.

    Raises:
        ValueError: it is neither.
    """
    age = seconds_of(text)
    return moment_of(text) if age is None else max(0.0, now() - age)
