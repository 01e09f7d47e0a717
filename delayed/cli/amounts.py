"""Numbers, lengths of time and moments that options take: what makes no sense is refused here, with words that say so."""

import re
from typing import Any

import click

from ..base.checks import WEEK as WEEK  # noqa: PLC0414  # options have it from here
from ..base.moments import FORMS, UNITS, moment_since, seconds_of

AGES = 1e11  # seconds; 3,000 years: the longest time of which anything is kept, as in a task
MOST = 10**9  # of what is counted


class Number(click.FloatRange):
    """A finite number.

    Args:
        least: from which on.
        most: up to which.
        above: `least` itself is none.
    """

    def __init__(self, least: float = 0.0, *, most: float = AGES, above: bool = False) -> None:
        super().__init__(least, min_open=above)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number in an option."""
        found: float = super().convert(value, param, ctx)
        if not found <= self._most:  # or it is none
            self.fail(f"{value!s:.30} is not a number up to {self._most:,.0f}.", param, ctx)
        return found


class Count(click.IntRange):
    """A whole number.

    Args:
        least: from which on.
        most: up to which.
    """

    def __init__(self, least: int = 1, most: int = MOST) -> None:
        super().__init__(least)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number in an option."""
        found: int = super().convert(value, param, ctx)
        if found > self._most:
            self.fail(f"{value!s:.30} is too many: {self._most:,} is the most.", param, ctx)
        return found


def span(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """A length of time, such as 90m, in seconds."""
    if value is None:
        return None
    found = seconds_of(value)
    if found is None or found > AGES:
        raise click.BadParameter(f"a time is a number and s, m, h or d, such as 30m, 2h or 7d, not {value!r:.100}")
    return found


def since(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """'90m' is as long ago; else an ISO date or time, in UTC if it names no zone: as times are shown."""
    if value is None:
        return None
    try:
        return moment_since(value)
    except ValueError:
        raise click.BadParameter(f"write it as {FORMS}") from None


def per_time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, float] | None:
    """How many in how long, such as 100/s: the number, and seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,8})/([smh])", value)
    if match is None:
        raise click.BadParameter("write it as 100/s, 1000/m, 5000/h")
    return int(match[1]), float(UNITS[match[2]])
