"""What a sweeper does for the workflows of a queue: carries on, ends what waits in vain, forgets what has ended."""

from collections.abc import Sequence

from ..base.clock import monotonic
from ..redis.store import Store
from .carry import Apart, Carrier
from .layout import NodeSet
from .pages import discard

_MOST = 100  # of each kind, in one look
_SLICE = 0.5  # seconds for the workflows of a queue, before other things have their turn
_PAGE = 1000


def tend(store: Store) -> float | None:
    """Do what is to be done for the workflows whose home is a queue. Returns the seconds until there is more, if that is
    known."""
    carrier, until, each_alone = Carrier(store), monotonic() + _SLICE, Apart()
    while True:
        own = store.keys
        pause, waiting, due, _, *names = store.run("flow_look", (own.flow_outbox, own.flow_due, own.flow_ids), _MOST)
        if waiting:
            with each_alone:
                carrier.carry_all(max(0.0, until - monotonic()))
        for name in names[waiting : waiting + due]:
            with each_alone:
                _is_over(store, carrier, name.decode(errors="replace"), until)
        for name in names[waiting + due :]:
            with each_alone:
                remove(store, name.decode(errors="replace"))
        each_alone.tell()
        if not names:
            return None if pause < 0 else pause / 1000
        if monotonic() > until:
            return 0.0


def _is_over(store: Store, carrier: Carrier, timer: str, until: float) -> None:
    """The time for which a node waits, or for which a workflow is being built, is over."""
    own = store.keys
    flow, _, what = timer.partition(" ")
    if what == "B":
        remove(store, flow, timer)
        return
    keys = (own.flow(flow), own.joins(flow), own.flow_outbox, own.flow_due)
    if store.run("flow_tell", keys, flow, f"T{what}", "", "", timer):
        carrier.carry(flow, until)


def remove(store: Store, flow: str, timer: str = "", lists: Sequence[str] = (), *, unwanted: bool = False) -> bool:
    """Remove what is left of a workflow, and the `lists` of its sets that are known otherwise; False if it goes on, or is
    still kept, unless it is `unwanted`."""
    own = store.keys
    sets, unique = store.call("HMGET", own.flow(flow), "sets", "unique")
    count, lists = int(sets or 0), list(lists)
    for at in range(0, count, _PAGE):
        numbers = range(at, min(at + _PAGE, count))
        found = store.call("HMGET", own.flow(flow), *(f"s{each}" for each in numbers))
        pairs = zip(numbers, found, strict=True)
        lists += [own.bodies(flow, each) for each, record in pairs if record is not None and "b" in NodeSet.of(record).flags]
    key = None if unique is None else unique.decode(errors="replace")
    return discard(store, flow, lists, key, timer=timer, unwanted=unwanted)
