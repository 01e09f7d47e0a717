"""Tasks that are cancelled for good: if they do not end, their process does."""

import os
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskCancelled
from delayed.ops.info import inspect
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.task.result import State
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.process.test_processes import EXIT_FORCED, popped
from tests.support.processes import SOON_DEAD, Fleet


def is_over(handle: Handle[Any]) -> None:
    with pytest.raises(TaskCancelled):
        handle.result(20)
    assert handle.status().state is State.CANCELLED


def test_the_process_ends_and_holds_nothing(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.quick_worker(queue.name)
    handle = queue.enqueue(PyTask("tasks:hold", (f"{queue.name}:h", "x"), retry=3, unique="k", track=True))
    popped(client, f"{queue.name}:h:began")
    queue.enqueue(PyTask("tasks:noop"))
    assert handle.cancel(hard=True) is State.RUNNING
    is_over(handle)
    assert worker.wait() == EXIT_FORCED
    assert (inspect(queue).held, queue.len(), list(dead_letters(queue))) == (0, 1, [])
    assert not client.exists(*(f"{queue.name}:h:ended", queue.keys.unique("k")))


def test_the_supervisor_starts_another(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    fleet.worker("-c", "1", *SOON_DEAD, queue.name)
    handle = queue.enqueue(PyTask("tasks:hold", (f"{queue.name}:h", "x"), track=True))
    popped(client, f"{queue.name}:h:began")
    assert handle.cancel(hard=True) is State.RUNNING
    is_over(handle)
    assert queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)).result(20) == 3
    assert inspect(queue).recovered == 0


def test_a_task_that_listens_ends_by_itself(fleet: Fleet, queue: Queue) -> None:
    worker = fleet.delayed("worker", "--allow-any", "--keep-alive-timeout=20", "--keep-alive-interval=9", queue.name).ready()
    handle = queue.enqueue(PyTask("life:until_cancelled", result_ttl=60))
    eventually(lambda: handle.status().done == 1)
    assert handle.cancel(hard=True) is State.RUNNING
    assert handle.result(20) == "cancelled"
    assert queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)).result(20) == 3
    assert worker.popen.poll() is None


def test_what_ran_beside_it_goes_back(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.quick_worker("--threads", "2", queue.name)
    key = f"{queue.name}:h"
    first, second = (queue.enqueue(PyTask("tasks:hold", (key, name), result_ttl=60)) for name in "ab")
    assert {popped(client, f"{key}:began"), popped(client, f"{key}:began")} == {b"a", b"b"}
    first.cancel(hard=True)
    is_over(first)
    assert worker.wait() == EXIT_FORCED
    assert (inspect(queue).held, queue.len()) == (0, 1)
    client.rpush(f"{key}:go", 1)
    fleet.quick_worker("--burst", queue.name)
    second.result(20)
    assert client.lrange(f"{key}:ended", 0, -1) == [b"b"]


def test_the_supervisor_kills_who_cannot_hear(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """A C extension that lets no other thread run. It is cancelled, not lost: with this limit it would be buried."""
    fleet.worker("-c", "1", "--limit", "1", *SOON_DEAD, queue.name)
    handle = queue.enqueue(PyTask("tasks:hold_the_interpreter", (f"{queue.name}:n", 60), track=True))
    pid = int(popped(client, f"{queue.name}:n:began"))
    handle.cancel(hard=True)
    is_over(handle)
    eventually(lambda: inspect(queue).held == 0)
    assert list(dead_letters(queue)) == []
    assert queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)).result(20) == 3
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_to_ask_again_gently_does_not_spare_it(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.quick_worker(queue.name)
    handle = queue.enqueue(PyTask("tasks:hold", (f"{queue.name}:h", "x"), track=True))
    popped(client, f"{queue.name}:h:began")
    handle.cancel(hard=True)
    handle.cancel()
    is_over(handle)
    assert worker.wait() == EXIT_FORCED
