"""One short method for each Lua script that changes what exists: all changes of a queue's state go through one of them."""

import copy
import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgpack

from ..base.clock import milliseconds, now
from ..base.ids import digest, token
from ..base.later import Later
from ..base.place import place as here
from ..errors import Reason
from ..events import BUS, Event, Kind
from ..task.decode import headers_of
from ..task.headers import HOLDS_NOTHING, Holds, Member, holds_in, member_in, milliseconds_in
from ..task.options import ENDED_FOR, TRACKED_FOR
from ..task.result import CANCELLED, MARKS, OUTCOME
from .command import Caller, Command, bulk, bulk_of, is_cluster, pack, redis_errors, run_script, same_slot
from .durability import Durability
from .keys import Keys, home_of, interests_of, register_of
from .pool import Pooled
from .scripts import SCRIPTS, Argument
from .statistics import DAY, TIERS
from .together import Part

if TYPE_CHECKING:
    from . import foreign
    from .command import Client, RedisError
else:
    foreign = Later("delayed.redis.foreign")

READY = 16  # waiting tasks up to which the tasks of groups go to the queue itself at once, whoever works on it
_UNBEGUN = ("queued", "scheduled", "retrying")  # states in which a cancelled task has ended
_REPAIR_STEP = 4000  # notifications that one call of repair adds or removes at most
_SWEPT = 100  # leases in one call of sweep,
_BUDGET = 1 << 20  # and bytes of what they hold, as in lua/sweep.lua
_SLICE = 1 << 20  # bytes of tasks that are read at once, about
_PAGE = 100  # keys that tasks wait for, in one call of wake
STATE_KEPT = round(TRACKED_FOR * 1000)  # milliseconds
MOST_SERVED = 10_000  # queues of the register that are read
SERVED_FOR = 90 * 86400  # seconds for which a queue is known that nobody serves any more
_END_KEPT = round(ENDED_FOR * 1000)  # milliseconds
Grouped = Mapping[str | None, Sequence[bytes]]  # tasks by their group, with None for those of the queue itself
_NOBODY = bulk("-")  # whose a key is, to `finish_held`, if it is no unique one
_OF_A_SLOT = _NOBODY + bulk("") + bulk("0")  # what `finish_held` is told of a task without a state, behind its lease
_FATES = {"while_running": "take", "while_queued": "free"}  # what becomes of the unique key of a task that begins


class TakeResult(NamedTuple):
    """What `Store.take` got: task i is held under lease i."""

    tasks: list[bytes]
    suspect: bool  # the only task has been lost before


class SweepResult(NamedTuple):
    """What `Store.sweep` did."""

    recovered: int  # tasks put back
    buried: int  # tasks lost too often
    more: bool  # there was too much for one call


class LimitedTakeResult(NamedTuple):
    """What `take_limited` got."""

    tasks: list[bytes]
    suspect: bool
    pause: float | None  # seconds after which to ask again, if a limit was in the way; None if the queue is paused


class Deferral(NamedTuple):
    """What `defer` did."""

    answer: int  # 1: the task waits; 2: its time is over, and nothing has happened; 0: the caller was superseded
    pause: float = 0.0  # seconds until it is tried again
    age: float = 0.0  # seconds since it was deferred first


class Due(NamedTuple):
    """What `due` found."""

    first: int | None  # the first queue that has waiting tasks
    moved: int  # tasks that were due
    pause: float | None  # seconds until the next task is due; 0 if more are due now, None if nothing is scheduled


class Store:
    """The scripts of one queue, and the way to Redis.

    Args:
        keys: the queue's keys.
        pooled: sends its commands.
        conn: the client, to ask what is wrong.
        durability: what an enqueue waits for.
    """

    def __init__(self, keys: Keys, pooled: Pooled, conn: "Client", durability: Durability) -> None:
        self.keys = keys
        self.conn = conn
        self._cluster = is_cluster(conn)
        self._durability = durability
        self._pooled = pooled
        self._caller: Caller = pooled

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.keys.queue

    def over(self, caller: Caller) -> Self:
        """The same queue with its commands sent through `caller`, for example a worker's own connection."""
        other = copy.copy(self)
        other._caller = caller
        return other

    def _run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        try:
            return run_script(self._caller, SCRIPTS[script], keys, arguments)
        except redis_errors.ResponseError as error:
            raise foreign.explained(error, self.conn, self.keys, keys) from error

    def call(self, *command: Argument) -> Any:
        """Send a Redis command as this queue sends its own. The reply is as in RESP2, with bytes for strings."""
        try:
            return self._caller.call(*command)
        except redis_errors.ResponseError as error:
            named = [each for each in command if isinstance(each, str)]
            raise foreign.explained(error, self.conn, self.keys, named) from error

    def batch(self, *commands: Command) -> list[Any]:
        """Send Redis commands at once, over one connection, and return their replies as `call` does."""
        replies = self._pooled.batch(*commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception) and isinstance(reply, redis_errors.ResponseError):
                named = [each for each in command if isinstance(each, str)]
                raise foreign.explained(reply, self.conn, self.keys, named) from reply
        return replies

    def exchange(self, *commands: Command) -> list[Any]:
        """As `batch`; an error that Redis replies with stands among the replies."""
        return self._pooled.batch(*commands)

    def read(self, *commands: Command) -> list[Any]:
        """As `exchange`, of commands that only read keys of one server, all in one instant and as one command. (Whoever may
        not read some of the keys may run no script on any of them: then they are sent one by one.)"""
        keys, words = list[str](), list[Argument]()
        for name, *rest in commands:
            first = {"TIME": 0, "MGET": len(rest), "EXISTS": len(rest)}.get(str(name), 1)
            keys += map(str, rest[:first])
            words += [name, first, len(rest) - first, *rest[first:]]
        try:
            replies: list[Any] = run_script(self._caller, SCRIPTS["read"], tuple(keys), tuple(words))
        except redis_errors.ResponseError:
            return self.exchange(*commands)
        return replies

    def slices(
        self, kinds: Mapping[str, str], most: int, start: int = 0, size: int = _SLICE
    ) -> tuple[bool, list[list[bytes]]]:
        """Tasks that wait, of several keys one after the other, until there are enough.

        Args:
            kinds: key → `list` or `zset`.
            most: how many tasks.
            start: how many of the first key are passed by.
            size: how many bytes, about.

        Returns:
            Whether there may be more, and the tasks of each key, of sorted sets with their scores in turn: up to the last key
            that was read.
        """
        more, *pages = self._run("slices", tuple(kinds), most, size, start, *kinds.values())
        return bool(more), pages

    def explained(self, error: "RedisError", touched: Sequence[str] = ()) -> "RedisError":
        """`error`, or, if a key of this queue or one of `touched` has a foreign type, a `ForeignType` that names it and says
        what to do."""
        return foreign.explained(error, self.conn, self.keys, touched)

    # Producers

    def enqueue(self, tasks: Sequence[bytes]) -> None:
        """Put tasks at the end of the queue, all or none of them."""
        self._add("enqueue", (self.keys.queue, self.keys.noti), tasks)

    def submit_many(self, tasks: Grouped, ids: Sequence[str]) -> list[str]:
        """Put tasks at the ends of the queue and of groups, all or none of them.

        Args:
            tasks: by their group.
            ids: of those that are tracked: all of them, or none.

        Returns:
            The digests of groups that had no tasks: it may be their turn now.

        Raises:
            redis.exceptions.ResponseError: a task with one of these ids is known.
        """
        return many_submitted(self._add(*many(self.keys, tasks, ids)), self.name)

    def adding(self, tasks: Grouped, ids: Sequence[str]) -> Generator[None, None, list[str]]:
        """As `submit_many`, in two steps: the tasks are sent in the first, what comes of that is known after the second."""
        return many_submitted((yield from self._adding(*many(self.keys, tasks, ids))), self.name)

    def _adding(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Generator[None, None, Any]:
        if self._durability.waits or self._caller is not self._pooled or not self._pooled.ample:
            reply = self._add(script, keys, arguments)
            yield
            return reply
        command = SCRIPTS[script].command(keys, tuple(arguments))
        try:
            try:
                return (yield from self._pooled.steps(*command))
            except redis_errors.NoScriptError:
                return self._pooled.call(*SCRIPTS[script].with_source(command))
        except redis_errors.ResponseError as error:
            raise foreign.explained(error, self.conn, self.keys, keys) from error

    @property
    def interests(self) -> str:
        """The key of the interests of this queue and of others."""
        return interests_of(self.name, self._cluster)

    def interest(self, record: bytes, most: int) -> int:
        """Note in what this queue has an interest; forget it if `record` is empty. Returns 1; 0 if it had none; -1 if `most`
        queues have one."""
        return int(self._run("interest", (self.interests,), self.name, record, token(), most))

    def publish(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes] | None:
        """Put copies into the queues with an interest (see `publishing`). Returns None, or the fields of the interests and
        their values in turn, if others are there than the caller knows: nothing has happened."""
        reply = self._add("publish", keys, arguments, unchanged=list)
        return reply if isinstance(reply, list) else None

    def number(self, tasks: Sequence[bytes]) -> int:
        """Put tasks at the end of the queue, each with the next number of the queue as its last eight bytes, which are not
        among those given. Returns the number of the last one."""
        return int(self._add("number", (self.keys.queue, self.keys.noti, self.keys.numbers), tasks))

    def deliver(self, tokens: Mapping[int, str], connection: str, address: str, keep: int, most: int) -> int:
        """Note who got the tasks with these numbers, and by which tokens of leases. `most` of those who had them before are
        remembered, all for so many milliseconds. Returns how many tasks they are."""
        keys = tuple(map(self.keys.number, tokens))
        return int(self._run("deliver", keys, keep, most, connection, address, *tokens.values()))

    def submit(self, keys: tuple[str, ...], arguments: Sequence[Argument]) -> list[bytes]:
        """Enqueue one task that asks for more than a place at the tail (see `Producer`). Returns its state and an id."""
        reply: list[bytes] = self._add("submit", keys, arguments)
        return reply

    def reserve(self, key: str, rate: float, earliest: int = 0) -> int:
        """Take the next free instant of a rate key, which are 1/`rate` seconds apart. Returns it in milliseconds since 1970.

        Args:
            key: the rate key.
            rate: instants a second.
            earliest: the earliest that will do, in milliseconds since 1970; 0 for now.
        """
        return int(self._run("reserve", (self.keys.pace(key),), round(1e6 / rate), earliest))

    def at(self, keys: Keys) -> Self:
        """Another queue, its commands sent the same way."""
        other = copy.copy(self)
        other.keys = keys
        return other

    def pooled_at(self, keys: Keys) -> Self:
        """Another queue, its commands sent over the client's own connections: it may be on another node of a cluster."""
        other = self.at(keys)
        other._caller = other._pooled = Pooled(self.conn, keys.queue)
        return other

    def run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        """Run a script, for the parts that know its keys."""
        return self._run(script, keys, *arguments)

    def add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        """As `run`, of one that adds tasks: it returns when they are durable."""
        return self._add(script, keys, arguments)

    def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument], unchanged: type | None = None) -> Any:
        """Run a script that adds tasks, and see that they are durable: unless its reply is of the type `unchanged`."""
        durability = self._durability
        if not durability.waits:
            return self._run(script, keys, *arguments)
        with durability.trying():
            proof = durability.proof or durability.learn(self._pooled.batch(*durability.questions))
            replies = self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof)
            return durability.judge(proof, replies, unchanged)

    # Operators

    def job_step(self, identity: str, token: str, record: bytes, seconds: float) -> int:
        """Write how far an operator's job is, and keep its lease for so many `seconds`; 0: the job has ended. Returns 1; 2 if
        an operator wants it to stop; 0 if the caller has lost the lease, or the job has ended: nothing has happened."""
        keys = (self.keys.bulk_jobs, self.keys.job_lease(identity))
        return int(self._run("job_step", keys, identity, token, record, milliseconds(seconds) if seconds else 0))

    # Workers

    def take(
        self, leases: Sequence[str], holder: str, seconds: float, *, living: int = 0, claims: int = 0, waiting: bool = False
    ) -> TakeResult:
        """Take up to one task for each lease, together with its notification.

        Args:
            leases: names that no other worker uses and that hold nothing now.
            holder: who takes, for humans: the value of a lease's key.
            seconds: how long the leases' keys, where they are made now, live.
            living: how many of the leases, from the first, have a living key already.
            claims: how many notifications the caller has popped already.
            waiting: take whatever waits. Else take no more tasks than there are notifications, as each of the others is on
                its way to the worker that has popped its notification.
        """
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost, *leases)
        limit = "waiting" if waiting else "notified"
        suspect, *tasks = self._run("take", keys, claims, limit, living, holder, milliseconds(seconds))
        return TakeResult(tasks, bool(suspect))

    def take_limited(
        self, leases: Sequence[str], holder: str, seconds: float, *, living: int = 0, claims: int = 0, waiting: bool = False
    ) -> LimitedTakeResult:
        """As `take`, within the queue's limits. A claim that a limit stands in the way of goes back."""
        own = self.keys
        keys = (own.queue, own.noti, own.processing, own.lost, own.control, own.bucket, *leases)
        limit = "waiting" if waiting else "notified"
        suspect, pause, *tasks = self._run("take_limited", keys, claims, limit, living, holder, milliseconds(seconds))
        return LimitedTakeResult(tasks, bool(suspect), None if pause < 0 else pause / 1000)

    def beat(self, holder: str, seconds: float, about: bytes) -> list[Any]:
        """Say that the process `holder` lives for so many `seconds`, and what it says `about` itself. Returns 1 if groups have
        waiting tasks, plus 2 if tasks are noted that could not run somewhere (see `ran`), and then the fields of the control
        hash and their values in turn."""
        keys = (self.keys.lease(holder), self.keys.workers, self.keys.control, self.keys.groups, self.keys.deferred)
        reply: list[Any] = self._run("beat", keys, holder, milliseconds(seconds), about)
        return reply

    def count(self, moment: float, chance: float, deltas: Sequence[tuple[str, bytes]]) -> bool:
        """Add what a worker has counted to the queue's statistics.

        Args:
            moment: now, in seconds since 1970.
            chance: drawn evenly from above 0 to 1, for functions that compete for a place.
            deltas: a function's path and its counts (see `statistics.packed`); the first is '', with the sum of all.
        """
        keys = (self.keys.stats_total, *(self.keys.stats_of(tier.name, tier.key(moment)) for tier in TIERS))
        words = [word for delta in deltas for word in delta]
        return bool(self._run("count", keys, *(tier.row(moment) for tier in TIERS), int(moment // DAY), chance, *words))

    def serve(self) -> None:
        """Say that this queue has a worker or a sweeper. Queues that have had none for long are forgotten."""
        register, seconds = register_of(self.name, is_cluster(self.conn)), round(now())
        self.call("ZADD", register, seconds, self.name)
        self.call("ZREMRANGEBYSCORE", register, "-inf", seconds - SERVED_FOR)

    def served(self, most: int = MOST_SERVED) -> dict[str, float]:
        """The queues that have workers or sweepers, or had some in the last 90 days: their names → when these last said so, in
        seconds since 1970, the latest first. On a cluster those with this queue's hash tag."""
        found = self.call("ZREVRANGE", register_of(self.name, is_cluster(self.conn)), 0, most - 1, "WITHSCORES")
        return {name.decode(errors="surrogateescape"): moment for name, moment in scored(found)}

    def forget(self) -> None:
        """The opposite of `serve`."""
        self.call("ZREM", register_of(self.name, is_cluster(self.conn)), self.name)

    def ran(self, digests: Sequence[str]) -> None:
        """Tasks with these SHA-1 have run here. What is noted of others with the same bytes, because they could not run
        somewhere, is forgotten: it must not make the time shorter for which the next one waits."""
        if digests:
            self.call("HDEL", self.keys.deferred, *digests)

    def turn(self, digests: Sequence[str], most: int) -> int:
        """Fill the queue up to `most` tasks from the lists of these groups, which are the first in the rotation. Returns how
        many were moved."""
        own = self.keys
        keys = (own.queue, own.noti, own.groups, *map(own.group, digests))
        return int(self._run("turn", keys, most, *digests))

    def grouped(self, most: int, start: int = 0) -> list[str]:
        """The digests of at most so many groups that have waiting tasks, in the order of their turns."""
        found = self.call("LRANGE", self.keys.groups, start, start + most - 1)
        return [each.decode(errors="surrogateescape") for each in found]

    def feed(self, most: int) -> bool:
        """Fill the queue up to `most` tasks from its groups, in turns. False if no group has any."""
        digests = self.grouped(most)
        if digests:
            self.turn(digests, most)
        return bool(digests)

    def succeed(self, lease: str, holds: Holds = HOLDS_NOTHING) -> bool:
        """End a lease: its task is done, and what it `holds` is free. False if the caller was superseded."""
        own = self.keys.own(holds) if holds.slots is not None else ()
        return bool(self._run("succeed", (*self.keys.home, self.keys.lost, *own), lease))

    def succeed_many(self, leases: Sequence[str]) -> list[bool]:
        """As `succeed`, of tasks that hold nothing; also the keys of the leases are gone."""
        ended = self._run("succeed_many", (self.keys.processing, self.keys.lost, *leases))
        return [each == 1 for each in ended]

    def retry(self, lease: str, data: bytes) -> bool:
        """End a lease: its task waits again, as `data`. False if the caller was superseded."""
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost)
        return bool(self._run("retry", keys, lease, data))

    def bury(self, lease: str, reason: Reason, detail: str, worker: str, holds: Holds = HOLDS_NOTHING) -> bool:
        """End a lease: its task becomes a dead letter, and what it `holds` is free. False if the caller was superseded."""
        own = self.keys.own(holds) if holds.slots is not None else ()
        keys = (*self.keys.home, self.keys.lost, self.keys.dead, *own)
        return bool(self._run("bury", keys, lease, reason, detail.encode(errors="replace"), worker))

    def give_back(self, leases: Sequence[str], tasks: Mapping[str, bytes] | None = None, begun: int = 0) -> int:
        """End leases: their tasks go back to the head of the queue, untouched.

        Args:
            leases: which, in the order in which their tasks shall wait.
            tasks: lease → the task that it holds, as far as that is known: what it holds is free.
            begun: of how many, from the first, the task had begun. The others get back the tokens that they took.

        Returns:
            How many tasks went back.
        """
        keys: list[str] = [*self.keys.home, self.keys.bucket]
        words: list[Argument] = [begun]
        for lease in leases:
            data = tasks.get(lease) if tasks else None
            identity, own = self._held(HOLDS_NOTHING if data is None else holds_in(headers_of(data)).while_running)
            keys += own
            words += (lease, identity)
        return int(self._run("give_back", tuple(keys), *words))

    def _held(self, holds: Holds) -> tuple[str, tuple[str, ...]]:
        """What scripts that end several leases are told of a task: its id, or what stands for that, and its five keys."""
        if holds.id is None and holds.slots is None:
            return "", ()
        return holds.id or "-", self.keys.own(holds)

    def due(self, queues: Sequence[Keys], most: int = 100) -> Due:
        """Move tasks that are due to their queues, and look which of the `queues` has waiting tasks. They are on this
        queue's server (and, on a cluster, in its slot)."""
        keys = tuple(key for each in queues for key in (each.queue, each.noti, each.scheduled))
        position, moved, pause, stayed = self._run("due", keys, most, "leave")
        if stayed:
            back = self._to_groups(queues[stayed - 1], most)
            position, others, pause, _ = self._run("due", keys, most, "leave")
            moved += back + others
        return Due(position - 1 if position else None, moved, None if pause < 0 else pause / 1000)

    def _to_groups(self, keys: Keys, most: int) -> int:
        """Let tasks of groups that are due wait in their groups, and some in the queue. Returns how many there were."""
        queue = self.at(keys)
        _, digests = queue.regroup([], most)
        moved, _ = queue.regroup(digests, most)
        queue.feed(READY)
        return moved

    def regroup(self, digests: Sequence[str], most: int) -> tuple[int, list[str]]:
        """Of the first `most` tasks in the schedule, move those that are due and belong to one of these groups to its list.
        Returns how many there were, and which other groups have tasks that are due."""
        own = self.keys
        keys = (own.queue, own.noti, own.scheduled, own.groups, *map(own.group, digests))
        moved, *others = self._run("regroup", keys, most, *digests)
        return moved, [each.decode(errors="surrogateescape") for each in others]

    def start(
        self, lease: str, holds: Holds, *, bound: int = 0, worker: str = "", attempt: int = 1, group: str | None = None
    ) -> int:
        """Say that a task begins which is tracked or has a concurrency key. If it may not now, it waits, and the lease holds
        nothing any more.

        Args:
            lease: the lease under which it is held.
            holds: what it may hold.
            bound: milliseconds that its unique key stays taken, if it takes that now.
            worker: who begins.
            attempt: which this is, counted from 1.
            group: whose task it is.

        Returns:
            1; 0 if the caller was superseded; 2 if the task has been cancelled; 3 if it waits for its unique key, which is
            another's; 4 if it waits until fewer tasks with its concurrency key run.
        """
        keys = (*self.keys.home, self.keys.bucket, *self.keys.own(holds))
        mark = (holds.id or token()) + ("" if group is None else f":{digest(group)}")
        times = (max(bound, 1), worker, int(now() * 1000), STATE_KEPT, attempt)
        identity, fate = holds.id or "-", _FATES.get(holds.mode, "leave")
        return int(self._run("start", keys, lease, identity, fate, *times, holds.limit, mark))

    def start_many(self, tasks: Sequence[tuple[str, Holds, int]], worker: str) -> list[int]:
        """As `start`, of tasks that may begin together: see `Holds.begins_with_others`.

        Args:
            tasks: the lease, what it may hold, and the attempt of each.
            worker: who begins.

        Returns:
            What `start` says of each, but for -1: it is for `start` to say.
        """
        own, words = self.keys, list[Argument]()
        keys = [own.processing]
        for lease, holds, attempt in tasks:
            keys.append(own.processing if holds.id is None else own.task(holds.id))
            keys += () if holds.slots is None else (own.slots(holds.slots),)
            words += (lease, attempt, holds.limit or ("" if holds.unique is None else "unique"))
        reply: list[int] = self._run("start_many", tuple(keys), worker, int(now() * 1000), STATE_KEPT, *words)
        return reply

    def finish(self, lease: str, holds: Holds, result: bytes, keep: int, *, value: bytes = b"") -> bytes:
        """The command that ends a lease whose task holds something, has no lost count, and has succeeded: see `conclude`."""
        if holds.member is None and holds.has_one_key:
            return self.finish_held(lease, holds, result, keep)
        own, identity = self.keys, "-"  # which matters only to the owner of a key
        told, entry = self.told(holds.member, "e", b"s " + value)
        keys: tuple[str, ...] = (own.processing, own.task(holds.id or ""), *told)
        if not holds.has_only_a_state:
            keys, identity = (*own.home, *told, *own.own(holds)), holds.id or "-"
        words = (lease, result, keep, int(now() * 1000), identity, *([entry] if told else ()))
        return pack(*SCRIPTS["finish"].command(keys, words))

    def finish_held(self, lease: str, holds: Holds, result: bytes = b"", keep: int = 0) -> bytes:
        """As `finish`, of a task that holds one key, and is of no workflow. What becomes of one that is not tracked is not
        kept."""
        if holds.slots is not None and holds.id is None:
            return b"".join((_freeing(self.name, holds.slots), bulk(lease), _OF_A_SLOT))
        own = self.keys
        key = own.unique(holds.unique) if holds.unique is not None else own.slots(holds.slots or "")
        keys = (*own.home, own.task(holds.id or ""), key, own.waits(key))
        owner = holds.id or "" if holds.unique is not None else "-"
        return pack(*SCRIPTS["finish_held"].command(keys, (int(now() * 1000), lease, owner, result, keep)))

    def part(self, lease: bytes, holds: Holds, result: bytes, keep: int) -> Part | None:
        """What ends a lease by one command with others; else as `finish`. None if that cannot be, as of a node of a workflow,
        and where it must not be later: a task that runs next may enqueue another with the unique key.

        Args:
            lease: in the bytes of the Redis protocol.
        """
        if holds.member is not None or holds.unique is not None or (holds.id or holds.slots) is None:
            return None
        own, moment, told = self.keys, int(now() * 1000), b"".join((bulk_of(result), bulk(str(keep))))
        if holds.slots is None:
            return Part("finish_many", moment, bulk(own.task(holds.id or "")), lease + told)
        key, state = own.slots(holds.slots), own.processing if holds.id is None else own.task(holds.id)
        keys = b"".join(map(bulk, (state, key, own.waits(key))))
        return Part("finish_held", moment, keys, b"".join((lease, _NOBODY, told)))

    def told(self, member: Member | None, kind: str, rest: bytes = b"") -> tuple[tuple[str, ...], bytes]:
        """See `told`."""
        if member is None:
            return (), b""
        return told(self.keys, member, kind, rest, far=self._cluster and not self.reaches(member.home))

    def reaches(self, queue: str) -> bool:
        """Whether scripts for this queue may touch the keys of another: on a cluster only those of its slot."""
        return not self._cluster or same_slot(self.name, queue)

    def conclude(
        self,
        lease: str,
        holds: Holds,
        *,
        state: str,
        result: bytes,
        keep: int,
        reason: Reason | None = None,
        detail: str = "",
        worker: str = "",
        error: str = "",
        value: bytes | None = None,
    ) -> bool:
        """End a lease whose task is tracked: store how it ended, with the `error` of one that failed, free what it `holds`,
        and make it a dead letter if there is a `reason`. Its workflow, if it is a node of one, is told the `value`, or the
        result. False if the caller was superseded."""
        own = self.keys
        told, entry = self.told(holds.member, "e", f"{MARKS[state]} ".encode() + (result if value is None else value))
        keys = (*own.home, own.lost, own.dead, *told, *own.own(holds))
        texts = (detail.encode(errors="replace"), worker, error.encode(errors="replace"), entry)
        return bool(self._run("conclude", keys, lease, holds.id or "-", state, result, keep, reason or "", *texts))

    def postpone(self, lease: str, data: bytes, holds: Holds, delay: int, error: str, *, group: str | None = None) -> bool:
        """End a lease: its task waits again, as `data`, after `delay` milliseconds, or in its `group`, because of an `error`.
        What it `holds` while it runs is free. False if the caller was superseded."""
        own = self.keys
        *tail, word = place(own, group)
        keys = (*own.home, own.lost, own.scheduled, own.wake, *tail, *own.own(holds.while_running))
        words = error.encode(errors="replace")
        kept = 0 if holds.id is None else STATE_KEPT
        return bool(self._run("postpone", keys, lease, data, holds.id or token(), delay, kept, words, word))

    def defer(self, lease: str, holds: Holds, *, limit: float, cause: str, group: str | None = None) -> Deferral:
        """End a lease whose task cannot run here and now, and may elsewhere or later: it waits, unchanged, longer each time.

        Args:
            lease: the lease.
            holds: what it may hold.
            limit: seconds after which, counted from the first time, it does not wait any more.
            cause: why it waits, for its state.
            group: whose task it is.
        """
        own = self.keys
        places = (own.scheduled, own.wake, own.deferred, own.bucket)
        word = "1" if group is None else digest(group)
        kept = 0 if holds.id is None else STATE_KEPT
        keys = (*own.home, *places, *own.own(holds.while_running))
        words = (lease, holds.id or token(), kept, round(limit * 1000), word)
        reply = self._run("defer", keys, *words, cause.encode(errors="replace"))
        return Deferral(reply[0], *(each / 1000 for each in reply[1:]))

    def outcomes(self, ids: Sequence[str]) -> list[Any]:
        """How tracked tasks have ended, in one round trip: of each what `answer_in` reads, or the error that Redis said."""
        return self.states(ids, OUTCOME)

    def states(self, ids: Sequence[str], fields: Sequence[str]) -> list[Any]:
        """These fields of the states of tracked tasks, in one round trip, or the errors that Redis said."""
        commands = [("HMGET", self.keys.task(identity), *fields) for identity in ids]
        return self._pooled.batch(*commands) if commands else []

    def progress(self, identity: str, packed: bytes) -> bool:
        """Store how far a tracked task says that it is. False if its state is not known any more."""
        return bool(self._run("progress", (self.keys.task(identity),), packed))

    # Sweepers

    def page(self, key: str, cursor: int = 0, count: int = 100) -> tuple[int, list[str]]:
        """Some leases named in the hash `key` (`keys.processing` or `keys.workers`), and the cursor of the next page or 0."""
        cursor_after, *names = self._run("page", (key,), cursor, count)
        return int(cursor_after), [name.decode(errors="surrogateescape") for name in names]

    def pages(self, key: str, count: int = 100) -> Iterator[list[str]]:
        """The names of all fields of the hash `key`, in pages of about so many; a name may come twice."""
        cursor = -1
        while cursor:
            cursor, names = self.page(key, max(cursor, 0), count)
            yield names

    def alive(self, leases: Sequence[str]) -> int:
        """How many of the leases live."""
        return int(self.call("EXISTS", *leases)) if leases else 0

    def gone(self, leases: Sequence[str]) -> dict[str, int]:
        """Those of the leases that are dead, and how many bytes they hold."""
        sizes = self._run("gone", (self.keys.processing, *leases)) if leases else ()
        return {lease: size for lease, size in zip(leases, sizes, strict=True) if size >= 0}

    def sweep(self, leases: Sequence[str], limit: int, sweep_id: str, sweeper: str, cause: str = "") -> SweepResult:
        """End those of the leases that have died, as many as one call may: their tasks go back to the head of the queue, or,
        at the `limit`th loss, to the dead letters, with the `cause` if it is known."""
        own = self.keys
        dead = {lease: size for lease, size in self.gone(leases).items() if size}
        chosen = list(_within(dead))
        keys: list[str] = [*own.home, own.lost, own.dead, own.stats, own.bucket, own.history, own.control]
        about: list[Argument] = []
        held = self.call("HMGET", own.processing, *chosen) if chosen else ()
        for lease, data in zip(chosen, held, strict=True):
            headers = {} if data is None else headers_of(data)
            identity, keys_of_task = self._held(holds := holds_in(headers))
            told, entry = self.told(holds.member, "e", b"f ")
            keys += (lease, *keys_of_task, *told)
            running = "running" if holds.mode == "while_running" else ""
            about += (identity, milliseconds_in(headers, "result_ttl") or _END_KEPT, running, entry)
        words = f"; this time: {cause}" if cause else ""
        recovered, buried, more = self._run("sweep", tuple(keys), limit, sweep_id, sweeper, words, *about)
        return SweepResult(recovered, buried, bool(more) or len(chosen) < len(dead))

    def wake(self, sought: Mapping[str, bytes]) -> int:
        """Let tasks go on that wait for a key which is free. Returns how many.

        Args:
            sought: what is known of sets of tasks that wait: how their names end → what they wait for.
        """
        found = [each for each in (self.keys.sought(*field) for field in sought.items()) if each is not None]
        keys = (key for line, key_of_task, _ in found for key in (line, key_of_task))
        return int(self._run("wake", (*self.keys.home, *keys), *(limit for *_, limit in found))) if found else 0

    def wake_all(self) -> int:
        """`wake`, for all tasks that wait for a key."""
        return sum(self.wake(some) for some in self.sought())

    def sought(self) -> Iterator[dict[str, bytes]]:
        """What tasks wait for, in pages: see `wake`."""
        cursor = b""
        while cursor != b"0":
            cursor, found = self.call("HSCAN", self.keys.waited, cursor or b"0", "COUNT", _PAGE)
            names = (name.decode(errors="surrogateescape") for name in found[::2])
            page = dict(zip(names, found[1::2], strict=True))
            for first in range(0, len(page), _PAGE):  # a small hash comes in one page, whatever was asked for
                yield dict(list(page.items())[first : first + _PAGE])

    def repair(self) -> tuple[int, int, int]:
        """Bring the notifications nearer to one for each waiting task. Returns how many were added, removed, and are left
        for another call."""
        added, removed, left = self._run("repair", (self.keys.queue, self.keys.noti), _REPAIR_STEP)
        return added, removed, left

    def lengths(self) -> tuple[int, int]:
        """How many tasks wait, and how many notifications there are, in one instant."""
        waiting, notifications = self._run("lengths", (self.keys.queue, self.keys.noti))
        return waiting, notifications

    def bound(self, leases: Sequence[str], seconds: float = 0) -> list[str]:
        """Those of the leases whose key has no TTL. They get one of so many `seconds`, if that is not 0."""
        found = self._run("bound", tuple(leases), milliseconds(seconds) if seconds else 0) if leases else ()
        return [leases[position - 1] for position in found]

    def prune(self, leases: Sequence[str]) -> int:
        """Strike workers whose own lease has died off the register. Returns how many."""
        return int(self._run("prune", (self.keys.workers, *leases)))

    def cron(
        self,
        name: str,
        seen: bytes | None,
        due: bytes | int | None,
        definition: bytes,
        following: int | bytes | None,
        *,
        task: bytes = b"",
        count: int = 0,
    ) -> bool:
        """Change a schedule, if it still is as the caller saw it, and enqueue its task.

        Args:
            name: the schedule's name.
            seen: its definition, as the caller saw it; None: there was none.
            due: the score of its next occurrence, likewise, as Redis gave it; None: it had none.
            definition: its definition from now on; empty: it is removed.
            following: its next occurrence from now on, in milliseconds since 1970; None: it is paused.
            task: what to enqueue,
            count: and how often.

        Returns:
            Whether that was done. If not, it is not as the caller saw it, and nothing has happened.
        """
        own = self.keys
        digest = "" if seen is None else hashlib.sha1(seen, usedforsecurity=False).hexdigest()
        times = ["" if moment is None else moment for moment in (due, following)]
        keys = (own.queue, own.noti, own.cron, own.cron_due, own.wake)
        return bool(self._run("cron", keys, name, digest, times[0], definition, times[1], task, count))

    # Operators

    def dead_retry(self, ids: Sequence[str]) -> int:
        """Move dead letters, as they came, to the end of the queue. Returns how many were there."""
        own = self.keys
        return int(self._run("dead_retry", (own.queue, own.noti, own.dead, own.deferred), *ids))

    def revive(
        self, letter: str, data: bytes, identity: str | None, *, unique: str, tracked: int, bound: int, enqueued: int = 0
    ) -> int:
        """Move one dead letter to the end of the queue, as `data`; a tracked task waits again, and its workflow goes on.

        Args:
            letter: its id.
            data: the task as it shall wait.
            identity: the task's id, if it is tracked.
            unique: its unique key, or anything.
            tracked: milliseconds that its state is kept.
            bound: milliseconds that it has its unique key again, or 0.
            enqueued: when it was, in milliseconds since 1970, or 0.

        Returns:
            1; 0 if the letter is not there any more; 2 if another task has the key.
        """
        own, name = self.keys, identity or token()
        told, entry = self.told(member_in(headers_of(data)), "o")
        keys = (own.queue, own.noti, own.dead, own.deferred, own.task(name), own.unique(unique), *told)
        return int(self._run("revive", keys, letter, data, identity or "", tracked, bound, enqueued, entry))

    def tell_lost(self, letter: str, holds: Holds, *, result: bytes, keep: int) -> bool:
        """Store that a tracked task has failed which a sweep of an older version has made this `letter`. False if there was
        nobody to tell."""
        keys = (*self.keys.home, self.keys.dead, *self.keys.own(holds))
        return bool(self._run("tell_lost", keys, letter, holds.id or "-", result, keep))

    def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None:
        """Cancel a tracked task; `how` is what a running one is told. Returns the state in which it was, or None if no such
        task is known."""
        unique, where, data = self.call("HMGET", self.keys.task(identity), "unique", "place", "data")
        told, entry = self.told(member_waiting(data), "e", b"c")
        words = (identity, result, keep, how, STATE_KEPT, entry, here())
        state = self._run("cancel", cancellation(self.keys, identity, unique, where, told), *words).decode()
        tell_cancelled(self.keys.queue, identity, state)
        return state or None

    def remove(self, place: str, members: Sequence[bytes]) -> int:
        """Remove tasks that wait in one `place`, as they stand there. A tracked one is cancelled, and what it holds is free.
        Returns how many were there."""
        own = self.keys
        keys, tasks = [*own.home, own.groups, place, own.history, own.control], list[Argument]()
        ids = list[str]()
        for member in members:
            data = member if place == own.queue or own.owns_group(place) else scheduled(member)[1]
            holds = holds_in(headers_of(data))._replace(slots=None)  # it takes its slot when it begins
            told, entry = self.told(holds.member, "e", b"c")
            keys += (*own.own(holds), *told) if holds.id is not None else ()
            ids.append(holds.id or "")
            tasks += (holds.id or "", entry, member)
        states = self._run("remove", tuple(keys), CANCELLED, _END_KEPT, here(), *tasks) if members else ()
        for identity, state in zip(ids, states, strict=True):
            tell_cancelled(own.queue, identity, state.decode())
        return sum(state != b"" for state in states)

    def rename(self, new: Keys, groups: Sequence[str], stats: Sequence[str] = ()) -> int:
        """Give the queue's keys, the lists of these `groups` and these keys with `stats` new names, all or none. Returns 1; 0
        if tasks are held; 2 if one of the new names is taken; 3 if there are other groups."""
        own = self.keys
        pairs = [*zip(own.all().values(), new.all().values(), strict=True)]
        pairs += [(own.group(each), new.group(each)) for each in groups]
        pairs += [(each, new.queue + each.removeprefix(own.queue)) for each in stats]
        return int(self._run("rename", (own.processing, own.groups, *(key for pair in pairs for key in pair)), len(groups)))

    def move(self, member: bytes, due: int, unique: str, keep: int) -> bool:
        """Let a task in the schedule wait for another time.

        Args:
            member: how it stands there.
            due: when, in milliseconds since 1970.
            unique: its unique key, or anything.
            keep: milliseconds that its state is kept after that, if it is tracked.

        Returns:
            Whether it was there.
        """
        own, name = self.keys, scheduled(member)[0][:16].decode(errors="surrogateescape")
        keys = (own.scheduled, own.wake, own.task(name), own.unique(unique))
        return bool(self._run("move", keys, member, due, keep))


@lru_cache(maxsize=1024)
def _freeing(queue: str, slots: str) -> bytes:
    """What the commands begin with that end the leases of tasks which hold a slot of this concurrency key, and nothing more;
    the lease follows, and `_OF_A_SLOT`."""
    own = home_of(queue) or Keys(queue)
    key = own.slots(slots)
    command = SCRIPTS["finish_held"].command((*own.home, own.processing, key, own.waits(key)), (0, "", "-", b"", 0))
    return pack(*command)[: -len(bulk("") + _OF_A_SLOT)]


def _within(dead: Mapping[str, int]) -> Iterator[str]:
    """The first of the leases, as many as one call of sweep may carry, and one at least."""
    bytes_left = _BUDGET
    for lease, size in list(dead.items())[:_SWEPT]:
        if bytes_left < 0:
            return
        bytes_left -= size
        yield lease


def scheduled(member: bytes) -> tuple[bytes, bytes]:
    """A member of the schedule: what says whose it is, and the task."""
    start = 57 if member[16:17] == b":" else 16  # of a group: a byte with which no task begins, and its digest
    return member[:start], member[start:]


def scored(reply: Any) -> Iterator[tuple[bytes, float]]:
    """Members of a sorted set and their scores, as RESP2 or RESP3 has them."""
    nested = reply and isinstance(reply[0], list | tuple)
    for member, score in reply if nested else zip(reply[::2], reply[1::2], strict=True):
        yield member, float(score)


def place(keys: Keys, group: str | None) -> tuple[str, str, str]:
    """Where a task waits: the list, the list that announces it, and the word that does."""
    if group is None:
        return keys.queue, keys.noti, "1"
    return keys.group(digest(group)), keys.groups, digest(group)


def many(
    keys: Keys, tasks: Grouped, ids: Sequence[str], request: str | None = None, kept: int = STATE_KEPT
) -> tuple[str, tuple[str, ...], list[Argument]]:
    """The script that puts many tasks in, its keys and its arguments.

    Args:
        keys: of the queue.
        tasks: by their group.
        ids: of those that are tracked.
        request: the key that remembers it, if there is one.
        kept: milliseconds for which states are, and the request.
    """
    if request is None and not ids and None in tasks and len(tasks) == 1:
        return "enqueue", (keys.queue, keys.noti), list(tasks[None])
    places = [place(keys, group) for group in tasks]
    state = keys.task("")
    names = [keys.noti, keys.groups, *[each[0] for each in places], *[state + identity for identity in ids]]
    if request is not None:
        names.append(request)
    words: list[Argument] = [kept, len(places)]
    for (_, _, word), some in zip(places, tasks.values(), strict=True):
        words += word, len(some)
    for some in tasks.values():
        words += some
    return "submit_many", tuple(names), words


def many_submitted(reply: Any, queue: str) -> list[str]:
    """What the script has said that puts many tasks in."""
    if reply == 0:
        raise redis_errors.ResponseError(
            f"a task with one of these ids is known in {queue!r} already; none of them was enqueued"
        )
    return [each.decode() for each in reply] if type(reply) is list else []


def tell_cancelled(queue: str, identity: str, state: str) -> None:
    """Those who listen hear that a task has been cancelled which was in this state, unless it is for others to say."""
    if state in _UNBEGUN:
        BUS.emit(Event(Kind.CANCELLED, queue, now(), id=identity))


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
