"""What is known of one task, in lines of text and in the form of JSON."""

from collections.abc import Iterator
from typing import Any

from ..base.checks import as_time
from ..ops.flows import NodeView
from ..ops.info import arguments, described, hexed
from ..ops.locate import Located
from ..ops.shown import located_shown
from ..queue.status import Status
from ..queue.waiting import Waiting
from .timeline import timeline_as_dicts, timeline_lines

_WAITS = {
    "queue": "in the queue",
    "group": "in its group",
    "key": "for its unique or concurrency key",
    "scheduled": "in the schedule",
}


def located_lines(identity: str, found: Located) -> Iterator[str]:
    """All but the detail of its dead letter."""
    found = located_shown(found)
    yield f"id:     {identity}"
    yield f"queue:  {found.queue}"
    if found.node is not None:
        yield from _node_lines(found.node)
    if found.status is not None:
        yield from status_lines(found.status)
    if found.waits is not None:
        due = "" if found.waits.due is None else f", due {as_time(found.waits.due)}"
        yield f"waits:  {_WAITS[found.waits.where]}{due}"
    if found.runs is not None:
        yield f"runs:   {found.runs.worker or 'its worker is gone; a sweeper will recover it'} (lease {found.runs.lease})"
    if found.data is not None:
        yield from described(found.data)
    if found.letter is not None:
        yield f"dead:   {found.letter.id} ({found.letter.reason}, {as_time(found.letter.time)})"
    for line in timeline_lines(found.timeline):
        yield f"  {line}"


def _node_lines(found: NodeView) -> Iterator[str]:
    yield f"flow:   {found.run.id} {found.name}".rstrip()
    beside = f", one of {found.set.size}" if found.set.size != 1 else ""
    yield f"node:   {found.node.number}, {found.node.label}{beside}: {found.says}"
    if found.after:
        yield f"after:  {found.after.removeprefix('after ')}"


def status_lines(status: Status) -> Iterator[str]:
    """What is kept of a tracked task."""
    for name, value in status._asdict().items():
        if value is not None and value != "":
            is_time = name in ("enqueued", "due", "started")
            yield f"{name + ':':9} {as_time(value) if is_time else value}"


def located_as_dict(identity: str, found: Located) -> dict[str, Any]:
    """The same, with all of its dead letter."""
    found = located_shown(found)
    letter, node = found.letter, found.node
    return {
        "id": identity,
        "queue": found.queue,
        "node": None if node is None else {**node.node._asdict(), "flow": node.run.id, "after": node.after},
        "status": None if found.status is None else found.status._asdict(),
        "waits": None if found.waits is None else waiting_as_dict(found.waits),
        "timeline": timeline_as_dicts(found.timeline),
        "runs": None if found.runs is None else found.runs.as_dict(),
        "dead_letter": None
        if letter is None
        else {**letter._asdict(), "data": hexed(letter.data), "arguments": arguments(letter.data)},
    }


def waiting_as_dict(each: Waiting) -> dict[str, Any]:
    """A task that waits."""
    shown = {**each._asdict(), "data": hexed(each.data), "arguments": arguments(each.data)}
    del shown["member"], shown["key"]
    return shown
