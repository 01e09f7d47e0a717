"""Any order of what producers, workers, sweepers, operators and upstream's programs may do, against a model in memory.

DELAYED_EXAMPLES=5000 makes a long run, with other examples each time.
"""

import hashlib
import os
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import delayed.info
import delayed.sweeper
from delayed import clock
from delayed.errors import Reason
from delayed.info import inspect
from delayed.queue import Queue
from delayed.sweep import sweep
from delayed.task import PyTask
from delayed.wire import decode, with_retry

LIMIT = 3
TTL = 600.0  # seconds; leases end when the model says so
EXAMPLES = int(os.environ.get("DELAYED_EXAMPLES", "0"))
UPSTREAM_TAKE = """
local task = redis.call('LPOP', KEYS[1])
if task then redis.call('HSET', KEYS[2], ARGV[1], task) end
return task"""
which = st.integers(0, 30)  # an index, taken modulo the number of things


class Machine(RuleBasedStateMachine):
    """The queue on Redis, and what ought to be in it."""

    client: redis.Redis
    prefix: str
    examples = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.examples += 1
        self.queue = Queue(f"{self.prefix}x{Machine.examples}", self.client)
        self.waiting: list[bytes] = []
        self.noti = 0
        self.held: dict[str, bytes] = {}  # lease → task, in the order of the hash
        self.alive: set[str] = set()
        self.dead: list[bytes] = []
        self.lost: dict[bytes, tuple[int, str]] = {}  # task → losses, the pass that counted the last
        self.stats = {"recovered": 0, "buried": 0}
        self.leases: list[str] = []  # all that there ever were
        self.looks: list[list[str]] = []  # what sweepers have seen and not yet acted upon
        self.made = self.gone = self.passes = 0

    def teardown(self) -> None:
        keys = list(self.client.scan_iter(f"{self.queue.name}*", count=1000))
        if keys:
            self.client.delete(*keys)

    # Producers

    def _task(self, retry: int) -> bytes:
        self.made += 1
        return PyTask("m:f", (self.made,), retry=retry).serialize()

    @rule(retries=st.lists(st.integers(-1, 2), min_size=1, max_size=4))
    def enqueue(self, retries: list[int]) -> None:
        tasks = [PyTask("m:f", (self.made + number,), retry=retry) for number, retry in enumerate(retries, 1)]
        self.made += len(tasks)
        self.queue.enqueue_many(tasks)
        self.waiting += [task.serialize() for task in tasks]
        self.noti += len(tasks)

    @rule()
    def upstream_enqueues(self) -> None:
        task = self._task(0)
        self.client.rpush(self.queue.name, task)
        self.client.rpush(self.queue.keys.noti, "1")
        self.waiting.append(task)
        self.noti += 1

    # Workers

    @rule(count=st.integers(1, 4), waiting=st.booleans(), claim=st.booleans())
    def take(self, count: int, waiting: bool, claim: bool) -> None:
        claims = int(claim and self.noti > 0)
        if claims:
            self.client.lpop(self.queue.keys.noti)
            self.noti -= 1
        names = [self.queue.keys.lease("t", len(self.leases) + number) for number in range(count)]
        taken = self.queue.take(names, "t", TTL, claims=claims, waiting=waiting)
        want = self.waiting[: count if waiting else min(count, claims + self.noti)]
        suspects = [number for number, task in enumerate(want) if task in self.lost]
        if suspects:
            want = want[: max(1, suspects[0])]
        assert taken.tasks == want
        assert taken.suspect == (suspects[:1] == [0])
        del self.waiting[: len(want)]
        self.noti -= min(self.noti, max(0, len(want) - claims))
        names = names[: len(want)]
        self.held.update(zip(names, want, strict=True))
        self.leases += names
        self.alive.update(names)

    @rule(number=st.integers(0, 65535))
    def upstream_takes(self, number: int) -> None:
        lease = f"{self.queue.name}:{number}"  # upstream's is the bare number; here many examples share a server
        if lease in self.leases or not self.noti:
            return
        self.client.lpop(self.queue.keys.noti)
        self.noti -= 1
        self.client.set(lease, 1, ex=int(TTL))
        self.leases.append(lease)
        self.alive.add(lease)
        task = self.client.eval(UPSTREAM_TAKE, 2, self.queue.name, self.queue.keys.processing, lease)
        assert task == (self.waiting[0] if self.waiting else None)
        if self.waiting:
            self.held[lease] = self.waiting.pop(0)

    def _end(self, index: int) -> tuple[str, bytes | None]:
        """A lease that is used or was; what it held, if it still does."""
        lease = self.leases[index % len(self.leases)]
        return lease, self.held.pop(lease, None)

    @precondition(lambda self: self.leases)
    @rule(index=which, plain=st.booleans())
    def succeed(self, index: int, plain: bool) -> None:
        lease, task = self._end(index)
        if plain and task not in self.lost:
            assert self.client.hdel(self.queue.keys.processing, lease) == (task is not None)
        else:
            assert self.queue.succeed(lease) is (task is not None)
        if task is not None:
            self.lost.pop(task, None)
            self.gone += 1

    @precondition(lambda self: self.leases)
    @rule(index=which)
    def fail(self, index: int) -> None:
        """Retry, or bury if no retry is left; of a task that is gone the worker still has the bytes."""
        lease, task = self._end(index)
        retry = decode(task).retry if task is not None else index % 2
        if retry:
            again = with_retry(task or PyTask("m:f", retry=1).serialize(), retry - (retry > 0))
            assert self.queue.retry(lease, again) is (task is not None)
        else:
            assert self.queue.bury(lease, Reason.FAILED, "d", "w") is (task is not None)
        if task is not None:
            self.lost.pop(task, None)
            if retry:
                self.waiting.append(again)
                self.noti += 1
            else:
                self.dead.append(task)

    @precondition(lambda self: self.leases)
    @rule(indices=st.lists(which, min_size=1, max_size=4))
    def give_back(self, indices: list[int]) -> None:
        leases = dict.fromkeys(self.leases[index % len(self.leases)] for index in indices)
        found = [(lease, self.held.pop(lease, None)) for lease in leases]
        tasks = [task for _, task in found if task is not None]
        assert self.queue.give_back([lease for lease, _ in found]) == len(tasks)
        self.waiting[:0] = tasks
        self.noti += len(tasks)

    # Time

    @precondition(lambda self: self.alive)
    @rule(indices=st.lists(which, min_size=1, max_size=4))
    def leases_run_out(self, indices: list[int]) -> None:
        """Their worker has died, or sleeps for longer than the TTL."""
        for index in indices:
            if self.alive:
                lease = sorted(self.alive)[index % len(self.alive)]
                self.alive.remove(lease)
                self.client.delete(lease)

    @precondition(lambda self: self.leases)
    @rule(index=which)
    def beat(self, index: int) -> None:
        """It slept, and goes on: what it believes that it holds gets its key again."""
        lease = self.leases[index % len(self.leases)]
        self.client.set(lease, "t", px=int(TTL * 1000))
        self.alive.add(lease)

    @rule(seconds=st.sampled_from([-1e9, -3600.0, 3600.0, 1e9]))
    def clock_jumps(self, seconds: float) -> None:
        def now() -> float:
            return clock.now() + seconds

        delayed.sweeper.now = delayed.info.now = now  # type: ignore[attr-defined]
        info = inspect(self.queue)
        assert (info.waiting, info.notifications, info.held, info.dead) == (
            len(self.waiting), self.noti, len(self.held), len(self.dead),
        )  # fmt: skip
        assert {lease.lease for lease in info.leases if lease.alive} == self.alive & set(self.held)

    # Sweepers

    @rule()
    def look(self) -> None:
        """A sweeper lists the leases; what it has seen may be long out of date when it acts."""
        _, names = self.queue.page(self.queue.keys.processing)
        assert names == list(self.held)
        self.looks.append(names)

    @precondition(lambda self: self.looks)
    @rule(index=which)
    def act(self, index: int) -> None:
        names = self.looks.pop(index % len(self.looks))
        self.passes += 1
        assert self.queue.sweep(names, LIMIT, f"p{self.passes}", "s") == (*self._swept(names, f"p{self.passes}"), False)

    def _swept(self, names: list[str], sweep_id: str) -> tuple[int, int]:
        """What a sweep of these leases does."""
        before = dict(self.stats)
        for lease in names:
            if lease in self.alive or lease not in self.held:
                continue
            task = self.held.pop(lease)
            count, last = self.lost.pop(task, (0, ""))
            count += last != sweep_id
            if count >= LIMIT:
                self.dead.append(task)
                self.stats["buried"] += 1
            else:
                self.lost[task] = (count, sweep_id)
                self.waiting.insert(0, task)
                self.noti += 1
                self.stats["recovered"] += 1
        return self.stats["recovered"] - before["recovered"], self.stats["buried"] - before["buried"]

    @rule()
    def sweep(self) -> None:
        self.passes += 1
        recovered, buried = self._swept(list(self.held), f"p{self.passes}")
        outcome = sweep(self.queue, LIMIT)
        assert outcome[:3] == (recovered, buried, abs(len(self.waiting) - self.noti))
        self.noti = len(self.waiting)

    @rule()
    def repair(self) -> None:
        assert self.queue.repair()[2] == 0
        self.noti = len(self.waiting)

    @rule()
    def upstream_sweeps(self) -> None:
        for lease in [lease for lease in self.held if lease not in self.alive]:
            task = self.held.pop(lease)
            self.client.rpush(self.queue.name, task)
            self.client.hdel(self.queue.keys.processing, lease)
            self.waiting.append(task)
        missing = len(self.waiting) - self.noti
        if missing > 0:
            self.client.lpush(self.queue.keys.noti, *["1"] * missing)
            self.noti += missing

    # What else happens

    @precondition(lambda self: self.noti)
    @rule(count=st.integers(1, 5))
    def notifications_are_lost(self, count: int) -> None:
        self.client.lpop(self.queue.keys.noti, count)
        self.noti -= min(count, self.noti)

    @rule(count=st.integers(1, 5))
    def notifications_are_too_many(self, count: int) -> None:
        self.client.rpush(self.queue.keys.noti, *["1"] * count)
        self.noti += count

    @precondition(lambda self: self.dead)
    @rule(indices=st.lists(which, min_size=1, max_size=3, unique=True))
    def retry_dead_letters(self, indices: list[int]) -> None:
        ids = [entry.decode() for entry, _ in self.queue.call("XRANGE", self.queue.keys.dead, "-", "+")]
        chosen = sorted({index % len(ids) for index in indices})
        assert self.queue.dead_retry([*(ids[place] for place in chosen), "1-1"]) == len(chosen)
        self.waiting += [self.dead[place] for place in chosen]
        self.dead = [task for place, task in enumerate(self.dead) if place not in chosen]
        self.noti += len(chosen)

    @invariant()
    def every_task_is_where_the_model_says(self) -> None:
        keys = self.queue.keys
        pipeline: Any = self.client.pipeline(transaction=False)
        for key, kind in keys.kinds().items():
            ranges = {"list": pipeline.lrange, "zset": pipeline.zrange}
            {**ranges, "hash": pipeline.hgetall, "stream": pipeline.xrange}[kind](key, *((0, -1) if kind in ranges else ()))
        waiting, noti, held, lost, dead, _, stats, scheduled, *_ = pipeline.execute()
        assert not scheduled
        assert waiting == self.waiting
        assert noti == [b"1"] * self.noti
        assert {lease.decode(): task for lease, task in held.items()} == self.held
        assert [fields[b"task"] for _, fields in dead] == self.dead
        counted = {hashlib.sha1(task).hexdigest(): count for task, (count, _) in self.lost.items()}
        assert {digest.decode(): int(count.split(b":")[0]) for digest, count in lost.items()} == counted
        assert {name: int(stats.get(name.encode(), 0)) for name in self.stats} == self.stats
        assert len(waiting) + len(held) + len(dead) + self.gone == self.made  # none is lost, and none is there twice


@pytest.mark.timeout(max(120, EXAMPLES))
def test_any_order_of_events_does_what_the_model_says(client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delayed.info, delayed.sweeper):
        monkeypatch.setattr(module, "now", clock.now)  # put back at the end
    monkeypatch.setattr(Machine, "client", client, raising=False)
    monkeypatch.setattr(Machine, "prefix", name, raising=False)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 100,
            stateful_step_count=50,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.examples >= (EXAMPLES or 100)
