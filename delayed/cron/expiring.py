"""Schedules whose tasks expire: decides which occurrence runs, and makes its task."""

from typing import NamedTuple

from .expression import MOST, PUNCTUAL, Cron

_FEW = 1000  # milliseconds back in which the newest occurrence is looked for first
_FURTHER = 8  # times further back, if there was none


class Occurrence(NamedTuple):
    """The decision about a due schedule whose tasks expire."""

    moment: int | None  # of which occurrence a task is enqueued, in milliseconds since 1970; None: all are too late
    next: int | None  # the schedule's next occurrence; it may have passed too. None: there is none


def choose(cron: Cron, due: int, now: int, lasts: int) -> Occurrence:
    """Decide at `now` about a schedule whose next occurrence was to be at `due` (both in milliseconds since 1970).

    It is `Cron.decide`, one occurrence at a time, and without those whose task could not begin any more: it may for `lasts`
    milliseconds.
    """
    if due > now:
        return Occurrence(None, due)
    if cron.catch_up == "all":
        return Occurrence(due, cron.after(due)) if due + lasts > now else Occurrence(None, cron.after(now - lasts))
    before = max(due - 1, now - lasts)
    if cron.catch_up == "skip" and now - due > PUNCTUAL:
        before = max(before, now - PUNCTUAL - 1)
    return Occurrence(_newest(cron, before, now), cron.after(now))


def _newest(cron: Cron, before: int, now: int) -> int | None:
    """The last occurrence after `before` that is not after `now`."""
    back = _FEW
    while (found := cron.after(max(before, now - back))) is None or found > now:
        if now - back <= before:
            return None
        back *= _FURTHER
    for _ in range(MOST):
        following = cron.after(found)
        if following is None or following > now:
            break
        found = following
    return found
