"""Queues that are paused or limited, weights, and keys of which only so many tasks run at once."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.errors import ConfigurationError, InvalidTask
from delayed.job.allow import AllowAny
from delayed.queue.limits import Limits
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode
from delayed.task.headers import Holds
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.serial import SerialLoop
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.redis.test_costs import monitored

Start = Callable[[Worker], threading.Thread]


@pytest.fixture
def beats(queue: Queue) -> dict[str, Any]:
    """Options for workers that hear soon of what operators want."""
    queue.dequeue_timeout = 0.05
    return {"allow": ["tasks:*"], "keep_alive_interval": 0.05}


def lease(queue: Queue, number: int) -> str:
    return queue.keys.lease("t", number)


def names(queue: Queue, first: int, count: int) -> list[str]:
    return [lease(queue, number) for number in range(first, first + count)]


def put(queue: Queue, count: int) -> None:
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(count))


# Pause and resume


def test_a_paused_queue_holds_and_goes_on(queue: Queue, threaded: Start, beats: dict[str, Any]) -> None:
    queue.pause()
    worker = Worker(queue, **beats)
    put(queue, 3)
    threaded(worker)
    eventually(lambda: worker.state.rounds > 5)
    assert (worker.finished, queue.store.lengths()) == (0, (3, 3))
    queue.resume()
    eventually(lambda: worker.finished == 3)
    queue.pause()
    eventually(lambda: worker._parts.fetcher.turns._gates[0].limits.paused)
    put(queue, 2)
    turns = worker.state.rounds
    eventually(lambda: worker.state.rounds > turns + 5)
    assert (worker.finished, queue.store.lengths()) == (3, (2, 2))


def test_a_worker_that_waits_hears_of_a_pause_in_time(queue: Queue, threaded: Start, beats: dict[str, Any]) -> None:
    """It waits for a notification when the pause comes: the notification is there again afterwards."""
    queue.dequeue_timeout = 30
    worker = Worker(queue, **beats)
    threaded(worker)
    eventually(lambda: worker.state.rounds == 1)
    queue.pause()
    eventually(lambda: worker._parts.fetcher.turns._gates[0].limits.paused)
    put(queue, 1)
    eventually(lambda: worker.state.rounds > 1)
    assert (worker.finished, queue.store.lengths()) == (0, (1, 1))
    worker.stop()


def test_a_worker_whose_connection_broke_waits_while_the_queue_is_paused(
    queue: Queue, threaded: Start, beats: dict[str, Any]
) -> None:
    queue.pause()
    put(queue, 1)
    worker = Worker(queue, **beats)
    threaded(worker)
    worker._parts.fetcher.recheck = True
    eventually(lambda: not worker._parts.fetcher.recheck)  # else it would look without a pause
    assert worker.finished == 0


def test_a_burst_worker_does_not_stop_at_a_paused_queue(name: str, client: redis.Redis) -> None:
    queues = [Queue(f"{name}{part}", client) for part in "ab"]
    for each in queues:
        put(each, 4)
    queues[0].pause()
    queues[1].limit(rate=100, burst=1)
    assert burst(queues).finished == 4  # type: ignore[arg-type]


def test_the_others_go_on_while_one_is_paused(name: str, client: redis.Redis) -> None:
    queues = [Queue(f"{name}{part}", client) for part in "ab"]
    for each in queues:
        put(each, 3)
    queues[0].pause()
    assert burst(queues).finished == 3  # type: ignore[arg-type]
    assert [each.len() for each in queues] == [3, 0]


def test_a_queue_without_limits_is_taken_from_as_ever(queue: Queue, client: redis.Redis, name: str) -> None:
    queue.limit(rate=5)
    queue.pause()
    queue.resume()
    queue.limit()
    put(queue, 5)
    worker = burst(queue)
    assert worker.finished == 5
    assert worker._parts.fetcher.turns.plain
    assert not client.exists(queue.keys.bucket, queue.keys.control)


def test_learning_of_limits_costs_no_command(queue: Queue, client: redis.Redis, name: str) -> None:
    worker = Worker(queue, allow=AllowAny(), burst=True)
    with monitored(client, name) as sent:
        worker.run()
    assert not {"HGETALL", "LRANGE", "SET", "HSET"}.intersection(sent)


# Concurrency


def test_no_more_are_held_than_may_be(queue: Queue) -> None:
    put(queue, 5)
    queue.limit(concurrency=2)
    assert [len(queue.store.take_limited(names(queue, 10 * number, 4), "t", 60).tasks) for number in range(3)] == [1, 1, 0]
    assert queue.store.take_limited(names(queue, 90, 1), "t", 60).pause == 0.1
    queue.store.succeed(lease(queue, 0))
    assert len(queue.store.take_limited(names(queue, 30, 4), "t", 60).tasks) == 1
    queue.store.call("UNLINK", lease(queue, 10))  # that worker was killed
    assert not queue.store.take_limited(names(queue, 40, 4), "t", 60).tasks
    sweep(queue.store)
    assert len(queue.store.take_limited(names(queue, 50, 4), "t", 60).tasks) == 1
    assert queue.store.call("HLEN", queue.keys.processing) == 2


def test_a_limited_queue_is_worked_off(queue: Queue, threaded: Start, beats: dict[str, Any]) -> None:
    queue.limit(concurrency=1)
    workers = [Worker(queue, **beats) for _ in range(3)]
    for worker in workers:
        threaded(worker)
    put(queue, 50)
    eventually(lambda: sum(worker.finished for worker in workers) == 50)


# Rate


def fill_bucket(queue: Queue, tokens: float) -> None:
    seconds, microseconds = queue.store.call("TIME")
    queue.store.call("HSET", queue.keys.bucket, "tokens", tokens, "at", int(seconds) * 1000 + int(microseconds) // 1000)
    queue.store.call("EXPIRE", queue.keys.bucket, 1000)


def test_a_burst_and_then_one_token_after_the_other(queue: Queue) -> None:
    put(queue, 20)
    queue.limit(rate=0.001, burst=5)
    first = queue.store.take_limited(names(queue, 0, 3), "t", 60)
    second = queue.store.take_limited(names(queue, 3, 9), "t", 60)
    assert [len(first.tasks), len(second.tasks)] == [3, 2]
    third = queue.store.take_limited(names(queue, 20, 9), "t", 60)
    assert not third.tasks
    assert third.pause is not None
    assert 900 < third.pause <= 1000  # seconds: a token comes in so many
    at = int(queue.store.call("HGET", queue.keys.bucket, "at"))
    queue.store.call("HSET", queue.keys.bucket, "at", at - 2_500_000)
    assert len(queue.store.take_limited(names(queue, 30, 9), "t", 60).tasks) == 2
    queue.store.call("HSET", queue.keys.bucket, "at", at - 99_000_000)
    assert (
        len(queue.store.take_limited(names(queue, 40, 9), "t", 60).tasks) == 5
    )  # no more than a burst, however long the rest
    assert 0 < queue.store.call("PTTL", queue.keys.bucket) <= 5_001_000  # by then it is full again


def test_a_worker_takes_what_tokens_there_are(queue: Queue, threaded: Start, beats: dict[str, Any]) -> None:
    queue.limit(rate=0.001, burst=100)
    fill_bucket(queue, 7)
    put(queue, 20)
    workers = [Worker(queue, **beats) for _ in range(2)]
    for worker in workers:
        threaded(worker)
    eventually(lambda: sum(worker.finished for worker in workers) == 7)
    turns = [worker.state.rounds for worker in workers]
    eventually(lambda: all(worker.state.rounds > before + 5 for worker, before in zip(workers, turns, strict=True)))
    assert (sum(worker.finished for worker in workers), queue.len()) == (7, 13)
    queue.limit()
    eventually(lambda: sum(worker.finished for worker in workers) == 20)


def test_a_burst_worker_waits_for_tokens(queue: Queue) -> None:
    queue.limit(rate=100, burst=1)
    put(queue, 5)
    assert burst(queue).finished == 5


# What operators say


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"rate": 0}, {"rate": float("inf")}, {"burst": 2}, {"rate": 1, "burst": 0}]
)
def test_limits_that_would_let_nothing_run_are_refused(queue: Queue, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        queue.limit(**wrong)


def test_limits_are_what_was_set_last(queue: Queue) -> None:
    assert queue.limits() == Limits()
    queue.limit(concurrency=3)
    assert queue.limits() == Limits(concurrency=3)
    queue.pause()
    queue.limit(rate=2.5)
    assert queue.limits() == Limits(paused=True, rate=2.5, burst=2)
    queue.limit()
    assert queue.limits() == Limits(paused=True)
    queue.store.call("HSET", queue.keys.control, "rate", "much", "concurrency", "inf", "burst", "nan")
    assert queue.limits() == Limits(paused=True)
    queue.store.call("DEL", queue.keys.control)  # fsck would name what is no number


def test_the_command_line(queue: Queue, server: EmbeddedRedis) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(main, ["queue", *words, "--redis", server.url])
        assert result.exit_code == 0, result.output
        return result.stdout.replace(queue.name, "Q")

    assert run("pause", queue.name) == "Q: paused\n"
    assert run("limit", queue.name, "--concurrency", "4", "--rate", "10").startswith(
        "Q: paused, at most 4 tasks at once, 10 tasks"
    )
    assert run("limit", queue.name, "--concurrency", "3") == (
        "Q: paused, at most 3 tasks at once, 10 tasks a second, 10 at once after a pause\n"
    )
    assert queue.limits() == Limits(paused=True, concurrency=3, rate=10, burst=10)
    run("limit", queue.name, "--concurrency", "4")
    assert run("resume", queue.name) == "Q: goes on\n"
    queue.pause()
    for number in range(20):
        queue.enqueue(PyTask("tasks:noop", (number,), group="a"))
    assert re.search(r"16 waiting, and the tasks of 1 group\n  group [0-9a-f]{40}: 4 waiting\n", run("show", queue.name))
    assert '"concurrency": 4' in run("show", queue.name, "--json")
    assert run("limit", queue.name, "--none") == "Q: paused\n"
    assert CliRunner().invoke(main, ["queue", "limit", queue.name, "--redis", server.url]).exit_code == 2
    assert CliRunner().invoke(main, ["queue", "limit", queue.name, "--none", "--rate=1", "--redis", server.url]).exit_code == 2


# Weights


def served(
    client: redis.Redis, name: str, weights: list[float] | None, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Which queue each task came from that a burst worker ran."""
    queues = [Queue(f"{name}{part}", client) for part in "abc"[: len(counts)]]
    for each, count in zip(queues, counts, strict=True):
        each.enqueue_many(PyTask("tasks:noop", (each.name[-1],)) for _ in range(count))
    monkeypatch.setattr("delayed.worker.prefetch.MOST", 1)
    ran: list[str] = []
    run_one: Callable[..., bool] = SerialLoop._run_one

    def noting(loop: SerialLoop, held: Any, data: bytes) -> bool:
        ran.append(decode(data).args[0])
        return run_one(loop, held, data)

    monkeypatch.setattr(SerialLoop, "_run_one", noting)
    worker = Worker(queues, allow=AllowAny(), burst=True, weights=weights)
    worker.run()
    return "".join(ran)


def test_queues_are_served_by_their_weights(name: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = served(client, name, [3, 1], [40, 40], monkeypatch)
    assert len(ran) == 80
    for count in range(4, 53, 4):
        assert abs(ran[:count].count("a") - 3 * count / 4) <= 1, ran[:count]


def test_without_weights_the_order_is_strict(name: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(client, name, None, [5, 5, 5], monkeypatch) == "aaaaabbbbbccccc"


def test_a_queue_that_was_empty_has_saved_nothing_up(name: str, client: redis.Redis, threaded: Start) -> None:
    queues = [Queue(f"{name}{part}", client) for part in "ab"]
    worker = Worker(queues, allow=AllowAny(), weights=[1, 1])
    turns = worker._parts.fetcher.turns
    for _ in range(1000):
        turns.took(worker.state.pools[0], 1)
    assert turns.order()[0] is worker.state.pools[1]
    order = []
    for _ in range(10):
        pool = turns.order()[0]
        order.append(worker.state.pools.index(pool))
        turns.took(pool, 1)
    assert sorted(order[:4]) == [0, 0, 1, 1]


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, 2, 3]])
def test_weights_that_cannot_work(name: str, client: redis.Redis, weights: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="one for each queue"):
        Worker([Queue(name, client), Queue(f"{name}b", client)], allow=AllowAny(), weights=weights)


# Keys


USER = Holds(slots="user-7", limit=2)


def test_no_more_with_one_key_run_than_may(queue: Queue) -> None:
    for number in range(5):
        queue.enqueue(PyTask("tasks:noop", (number,), concurrency_key="user-7", concurrency=2))
    queue.store.take(names(queue, 0, 4), "t", 60)
    assert [queue.store.start(name, USER) for name in names(queue, 0, 4)] == [1, 1, 4, 4]
    assert queue.store.start(lease(queue, 0), USER) == 1  # said again
    assert queue.store.start(lease(queue, 2), USER) == 0  # that one waits now
    queue.store.succeed(lease(queue, 0), USER)  # which wakes the first that waits
    queue.store.take(names(queue, 5, 3), "t", 60, waiting=True)
    assert [queue.store.start(name, USER) for name in names(queue, 5, 2)] == [1, 4]
    queue.store.call("UNLINK", lease(queue, 1))  # killed: its slot is another's as soon as it is swept
    sweep(queue.store)
    begun = []
    for number in (8, 9):  # one that was woken, and the one that was lost, which comes alone
        queue.store.take(names(queue, number, 1), "t", 60, waiting=True)
        begun.append(queue.store.start(lease(queue, number), USER))
    assert begun == [1, 4]


def test_a_task_without_a_slot_waits(queue: Queue, client: redis.Redis) -> None:
    other = PyTask("tasks:noop", ("other",), concurrency_key="a")
    queue.enqueue(other)
    queue.store.take(names(queue, 0, 1), "t", 60)
    holds = Holds(slots="a", limit=1)
    assert queue.store.start(lease(queue, 0), holds) == 1
    handle = queue.enqueue(PyTask("tasks:two", (1,), concurrency_key="a", result_ttl=60))
    burst(queue)
    status = handle.status()
    assert (status.state, status.error) == (State.QUEUED, "")
    assert status.waits == "as many tasks with its concurrency key are running as may"
    queue.store.succeed(lease(queue, 0), holds)
    burst(queue)
    assert handle.result(1) == 3
    assert handle.status().waits == ""
    assert not client.keys(f"{queue.name}_slots*")
    assert not client.keys(f"{queue.name}_wait*")


def test_a_key_leaves_nothing_behind(queue: Queue, client: redis.Redis) -> None:
    for function in ("tasks:noop", "tasks:fail"):
        queue.enqueue(PyTask(function, ("x",), concurrency_key="a"))
    assert burst(queue).finished == 2
    assert not client.keys(f"{queue.name}_slots*")


@pytest.mark.parametrize("wrong", [{"concurrency": 2}, {"concurrency_key": "a", "concurrency": 0}])
def test_keys_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match=r"concurrency_key|above 0, not 0"):
        PyTask("m:f", **wrong)


def test_a_clock_that_was_set_back_stops_nothing(queue: Queue) -> None:
    """Redis's clock is an hour behind what it was when the last task was taken."""
    queue.limit(rate=5)
    fill_bucket(queue, 0)
    at = int(queue.store.call("HGET", queue.keys.bucket, "at"))
    queue.store.call("HSET", queue.keys.bucket, "at", at + 3600_000)
    queue.enqueue_many(PyTask("tasks:noop") for _ in range(9))
    leases = [queue.keys.lease("t", number) for number in range(9)]
    assert len(queue.store.take_limited(leases, "t", 60, waiting=True).tasks) == 5
    assert abs(int(queue.store.call("HGET", queue.keys.bucket, "at")) - at) < 600_000
    assert queue.store.take_limited(leases[5:], "t", 60, waiting=True).pause
