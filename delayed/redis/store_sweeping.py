"""The scripts that bring back and repair: a part of `store.Store`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..base.clock import milliseconds
from ..task.decode import headers_of
from ..task.headers import holds_in, milliseconds_in
from .places import END_KEPT
from .scripts import Argument
from .store_base import BaseStore

_REPAIR_STEP = 4000  # notifications that one call of repair adds or removes at most
_SWEPT = 100  # leases in one call of sweep,
_BUDGET = 1 << 20  # and bytes of what they hold, as in lua/sweep.lua
_PAGE = 100  # keys that tasks wait for, in one call of wake


class SweepResult(NamedTuple):
    """What `Store.sweep` did."""

    recovered: int  # tasks put back
    buried: int  # tasks lost too often
    more: bool  # there was too much for one call


class Sweeping(BaseStore):
    """What sweepers do with a queue."""

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
            about += (identity, milliseconds_in(headers, "result_ttl") or END_KEPT, running, entry)
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


def _within(dead: Mapping[str, int]) -> Iterator[str]:
    """The first of the leases, as many as one call of sweep may carry, and one at least."""
    bytes_left = _BUDGET
    for lease, size in list(dead.items())[:_SWEPT]:
        if bytes_left < 0:
            return
        bytes_left -= size
        yield lease
