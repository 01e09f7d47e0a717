"""Every interleaving of the ends, failures, cancels, revivals, additions and repeats of a diamond of four nodes, with the
scripts that carry the workflow on between any two of them or not. Each moment that can be reached is gone on from once, by
each event that may follow, and Redis becomes what the model says, down to each mark, entry and count."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from delayed.base.ids import node_id
from delayed.dead_letters.letter import letter_of
from delayed.dead_letters.retry import retry
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.command import pack
from delayed.redis.scripts import Argument
from delayed.task.decode import headers_of
from delayed.task.headers import Holds, holds_in
from delayed.task.result import CANCELLED, State, failure, success
from delayed.task.task import PyTask
from delayed.worker.starts import Packing
from delayed.workflow import Flow, Run
from delayed.workflow.adding import Membership, Superseded
from delayed.workflow.carry import Carrier

from .diamond import OPEN, Diamond, one_of, reachable

_KEEP = 86_400_000  # milliseconds; more than all of it takes
_NEVER = b"9007199254740991"
_CALLBACKS = {"c": 5, "f": 6, "s": 4}  # by their letters their indices
_ADDED = 7  # the index of the node that is added
_NODES = (0, 1, 2, 3, _ADDED)  # their indices
_COUNTS = {
    "total": ".qsfck",
    "left": ".q",
    "failed": "f",
    "cancelled": "c",
    "skipped": "k",
    "failures": "fc",
}  # of which marks
Letters = list[Any]  # the dead letters

# Scripts on all keys that may change: they remember how these are, under a name; bring that back; forget it; and look at them.
_KEEP_ALL = "for i = 1, #KEYS do redis.call('COPY', KEYS[i], ARGV[1] .. i) end"
_RESTORE = "redis.call('DEL', unpack(KEYS)) for i = 1, #KEYS do redis.call('COPY', ARGV[1] .. i, KEYS[i]) end"
_FORGET = "for i = 1, #KEYS do redis.call('DEL', ARGV[1] .. i) end"
_LOOK = """
local found, all, states = {}, redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do -- tasks and times are left out, and a count that is not there is 0
    if not string.find(all[i], '^t%d') and all[i] ~= 'created' and all[i + 1] ~= '0' then
        found[#found + 1], found[#found + 2] = all[i], all[i] == 'ended' or all[i + 1]
    end
end
for i = 9, #KEYS do states[#states + 1] = redis.call('HGET', KEYS[i], 'state') end
return {found, redis.call('GET', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1), redis.call('LRANGE', KEYS[4], 0, -1),
    redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES'), redis.call('HKEYS', KEYS[6]), redis.call('XRANGE', KEYS[7], '-', '+'),
    redis.call('HGET', KEYS[8], 'state'), redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[8]), states}
"""


class Wire:
    """A connection over which many commands go at once.

    Args:
        queue: whose.
    """

    def __init__(self, queue: Queue) -> None:
        self._channel = Channel(queue.conn, queue.name)
        self._channel.open()
        self._packed: list[bytes] = []
        self._wanted: list[bool] = []  # of these commands
        self._replies: list[Any] = []  # that were wanted
        self.patient = False  # what is called is sent later, and taken for done

    def later(self, *packed: bytes, wanted: bool = False) -> None:
        """Send these with the next commands."""
        self._packed += packed
        self._wanted += [wanted] * len(packed)

    def call(self, *command: Argument) -> Any:
        if self.patient:
            self.later(pack(*command))
            return 1
        self.later(pack(*command))
        return self._exchange()[-1]

    def replies(self) -> list[Any]:
        """Those that were wanted, in their order."""
        self._exchange()
        found, self._replies = self._replies, []
        return found

    def _exchange(self) -> list[Any]:
        replies = self._channel.exchange(b"".join(self._packed), len(self._packed))
        self._replies += [reply for reply, wanted in zip(replies, self._wanted, strict=True) if wanted]
        self._packed, self._wanted = [], []
        return replies

    def close(self) -> None:
        self._channel.close()


class World:
    """A diamond on Redis.

    Args:
        queue: where.
    """

    def __init__(self, queue: Queue) -> None:
        self.wire, self.keys = Wire(queue), queue.keys
        self.queue = Queue(queue.name, queue.conn)
        self.queue.store = self._store = queue.store.over(self.wire)
        self.run = self._submitted()
        self._flow, self._carrier = self.run.flow, Carrier(self._store)
        self._carrier.queues(self._flow)
        self._numbers = {found.first: number for number, found, _ in self.run.sets()}  # of sets, by their nodes' indices
        self._numbers[_ADDED] = len(self._numbers)
        self._ids = [node_id(self._flow, index).encode() for index in range(_ADDED + 1)]
        self._leases = [self.keys.lease("hands", index) for index in range(_ADDED + 1)]
        self._holds: dict[int, Holds] = {}  # by the indices of nodes
        self._begins: dict[int, list[bytes]] = {}
        for index, data in enumerate(
            self._store.call("HMGET", self.keys.flow(self._flow), *(f"t{each}" for each in range(4)))
        ):
            self._know(index, data)
        self._shas = {source: self._store.call("SCRIPT", "LOAD", source) for source in (_KEEP_ALL, _RESTORE, _FORGET, _LOOK)}
        self._names = self._all_keys()

    def _submitted(self) -> Run:
        callbacks: Any = {f"then_{event}": [PyTask("tasks:noop")] for event in ("success", "complete", "failure")}
        flow = Flow(self.queue, **callbacks)
        a, b, c, d = (PyTask("tasks:noop", (name,)) for name in "abcd")
        first = flow.add(a)
        flow.add(d, after=[flow.add(b, after=first), flow.add(c, after=first)])
        return flow.submit()

    def _all_keys(self) -> list[str]:
        """Those that may change."""
        keys, flow = self.keys, self._flow
        names = [
            keys.flow(flow),
            keys.marks(flow),
            keys.joins(flow),
            keys.flow_outbox,
            keys.flow_ids,
            keys.processing,
            keys.dead,
        ]
        return [*names, *(keys.task(node_id(flow, index)) for index in (-1, *_NODES))]

    def on_all(self, script: str, moment: int = 0, *, wanted: bool = False) -> None:
        """Run one of the scripts on all keys; `moment` is what the name stands for."""
        names = (*self._names, f"{self.queue.name}:{moment}:")
        self.wire.later(pack("EVALSHA", self._shas[script], len(self._names), *names), wanted=wanted)

    # Events

    def do(self, what: str, letters: Letters) -> None:
        """Let this happen."""
        event, _, node = what.partition(" ")
        index = _NODES[int(node or 0)]
        self.wire.patient = event not in ("add", "step")
        if event == "end":
            finish = self._store.finish(self._leases[index], self._holds[index], success(None, kept=False), _KEEP)
            self.wire.later(finish)
        elif event == "fail":
            self._conclude(index, State.FAILED, failure("ValueError", "no", ""), reason="failed", detail="no")
        elif event == "stop":
            self._conclude(index, State.CANCELLED, CANCELLED)
        elif event == "cancel":
            self._tell("X")
        elif event == "revive":
            assert retry(self.queue, letter_of(*letters[0]))
        elif event == "join":
            self.wire.later(self._carrier.join(self._flow))
        elif event == "step":
            self._carrier._step(self._flow, self._store.call("LINDEX", self.keys.joins(self._flow), 0))
        else:
            self._add(index)

    def _conclude(self, index: int, state: State, result: bytes, **named: Any) -> None:
        lease, holds = self._leases[index], self._holds[index]
        assert self._store.conclude(lease, holds, state=state, result=result, keep=_KEEP, worker="w", **named)

    def repeat(self, ends: tuple[str, ...]) -> None:
        """Let the workflow hear again how nodes have ended."""
        self.wire.patient = True
        for entry in ends:
            index = _NODES[int(entry[1])]
            self._tell(f"e{self._numbers[index]} {index} {entry[2]}")

    def _tell(self, entry: str) -> None:
        keys = (self.keys.flow(self._flow), self.keys.joins(self._flow), self.keys.flow_outbox, self.keys.flow_due)
        assert self._store.run("flow_tell", keys, self._flow, entry, "", "", "")

    def _add(self, index: int) -> None:
        member = self._holds[index].member
        assert member is not None
        try:
            assert Membership(self.queue, self.queue.name, member, self._leases[index]).add(PyTask("tasks:noop"))
        except Superseded:
            return
        self._know(_ADDED, self._store.call("HGET", self.keys.flow(self._flow), f"t{_ADDED}"))

    def _know(self, index: int, data: bytes) -> None:
        """A node's task: what it holds, and what a worker sends that takes it and begins it."""
        self._holds[index] = holds_in(headers_of(data))
        begun = Packing(self._store)
        begun.store.start(self._leases[index], self._holds[index])
        self._begins[index] = [pack("HSET", self.keys.processing, self._leases[index], data), begun.packed]

    # What is there

    def look(self, now: Diamond, then: Diamond) -> None:
        """Take and begin what should have been released, and ask for all that Redis has of the workflow; see `check`."""
        self.wire.later(pack("LRANGE", self.keys.queue, 0, -1), wanted=True)
        self.wire.later(pack("DEL", self.keys.queue, self.keys.noti))
        for node in sorted(set(then.runs).difference(now.runs)):
            self.wire.later(*self._begins[_NODES[int(node)]])
        self.on_all(_LOOK, wanted=True)

    def looked(self, count: int) -> list[tuple[list[bytes], list[Any]]]:
        """What there was at so many looks: released tasks, and what the script says."""
        found = self.wire.replies()
        assert len(found) == 2 * count
        return list(zip(found[::2], found[1::2], strict=True))

    def check(self, now: Diamond, then: Diamond, released: list[bytes], found: list[Any]) -> int:
        """That this is what the model says. Returns a hash of what the model does not say, as how many gates are satisfied."""
        pairs, marks, told, outbox, due, leases, letters, state, kept, shown, states = found
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        text = marks.decode().replace("\0", ".")
        seen = {
            "released": sorted(index for data in released for index, each in enumerate(self._ids) if each in data),
            "marks": text[:4] + (text.ljust(_ADDED + 1, ".")[_ADDED] if b"s%d" % _ADDED in fields else "-"),
            "told": tuple(map(self._entry, told)),
            "outbox": self._flow.encode() in outbox or not told,
            "runs": "".join(str(at) for at, index in enumerate(_NODES) if self._leases[index].encode() in leases),
            "states": "".join(str(at) for at, each in enumerate(states) if each == b"running"),
            "dead": "".join(str(at) for _, each in letters for at, index in enumerate(_NODES) if self._ids[index] in each[1]),
            "flow": [fields[b"state"].decode(), state.decode()],
            "ended": [b"ended" in fields, due[1] != _NEVER, kept > 0, shown > 0],
            "called": "".join(each for each, index in _CALLBACKS.items() if text[index] == "q"),
            "counts": {name: int(fields.get(name.encode(), 0)) for name in _COUNTS},
        }
        begun = [_NODES[int(each)] for each in set(then.runs).difference(now.runs)]
        assert seen == {
            "released": sorted(begun + [_CALLBACKS[each] for each in set(then.called).difference(now.called)]),
            "marks": then.marks,
            "told": then.told,
            "outbox": True,
            "runs": then.runs,
            "states": then.runs,
            "dead": then.dead,
            "flow": [then.flow, "running" if then.flow in OPEN else then.flow],
            "ended": [then.flow not in OPEN] * 4,
            "called": then.called,
            "counts": {name: sum(map(then.marks.count, some)) for name, some in _COUNTS.items()},
        }
        return hash(frozenset(fields.items()))

    def _entry(self, entry: bytes) -> str:
        """As the model writes it."""
        kind, *words = entry[:1].decode(), *entry[1:].split(b" ")
        if kind in "XC":
            return kind
        number = int(words[0])
        (index,) = (index for index, each in self._numbers.items() if each == number)
        mark = words[2].decode() if kind == "e" else ""
        assert kind in "ik" or int(words[1]) == index
        return f"{kind}{_NODES.index(index)}{mark}"


class Explorer:
    """Lets everything happen that may, from every moment on that differs from all others.

    Args:
        world: in which.
        left: the events that may happen once.
    """

    def __init__(self, world: World, left: set[str]) -> None:
        self._world, self._begun = world, Diamond.begun(left)
        self._seen = {one_of(self._begun)}
        self._others: dict[Diamond, int] = {}  # what Redis has beside that, as a hash
        self._ahead: list[tuple[Diamond, int, Letters, tuple[str, ...]]] = []

    def run(self) -> tuple[int, int]:
        """Returns how many moments there were, and how many ways led from one to the next."""
        world, ways = self._world, 0
        world.look(self._begun._replace(runs=""), self._begun)
        world.on_all(_KEEP_ALL)
        (found,) = world.looked(1)
        self._note(self._begun._replace(runs=""), self._begun, *found)
        self._ahead.append((self._begun, 0, [], ()))
        while self._ahead:
            ways += self._go_on(*self._ahead.pop())
        return len(self._seen), ways

    def _go_on(self, now: Diamond, moment: int, letters: Letters, words: tuple[str, ...]) -> int:
        """From one moment on. Returns by how many ways."""
        world, ways = self._world, [(what, now.after(what)) for what in now.choices()]
        new = {}
        for what, then in ways:
            world.on_all(_RESTORE, moment)
            if what == "repeat":
                world.repeat(now.ends)
            else:
                world.do(what, letters)
            world.look(now, then)
            if (one := one_of(then)) not in self._seen:
                self._seen.add(one)
                new[what] = len(self._seen)
                world.on_all(_KEEP_ALL, len(self._seen))
        world.on_all(_FORGET, moment)
        for (what, then), (released, found) in zip(ways, world.looked(len(ways)), strict=True):
            try:
                self._note(now, then, released, found)
            except BaseException as error:
                error.add_note(" → ".join((*words, what)))
                raise
            if what in new:
                self._ahead.append((then, new[what], found[6], (*words, what)))
        return len(ways)

    def _note(self, now: Diamond, then: Diamond, released: list[bytes], found: list[Any]) -> None:
        """That Redis has what the model says, and of the rest always the same; and that nothing waits in vain."""
        other = self._world.check(now, then, released, found)
        assert self._others.setdefault(then, other) == other, "it depends on more than the model knows of"
        assert then.told or then.runs or then.flow not in OPEN


@pytest.fixture
def world(queue: Queue) -> Iterator[World]:
    found = World(queue)
    with patch("delayed.workflow.carry._PAGE", 20), patch.object(Carrier, "carry"), patch("delayed.dead_letters.retry.asked"):
        yield found  # when it is carried on is for the test to say
    found.wire.close()
    queue.store.call("DEL", *queue.store.call("KEYS", f"{queue.name}*"))


CASES = ["stop+repeat", "fail+revive", "stop+add", "fail+revive+repeat", "fail+revive+cancel", "add+cancel"]
ALL = pytest.param("fail+revive+repeat+cancel+add", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("events", [*CASES, ALL])
def test_each_interleaving_becomes_what_the_model_says(world: World, events: str) -> None:
    left = set(events.split("+"))
    assert Explorer(world, left).run() == reachable(left)
