"""One short method for each Lua script that changes what exists: all changes of a queue's state go through one of them."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from ..base.clock import milliseconds, now
from ..base.ids import digest, token
from ..errors import Reason
from ..events import BUS, Event, Kind
from ..task.decode import headers_of
from ..task.headers import HOLDS_NOTHING, Holds, holds_in, milliseconds_in
from ..task.options import ENDED_FOR, TRACKED_FOR
from ..task.result import CANCELLED, OUTCOME
from .command import Caller, Client, RedisError, ResponseError, is_cluster, pack, run_script
from .durability import Durability
from .foreign import explained
from .keys import Keys, register_of
from .pool import Pooled
from .scripts import SCRIPTS, Argument

READY = 16  # waiting tasks up to which the tasks of groups go to the queue itself at once, whoever works on it
_UNBEGUN = ("queued", "scheduled", "retrying")  # states in which a cancelled task has ended
_REPAIR_STEP = 4000  # notifications that one call of repair adds or removes at most
_SWEPT = 100  # leases in one call of sweep,
_BUDGET = 1 << 20  # and bytes of what they hold, as in lua/sweep.lua
_PAGE = 100  # keys that tasks wait for, in one call of wake
STATE_KEPT = round(TRACKED_FOR * 1000)  # milliseconds
SERVED_FOR = 90 * 86400  # seconds for which a queue is known that nobody serves any more
_END_KEPT = round(ENDED_FOR * 1000)  # milliseconds
_FIRST = 2  # what `submit_many` says of the first tasks of a group
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

    def __init__(self, keys: Keys, pooled: Pooled, conn: Client, durability: Durability) -> None:
        self.keys = keys
        self.conn = conn
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
        except ResponseError as error:
            raise explained(error, self.conn, self.keys, keys) from error

    def call(self, *command: Argument) -> Any:
        """Send a Redis command as this queue sends its own. The reply is as in RESP2, with bytes for strings."""
        try:
            return self._caller.call(*command)
        except ResponseError as error:
            named = [each for each in command if isinstance(each, str)]
            raise explained(error, self.conn, self.keys, named) from error

    def explained(self, error: RedisError) -> RedisError:
        """`error`, or, if a key of this queue has a foreign type, a `ForeignType` that names it and says what to do."""
        return explained(error, self.conn, self.keys)

    # Producers

    def enqueue(self, tasks: Sequence[bytes]) -> bool:
        """Put tasks at the end of the queue, all or none of them. False, as no group's turn has come."""
        self._add("enqueue", (self.keys.queue, self.keys.noti), tasks)
        return False

    def enqueue_group(self, group: str, tasks: Sequence[bytes]) -> bool:
        """Put tasks at the end of their group. Returns whether it had none: its turn may be now."""
        own, name = self.keys, digest(group)
        return bool(self._add("enqueue_group", (own.group(name), own.groups), [name, *tasks]))

    def submit_many(self, group: str | None, ids: Sequence[str], tasks: Sequence[bytes]) -> bool:
        """Put tracked tasks at the end of the queue or of their group, all or none of them. Returns whether the group had
        none: its turn may be now.

        Raises:
            redis.exceptions.ResponseError: a task with one of these ids is known.
        """
        return many_submitted(self._add("submit_many", *many(self.keys, group, ids, tasks)), self.name)

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

    def _add(self, script: str, keys: tuple[str, ...], arguments: Sequence[Argument]) -> Any:
        """Run a script that adds tasks, and see that they are durable."""
        durability = self._durability
        if not durability.waits:
            return self._run(script, keys, *arguments)
        with durability.trying():
            proof = durability.proof or durability.learn(self._pooled.batch(*durability.questions))
            return durability.judge(proof, self._pooled.batch(SCRIPTS[script].evaluate(keys, arguments), proof))

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

    def serve(self) -> None:
        """Say that this queue has a worker or a sweeper. Queues that have had none for long are forgotten."""
        register, seconds = register_of(self.name, is_cluster(self.conn)), round(now())
        self.call("ZADD", register, seconds, self.name)
        self.call("ZREMRANGEBYSCORE", register, "-inf", seconds - SERVED_FOR)

    def served(self) -> dict[str, float]:
        """The queues that have workers or sweepers, or had some in the last 90 days: their names → when these last said so, in
        seconds since 1970. On a cluster those with this queue's hash tag."""
        found = self.call("ZREVRANGE", register_of(self.name, is_cluster(self.conn)), 0, -1, "WITHSCORES")
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
        queue = copy.copy(self)
        queue.keys = keys
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
        times = (max(bound, 1), worker, round(now() * 1000), STATE_KEPT, attempt)
        identity, fate = holds.id or "-", _FATES.get(holds.mode, "leave")
        return int(self._run("start", keys, lease, identity, fate, *times, holds.limit, mark))

    def start_many(self, tasks: Sequence[tuple[str, str, int]], worker: str) -> list[int]:
        """As `start`, of tasks that are tracked and hold nothing else.

        Args:
            tasks: the lease, the id, and the attempt of each.
            worker: who begins.

        Returns:
            What `start` says of each, but for -1: it is for `start` to say.
        """
        keys = (self.keys.processing, *(self.keys.task(identity) for _, identity, _ in tasks))
        words = [word for lease, _, attempt in tasks for word in (lease, attempt)]
        reply: list[int] = self._run("start_many", keys, worker, round(now() * 1000), STATE_KEPT, *words)
        return reply

    def finish(self, lease: str, identity: str, result: bytes, keep: int, worker: str) -> bytes:
        """The command that ends a lease whose task is tracked, holds nothing else and has succeeded: see `conclude`."""
        keys = (self.keys.processing, self.keys.task(identity))
        return pack(*SCRIPTS["finish"].command(keys, (lease, result, keep, worker)))

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
    ) -> bool:
        """End a lease whose task is tracked: store how it ended, with the `error` of one that failed, free what it `holds`,
        and make it a dead letter if there is a `reason`. False if the caller was superseded."""
        own = self.keys
        keys = (*own.home, own.lost, own.dead, *own.own(holds))
        texts = (detail.encode(errors="replace"), worker, error.encode(errors="replace"))
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
        commands = [("HMGET", self.keys.task(identity), *OUTCOME) for identity in ids]
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
        keys: list[str] = [*own.home, own.lost, own.dead, own.stats, own.bucket]
        about: list[Argument] = []
        held = self.call("HMGET", own.processing, *chosen) if chosen else ()
        for lease, data in zip(chosen, held, strict=True):
            headers = {} if data is None else headers_of(data)
            identity, keys_of_task = self._held(holds := holds_in(headers))
            keys += (lease, *keys_of_task)
            running = "running" if holds.mode == "while_running" else ""
            about += (identity, milliseconds_in(headers, "result_ttl") or _END_KEPT, running)
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
        """Move one dead letter to the end of the queue, as `data`; a tracked task waits again.

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
        keys = (own.queue, own.noti, own.dead, own.deferred, own.task(name), own.unique(unique))
        return int(self._run("revive", keys, letter, data, identity or "", tracked, bound, enqueued))

    def tell_lost(self, letter: str, holds: Holds, *, result: bytes, keep: int) -> bool:
        """Store that a tracked task has failed which a sweep of an older version has made this `letter`. False if there was
        nobody to tell."""
        keys = (*self.keys.home, self.keys.dead, *self.keys.own(holds))
        return bool(self._run("tell_lost", keys, letter, holds.id or "-", result, keep))

    def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None:
        """Cancel a tracked task; `how` is what a running one is told. Returns the state in which it was, or None if no such
        task is known."""
        found = self.call("HMGET", self.keys.task(identity), "unique", "place")
        words = (identity, result, keep, how, STATE_KEPT)
        state = self._run("cancel", cancellation(self.keys, identity, *found), *words).decode()
        tell_cancelled(self.keys.queue, identity, state)
        return state or None

    def remove(self, place: str, members: Sequence[bytes]) -> int:
        """Remove tasks that wait in one `place`, as they stand there. A tracked one is cancelled, and what it holds is free.
        Returns how many were there."""
        own = self.keys
        keys, tasks = [*own.home, own.groups, place], list[Argument]()
        ids = list[str]()
        for member in members:
            data = member if place == own.queue or own.owns_group(place) else scheduled(member)[1]
            holds = holds_in(headers_of(data))._replace(slots=None)  # it takes its slot when it begins
            keys += own.own(holds) if holds.id is not None else ()
            ids.append(holds.id or "")
            tasks += (holds.id or "", member)
        states = self._run("remove", tuple(keys), CANCELLED, _END_KEPT, *tasks) if members else ()
        for identity, state in zip(ids, states, strict=True):
            tell_cancelled(own.queue, identity, state.decode())
        return sum(state != b"" for state in states)

    def rename(self, new: Keys, groups: Sequence[str]) -> int:
        """Give the queue's keys, and the lists of these `groups`, new names, all or none. Returns 1; 0 if tasks are held; 2 if
        one of the new names is taken; 3 if there are other groups."""
        own = self.keys
        pairs = [*zip(own.all().values(), new.all().values(), strict=True)]
        pairs += [(own.group(each), new.group(each)) for each in groups]
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


def many(keys: Keys, group: str | None, ids: Sequence[str], tasks: Sequence[bytes]) -> tuple[tuple[str, ...], list[Argument]]:
    """Keys and arguments of the script that puts many tracked tasks in."""
    *tail, word = place(keys, group)
    return (*tail, *map(keys.task, ids)), [word, STATE_KEPT, *tasks]


def many_submitted(reply: int, queue: str) -> bool:
    """What that script has said."""
    if not reply:
        raise ResponseError(f"a task with one of these ids is known in {queue!r} already; none of them was enqueued")
    return reply == _FIRST


def tell_cancelled(queue: str, identity: str, state: str) -> None:
    """Those who listen hear that a task has been cancelled which was in this state, unless it is for others to say."""
    if state in _UNBEGUN:
        BUS.emit(Event(Kind.CANCELLED, queue, now(), id=identity))


def cancellation(keys: Keys, identity: str, unique: bytes | None, place: bytes | None) -> tuple[str, ...]:
    """The keys of the script that cancels a task; `unique` and `place` are what its state says about its unique key, and about
    where it waits."""
    state, *none = keys.own(Holds(identity))
    named = "" if unique is None else unique.decode(errors="surrogateescape")
    where = "" if place is None else place.decode(errors="surrogateescape")
    if keys.owns_unique(named):
        none[:2] = named, keys.waits(named)
    return *keys.home, where if keys.owns_waits(where) else keys.scheduled, state, *none
