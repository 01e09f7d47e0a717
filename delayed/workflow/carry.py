"""Carries on what has happened in workflows: joins, and what is too much for one call of a script, page by page.

Whatever stands in the outbox of a queue may be carried on by anybody, at any time, and again: the worker that has ended a node
does so at once, and what it has not done because it was killed, a sweeper does.
"""

import re
from collections.abc import Callable
from typing import Any

import msgpack

from ..base.clock import monotonic, now
from ..base.ids import digest, node_id
from ..errors import Unrunnable
from ..queue.node import joined, queues_in
from ..redis.command import RedisError, is_outage, pack
from ..redis.keys import Keys, home_of
from ..redis.places import READY, STATE_KEPT, place
from ..redis.scripts import SCRIPTS, Argument
from ..redis.store import Store
from ..task.codec import dumps
from ..task.decode import headers_of, is_python_path
from ..task.edit import array_of, elements
from ..task.headers import text_in, unique_in
from ..task.options import ENDED_FOR
from ..task.result import CANCELLED, failure
from .layout import NodeSet

_STEPS = 500  # entries that one call of the join deals with
_PAGE = 1000  # nodes in one step
_ID = re.compile(rb"[\w-]{10}")  # of a workflow
_EMPTY = (b"", b"\xc0", b"\x90")  # payloads of Go tasks without arguments
_FLOWS = 100  # workflows that one look into the outbox finds


class Carrier:
    """Carries on workflows whose home is one queue.

    Args:
        store: of that queue, through whichever connection.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._keys = store, store.keys
        self._queues: dict[str, list[str]] = {}  # of workflows

    def carry_all(self, seconds: float = float("inf")) -> int:
        """Carry on all that stands in the outbox, for so long at most. Returns how many workflows that was. What is wrong with
        one keeps no other from going on, and is raised at last."""
        until, count, each_alone = monotonic() + seconds, 0, Apart()
        while monotonic() < until and (waiting := self._store.call("LRANGE", self._keys.flow_outbox, 0, _FLOWS - 1)):
            before = count
            for each in dict.fromkeys(waiting):
                with each_alone:
                    count += self._carry_entry(each, until)
            if count == before:
                break
        each_alone.tell()
        return count

    def _carry_entry(self, each: bytes, until: float) -> int:
        if each[:1] == b"@":
            return self._deliver(each)
        if _ID.fullmatch(each):
            return self.carry(each.decode(), until)
        return int(self._store.call("LREM", self._keys.flow_outbox, 0, each))  # nobody's

    def carry(self, flow: str, until: float = float("inf")) -> bool:
        """Carry on one workflow, until this monotonic time at most. Returns whether there is nothing left to do."""
        head = self._join(flow)
        while head and monotonic() < until:
            if head != b"more":
                self._step(flow, head)
            head = self._join(flow)
        return not head

    def _join(self, flow: str) -> bytes:
        reply: list[bytes] = self._store.run("flow_join", self._joined(flow), flow, _STEPS)
        return reply[0]

    def join(self, flow: str) -> bytes:
        """The command that carries on what needs no steps of ours, whoever sends it. What it leaves is for `carry`."""
        return pack(*SCRIPTS["flow_join"].command(self._joined(flow), (flow, _STEPS)))

    def _joined(self, flow: str) -> tuple[str, ...]:
        return joined(self._keys, flow, self.queues(flow), self._store.reaches)

    def knows(self, flow: str) -> bool:
        """Whether the workflow's queues are known, so that `join` asks nobody."""
        return flow in self._queues

    def queues(self, flow: str) -> list[str]:
        """The names of a workflow's queues, in its order."""
        return self._queues.get(flow) or self._learn(flow)

    def _learn(self, flow: str) -> list[str]:
        return self._note(flow, self._store.call("HGET", self._keys.flow(flow), "queues"))

    def _note(self, flow: str, packed: bytes | None) -> list[str]:
        if len(self._queues) > 10 * _FLOWS:
            self._queues.clear()
        names = self._queues[flow] = queues_in(packed)
        return names

    def question(self, flow: str) -> tuple[bytes, Callable[[Any], None]]:
        """The command that asks for a workflow's queues, whoever sends it, and what to tell the reply."""

        def learn(reply: Any) -> None:
            if isinstance(reply, bytes):  # else the workflow is gone, or Redis has refused it
                self._note(flow, reply)

        return pack("HGET", self._keys.flow(flow), "queues"), learn

    def _deliver(self, entry: bytes) -> bool:
        """Say in the home of a workflow, on another node of the cluster, what has happened here."""
        try:
            unpacker = msgpack.Unpacker(None, unicode_errors="surrogateescape", max_buffer_size=len(entry))
            unpacker.feed(entry[1:])
            home, flow, said = unpacker.unpack()
            said += entry[1 + unpacker.tell() :]  # what a script has added: how a task failed that was lost
            keys = home_of(home)
        except Exception:  # msgpack raises a dozen types
            keys = None
        if keys is not None:
            there = self._elsewhere(keys)
            names = (keys.flow(flow), keys.joins(flow), keys.flow_outbox, keys.flow_due)
            there.run("flow_tell", names, flow, said, "", "", "")
            Carrier(there).carry(flow, monotonic() + 1)
        self._store.call("LREM", self._keys.flow_outbox, 1, entry)
        return True

    def _elsewhere(self, keys: Keys) -> Store:
        """A queue that may be on another node."""
        if self._store.reaches(keys.queue):
            return self._store.at(keys)
        return self._store.pooled_at(keys)

    # What stands at the head, and is for us

    def _step(self, flow: str, head: bytes) -> None:
        """Do a part of it. A step that somebody else has done does nothing."""
        kind, words = head[:1].decode(), head[1:].decode().split(" ")
        steps: dict[str, Callable[[str, bytes, list[int]], None]] = {"R": self._release, "M": self._map, "C": self._cancel}
        steps[kind](flow, head, [int(word) for word in words])

    def _advance(
        self,
        flow: str,
        head: bytes,
        rest: str | bytes,
        fields: list[Argument] | None = None,
        *,
        bodies: str = "",
        queue: str = "",
        listed: tuple[int, int] = (0, 0),
        tasks: list[bytes] | None = None,
        told: list[bytes] | None = None,  # where there is neither list nor queue: what else is to be done
    ) -> bool:
        own, fields = self._keys, fields or []
        hash_key = own.flow(flow)
        target = (queue, f"{queue}_noti") if queue else (hash_key, hash_key)
        keys = (own.joins(flow), own.flow_outbox, hash_key, bodies or hash_key, *target)
        return bool(
            self._store.add("flow_step", keys, (flow, head, rest, *listed, len(fields), *fields, *(tasks or told or ())))
        )

    def _set(self, flow: str, number: int) -> NodeSet | None:
        found = self._store.call("HGET", self._keys.flow(flow), f"s{number}")
        return None if found is None else NodeSet.of(found)

    def _release(self, flow: str, head: bytes, words: list[int]) -> None:
        """Enqueue the tasks of a set, a page at a time."""
        number, start, *most = words
        found = self._set(flow, number)
        until = 0 if found is None else min(found.size, start + most[0]) if most else found.size
        if found is None or start >= until:
            self._advance(flow, head, "")
            return
        names = self._learn(flow)
        queue = names[found.queue - 1]
        count = min(_PAGE, until - start)
        rest = f"R{number} {start + count} {until - start - count}" if start + count < until else ""
        bodies = self._keys.bodies(flow, number)
        near = self._store.reaches(queue) and "p" not in found.flags
        if near and "b" in found.flags:
            self._advance(flow, head, rest, bodies=bodies, queue=queue, listed=(start, count))
            return
        tasks = self.tasks(flow, found, number, start, count)
        if near:
            self._advance(flow, head, rest, queue=queue, tasks=tasks)
            return
        told = [self._submit(queue, data, number, found.first + start + offset) for offset, data in enumerate(tasks)]
        self._advance(flow, head, rest, told=[entry for entry in told if entry])

    def tasks(self, flow: str, found: NodeSet, number: int, start: int, count: int) -> list[bytes]:
        """The tasks of some nodes of a set."""
        if "b" in found.flags:
            listed: list[bytes] = self._store.call("LRANGE", self._keys.bodies(flow, number), start, start + count - 1)
            return listed
        first = found.first + start
        fields = self._store.call("HMGET", self._keys.flow(flow), *(f"t{index}" for index in range(first, first + count)))
        return [data for data in fields if data is not None]

    def _submit(self, queue: str, data: bytes, number: int, index: int) -> bytes:
        """Enqueue a task that asks for more than a place in the queue, or whose queue is on another node; a second time does
        nothing. Returns what the workflow is told if it cannot be."""
        keys = home_of(queue)
        assert keys is not None  # it was one when the workflow was made
        headers = headers_of(data)
        group, (key, mode, bound) = text_in(headers, "group"), unique_in(headers)
        *tail, word = place(keys, group)
        identity = text_in(headers, "id") or ""
        names = (*tail, keys.scheduled, keys.wake, keys.task(identity), keys.unique(key))
        bound = 0 if mode == "while_running" else bound
        store = self._elsewhere(keys)
        reply = store.submit(names, (data, identity, 0, 0, STATE_KEPT, bound, word))
        if reply[0] == b"first":
            store.turn([digest(group or "")], READY)
        if reply[0] != b"duplicate":
            return b""
        words = f"task {reply[1].decode()} has its unique key"
        return f"e{number} {index} f ".encode() + failure("duplicate", words, "")

    def _tell(self, flow: str, entries: list[bytes]) -> None:
        own = self._keys
        keys = (own.flow(flow), own.joins(flow), own.flow_outbox, own.flow_due)
        for entry in entries:
            self._store.run("flow_tell", keys, flow, entry, "", "", "")

    def _cancel(self, flow: str, head: bytes, words: list[int]) -> None:
        """Cancel the nodes of a workflow that is being stopped, a page at a time: see `flow_cancel`."""
        number, start = words
        sets, *records = self._store.call("HMGET", self._keys.flow(flow), "sets", *(f"s{number + at}" for at in range(_PAGE)))
        left = _PAGE
        for record in records:
            found = None if record is None else NodeSet.of(record)  # of what somebody was about to add there may be a gap
            while found is not None and start < found.size and left > 0:
                count = min(left, found.size - start)
                whole = self._cancel_some(flow, number, found, found.first + start, count)
                start, left = found.size if whole else start + count, left - count
            if left <= 0:
                break
            number, start = number + 1, 0
        self._advance(flow, head, f"C{number} {start}" if number < int(sets or 0) else "")

    def _cancel_some(self, flow: str, number: int, found: NodeSet, first: int, count: int) -> bool:
        """Cancel some nodes of a set; True if that was about the whole set."""
        if found.kind == "c":
            return True
        own = self._keys
        marks = self._store.call("GETRANGE", own.marks(flow), first, first + count - 1).decode("latin-1").ljust(count, "\0")
        if marks[0] == "\0":
            self._tell(flow, [f"k{number}".encode()])
            return True
        released = [first + offset for offset, mark in enumerate(marks) if mark == "q"]
        if found.kind != "t":
            self._tell(flow, [f"e{number} {index} c".encode() for index in released])
        elif released:
            queue = home_of(self._learn(flow)[found.queue - 1])
            assert queue is not None
            self._stop_released(flow, queue, found, number, released)
        return False

    def _stop_released(self, flow: str, queue: Keys, found: NodeSet, number: int, indices: list[int]) -> None:
        own = self._keys
        ids = [node_id(flow, index) for index in indices]
        if not self._store.reaches(queue.queue) or "p" in found.flags:  # those may have unique keys, which have to be freed
            store = self._elsewhere(queue)
            for identity in ids:
                store.cancel(identity, CANCELLED, round(ENDED_FOR * 1000), b"1")
            return
        keys = (own.marks(flow), own.joins(flow), own.flow_outbox, *map(queue.task, ids))
        members = [word for index in indices for word in (number, index)]
        self._store.run("flow_cancel", keys, flow, CANCELLED, STATE_KEPT, *members)

    def _map(self, flow: str, head: bytes, words: list[int]) -> None:
        """Make the nodes of a map, a page at a time, now that there is a result to map over."""
        number, start, *known = words
        found = self._set(flow, number)
        if found is None or found.kind != "m":
            self._advance(flow, head, "")
            return
        values = Elements(self._store, flow, number)
        try:
            size = known[1] if known else len(values)
        except (TypeError, ValueError, Unrunnable) as error:
            self._fail_map(flow, head, number, found, str(error))
            return
        if not known:
            first = int(self._store.call("HINCRBY", self._keys.flow(flow), "next", size)) - size
            self._advance(flow, head, f"M{number} 0 {first} {size}")
            return
        first = known[0]
        count = min(_PAGE, size - start)
        (template,) = self._store.call("HMGET", self._keys.flow(flow), f"t{found.first}")
        if count > 0:
            page = values.page(start, count)
            tasks = [_mapped(template, node_id(flow, first + start + at), element) for at, element in enumerate(page)]
            rest = f"M{number} {start + count} {first} {size}"
            self._advance(flow, head, rest, bodies=self._keys.bodies(flow, number), tasks=tasks)
            return
        flags = "b" + found.flags.replace("-", "").replace("b", "")
        fields: list[Argument] = [f"s{number}", found._replace(first=first, size=size, kind="t", flags=flags).packed()]
        fields += (f"r{found.first}", "")  # whoever waits for the node that stood for them knows that it is none any more
        for field in ("left", "total", *(f"n{gate}" for gate in found.outs)):
            fields += (f"+{field}", size - 1)
        self._advance(flow, head, f"i{number}", fields)

    def _fail_map(self, flow: str, head: bytes, number: int, found: NodeSet, why: str) -> None:
        self._advance(flow, head, f"e{number} {found.first} f ".encode() + failure("map", why, ""))


class Apart:
    """Several things that are done one after the other, each though another one failed, unless Redis is away."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception) or (isinstance(error, RedisError) and is_outage(error)):
            return False
        self._failure = self._failure or error
        return True

    def tell(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure


class Elements:
    """What a map is made over: the elements of one result, or the results of a group.

    Args:
        store: of the home of the workflow.
        flow: its id.
        number: of the set of the map.
    """

    def __init__(self, store: Store, flow: str, number: int) -> None:
        self._store, self._key = store, store.keys.flow(flow)
        self._many, self._indices = sources(store, flow, number)

    def __len__(self) -> int:
        return len(self._indices) if self._many else len(self._raw())

    def page(self, start: int, count: int) -> list[bytes]:
        """Some of them, in MessagePack."""
        if not self._many:
            return self._raw()[start : start + count]
        found = self._store.call("HMGET", self._key, *(f"r{index}" for index in self._indices[start : start + count]))
        return [b"\xc0" if each is None else _value_in(each) for each in found]

    def _raw(self) -> list[bytes]:
        found = self._store.call("HGET", self._key, f"r{self._indices[0]}")
        value = _value_in(found) if found is not None else b"\xc0"
        unpacker = msgpack.Unpacker(None, max_buffer_size=len(value))
        unpacker.feed(value)
        try:
            count = unpacker.read_array_header()
        except ValueError:
            raise ValueError("what it maps over is no list") from None
        raw, at = [], unpacker.tell()
        for _ in range(count):
            unpacker.skip()
            raw.append(value[at : unpacker.tell()])
            at = unpacker.tell()
        return raw


def sources(store: Store, flow: str, number: int) -> tuple[bool, list[int]]:
    """Whether a set of nodes finds a list of results, and the indices of the nodes whose results these are, in their order:
    those that it was defined with, and then those that members of these have added."""
    key = store.keys.flow(flow)
    previous = store.call("HGET", key, f"p{number}")
    if previous is None:
        return False, []
    sets = previous[1:].decode().split(",") if len(previous) > 1 else []
    seen = set(sets)
    indices: list[int] = []
    at = 0
    while some := sets[at : at + _PAGE]:  # which grows
        at += len(some)
        records = store.call("HMGET", key, *(f"{kind}{each}" for each in some for kind in "sz"))
        for record, more in zip(records[::2], records[1::2], strict=True):
            if record is not None:
                found = NodeSet.of(record)
                indices += range(found.first, found.first + found.size)
            added = [each for each in dict.fromkeys((more or b"").decode().split()) if each not in seen]
            seen.update(added)
            sets += added
    return previous[:1] == b"l", indices


def _value_in(result: bytes) -> bytes:
    """The value in a result, in MessagePack; nil for one without."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(result))
    unpacker.feed(result)
    if unpacker.read_array_header() != 2:
        return b"\xc0"
    unpacker.skip()
    return result[unpacker.tell() :]


def _mapped(template: bytes, identity: str, element: bytes) -> bytes:
    """The call that a map makes with one element: its first argument."""
    raw, path = elements(template)
    headers = dumps({**headers_of(template), "id": identity, "enqueued": round(now() * 1000)})
    if is_python_path(path):
        raw[1] = _prepended(raw[1], element)
        return array_of([*raw[:4], headers])
    payload: bytes = msgpack.unpackb(raw[1])
    alone = payload in _EMPTY  # a Go function's only argument stands there bare
    return array_of([raw[0], dumps(element if alone else _prepended(payload, element)), headers])


def _prepended(array: bytes, element: bytes) -> bytes:
    """A MessagePack array with one element more, at its head; what is no array is taken for none, or for one argument."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=max(len(array), 1))
    unpacker.feed(array)
    try:
        count = unpacker.read_array_header()
        rest = array[unpacker.tell() :]
    except ValueError:
        count, rest = (0, b"") if array == b"\xc0" else (1, array)
    head: bytes = msgpack.Packer().pack_array_header(count + 1)
    return head + element + rest
