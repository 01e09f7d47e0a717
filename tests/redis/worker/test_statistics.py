"""What workers count, and what stands of it in Redis."""

from typing import Any

import pytest
import redis

from delayed.ops.overview import look
from delayed.ops.statistics import rows, sums, totals
from delayed.queue.queue import Queue
from delayed.redis.keys import owner
from delayed.redis.statistics import BOUNDS, DAY, FUNCTIONS, RUN, TIERS, WAIT, keys_between, numbers, packed, row_of
from delayed.task.task import PyTask
from delayed.worker.tally import Totals, slow
from delayed.workflow import chain, group, linked
from tests.conftest import burst
from tests.redis.test_costs import monitored
from tests.support.waiting import LONG_AGO

NOW = 1_800_000_000.0
BYTES = 300_000  # of a queue's statistics, at most


def put(queue: Queue, path: str, retry: int = 0, count: int = 1) -> None:
    queue.enqueue_many(PyTask(path, (), {}, retry) for _ in range(count))


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"async_tasks": 4}])
def test_outcomes_are_counted(queue: Queue, options: dict[str, Any]) -> None:
    put(queue, "tasks:noop", count=7)
    put(queue, "tasks:recurse", retry=2)
    put(queue, "tasks:nowhere", count=2)
    worker = burst(queue, **options)
    found = totals(queue)
    assert found.all.outcomes == {
        "succeeded": 7, "retried": 2, "failed": 1, "buried": 2, "cancelled": 0, "expired": 0, "superseded": 0,
    }  # fmt: skip
    assert found.all.started == worker.finished == 12
    assert found.functions["tasks:recurse"].outcomes["retried"] == 2
    assert found.functions["tasks:noop"].run.tasks == 7
    assert {path: each.started for path, each in found.functions.items()} == {
        "tasks:noop": 7, "tasks:recurse": 3, "tasks:nowhere": 2,
    }  # fmt: skip
    for tier in TIERS:  # all say the same
        (row,) = rows(queue, tier.name, 3600)
        assert row.all.outcomes == found.all.outcomes


def test_the_counts_of_several_workers_add_up_and_agree_with_what_was_enqueued(queue: Queue) -> None:
    for _ in range(3):
        put(queue, "tasks:noop", count=50)
        put(queue, "tasks:recurse", count=5)
        burst(queue)
    found = totals(queue).all.outcomes
    assert found["succeeded"] + found["failed"] + queue.len() == 165
    assert found["failed"] == queue.store.call("XLEN", queue.keys.dead) == 15


def mixed(queue: Queue) -> int:
    """One of each, and how many tasks that are."""
    put(queue, "tasks:noop", count=40)
    put(queue, "tasks:recurse", retry=1, count=3)
    put(queue, "tasks:nowhere")
    queue.enqueue_many(PyTask("tasks:noop", (i,), group=f"g{i % 3}") for i in range(12))
    queue.enqueue_many(PyTask("tasks:two", (i,), result_ttl=60) for i in range(8))
    queue.enqueue_many(PyTask("tasks:noop", (i,), concurrency_key="k", concurrency=2) for i in range(5))
    queue.enqueue_many(PyTask("tasks:noop", (), unique=f"u{i}", track=True) for i in range(4))
    queue.enqueue_many(PyTask("tasks:fail", ("x",), track=True, retry=2) for _ in range(2))
    queue.enqueue(PyTask("tasks:noop", (), track=True)).cancel()
    queue.enqueue_many(PyTask("tasks:noop", (), track=True, expires=LONG_AGO) for _ in range(2))
    queue.enqueue(PyTask("tasks:noop", (), after=3600))
    members = [PyTask("tasks:two", (i,)) for i in range(6)]
    linked(group(members).then(PyTask("tasks:noop")), on_success=[PyTask("tasks:noop")]).submit(queue)
    chain(PyTask("tasks:fail", ("no",)), PyTask("tasks:noop")).submit(queue)  # the second is skipped
    return 40 + 3 + 1 + 12 + 8 + 5 + 4 + 2 + 1 + 2 + 1 + 6 + 2 + 1


@pytest.mark.parametrize("options", [{}, {"threads": 3}, {"async_tasks": 4}], ids=str)
def test_totals_agree_at_rest(queue: Queue, options: dict[str, Any]) -> None:
    """Whatever a task is, and however it ends, it is counted once; attempts that were lost, too."""
    enqueued = mixed(queue)
    burst(queue, **options)
    burst(queue, **options)
    found = sums(totals(queue), look(queue))
    assert found.enqueued == enqueued
    assert found.completed == 40 + 12 + 8 + 5 + 4 + 6 + 2
    assert found.retried == 3 + 4
    assert found.failed == 3 + 1 + 2 + 1 == found.dead - found.expired
    assert (found.cancelled, found.expired, found.waiting, found.held) == (1, 2, 1, 0)
    assert found.enqueued == found.completed + found.failed + found.cancelled + found.expired + found.waiting + found.held
    assert found.started == found.completed + found.retried + found.failed + found.cancelled + found.expired + found.recovered
    for tier in TIERS:  # all say the same
        assert totals(queue).all.outcomes == summed_up([row.all.outcomes for row in rows(queue, tier.name, 3600)])


def summed_up(several: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(each[name] for each in several) for name in several[0]}


@pytest.mark.parametrize("limit", [2, 1])
def test_what_died_with_its_worker_is_in_the_totals(queue: Queue, limit: int) -> None:
    put(queue, "tasks:noop", count=3)
    assert queue.store.take([queue.keys.lease("gone_0")], "gone", 60)
    queue.store.call("DEL", queue.keys.lease("gone_0"))
    queue.store.sweep([queue.keys.lease("gone_0")], limit, "pass", "sweeper")
    burst(queue)
    found = sums(totals(queue), look(queue))
    lost = limit == 1
    assert (found.enqueued, found.completed, found.failed, found.recovered) == (3, 3 - lost, lost, not lost)
    assert found.started == 3 + (not lost)


def test_waiting_is_known_of_tracked_tasks(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:noop", track=True))
    burst(queue)
    assert totals(queue).all.wait.tasks == 1


def test_nothing_is_sent_if_nothing_was_counted(queue: Queue, client: redis.Redis) -> None:
    burst(queue)
    assert not list(client.scan_iter(f"{queue.name}_stats*"))


def test_many_tasks_cost_one_call(queue: Queue, client: redis.Redis, name: str) -> None:
    put(queue, "tasks:noop")
    burst(queue)
    put(queue, "tasks:noop", count=500)
    with monitored(client, name) as sent:
        burst(queue)
    assert sent.count("EVALSHA") + sent.count("EVAL") <= 40


def test_what_redis_refuses_is_sent_later(queue: Queue) -> None:
    mine = Totals()
    mine.succeeded("m:f", 1.0)
    queue.store.call("SET", queue.keys.stats_total, "another program's")
    mine.send(queue.store, NOW)
    queue.store.call("DEL", queue.keys.stats_total)
    mine.succeeded("m:f", 1.0)
    mine.send(queue.store, NOW)
    mine.send(queue.store, NOW)
    assert totals(queue).all.outcomes["succeeded"] == 2


def test_a_look_between_two_steps_of_the_loop_counts_nothing_twice(queue: Queue) -> None:
    mine = Totals()
    for path in ("m:f", "m:g"):
        mine.succeeded(path, 0.001)
    slow(mine["m:f"], 7.0)
    mine.send(queue.store, NOW)
    mine["m:f"][0] += 1  # now it is there
    mine.send(queue.store, NOW)
    found = totals(queue)
    assert found.functions["m:f"].run.buckets == (1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0)
    assert found.all.run.buckets == (2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0)


def test_each_key_has_its_time(queue: Queue) -> None:
    queue.store.count(NOW, 1, [("", packed({1: 1})), ("m:f", packed({1: 1}))])
    for tier in TIERS:
        key = queue.keys.stats_of(tier.name, tier.key(NOW))
        assert owner(key) == queue.name
        left = queue.store.call("TTL", key)
        assert left >= tier.kept + tier.seconds * tier.rows - 10
        assert row_of(queue.store.call("HGET", key, tier.row(NOW))) == {0: {1: 1}, 1: {1: 1}}


def test_tiers_keep_what_they_should(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a simulated clock, for 420 days: minutes are shown for two days, hours for two weeks, days for 400 days."""
    one = [("", packed({1: 1})), ("m:f", packed({1: 1}))]
    for back in range(420, -1, -1):
        queue.store.count(NOW - back * DAY, 1, one)
    for hour in range(60, 0, -1):
        queue.store.count(NOW - hour * 3600, 1, one)
    monkeypatch.setattr("delayed.ops.statistics.server_time", lambda _queue: NOW)
    days, hours, minutes = (rows(queue, by, 1000 * DAY) for by in ("day", "hour", "minute"))
    assert [len(each) for each in (days, hours, minutes)] == [401, 12 + 60 + 1, 48 + 1]
    assert [row.start for row in minutes[:1]] == [NOW - 2 * DAY]
    assert sum(row.functions["m:f"].started for row in days) == 401 + 60
    assert totals(queue).functions["m:f"].started == 421 + 60


def test_an_idle_function_makes_room(queue: Queue) -> None:
    for number in range(FUNCTIONS + 5):
        queue.store.count(NOW, 1, [("", packed({1: 1})), (f"m:f{number}", packed({1: 1}))])
    found = totals(queue)
    assert len(found.functions) == FUNCTIONS
    assert found.all.outcomes["succeeded"] == FUNCTIONS + 5
    queue.store.count(NOW + 40 * DAY, 0.01, [("", packed({1: 1})), ("m:new", packed({1: 1}))])
    assert set(totals(queue).functions) == {"m:new"}


@pytest.mark.slow
def test_all_of_it_stays_small(queue: Queue, client: redis.Redis) -> None:
    """400 days, 14 of them by the hour and two by the minute, with more functions than there is room for, all busy."""
    every = {field: 2_000 + 37 * field for field in range(RUN, WAIT + len(BOUNDS) + 2)} | {RUN: 900_000, WAIT: 900_000}
    every |= {1: 60_000, 2: 400, 3: 300, 4: 9, 5: 20, 6: 5, 7: 1}
    some = {3: 5, RUN: 70_000, RUN + 1: 500, RUN + 3: 400}
    functions = [(f"shop.orders.tasks:function_number_{i}", packed({1: 900 + i, **some})) for i in range(FUNCTIONS + 20)]
    for back in (*range(400 * DAY, 14 * DAY, -DAY), *range(14 * DAY, 2 * DAY, -3600), *range(2 * DAY, -1, -60)):
        queue.store.count(NOW - back, 0.5, [("", packed(every)), *(functions if back % 3600 == 0 else functions[:4])])
    keys = [queue.keys.stats_total]
    for tier in TIERS:  # the others have gone by their TTL, which no test waits for
        keys += [queue.keys.stats_of(tier.name, number) for number in keys_between(tier, NOW - tier.kept, NOW)]
    assert 0 < sum(client.memory_usage(key, samples=0) or 0 for key in keys) <= BYTES
    assert len(keys) >= 1 + 49 + 15 + 14
    day, moment = TIERS[2], NOW - 20 * DAY
    row = row_of(queue.store.call("HGET", queue.keys.stats_of("days", day.key(moment)), day.row(moment)))
    assert len(row) > 1


def test_an_entry_reads_as_it_was_written() -> None:
    assert numbers(packed({1: 5, 3: 0, 8: 300, 9: 2**40})) == [1, 5, 8, 300, 9, 2**40]
