"""Coroutines hear that they are cancelled, and that their worker has to leave."""

import signal
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskCancelled
from delayed.queue.queue import Queue
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.shutdown import EXIT_FORCED
from tests.support.processes import Fleet
from tests.support.waiting import eventually


def test_it_hears_a_cancel(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    fleet.delayed("worker", "--allow-any", "--keep-alive-interval=0.2", queue.name).ready()
    key = f"{queue.name}:c"
    handle = queue.enqueue(PyTask("coroutines:clean_up", (key,), track=True))
    eventually(lambda: client.exists(f"{key}:began"))
    assert handle.cancel() is State.RUNNING
    with pytest.raises(TaskCancelled):
        handle.result(20)
    assert client.llen(f"{key}:cleaned") == 1
    assert not list(dead_letters(queue))
    other = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    assert other.result(20) == 3, "the worker works on"


@pytest.mark.parametrize("options", [{}, {"track": True}], ids=["plain", "tracked"])
def test_it_cleans_up_when_the_grace_is_over_and_goes_back(
    fleet: Fleet, queue: Queue, client: redis.Redis, options: dict[str, Any]
) -> None:
    process = fleet.delayed("worker", "--allow-any", "--grace=0.3", queue.name).ready()
    key = f"{queue.name}:c"
    handle = queue.enqueue(PyTask("coroutines:clean_up", (key,), **options))
    eventually(lambda: client.exists(f"{key}:began"))
    process.send(signal.SIGTERM)
    assert process.wait() == EXIT_FORCED, process.log.read_text()
    assert client.llen(f"{key}:cleaned") == 1
    assert (queue.len(), client.hlen(queue.keys.processing), list(dead_letters(queue))) == (1, 0, [])
    assert not options or handle.status().state is State.QUEUED


@pytest.mark.parametrize("mode", ["--threads=2", "--async-tasks=5"])
def test_all_that_run_clean_up_when_the_grace_is_over(fleet: Fleet, queue: Queue, client: redis.Redis, mode: str) -> None:
    """The first takes longer than the second."""
    process = fleet.delayed("worker", "--allow-any", "--grace=0.3", mode, queue.name).ready()
    key = f"{queue.name}:c"
    queue.enqueue_many(PyTask("coroutines:clean_up", (key, pause)) for pause in (0.2, 0))
    eventually(lambda: client.llen(f"{key}:began") == 2)
    process.send(signal.SIGTERM)
    assert process.wait() == EXIT_FORCED, process.log.read_text()
    assert client.llen(f"{key}:cleaned") == 2
    assert (queue.len(), client.hlen(queue.keys.processing), list(dead_letters(queue))) == (2, 0, [])
