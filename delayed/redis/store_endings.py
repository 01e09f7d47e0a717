"""The scripts by which tasks begin and end: a part of `store.Store`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..base.clock import now
from ..base.ids import digest, token
from ..errors import Reason
from ..task.decode import headers_of
from ..task.headers import HOLDS_NOTHING, Holds, holds_in
from ..task.result import MARKS, OUTCOME
from .command import bulk, bulk_of, pack
from .keys import Keys, home_of
from .places import STATE_KEPT, place
from .scripts import SCRIPTS, Argument
from .store_base import BaseStore
from .together import Part

_NOBODY = bulk("-")  # whose a key is, to `finish_held`, if it is no unique one
_OF_A_SLOT = _NOBODY + bulk("") + bulk("0")  # what `finish_held` is told of a task without a state, behind its lease
_FATES = {"while_running": "take", "while_queued": "free"}  # what becomes of the unique key of a task that begins


class Deferral(NamedTuple):
    """What `defer` did."""

    answer: int  # 1: the task waits; 2: its time is over, and nothing has happened; 0: the caller was superseded
    pause: float = 0.0  # seconds until it is tried again
    age: float = 0.0  # seconds since it was deferred first


class Endings(BaseStore):
    """What workers do with the tasks that they have."""

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

    def succeed(self, lease: str, holds: Holds = HOLDS_NOTHING) -> bool:
        """End a lease: its task is done, and what it `holds` is free. False if the caller was superseded."""
        own = self.keys.own(holds) if holds.slots is not None else ()
        return bool(self._run("succeed", (*self.keys.home, self.keys.lost, *own), lease))

    def succeed_many(self, leases: Sequence[str]) -> list[bool]:
        """As `succeed`, of tasks that hold nothing; also the keys of the leases are gone."""
        ended = self._run("succeed_many", (self.keys.processing, self.keys.lost, *leases))
        return [each == 1 for each in ended]

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

    def retry(self, lease: str, data: bytes) -> bool:
        """End a lease: its task waits again, as `data`. False if the caller was superseded."""
        keys = (self.keys.queue, self.keys.noti, self.keys.processing, self.keys.lost)
        return bool(self._run("retry", keys, lease, data))

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

    def progress(self, identity: str, packed: bytes) -> bool:
        """Store how far a tracked task says that it is. False if its state is not known any more."""
        return bool(self._run("progress", (self.keys.task(identity),), packed))

    def outcomes(self, ids: Sequence[str]) -> list[Any]:
        """How tracked tasks have ended, in one round trip: of each what `answer_in` reads, or the error that Redis said."""
        return self.states(ids, OUTCOME)

    def states(self, ids: Sequence[str], fields: Sequence[str]) -> list[Any]:
        """These fields of the states of tracked tasks, in one round trip, or the errors that Redis said."""
        commands = [("HMGET", self.keys.task(identity), *fields) for identity in ids]
        return self._pooled.batch(*commands) if commands else []


@lru_cache(maxsize=1024)
def _freeing(queue: str, slots: str) -> bytes:
    """What the commands begin with that end the leases of tasks which hold a slot of this concurrency key, and nothing more;
    the lease follows, and `_OF_A_SLOT`."""
    own = home_of(queue) or Keys(queue)
    key = own.slots(slots)
    command = SCRIPTS["finish_held"].command((*own.home, own.processing, key, own.waits(key)), (0, "", "-", b"", 0))
    return pack(*command)[: -len(bulk("") + _OF_A_SLOT)]
