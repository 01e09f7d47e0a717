"""Reads what has happened to a tracked task from its state in Redis: see docs/protocol.md, section 7g."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

from ..task.result import State
from .status import moment, state_of, unknown, whole

TIMELINE = ("state", "enqueued", "started", "worker", "attempt", "error", "ended", "log")  # fields of the hash
_OVER = (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.CANCELLED)


class Happening(NamedTuple):
    """One thing that has happened to a task. What means nothing for its event is None or empty."""

    time: float | None  # seconds since 1970; None if an older version did not note it
    event: str  # a name of `EVENTS`
    attempt: int | None = None
    worker: str = ""  # host:pid; of a cancel: who asked for it
    detail: str = ""  # what the attempt said, or why the task waits
    seconds: float | None = None  # the pause before the next attempt
    due: float | None = None  # seconds since 1970: when a task that was moved may begin
    times: int | None = None  # how often it was lost, or how many entries are left out


EVENTS = {
    "enqueued": "it was enqueued",
    "started": "an attempt began",
    "retried": "the attempt failed; another follows",
    "lost": "its worker died or lost its lease; it went back",
    "given_back": "its worker gave it back",
    "waits": "it waits for a key that others have",
    "deferred": "no worker could run it; it waits",
    "moved": "it got another time",
    "cancel": "somebody asked for its cancel",
    "revived": "it came back from the dead letters",
    "omitted": "more happened than is kept",
    **{str(state): "it ended" for state in _OVER},
}


def timeline_of(found: Any, queue: str, identity: str | None) -> list[Happening]:
    """What the values of `TIMELINE` say, in order.

    Raises:
        UnknownTask: they are no state.
    """
    fields: dict[str, bytes | None] = dict(zip(TIMELINE, found, strict=True))
    if fields["state"] is None:
        raise unknown(queue, identity)
    state = state_of(_text(fields["state"]), queue, identity)
    shown: set[tuple[int | None, float]] = set()  # attempts, and when they began
    rows = [row for entry in _entries(fields["log"]) for row in _of_entry(entry, shown)]
    started, worker = moment(fields["started"]), _text(fields["worker"])
    begun = state in (State.RUNNING, State.SUCCEEDED) or (whole(fields["attempt"]), started) not in shown
    if started is not None and begun:
        place = len(rows)
        while place and rows[place - 1].event == "cancel":  # what runs can only be cancelled
            place -= 1
        rows.insert(place, Happening(started, "started", whole(fields["attempt"]), worker))
    enqueued = moment(fields["enqueued"])
    if enqueued is not None:
        rows.insert(0, Happening(enqueued, "enqueued"))
    if state in _OVER:
        attempt = whole(fields["attempt"]) if started is not None else None
        said = _text(fields["error"]) if state is State.FAILED else ""
        rows.append(Happening(moment(fields["ended"]), str(state), attempt, worker, said))
    return rows


def _entries(log: bytes | None) -> Iterator[list[Any]]:
    """The entries of the field `log`; what another program has written ends them."""
    unpacker = msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", strict_map_key=False)
    unpacker.feed(log or b"")
    try:
        for entry in unpacker:
            if not isinstance(entry, list) or len(entry) not in (4, 7):
                return
            if [type(each) for each in entry] != [int, str, str, int, int, int, str][: len(entry)]:
                return
            yield entry
    except Exception:  # msgpack raises a dozen types
        return


def _of_entry(entry: list[Any], shown: set[tuple[int | None, float]]) -> Iterator[Happening]:
    milliseconds, event, what, number = entry[:4]
    time = milliseconds / 1000
    attempt, worker = None, ""
    if len(entry) > 4:
        attempt, began, worker = entry[4] or None, entry[5] / 1000, entry[6]
        if began and (event != "revived" or (attempt, began) not in shown):  # what has failed may not have begun
            shown.add((attempt, began))
            yield Happening(began, "started", attempt, worker)
    match event:
        case "revived":
            if number:
                yield Happening(number / 1000, "failed", attempt, worker, what)
            yield Happening(time, event)
        case "retried":
            yield Happening(time, event, attempt, worker, what, seconds=number / 1000)
        case "deferred":
            yield Happening(time, event, detail=what, seconds=number / 1000)
        case "moved":
            yield Happening(time, event, due=number / 1000)
        case "cancel":
            yield Happening(time, event, worker=what, detail="hard" if number else "")
        case "lost" | "omitted":
            yield Happening(time, event, attempt, worker, what, times=number)
        case _:
            yield Happening(time, event, attempt, worker, what)


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
