"""The invariants of workflows: their counts follow from the marks of their nodes, and nothing is waited for in vain."""

from collections.abc import Iterator
from typing import NamedTuple

from ..base.ids import FLOW, index_of, node_id
from ..queue.node import queues_in
from ..queue.queue import Queue
from ..redis.keys import home_of
from ..redis.store import Store
from ..task.result import MARKS as MARK_OF_STATE
from ..workflow.again import Gate, tallied, verdict
from ..workflow.carry import Carrier
from ..workflow.layout import BAD, NodeSet, texts
from ..workflow.pages import run_id
from ..workflow.tend import remove
from .checks import PAGE, Invariant, Snapshot, When

_OPEN = ("running", "failing", "cancelling")
_KNOWN = ("building", *_OPEN, "succeeded", "failed", "cancelled")
_FLOWS = 100  # the newest so many workflows are looked at,
_NODES = 1000  # and of each so many nodes that are released
_NEVER = 9007199254740991  # as in lua/flow_build.lua
_TALLIES = {"failed": "f", "expired": "x", "cancelled": "c", "skipped": "k"}


class Seen(NamedTuple):
    """A workflow at one moment at which there is nothing to carry on."""

    flow: str
    fields: dict[str, str]  # all but its tasks and results
    marks: str
    sets: dict[int, NodeSet]

    def of(self, found: NodeSet) -> str:
        """The marks of a set of nodes."""
        return self.marks[found.first : found.first + found.size].ljust(found.size, "\0")

    def number(self, name: str) -> int:
        """A count."""
        return int(self.fields.get(name) or 0)

    def gates(self) -> Iterator[tuple[int, Gate, str]]:
        """Its gates, and the marks of the nodes before each."""
        before: dict[int, str] = {}
        for found in self.sets.values():
            for gate in found.outs:
                before[gate] = before.get(gate, "") + self.of(found)
        for number, marks in before.items():
            yield number, Gate.of(self.fields[f"g{number}"], self.fields.get(f"d{number}", "")), marks


def _ids(snapshot: Snapshot) -> list[str]:
    """The newest workflows, those that go on first."""
    found = snapshot.queue.store.call("ZREVRANGE", snapshot.keys.flow_ids, 0, _FLOWS - 1)
    return [each.decode(errors="surrogateescape") for each in found]


def _quiet(snapshot: Snapshot) -> Iterator[Seen]:
    """Those in which all that has happened has been carried on."""
    store, keys = snapshot.queue.store, snapshot.keys
    for flow in _ids(snapshot):
        key = keys.flow(flow)
        if store.call("TYPE", key) != b"hash" or store.call("TYPE", keys.joins(flow)) != b"none":
            continue
        fields: dict[str, str] = {}
        cursor = b""
        while cursor != b"0":
            cursor, page = store.call("HSCAN", key, cursor or b"0", "MATCH", "[^tr]*", "COUNT", 1000)
            fields |= texts(page)
        total = store.call("HGET", key, "total") or b"0"
        marks = (store.call("GET", keys.marks(flow)) or b"").decode("latin-1")
        sets = {
            int(name[1:]): NodeSet.of(text.encode()) for name, text in fields.items() if name[0] == "s" and name[1:].isdigit()
        }
        if fields.get("state") in _KNOWN[1:]:
            yield Seen(flow, fields | {"total": total.decode()}, marks, sets)


def _listed(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for flow in _ids(snapshot):
        if not call("EXISTS", keys.flow(flow)) and call("ZSCORE", keys.flow_ids, flow) is not None:
            yield f"{keys.flow_ids} {flow}", "a workflow of which nothing is left"
    for key in snapshot.suffixed:
        if not keys.owns_flow(key) or key != keys.flow(key[-FLOW:]) or call("TYPE", key) != b"hash":
            continue
        if call("ZSCORE", keys.flow_ids, key[-FLOW:]) is None and call("EXISTS", key):
            yield key, f"a workflow that does not stand in {keys.flow_ids}, so nobody forgets it"


def _parts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for key in snapshot.suffixed:
        if keys.owns_flow(key):
            kind, wanted = call("TYPE", key).decode(), keys.kinds([key])[key]
            if kind not in (wanted, "none"):
                yield key, f"a {kind}, and not a {wanted}"
            elif kind != "none" and not call("EXISTS", keys.flow(key[-FLOW:])):
                yield key, "a part of a workflow that is gone"


def _outbox(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    call, keys = snapshot.queue.store.call, snapshot.keys
    for key in snapshot.suffixed:
        if keys.owns_flow(key) and key == keys.joins(key[-FLOW:]) and call("TYPE", key) == b"list":
            state = call("HGET", keys.flow(key[-FLOW:]), "state")
            if state is not None and state != b"building":
                yield key, "what has happened in a workflow, and nobody has carried it on"


def _counts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for seen in _quiet(snapshot):
        marks = "".join(seen.of(found) for found in seen.sets.values() if found.kind != "c")
        counts = {name: marks.count(mark) for name, mark in _TALLIES.items()}
        counts |= {"total": len(marks), "left": sum(map(marks.count, "\0q"))}
        for number, _, before in seen.gates():
            counts |= {f"n{number}": len(before), f"o{number}": before.count("s"), f"b{number}": sum(map(before.count, BAD))}
        wrong = [name for name, count in counts.items() if seen.number(name) != count]
        if wrong:
            says = ", ".join(f"{name} is {seen.number(name)}, not {counts[name]}" for name in sorted(wrong)[:5])
            yield snapshot.keys.flow(seen.flow), f"counts that do not follow from its nodes: {says}"


def _decided(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for seen in _quiet(snapshot):
        key = snapshot.keys.flow(seen.flow)
        for number, gate, before in seen.gates():
            due = verdict(gate, tallied(gate, before.encode("latin-1"), seen.sets, seen.marks.encode("latin-1")))
            if due and not gate.before:
                yield f"{key} g{number}", "a gate that nobody has decided, though what is before it has ended"
        if seen.fields["state"] not in _OPEN:
            continue
        marks = "".join(seen.of(found) for found in seen.sets.values() if found.kind != "c")
        if not set(marks) & {"q", "\0"}:
            yield f"{key} g0", "a workflow that goes on, though all its nodes have ended"
        elif "q" not in marks:
            yield f"{key} g0", "a workflow that goes on, though none of its nodes is released"


def _unheard(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    store = snapshot.queue.store
    for seen in _quiet(snapshot):
        names = queues_in(store.call("HGET", snapshot.keys.flow(seen.flow), "queues"))
        for number, found in seen.sets.items():
            place = home_of(names[found.queue - 1]) if 0 < found.queue <= len(names) else None
            if found.kind != "t" or place is None or not store.reaches(place.queue):
                continue
            released = [index for index, mark in enumerate(seen.of(found), found.first) if mark == "q"]
            for index in released[:_NODES]:
                key = place.task(node_id(seen.flow, index))
                state = store.call("HGET", key, "state") if store.call("TYPE", key) == b"hash" else None
                if state is not None and state.decode() in MARK_OF_STATE:
                    yield f"{key} {number}", f"a node that is {state.decode()}, and its workflow has not heard it"


def _timers(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    cursor = b""
    while cursor != b"0":
        cursor, found = snapshot.queue.store.call("ZSCAN", snapshot.keys.flow_due, cursor or b"0", "COUNT", PAGE)
        for name in found[::2]:
            flow, _, what = name.decode(errors="surrogateescape").partition(" ")
            if not snapshot.keys.owns_flow(snapshot.keys.flow(flow)) or not (what == "B" or what.isdigit()):
                yield f"{snapshot.keys.flow_due} {flow[:40]!r}", "nothing whose time could be over"


def _list_again(queue: Queue, subjects: list[str]) -> None:
    keys, call = queue.keys, queue.store.call
    for subject in subjects:
        flow = subject[-FLOW:]
        ended = call("HGET", keys.flow(flow), "ended")
        if call("EXISTS", keys.flow(flow)):
            call("ZADD", keys.flow_ids, "NX", int(ended) if ended else _NEVER, flow)
        else:
            remove(queue.store, flow)


def _remove_parts(queue: Queue, subjects: list[str]) -> None:
    for flow, keys in _by_flow(subjects).items():
        remove(queue.store, flow, lists=keys)


def _by_flow(keys: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(key[-FLOW:], []).append(key)
    return found


def _carry(queue: Queue, subjects: list[str]) -> None:
    for key in subjects:
        Carrier(queue.store).carry(key[-FLOW:])


def _say(store: Store, flow: str, entry: str | bytes) -> None:
    keys = store.keys
    store.run("flow_tell", (keys.flow(flow), keys.joins(flow), keys.flow_outbox, keys.flow_due), flow, entry, "", "", "")
    Carrier(store).carry(flow)


def _judge(queue: Queue, subjects: list[str]) -> None:
    for subject in subjects:
        key, _, gate = subject.rpartition(" g")
        _say(queue.store, key[-FLOW:], f"j{gate}")


def _say_again(queue: Queue, subjects: list[str]) -> None:
    for subject in subjects:
        key, _, number = subject.rpartition(" ")
        state, result = queue.store.call("HMGET", key, "state", "result")
        mark = MARK_OF_STATE.get((state or b"").decode())
        if mark is not None:
            identity = key[-16:]
            _say(queue.store, identity[:FLOW], f"e{number} {index_of(identity)} {mark} ".encode() + (result or b""))


def lives(queue: Queue, key: str) -> bool:
    """Whether this is the state of a workflow that goes on, or the unique key of one that is known: these have no TTL."""
    if queue.keys.owns_unique(key):
        owner = queue.store.call("GET", key) or b""
        return bool(queue.store.call("EXISTS", queue.keys.flow(owner[:FLOW].decode(errors="replace"))))
    flow = key[-16 : -16 + FLOW]
    return key == queue.keys.task(run_id(flow)) and queue.store.call("HGET", queue.keys.flow(flow), "ended") is None


A, S = When.ALWAYS, When.SOON
FLOW_INVARIANTS = (
    Invariant(
        "flow-ids",
        A,
        "Each member of `Q_flow_ids` is a workflow with a hash `Q_flow_<id>` (`fsck` looks at the newest hundred); each such "
        "hash stands there.",
        ("flow_ids",),
        _listed,
        "`ZADD`, or `flow_remove` where there is no hash",
        _list_again,
    ),
    Invariant(
        "flow-parts",
        S,
        "Each key `Q_flow_marks_*`, `Q_flow_joins_*` and `Q_flow_bodies_*` is of a workflow with a hash; each has the type of "
        "section 1.",
        ("flow_outbox", "flow_ids", "flow_due"),
        _parts,
        "`flow_remove`, where there is no hash",
        _remove_parts,
    ),
    Invariant(
        "flow-outbox",
        S,
        "What stands in a list `Q_flow_joins_*` is carried on by the next sweep.",
        ("flow_outbox",),
        _outbox,
        "`flow_join`, until nothing is left",
        _carry,
    ),
    Invariant(
        "flow-counts",
        A,
        "While that list is empty: the counts of a workflow and of its gates follow from the marks of its nodes.",
        ("flow_ids",),
        _counts,
    ),
    Invariant(
        "flow-gates",
        A,
        "Likewise: a gate is decided if what is before it says how; a workflow that goes on has a node that is released.",
        ("flow_ids",),
        _decided,
        "`flow_tell` of `j<gate>`, and `flow_join`",
        _judge,
    ),
    Invariant(
        "flow-heard",
        S,
        "Likewise: no node whose state says that it has ended is still marked as released.",
        ("flow_ids",),
        _unheard,
        "`flow_tell` of how it has ended, and `flow_join`",
        _say_again,
    ),
    Invariant("flow-due", A, "A member of `Q_flow_due` is `<id> <set>` or `<id> B`.", ("flow_due",), _timers),
)
