"""What acts of `delayed top` read before they ask, and what they make of the answers."""

from ..base.moments import moment_of, seconds_of
from ..cron.schedules import Schedules
from ..errors import InvalidAct
from ..ops import actions, dead_actions
from ..ops.acts import Form, editable
from ..ops.audit import Actor, Done
from ..queue.queue import Queue


def limits_of(queue: Queue) -> dict[str, str]:
    """The limits of a queue, for fields in which they are changed."""
    limits = queue.limits()
    found = {"concurrency": limits.concurrency, "rate": limits.rate, "burst": limits.burst}
    return {name: "" if value is None else f"{value:g}" for name, value in found.items()}


def set_limits(queue: Queue, by: Actor, form: Form) -> Done:
    """Set the limits that the fields say, and lift the others."""
    concurrency, rate, burst = form.whole("concurrency"), form.number("rate"), form.whole("burst")
    return actions.set_limits(queue, by, concurrency=concurrency, rate=rate, burst=burst)


def arguments_of(queue: Queue, letter: str) -> dict[str, str]:
    """The arguments of a dead letter, for fields in which they are edited.

    Raises:
        InvalidAct: they cannot be.
    """
    fields = editable(dead_actions.letter_named(queue, letter).data)
    if fields is None:
        raise InvalidAct("its arguments are hidden, or have no form in JSON: `delayed dead retry` can change them")
    return fields


def moment_in(text: str, moment: float) -> float:
    """A time as people write it: seconds or `90m` from `moment` on, or a date and a time.

    Raises:
        InvalidAct: it is none.
    """
    after = seconds_of(text) if text[-1:] in "smhd" else seconds_of(f"{text}s")
    try:
        return moment_of(text) if after is None else moment + after
    except ValueError:
        raise InvalidAct(f"{text!r:.100} is no time: write seconds, 90m, 12h, 7d or 2030-01-31T08:00") from None


def pause_or_resume(queue: Queue, name: str, by: Actor) -> Done:
    """Pause a schedule, or let it go on."""
    paused = any(each.name == name and each.next is None for each in Schedules(queue).list())
    return (actions.resume_schedule if paused else actions.pause_schedule)(queue, by, name)
