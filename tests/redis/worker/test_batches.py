"""A worker that runs several tasks at once hands them over in batches."""

import threading
from typing import Any, cast

import pytest
import redis

from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.redis.store import Store
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.executors import Completions, Loop, Threads
from delayed.worker.worker import Worker
from tests.redis.test_costs import monitored
from tests.support.waiting import eventually

COUNT = 300
GO = threading.Event()


@pytest.fixture(autouse=True)
def _closed() -> None:
    GO.clear()


async def coroutine(number: int) -> int:
    return number


def quick(number: int) -> int:
    return number


def slow() -> None:
    assert GO.wait(30)


MODES: list[tuple[Any, dict[str, Any]]] = [(coroutine, {"async_tasks": 100}), (quick, {"threads": 4})]


@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}], ids=["plain", "results"])
@pytest.mark.parametrize(("function", "mode"), MODES, ids=["coroutines", "threads"])
def test_many_are_taken_and_begun_together_and_end_without_replies(
    queue: Queue, client: redis.Redis, name: str, function: Any, mode: dict[str, Any], options: dict[str, Any]
) -> None:
    handles = queue.enqueue_all(PyTask(function, (number,), **options) for number in range(COUNT))
    worker = Worker(queue, allow=AllowAny(), burst=True, **mode)
    with monitored(client, name) as sent:
        worker.run()
    assert worker.finished == COUNT
    ends = COUNT if options else 0
    assert sent.count("EVALSHA") - ends < COUNT / 2, "takes, and beginnings"
    if options:
        assert [handle.result(1) for handle in handles] == list(range(COUNT))


def test_one_wake_is_for_all_that_have_ended() -> None:
    completions = Completions()
    completions.open()
    for number in range(5):
        completions.post(number)  # type: ignore[arg-type]
    completions.read()
    assert len(completions.ended) == 5
    completions.post(5)  # type: ignore[arg-type]
    completions.read()  # else this would find nothing to read, and the next wait nothing to hear
    completions.close()


@pytest.mark.parametrize("options", [{}, {"track": True}], ids=["plain", "tracked"])
def test_what_waits_in_front_of_a_thread_that_turns_out_to_be_slow_goes_back(
    queue: Queue, client: redis.Redis, options: dict[str, Any]
) -> None:
    queue.enqueue_many(PyTask(quick, (number,)) for number in range(COUNT))
    queue.enqueue(PyTask(slow))
    last = queue.enqueue(PyTask(quick, (1,), **options))
    worker = Worker(queue, allow=AllowAny(), burst=True, threads=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    eventually(lambda: (worker.finished, queue.len(), client.hlen(queue.keys.processing)) == (COUNT, 1, 1))
    assert not options or last.status().state is State.QUEUED
    GO.set()
    thread.join()
    assert worker.finished == COUNT + 2


class Handed:
    """An execution, as an executor sees it."""

    begun = stale = False

    def run(self) -> None:
        raise AssertionError("it has begun")

    run_async = run


@pytest.mark.parametrize("kind", [Threads, Loop])
def test_what_was_handed_over_before_a_pause_does_not_begin_after_it(kind: Any) -> None:
    """Its lease may have run out, and others may have it."""
    completions = Completions()
    completions.open()
    executor = kind(1, completions, lambda: None, lambda: False) if kind is Threads else kind(1, completions, lambda: False)
    executor.start()
    executor.submit(cast(Any, Handed()))
    eventually(lambda: len(completions.ended) == 1)
    assert completions.ended[0].stale
    executor.close()
    executor.join()
    completions.close()


def test_a_burst_does_not_end_while_something_is_on_its_way_back(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat has taken what waits behind a slow task, and Redis has it a little later."""
    queue.enqueue_many([PyTask(quick, (1,)), PyTask(slow), PyTask(quick, (2,)), PyTask(quick, (3,))])
    worker = Worker(queue, allow=AllowAny(), burst=True)
    worker._parts.fetcher.size = 4
    give_back = Store.give_back

    def slowly(self: Store, *arguments: Any) -> int:
        GO.set()  # the slow one ends, and the loop finds nothing in the queue
        eventually(lambda: worker.state.finished == 2)
        eventually(lambda: worker.state.rounds > 2)
        return give_back(self, *arguments)

    monkeypatch.setattr(Store, "give_back", slowly)
    worker.run()
    assert worker.finished == 4
