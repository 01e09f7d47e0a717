"""Who hears what becomes of a task: its workflow, and those who listen."""

import msgpack

from ..base.clock import now
from ..events import BUS, Event, Kind
from ..task.decode import headers_of
from ..task.headers import Holds, Member, member_in
from .keys import Keys, home_of

_UNBEGUN = ("queued", "scheduled", "retrying")  # states in which a cancelled task has ended


def told(keys: Keys, member: Member | None, kind: str, rest: bytes, *, far: bool) -> tuple[tuple[str, ...], bytes]:
    """The keys by which the workflow of a node hears of it, and what it is told; nothing for a task that is none.

    Args:
        keys: of the queue where the node's task is.
        member: the node.
        kind, rest: what is said: see `lua/flow_join.lua`.
        far: the workflow is on another node of a cluster. Whoever carries on what stands in the outbox here says it there.
    """
    home = None if member is None else home_of(member.home)
    if member is None or home is None:
        return (), b""
    entry = b"%b%d %d" % (kind.encode(), member.set, member.node) + (b" " + rest if rest else b"")
    if not far:
        return (home.joins(member.flow), home.flow_outbox), entry
    own = keys.flow_outbox
    return (own, own), b"@" + msgpack.packb([home.queue, member.flow, entry], unicode_errors="surrogateescape")


def member_waiting(data: bytes | None) -> Member | None:
    """Of which workflow a task is a node whose state says that it waits as `data`."""
    return None if data is None else member_in(headers_of(data[41:] if data[:1] == b":" else data))


def tell_cancelled(queue: str, identity: str, state: str) -> None:
    """Those who listen hear that a task has been cancelled which was in this state, unless it is for others to say."""
    if state in _UNBEGUN:
        BUS.emit(Event(Kind.CANCELLED, queue, now(), id=identity))


def cancellation(
    keys: Keys, identity: str, unique: bytes | None, place: bytes | None, told: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The keys of the script that cancels a task; `unique` and `place` are what its state says about its unique key, and about
    where it waits; `told` are those by which its workflow hears of it."""
    state, *none = keys.own(Holds(identity))
    named = "" if unique is None else unique.decode(errors="surrogateescape")
    where = "" if place is None else place.decode(errors="surrogateescape")
    if keys.owns_unique(named):
        none[:2] = named, keys.waits(named)
    place_of_it = where if keys.owns_waits(where) else keys.scheduled
    return *keys.home, place_of_it, keys.history, keys.control, *told, state, *none
