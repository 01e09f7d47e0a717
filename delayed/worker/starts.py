"""Tells Redis that tasks begin: one question for all that a worker has in hand."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..job.job import Job
from ..job.runner import Runner
from ..redis.channel import Channel
from ..redis.command import pack
from ..redis.scripts import Argument
from ..redis.store import Store
from .leases import Lease

_ALONE = -1  # what `Store.start_many` says of a task that is for `Store.start` to judge
Started = tuple[Lease, Job]


class Starts:
    """The beginnings of one worker's tasks.

    Args:
        channel: the worker's connection.
        runner: of its tasks.
    """

    def __init__(self, channel: Channel, runner: Runner) -> None:
        self._channel, self._runner = channel, runner

    def ask(self, jobs: Sequence[Started]) -> list[Started]:
        """Ask whether these tasks, which are of one queue, may begin, and note the answers. Returns those that have one: the
        others would stand in the way of these, or cannot be asked about; who asks `Runner.begin` about one is told."""
        simple = [(lease, job) for lease, job in jobs if job.has_only_a_state]
        keyed = list(_compatible((lease, job) for lease, job in jobs if not job.has_only_a_state))
        self._ask_many(simple)
        self._ask_each(keyed)
        return [(lease, job) for lease, job in (*simple, *keyed) if job.answer is not None]

    def _ask_many(self, jobs: Sequence[Started]) -> None:
        if jobs:
            asked = [(lease.name, job.tracked_id or "", job.attempt) for lease, job in jobs]
            answers = jobs[0][0].pool.store.start_many(asked, self._runner.place)
            for (_, job), answer in zip(jobs, answers, strict=True):
                job.answer = None if answer == _ALONE else answer

    def _ask_each(self, jobs: Sequence[Started]) -> None:
        commands = []
        for lease, job in jobs:
            with_keys = Packing(lease.pool.store)
            self._runner.start(with_keys.store, lease.name, job)
            commands.append(with_keys.packed)
        replies = self._channel.replies(b"".join(commands), len(commands)) if commands else ()
        for (_, job), reply in zip(jobs, replies, strict=True):
            job.answer = reply if isinstance(reply, int) else None  # else it is an error: of a foreign type, say


def _compatible(jobs: Iterator[Started]) -> Iterator[Started]:
    """Those of which none has to wait for another: of those with one key only as many as may run at once."""
    taken = Counter[tuple[str, str]]()
    for lease, job in jobs:
        holds, wanted = job.holds, dict[tuple[str, str], int]()
        if holds.slots is not None:
            wanted["slots", holds.slots] = holds.limit
        if holds.unique is not None and holds.mode == "while_running":
            wanted["unique", holds.unique] = 1
        if all(taken[key] < limit for key, limit in wanted.items()):
            taken.update(wanted.keys())
            yield lease, job


class Packing:
    """Packs what a method of the store would send.

    Args:
        store: of the queue.
    """

    def __init__(self, store: Store) -> None:
        self.store = store.over(self)
        self.packed = b""

    def call(self, *command: Argument) -> Any:
        """Keep it, and answer that it went well."""
        self.packed = pack(*command)
        return 1
