"""Notes what the tasks of one queue came to, for its history: many in one entry."""

import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..base.clock import monotonic, now
from ..job.job import Job
from ..queue.history import Keeping, event, packed
from ..redis.command import pack
from ..redis.scripts import Argument

# The path, the seconds; and of a task with headers its id, its end, and the headers `enqueued` and `attempt`.
Success = tuple[str, float] | tuple[str, float, str | None, float, object, object]
_NONSENSE = 1 << 53
_LARGEST = 256  # events of one entry
_PLAIN = 2  # elements of a success without headers
_RANDOM = random.random


class Recorder:
    """Notes what tasks of one queue came to. The loop notes, and writes; the heartbeat writes what has waited for a beat.

    Args:
        key: the stream.
        place: who says it.
    """

    def __init__(self, key: str, place: str) -> None:
        self._key, self._place = key, place
        self.pending: deque[Any] = deque()  # a `Success`, or a list: see `event`
        self.superseded: object = None  # the lease of which no end is told
        self.stale = False  # what is pending was so at the last beat
        self.learn(Keeping())

    def learn(self, keeping: Keeping) -> None:
        """What operators want from now on; said by the heartbeat."""
        self._keeping, self.on = keeping, keeping.on
        whole, kept = keeping.share == 1.0, keeping.on and keeping.share > 0
        # It is called for each task: nothing else would be as quick. (It is set once: the loop reads it meanwhile.)
        self.success: Callable[[Success], object] | None = (self.pending.append if whole else self._sampled) if kept else None
        """What to call with each task that has succeeded; None if that is not kept."""

    def _sampled(self, success: Success) -> None:
        if _RANDOM() < self._keeping.share:
            self.pending.append(success)

    def note(self, outcome: str, path: str, job: Job | None = None, *, seconds: float | None = None, said: str = "") -> None:
        """Something else has happened to a task."""
        if job is None:
            self.pending.append(event(now(), outcome, path, seconds=seconds, said=said))
        else:
            waited, attempt = job.waited if job.began else None, job.attempt
            self.pending.append(
                event(now(), outcome, path, job.id, attempt=attempt, waited=waited, seconds=seconds, said=said)
            )

    def take(self) -> bytes:
        """The command that writes what is pending, packed; nothing if there is nothing."""
        entry = self.entry()
        return pack(*entry) if entry else b""

    def entry(self) -> tuple[Argument, ...]:
        """The command that writes what is pending; empty if there is nothing."""
        taken = self._taken()
        if not taken:
            return ()
        plain, events = _sorted(taken)
        oldest = max(0, int((now() - self._keeping.days * 86400) * 1000))
        batch = packed(self._place, plain, events, self._keeping.share)
        return ("XADD", self._key, "MINID", "~", oldest, "*", "batch", batch)

    def _taken(self) -> list[Any]:
        """The first of what is pending, as much as one entry may have."""
        taken: list[Any] = []
        with contextlib.suppress(IndexError):  # the other thread takes some, too
            for _ in range(min(len(self.pending), _LARGEST)):
                taken.append(self.pending.popleft())  # noqa: PERF401  # what was taken before that must not be lost
        return taken


def _sorted(noted: list[Any]) -> tuple[dict[str, list[int]], list[Sequence[Any]]]:
    """Successes without headers, and the events of an entry. Of a success the headers may be another program's, and any
    nonsense."""
    plain, found = dict[str, list[int]](), list[Sequence[Any]]()
    append, here = found.append, monotonic()
    offset = now() - here  # what to add to a monotonic time for seconds since 1970
    for each in noted:
        if type(each) is list:
            append(each)
        elif len(each) == _PLAIN:
            path, seconds = each
            times = plain.get(path)
            if times is None:
                times = plain[path] = []
            times.append(int(seconds * 1e6))
        else:
            path, seconds, identity, ended, enqueued, failed = each
            moment, waited = (offset + (ended or here)) * 1000, -1
            if type(enqueued) is int and 0 < enqueued < _NONSENSE:
                waited = int(moment - seconds * 1000) - enqueued
                waited = waited if waited > 0 else 0  # noqa: FURB136  # max() takes longer
            attempt = 1 if failed is None or type(failed) is not int or not 0 < failed < _NONSENSE else failed + 1
            append((int(moment), "succeeded", path, identity or "", attempt, waited, int(seconds * 1e6), ""))
    return plain, found
