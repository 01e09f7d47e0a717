"""What operators and tasks want of workers, where a queue has workers of both languages.

A worker buries what is for the other language. That counts as a task which it has taken, and as nothing that could be missed.
"""

from collections.abc import Callable, Iterator

import pytest
import redis

from delayed.base.ids import token
from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskCancelled, TaskFailed
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from tests import ROOT
from tests.conftest import eventually
from tests.support.processes import Fleet, Process

from .agents import go_binary, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")
Start = Callable[[str], Process]


@pytest.fixture
def key(queue: Queue, client: redis.Redis) -> Iterator[str]:
    yield f"{queue.name}:h"
    client.delete(*[f"{queue.name}:h{part}" for part in ("", ":began", ":go", ":ended")])


@pytest.fixture
def worker(fleet: Fleet, queue: Queue) -> Start:
    """Starts a worker of a language."""

    def start(language: str) -> Process:
        if language == "python":
            return fleet.quick_worker(queue.name, "--dequeue-timeout=0.2")
        return fleet.start(go_binary("conformance", ROOT / "interop", "./cmd/conformance"), "work", queue.name).ready()

    return start


def hold(language: str, key: str) -> GoTask | PyTask:
    return PyTask("tasks:hold", (key, 1)) if language == "python" else GoTask("main.Hold", (key,))


def note(language: str, key: str) -> GoTask | PyTask:
    return PyTask("tasks:note", (key, 1)) if language == "python" else GoTask("main.Echo", (key, 1))


def both(tasks: Callable[[str, str], GoTask | PyTask], key: str, count: int) -> list[GoTask | PyTask]:
    return [tasks(language, key) for _ in range(count) for language in ("python", "go")]


def turned(queue: Queue, workers: int = 2) -> None:
    """All workers have beaten, and so have heard of what operators want: their own leases are there again."""
    eventually(lambda: queue.store.call("HLEN", queue.keys.workers) == workers)
    leases = list(queue.store.call("HKEYS", queue.keys.workers))
    queue.store.call("DEL", *leases)
    eventually(lambda: queue.store.call("EXISTS", *leases) == workers)


def buried(queue: Queue) -> int:
    return len(list(dead_letters(queue)))


@pytest.mark.parametrize("first", ["python", "go"])
def test_one_place_is_for_both(queue: Queue, client: redis.Redis, key: str, worker: Start, first: str) -> None:
    def lengths() -> tuple[int, int]:
        return int(client.llen(f"{key}:began")), int(client.llen(f"{key}:ended"))

    def one_holds_or_all_is_done() -> bool:
        held = int(queue.store.call("HLEN", queue.keys.processing))
        assert held <= 1
        began, ended = lengths()
        assert began - ended <= 1
        return began == ended + 1 or (held == 0 and queue.len() == 0)

    queue.limit(concurrency=1)
    worker(first)
    queue.enqueue(hold(first, key))
    eventually(lambda: lengths() == (1, 0))
    worker("go" if first == "python" else "python")
    queue.enqueue_many(both(hold, key, 5))
    turned(queue)
    assert (inspect(queue).held, queue.store.lengths(), buried(queue)) == (1, (10, 10), 0)
    while lengths()[0] > lengths()[1]:
        ended = lengths()[1]
        client.rpush(f"{key}:go", "1")
        eventually(lambda seen=ended: lengths()[1] > seen)  # type: ignore[misc]
        eventually(one_holds_or_all_is_done)
    assert lengths()[1] + buried(queue) == 11


def test_a_rate_counts_both(queue: Queue, client: redis.Redis, key: str, worker: Start) -> None:
    queue.limit(rate=0.001, burst=6)
    worker("python")
    worker("go")
    queue.enqueue_many(both(note, key, 5))
    eventually(lambda: client.llen(key) + buried(queue) == 6)
    turned(queue)
    assert (client.llen(key) + buried(queue), queue.len()) == (6, 4)
    queue.limit()
    eventually(lambda: client.llen(key) + buried(queue) == 10)


def test_a_paused_queue_stays_full_with_both(queue: Queue, client: redis.Redis, key: str, worker: Start) -> None:
    worker("python")
    worker("go")
    queue.enqueue_many(both(note, key, 2))
    eventually(lambda: client.llen(key) + buried(queue) == 4)
    queue.pause()
    turned(queue)
    queue.enqueue_many(both(note, key, 4))
    turned(queue)
    assert (client.llen(key) + buried(queue), queue.store.lengths()) == (4, (8, 8))
    queue.resume()
    eventually(lambda: client.llen(key) + buried(queue) == 12)


def test_a_go_worker_lets_groups_take_turns(queue: Queue, client: redis.Redis, key: str, worker: Start) -> None:
    for number in range(40):
        queue.enqueue(GoTask("main.Echo", (key, number), group="a"))
    queue.enqueue(GoTask("main.Echo", (key, 100), group="b"))
    assert (queue.len(), len(queue.store.grouped(10))) == (16, 2)  # producers have moved the first ones
    worker("go")
    eventually(lambda: client.llen(key) == 41)
    ran = [number[0] for number in client.lrange(key, 0, -1)]  # as MessagePack writes small numbers
    assert ran == [*range(17), 100, *range(17, 40)]


@pytest.mark.slow
def test_a_slot_of_a_killed_go_worker_comes_back(
    fleet: Fleet, queue: Queue, client: redis.Redis, key: str, worker: Start
) -> None:
    workers = [worker("go"), worker("go")]
    fleet.sweeper(queue.name)
    for _ in range(3):
        queue.enqueue(GoTask("main.Hold", (key,), concurrency_key="user-7"))
    eventually(lambda: client.llen(f"{key}:began") == 1)
    eventually(
        lambda: queue.store.call("ZCARD", queue.keys.waits(queue.keys.slots("user-7"))) == 2
    )  # the others have been refused a slot, and wait
    (holder,) = {lease.held_by for lease in inspect(queue).leases}
    next(each for each in workers if holder.endswith(f":{each.pid}")).kill()
    eventually(lambda: client.llen(f"{key}:began") == 2, 30)
    client.rpush(f"{key}:go", *["1"] * 9)
    eventually(lambda: client.llen(f"{key}:ended") == 3, 30)
    eventually(lambda: queue.store.call("EXISTS", queue.keys.slots("user-7")) == 0)


def test_a_go_task_past_its_hard_timeout_ends_its_process(queue: Queue, key: str, worker: Start) -> None:
    process = worker("go")
    handle = queue.enqueue(GoTask("main.Hold", (key,), hard_timeout=0.2, result_ttl=60))
    with pytest.raises(TaskFailed) as caught:
        handle.result(20)
    assert (caught.value.kind, process.wait()) == ("timed_out", 3)
    assert [letter.reason for letter in dead_letters(queue)] == ["timed_out"]
    assert inspect(queue).held == 0


def test_a_go_task_that_is_cancelled_hard_ends_with_its_process(queue: Queue, key: str, worker: Start) -> None:
    process = worker("go")
    handle = queue.enqueue(GoTask("main.Hold", (key,), track=True))
    queue.enqueue(GoTask("main.Hold", (key,)))
    eventually(lambda: handle.status().state is State.RUNNING)
    assert handle.cancel(hard=True) is State.RUNNING
    with pytest.raises(TaskCancelled):
        handle.result(20)
    assert (process.wait(), queue.store.lengths(), buried(queue)) == (3, (1, 1), 0)


def test_a_go_sweeper_tells_those_who_wait(fleet: Fleet, queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:hold", ("k", 1), result_ttl=60, unique="k"))
    lease = queue.keys.lease(token(), 0)
    assert len(queue.store.take([lease], "x", 60).tasks) == 1
    queue.store.call("DEL", lease)
    binary = go_binary("delayed-sweeper", ROOT / "interop", "./cmd/delayed-sweeper")
    url = fleet.environment["DELAYED_REDIS_URL"]
    fleet.start(binary, "-redis", url, "-queues", queue.name, "-interval=1h", "-limit=1").ready()
    with pytest.raises(TaskFailed) as caught:
        handle.result(20)
    assert caught.value.kind == "lost"
    assert queue.store.call("EXISTS", queue.keys.unique("k")) == 0
