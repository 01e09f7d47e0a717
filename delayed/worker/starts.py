"""Tells Redis that tasks begin: a question for all that a worker has in hand, or two for many."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ..job.job import Job
from ..job.runner import Runner
from ..redis.channel import Channel
from ..redis.command import pack
from ..redis.scripts import Argument
from ..redis.store import Store
from ..task.headers import Holds
from .joins import Joins
from .leases import Lease

_SHARE = 4  # of a large hand, the part for whose answers the worker waits: as it runs them, Redis begins the others
_LARGE = 16
_ALONE = -1  # what `Store.start_many` says of a task that is for `Store.start` to judge
Started = tuple[Lease, Job]


class Starts:
    """The beginnings of one worker's tasks.

    Args:
        channel: the worker's connection.
        runner: of its tasks.
        joins: what the worker does for workflows, of which nodes begin.
    """

    def __init__(self, channel: Channel, runner: Runner, joins: Joins) -> None:
        self._channel, self._runner, self._joins = channel, runner, joins

    def ask(self, jobs: Sequence[Started], *, in_turn: bool = False) -> list[Started]:
        """Ask whether these tasks, which are of one queue, may begin, and note the answers. Returns those that were asked
        about: the others would stand in the way of these. Of one without an answer `Runner.begin` has to be asked. `in_turn`:
        they run one after the other; of the later ones the answers are there after `hear`."""
        for lease, job in jobs:
            if "flow" in job.headers and (member := job.member) is not None:
                self._joins.expect(lease.pool, member)
        jobs = list(_compatible(jobs))
        many, each = list[Started](), list[Started]()
        for started in jobs:
            (many if started[1].holds.begins_with_others else each).append(started)
        self._ask_many(many, len(many) // _SHARE if in_turn and len(many) >= _LARGE else len(many))
        self._ask_each(each)
        return jobs

    def hear(self) -> None:
        """Wait for the answers that are on their way."""
        self._channel.heard()

    def _ask_many(self, jobs: Sequence[Started], now: int) -> None:
        """Ask about all, and wait for the answers about the first."""
        if later := jobs[now:]:
            packing = Packing(later[0][0].pool.store)
            packing.store.start_many(_asked(later), self._runner.place)
            self._channel.behind(packing.packed, partial(_answered, later))
        if first := jobs[:now]:
            _answered(first, first[0][0].pool.store.start_many(_asked(first), self._runner.place))

    def _ask_each(self, jobs: Sequence[Started]) -> None:
        commands = []
        for lease, job in jobs:
            with_keys = Packing(lease.pool.store)
            self._runner.start(with_keys.store, lease.name, job)
            commands.append(with_keys.packed)
        replies = self._channel.replies(b"".join(commands), len(commands)) if commands else ()
        for (_, job), reply in zip(jobs, replies, strict=True):
            job.answer = reply if isinstance(reply, int) else None  # else it is an error: of a foreign type, say


def _asked(jobs: Sequence[Started]) -> list[tuple[str, Holds, int]]:
    return [(lease.name, job.holds, job.attempt) for lease, job in jobs]


def _answered(jobs: Sequence[Started], answers: Any) -> None:
    if isinstance(answers, list):  # else it is an error, which is told to who asks about one of them
        for (_, job), answer in zip(jobs, answers, strict=True):
            job.answer = None if answer == _ALONE else answer


def _compatible(jobs: Sequence[Started]) -> Iterator[Started]:
    """Those of which none has to wait for another: of those with one key only as many as may run at once."""
    taken, claimed = dict[str, int](), set[str]()
    for started in jobs:
        holds = started[1].holds
        slots, unique = holds.slots, holds.unique if holds.mode == "while_running" else None
        if unique in claimed or (slots is not None and taken.get(slots, 0) >= holds.limit):
            continue
        if slots is not None:
            taken[slots] = taken.get(slots, 0) + 1
        if unique is not None:
            claimed.add(unique)
        yield started


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
