"""Limits over several real worker processes, also when one is killed."""

from collections.abc import Iterator
from functools import partial

import pytest
import redis

from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet

OPTIONS = ("--dequeue-timeout=0.2",)


@pytest.fixture
def key(queue: Queue, client: redis.Redis) -> Iterator[str]:
    yield f"{queue.name}:h"
    client.delete(*[f"{queue.name}:h:{part}" for part in ("began", "go", "ended")])


def began(client: redis.Redis, key: str) -> int:
    return int(client.llen(f"{key}:began"))


def reached(client: redis.Redis, key: str, count: int) -> bool:
    return began(client, key) == count


def let_go(client: redis.Redis, key: str, count: int = 1) -> None:
    client.rpush(f"{key}:go", *["1"] * count)


def turned(queue: Queue) -> None:
    """All living workers have beaten, and so have heard of what operators want: their own leases are there again."""
    leases = list(queue.store.call("HGETALL", queue.keys.workers))
    assert leases
    queue.store.call("DEL", *leases)
    eventually(lambda: queue.store.call("EXISTS", *leases) == len(leases))


@pytest.mark.slow
def test_never_more_than_the_limit_and_a_killed_worker_frees_its_place(
    fleet: Fleet, queue: Queue, client: redis.Redis, key: str
) -> None:
    queue.limit(concurrency=2)
    victims = [fleet.quick_worker(queue.name, *OPTIONS) for _ in range(3)]
    fleet.sweeper(queue.name)
    queue.enqueue_many(PyTask("tasks:hold", (key, number)) for number in range(8))
    eventually(lambda: began(client, key) == 2)
    for ended in range(1, 4):  # each that ends lets one begin
        let_go(client, key)
        eventually(partial(reached, client, key, ended + 2))
        assert inspect(queue).held == 2
    holders = {lease.held_by for lease in inspect(queue).leases}
    victim = next(worker for worker in victims if any(place.endswith(f":{worker.pid}") for place in holders))
    victim.kill()
    eventually(lambda: began(client, key) == 6)  # its task, or another: it has the free place
    assert inspect(queue).held <= 2
    let_go(client, key, 20)
    eventually(lambda: inspect(queue)[1:5] == (0, 0, 0, 0), 30)
    assert began(client, key) == 9  # eight tasks, one of them twice


@pytest.mark.slow
def test_tasks_with_one_key_beside_each_other_are_few(fleet: Fleet, queue: Queue, client: redis.Redis, key: str) -> None:
    victims = [fleet.quick_worker(queue.name, *OPTIONS) for _ in range(3)]
    fleet.sweeper(queue.name)
    for number in range(3):
        queue.enqueue(PyTask("tasks:hold", (key, number), concurrency_key="user-7"))
    queue.enqueue(PyTask("tasks:note", (f"{key}:ended", "other"), concurrency_key="user-8"))
    eventually(lambda: began(client, key) == 1)
    eventually(lambda: client.lrange(f"{key}:ended", 0, -1) == [b"other"])
    eventually(
        lambda: queue.store.call("ZCARD", queue.keys.waits(queue.keys.slots("user-7"))) == 2
    )  # the others have been refused a slot, and wait
    assert began(client, key) == 1
    eventually(lambda: client.hlen(queue.keys.processing) == 1)  # the other one has ended
    (holder,) = {lease.held_by for lease in inspect(queue).leases}
    victim = next(worker for worker in victims if holder.endswith(f":{worker.pid}"))
    victim.kill()
    eventually(lambda: began(client, key) == 2, 30)
    let_go(client, key, 20)
    eventually(lambda: client.llen(f"{key}:ended") == 4, 30)
    eventually(lambda: inspect(queue)[1:5] == (0, 0, 0, 0), 30)


@pytest.mark.slow
def test_a_pause_holds_under_a_supervisor_and_resume_goes_on(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:n"
    fleet.quick_worker(queue.name, "-c2", *OPTIONS)
    queue.enqueue(PyTask("tasks:note", (key, "before")))
    eventually(lambda: client.llen(key) == 1)
    assert fleet.delayed("queue", "pause", queue.name).wait() == 0
    turned(queue)
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(5))
    turned(queue)
    assert (client.llen(key), queue.store.lengths()) == (1, (5, 5))
    assert fleet.delayed("queue", "resume", queue.name).wait() == 0
    eventually(lambda: client.llen(key) == 6)


def test_a_rate_is_for_all_workers_together(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}:n"
    queue.limit(rate=0.001, burst=6)
    for _ in range(2):
        fleet.quick_worker(queue.name, *OPTIONS)
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(10))
    eventually(lambda: client.llen(key) == 6)
    turned(queue)
    assert (client.llen(key), queue.len()) == (6, 4)
    queue.store.call("DEL", queue.keys.bucket)  # as after a rest,
    queue.limit(rate=0.002, burst=6)  # and what workers know of how long to wait is no longer right
    eventually(lambda: client.llen(key) == 10)
