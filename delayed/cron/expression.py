"""Cron expressions in time zones: compute when schedules fire. Pure: the caller passes the time.

cronsim reads the expression and finds the readings of a wall clock that match it; it is given clocks without a zone only, and
what such a reading is in UTC is decided here. (Its own walk through time zones steps over occurrences where a zone changes by
half an hour or at midnight, and finds past ones when it begins inside a repeated hour.) The rules are those of Debian's cron:

- A schedule of certain times (neither minute nor hour begins with `*`) fires once for each: what the clock skips fires when
  the gap ends, and what it shows twice fires the first time.
- Any other fires whenever the clock shows what matches: what it skips is not there, and what it shows twice is there twice.
"""

import difflib
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from ..errors import InvalidSchedule

CATCH_UP = ("skip", "one", "all")
PUNCTUAL = 60_000  # milliseconds: what is not later than this has not been missed
MOST = 1000  # occurrences that are caught up with at once
_EPOCH = datetime(1970, 1, 1)
_DAY = 86400  # seconds; no zone changes its offset and changes it back within a day


class Decision(NamedTuple):
    """The decision about a schedule that is due."""

    tasks: int  # so many are enqueued
    next: int | None  # its next occurrence, in milliseconds since 1970; it may have passed too. None: there is none


class Cron:
    """A cron expression in a time zone, with a rule for missed occurrences.

    Args:
        expression: minute, hour, day of the month, month, day of the week; with a field for seconds in front of them if there
            are six.
        tz: the zone's name, such as `Europe/Zurich`.
        catch_up: `skip` those that were missed, make `one` of them, or run `all`.

    Raises:
        InvalidSchedule: something that there is not, or an expression that never matches.
    """

    def __init__(self, expression: str, tz: str = "UTC", catch_up: str = "skip") -> None:
        if catch_up not in CATCH_UP:
            raise InvalidSchedule(f"catch_up must be one of {', '.join(CATCH_UP)}, not {catch_up!r}")
        _check(expression)
        self.expression, self.tz, self.catch_up = expression, tz, catch_up
        self._zone = _zone(tz)
        minute, hour = expression.split()[-5:-3]
        self._certain = not minute.startswith("*") and not hour.startswith("*")

    def after(self, moment: int) -> int | None:
        """The first occurrence after `moment`, both in milliseconds since 1970; None if there is none in 50 years."""
        seconds = moment // 1000
        try:
            found = self._certain_after(seconds) if self._certain else self._any_after(seconds)
        except (OverflowError, ValueError):  # datetime ends with the year 9999
            return None
        return None if found is None else found * 1000

    def decide(self, due: int, now: int) -> Decision:
        """What to do at `now` about a schedule whose next occurrence was to be at `due`, both in milliseconds since 1970."""
        if due > now:
            return Decision(0, due)
        if self.catch_up == "all":
            count, occurrence = 0, int(due)
            while count < MOST and occurrence <= now:
                count += 1
                following = self.after(occurrence)
                if following is None:
                    return Decision(count, None)
                occurrence = following
            return Decision(count, occurrence)
        newest = due if self.catch_up == "one" or now - due <= PUNCTUAL else self.after(now - PUNCTUAL - 1)
        return Decision(int(newest is not None and newest <= now), self.after(now))

    def _certain_after(self, seconds: int) -> int | None:
        for reading in CronSim(self.expression, self._reading(seconds)):
            instant = self._instant(reading)
            if instant > seconds:  # else this reading is past: its first time was
                return instant
        return None

    def _any_after(self, seconds: int) -> int | None:
        offset = self._offset(seconds)
        begin = _naive(seconds + offset)
        while (reading := next(CronSim(self.expression, begin), None)) is not None:
            instant = (reading - _EPOCH) // timedelta(seconds=1) - offset
            change = self._change(seconds, instant)
            if change is None:
                return instant
            seconds, offset = change, self._offset(change)
            begin = _naive(change + offset - 1)  # the very instant of the change may match
        return None

    def _reading(self, seconds: int) -> datetime:
        return _naive(seconds + self._offset(seconds))

    def _offset(self, seconds: int) -> int:
        offset = datetime.fromtimestamp(seconds, self._zone).utcoffset() or timedelta()
        return offset // timedelta(seconds=1)

    def _instant(self, reading: datetime) -> int:
        """When the clock shows `reading` for the first time; if it never does, when the gap ends."""
        aware = reading.replace(tzinfo=self._zone)
        instant = int(aware.timestamp())
        if self._reading(instant) == reading:
            return instant
        return self._first_other(int(aware.replace(fold=1).timestamp()), instant)

    def _change(self, early: int, late: int) -> int | None:
        """When the offset changes for the first time after `early` and not after `late`."""
        while early < late:
            middle = min(early + _DAY, late)
            if self._offset(middle) != self._offset(early):
                return self._first_other(early, middle)
            early = middle
        return None

    def _first_other(self, early: int, late: int) -> int:
        """The instant at which the offset becomes another one than at `early`; at `late` it is another one."""
        offset = self._offset(early)
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if self._offset(middle) == offset else (early, middle)
        return late


def _naive(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _check(expression: str) -> None:
    if not isinstance(expression, str):
        raise InvalidSchedule(f"a cron expression must be a string such as '*/5 * * * *', not {expression!r}")
    try:
        matches = CronSim(expression, datetime(2000, 1, 1))
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        raise InvalidSchedule(_advice(expression, str(error))) from error
    if next(matches, None) is None:
        raise InvalidSchedule(f"{expression!r} never fires: there is no such day; change its day, month or day of the week")


def _advice(expression: str, error: str) -> str:
    count = len(expression.split())
    if count not in (5, 6):
        return (
            f"{expression!r} has {count} fields, and a cron expression has five: minute, hour, day of the month, month, "
            f"day of the week, as in '30 2 * * MON' (a sixth, in front, is for seconds)"
        )
    if error == "Bad day-of-month" and all(part.isdigit() and 0 < int(part) < 32 for part in expression.split()[-3:-2]):
        return f"{expression!r} never fires: no such month has that day; change its day or month"
    return (
        f"{expression!r} is no cron expression: {error.lower() or 'it cannot be read'}; minutes are 0-59, hours 0-23, "
        f"days 1-31 (or L, LW), months 1-12 (or JAN-DEC), days of the week 0-7 (or SUN-SAT, MON#1, 5L)"
    )


def _zone(tz: str) -> ZoneInfo:
    try:
        return ZoneInfo(tz)
    except (LookupError, ValueError, TypeError, AttributeError, OSError) as error:
        close = difflib.get_close_matches(str(tz), available_timezones(), 1)
        meant = f"did you mean {close[0]!r}?" if close else "they are called as in 'Europe/Zurich'"
        raise InvalidSchedule(
            f"there is no time zone {tz!r} on this machine; {meant} (If it should be there, install the system's or PyPI's "
            f"tzdata.)"
        ) from error
