"""The scripts that operators call, and schedules: a part of `store.Store`."""

import hashlib
from collections.abc import Sequence

from ..base.clock import milliseconds
from ..base.ids import token
from ..base.place import place as here
from ..task.decode import headers_of
from ..task.headers import Holds, holds_in, member_in
from ..task.result import CANCELLED
from .keys import Keys
from .places import END_KEPT, STATE_KEPT, scheduled
from .scripts import Argument
from .store_base import BaseStore
from .telling import cancellation, member_waiting, tell_cancelled


class Operating(BaseStore):
    """What operators and schedules do with a queue."""

    def cancel(self, identity: str, result: bytes, keep: int, how: bytes) -> str | None:
        """Cancel a tracked task; `how` is what a running one is told. Returns the state in which it was, or None if no such
        task is known."""
        unique, where, data = self.call("HMGET", self.keys.task(identity), "unique", "place", "data")
        told, entry = self.told(member_waiting(data), "e", b"c")
        words = (identity, result, keep, how, STATE_KEPT, entry, here())
        state = self._run("cancel", cancellation(self.keys, identity, unique, where, told), *words).decode()
        tell_cancelled(self.keys.queue, identity, state)
        return state or None

    def erase(self, identity: str) -> str | None:
        """Erase a tracked task that has ended. Returns the state in which it was, or None if no such task is known; nothing
        has happened if it has not ended."""
        state: bytes = self._run("erase", (self.keys.task(identity),))
        return state.decode() or None

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
        states = self._run("remove", tuple(keys), CANCELLED, END_KEPT, here(), *tasks) if members else ()
        for identity, state in zip(ids, states, strict=True):
            tell_cancelled(own.queue, identity, state.decode())
        return sum(state != b"" for state in states)

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

    def rename(self, new: Keys, groups: Sequence[str], stats: Sequence[str] = ()) -> int:
        """Give the queue's keys, the lists of these `groups` and these keys with `stats` new names, all or none. Returns 1; 0
        if tasks are held; 2 if one of the new names is taken; 3 if there are other groups."""
        own = self.keys
        pairs = [*zip(own.all().values(), new.all().values(), strict=True)]
        pairs += [(own.group(each), new.group(each)) for each in groups]
        pairs += [(each, new.queue + each.removeprefix(own.queue)) for each in stats]
        return int(self._run("rename", (own.processing, own.groups, *(key for pair in pairs for key in pair)), len(groups)))

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

    def job_step(self, identity: str, token: str, record: bytes, seconds: float) -> int:
        """Write how far an operator's job is, and keep its lease for so many `seconds`; 0: the job has ended. Returns 1; 2 if
        an operator wants it to stop; 0 if the caller has lost the lease, or the job has ended: nothing has happened."""
        keys = (self.keys.bulk_jobs, self.keys.job_lease(identity))
        return int(self._run("job_step", keys, identity, token, record, milliseconds(seconds) if seconds else 0))
