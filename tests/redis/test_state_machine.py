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

import delayed.ops.overview
import delayed.sweeper.sweeper
from delayed.base import clock
from delayed.errors import Reason
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode, headers_of
from delayed.task.edit import with_retry
from delayed.task.headers import Holds, holds_in
from delayed.task.task import PyTask
from tests.redis.queue.test_groups import make_due

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
        taken = self.queue.store.take(names, "t", TTL, claims=claims, waiting=waiting)
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
            assert self.queue.store.succeed(lease) is (task is not None)
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
            assert self.queue.store.retry(lease, again) is (task is not None)
        else:
            assert self.queue.store.bury(lease, Reason.FAILED, "d", "w") is (task is not None)
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
        assert self.queue.store.give_back([lease for lease, _ in found]) == len(tasks)
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

        delayed.sweeper.sweeper.now = delayed.ops.overview.now = now  # type: ignore[attr-defined]
        info = inspect(self.queue)
        assert (info.waiting, info.notifications, info.held, info.dead) == (
            len(self.waiting), self.noti, len(self.held), len(self.dead),
        )  # fmt: skip
        assert {lease.lease for lease in info.leases if lease.alive} == self.alive & set(self.held)

    # Sweepers

    @rule()
    def look(self) -> None:
        """A sweeper lists the leases; what it has seen may be long out of date when it acts."""
        _, names = self.queue.store.page(self.queue.keys.processing)
        assert names == list(self.held)
        self.looks.append(names)

    @precondition(lambda self: self.looks)
    @rule(index=which)
    def act(self, index: int) -> None:
        names = self.looks.pop(index % len(self.looks))
        self.passes += 1
        assert self.queue.store.sweep(names, LIMIT, f"p{self.passes}", "s") == (*self._swept(names, f"p{self.passes}"), False)

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
        outcome = sweep(self.queue.store, LIMIT)
        assert outcome[:3] == (recovered, buried, abs(len(self.waiting) - self.noti))
        self.noti = len(self.waiting)

    @rule()
    def repair(self) -> None:
        assert self.queue.store.repair()[2] == 0
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
        ids = [entry.decode() for entry, _ in self.queue.store.call("XRANGE", self.queue.keys.dead, "-", "+")]
        chosen = sorted({index % len(ids) for index in indices})
        assert self.queue.store.dead_retry([*(ids[place] for place in chosen), "1-1"]) == len(chosen)
        self.waiting += [self.dead[place] for place in chosen]
        self.dead = [task for place, task in enumerate(self.dead) if place not in chosen]
        self.noti += len(chosen)

    @invariant()
    def every_task_is_where_the_model_says(self) -> None:
        keys = self.queue.keys
        pipeline: Any = self.client.pipeline(transaction=False)
        for key, kind in keys.kinds().items():
            ranges = {"list": pipeline.lrange, "zset": pipeline.zrange}
            {**ranges, "hash": pipeline.hgetall, "stream": pipeline.xrange, "string": pipeline.get}[kind](
                key, *((0, -1) if kind in ranges else ())
            )
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


class KeyMachine(RuleBasedStateMachine):
    """Tasks that have keys: who holds them, and that none waits for ever, whatever becomes of those that hold them."""

    client: redis.Redis
    prefix: str
    examples = 0
    LIMIT = 2
    KEYS = (
        {"concurrency_key": "s", "concurrency": LIMIT},
        {"concurrency_key": "s", "concurrency": LIMIT, "track": True},
        {"unique": "u", "unique_mode": "while_running"},
        {"unique": "u", "unique_mode": "while_running", "concurrency_key": "s", "concurrency": LIMIT},
    )

    def __init__(self) -> None:
        super().__init__()
        KeyMachine.examples += 1
        self.queue = Queue(f"{self.prefix}y{KeyMachine.examples}", self.client)
        self.taken: dict[str, bytes] = {}  # lease → task that has not begun,
        self.running: dict[str, bytes] = {}  # and that has
        self.made = self.gone = self.leases = 0

    def _holds(self, data: bytes) -> Holds:
        return holds_in(headers_of(data))

    @rule(which_keys=st.lists(st.integers(0, 3), min_size=2, max_size=6), group=st.booleans())
    def enqueue(self, which_keys: list[int], group: bool) -> None:
        for kind in which_keys:
            self.made += 1
            options: dict[str, Any] = {**self.KEYS[kind], **({"group": "g"} if group else {})}
            self.queue.enqueue(PyTask("m:f", (self.made,), **options))

    @rule(count=st.integers(1, 4))
    def take(self, count: int) -> None:
        self.queue.store.feed(16)
        names = [self.queue.keys.lease("t", self.leases + number) for number in range(count)]
        self.leases += count
        tasks = self.queue.store.take(names, "t", TTL, waiting=True).tasks
        self.taken.update(zip(names, tasks, strict=False))

    @precondition(lambda self: self.taken)
    @rule(index=which)
    def start(self, index: int) -> None:
        lease = list(self.taken)[index % len(self.taken)]
        data = self.taken.pop(lease)
        group = headers_of(data).get("group")
        if self.queue.store.start(lease, self._holds(data), bound=600_000, group=group) == 1:
            self.running[lease] = data

    @rule()
    def take_and_start(self) -> None:
        self.take(4)
        while self.taken:
            self.start(0)

    def _end(self, lease: str, data: bytes, how: int) -> None:
        holds = self._holds(data)
        if how == 0:
            self.gone += self.queue.store.succeed(lease, holds) if holds.id is None else self._conclude(lease, holds)
        elif how == 1:
            self.queue.store.postpone(lease, data, holds, 3_600_000, "no")
        elif how == 2:
            self.queue.store.give_back([lease], {lease: data}, 1)
        elif how == 3:
            self.queue.store.defer(lease, holds, limit=1e6, cause="no")
        elif holds.id is None:
            self.gone += self.queue.store.bury(lease, Reason.FAILED, "d", "w", holds)
        else:
            self.gone += self._conclude(lease, holds, Reason.FAILED)

    def _conclude(self, lease: str, holds: Holds, reason: Reason | None = None) -> bool:
        return self.queue.store.conclude(lease, holds, state="succeeded", result=b"\x90", keep=60_000, reason=reason)

    @precondition(lambda self: self.running)
    @rule(index=which, how=st.integers(0, 4))
    def end(self, index: int, how: int) -> None:
        lease = list(self.running)[index % len(self.running)]
        self._end(lease, self.running.pop(lease), how)

    @precondition(lambda self: self.taken)
    @rule(index=which, how=st.integers(2, 3))
    def end_one_that_has_not_begun(self, index: int, how: int) -> None:
        lease = list(self.taken)[index % len(self.taken)]
        self._end(lease, self.taken.pop(lease), how)

    @precondition(lambda self: self.taken or self.running)
    @rule(index=which, older=st.booleans())
    def a_worker_dies(self, index: int, older: bool) -> None:
        """And is swept, perhaps by a sweeper that knows nothing of keys."""
        every = [*self.taken, *self.running]
        lease = every[index % len(every)]
        data = self.taken.pop(lease, None) or self.running.pop(lease)
        self.client.delete(lease)
        if older and self.client.hdel(self.queue.keys.processing, lease):
            self.client.rpush(self.queue.name, data)
        elif not older:
            sweep(self.queue.store, 1_000_000)

    @rule()
    def the_unique_key_runs_out(self) -> None:
        holders = [lease for lease, data in self.running.items() if self._holds(data).unique is not None]
        for lease in holders:  # else two would run, as they may
            self._end(lease, self.running.pop(lease), 2)
        self.client.delete(self.queue.keys.unique("u"))

    @rule()
    def time_passes(self) -> None:
        make_due(self.queue)
        self.queue.store.due([self.queue.keys])

    @rule()
    def sweep(self) -> None:
        sweep(self.queue.store, 1_000_000)

    @invariant()
    def no_more_run_than_may(self) -> None:
        held = self.client.hkeys(self.queue.keys.processing)
        running = [self._holds(data) for lease, data in self.running.items() if lease.encode() in held]
        assert sum(holds.slots is not None for holds in running) <= self.LIMIT
        assert sum(holds.unique is not None for holds in running) <= 1

    @invariant()
    def none_is_lost_and_none_is_there_twice(self) -> None:
        assert self._there() + self.gone == self.made

    def _there(self) -> int:
        keys, call = self.queue.keys, self.queue.store.call
        lines = [call("ZCARD", f"{self.queue.name}_waits_{name.decode()}") for name in call("HKEYS", keys.waited)]
        groups = sum(call("LLEN", keys.group(each)) for each in self.queue.store.grouped(100))
        return int(self.queue.len() + call("HLEN", keys.processing) + call("ZCARD", keys.scheduled) + sum(lines) + groups)

    def teardown(self) -> None:
        """All workers die; one that works on, and a sweeper, end all tasks."""
        for lease in (*self.taken, *self.running):
            self.client.delete(lease)
        for _ in range(2 * self.made + 5):
            self.taken, self.running = {}, {}
            self.time_passes()
            self.sweep()
            for _ in range(self.made):
                self.take(4)
            for _ in range(len(self.taken)):
                self.start(0)
            for lease, data in self.running.items():
                self._end(lease, data, 0)
            if not self._there():
                break
        assert (self._there(), self.gone) == (0, self.made)
        left = [
            key for key in self.client.scan_iter(f"{self.queue.name}_*", count=1000) if b"_wait" in key or b"_slots" in key
        ]
        keys = list(self.client.scan_iter(f"{self.queue.name}*", count=1000))
        if keys:
            self.client.delete(*keys)
        assert not left


@pytest.mark.slow
@pytest.mark.timeout(max(900, EXAMPLES))
def test_any_order_of_events_does_what_the_model_says(client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (delayed.ops.overview, delayed.sweeper.sweeper):
        monkeypatch.setattr(module, "now", clock.now)  # put back at the end
    monkeypatch.setattr(Machine, "client", client, raising=False)
    monkeypatch.setattr(Machine, "prefix", name, raising=False)
    run_state_machine_as_test(Machine, settings=_settings(100, 50))
    assert Machine.examples >= (EXAMPLES or 100)


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.slow
@pytest.mark.timeout(max(900, EXAMPLES))
def test_any_order_of_events_leaves_nobody_waiting_for_a_key(
    client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyMachine, "client", client, raising=False)
    monkeypatch.setattr(KeyMachine, "prefix", name, raising=False)
    run_state_machine_as_test(KeyMachine, settings=_settings(40, 40))
