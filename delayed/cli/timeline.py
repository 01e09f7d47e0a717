"""The timeline of a task in lines of text and in the form of JSON."""

from collections.abc import Iterable, Iterator
from typing import Any

from ..base.checks import as_time
from ..base.text import clipped, counted
from ..queue.timeline import EVENTS, Happening

_LONGEST = 300  # characters of what an attempt said


def timeline_lines(rows: Iterable[Happening]) -> Iterator[str]:
    """One for each thing that has happened."""
    for row in rows:
        when = "" if row.time is None else as_time(row.time)
        parts = [f"{when:25}  {row.event:10}"]
        parts += [f"attempt {row.attempt}"] if row.attempt is not None else []
        if row.worker:
            parts.append(f"{'asked by' if row.event == 'cancel' else 'on'} {row.worker}")
        parts += [f"due {as_time(row.due)}"] if row.due is not None else []
        parts += [f"again in {row.seconds:g} s"] if row.seconds is not None else []
        if row.times is not None:
            parts.append(f"{row.times} more" if row.event == "omitted" else counted(row.times, "time"))
        parts += [clipped(row.detail, _LONGEST)] if row.detail else []
        yield "  ".join(parts).rstrip()


def timeline_as_dicts(rows: Iterable[Happening]) -> list[dict[str, Any]]:
    """What is known of each, and what its event means."""
    found = ({name: value for name, value in row._asdict().items() if value not in (None, "")} for row in rows)
    return [{**each, "means": EVENTS.get(each["event"], "")} for each in found]
