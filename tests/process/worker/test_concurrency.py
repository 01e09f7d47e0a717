"""Worker processes with many tasks in flight: real signals, kill -9."""

import os
import signal
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import SOON_DEAD, Fleet, Process

EXIT_FORCED = 3
MANY = 50


def worker(fleet: Fleet, *arguments: str) -> Process:
    return fleet.delayed("worker", "--allow-any", f"--async-tasks={MANY}", "--threads=2", *arguments).ready()


def hold_many(queue: Queue, client: redis.Redis) -> str:
    """As many in flight as can be, with and without headers, and ten that wait."""
    key = f"{queue.name}:h"
    options: list[dict[str, Any]] = [{}, {"track": True}]
    queue.enqueue_many(PyTask("coroutines:hold", (key, n), **options[n % 2]) for n in range(MANY + 10))
    eventually(lambda: client.llen(f"{key}:began") == MANY)
    assert queue.len() == 10
    return key


def numbers(client: redis.Redis, key: str) -> list[int]:
    return sorted(map(int, client.lrange(key, 0, -1)))


@pytest.mark.slow
@pytest.mark.parametrize("supervised", [False, True])
def test_a_killed_worker_loses_nothing_and_repeats_what_was_in_flight(
    fleet: Fleet, queue: Queue, client: redis.Redis, supervised: bool
) -> None:
    if supervised:  # no sweeper runs, and the leases would live for a day
        worker(fleet, "-c", "1", "--keep-alive-timeout=86400", queue.name)
    else:
        victim = worker(fleet, *SOON_DEAD, queue.name)
    queue.enqueue(PyTask("tasks:note_process", (f"{queue.name}:pid",)))
    eventually(lambda: client.llen(f"{queue.name}:pid") == 1)
    key = hold_many(queue, client)
    os.kill(int(client.lindex(f"{queue.name}:pid", 0) or 0), signal.SIGKILL)
    client.set(f"{key}:go", 1)
    if not supervised:
        victim.wait()
        fleet.sweeper(queue.name)
        worker(fleet, queue.name)
    eventually(lambda: inspect(queue)[1:5] == (0, 0, 0, 0) and client.llen(f"{key}:ended") >= MANY + 10)
    assert numbers(client, f"{key}:ended") == list(range(MANY + 10))
    assert client.llen(f"{key}:began") <= 2 * MANY + 10
    assert not list(dead_letters(queue))


def test_a_signal_lets_all_in_flight_end(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    process = worker(fleet, queue.name)
    key = hold_many(queue, client)
    process.send(signal.SIGTERM)
    process.expect("STOPPING=1")
    client.set(f"{key}:go", 1)
    assert process.wait() == 0, process.log.read_text()
    assert client.llen(f"{key}:ended") == MANY
    assert inspect(queue)[1:5] == (10, 10, 0, 0)
    assert not client.exists(queue.keys.processing, queue.keys.workers)


@pytest.mark.parametrize("how", [(signal.SIGQUIT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM,)])
def test_a_forced_exit_gives_back_all_in_flight(
    fleet: Fleet, queue: Queue, client: redis.Redis, how: tuple[signal.Signals, ...]
) -> None:
    process = worker(fleet, "--grace=0.3" if how == (signal.SIGTERM,) else "--grace=60", queue.name)
    hold_many(queue, client)
    for number in how[:-1]:
        process.send(number)
        process.expect("STOPPING=1")
    process.send(how[-1])
    assert process.wait() == EXIT_FORCED, process.log.read_text()
    assert queue.len() == MANY + 10
    assert not client.exists(queue.keys.processing, queue.keys.workers)
    client.delete(f"{queue.name}:h:began")


@pytest.mark.parametrize("function", ["coroutines:forever", "coroutines:block"])
def test_a_hard_timeout_ends_one_task_and_gives_the_others_back(
    fleet: Fleet, queue: Queue, client: redis.Redis, function: str
) -> None:
    key = f"{queue.name}:h"
    process = worker(fleet, queue.name)
    queue.enqueue_many(PyTask("coroutines:hold", (key, number)) for number in range(5))
    eventually(lambda: client.llen(f"{key}:began") == 5)
    queue.enqueue(PyTask(function, (f"{key}2", 1)[: 1 if function.endswith("forever") else 2], hard_timeout=0.3))
    assert process.wait() == EXIT_FORCED
    (letter,) = dead_letters(queue)
    assert (letter.reason, letter.task) == ("timed_out", function)
    assert queue.len() == 5


def test_main_thread_and_loop_in_one_process(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """Plain functions have the main thread, where their soft timeout works, and hold up no coroutine."""
    fleet.delayed("worker", "--allow-any", "--async-tasks=10", queue.name).ready()
    queue.enqueue(PyTask("coroutines:block", (f"{queue.name}:b", 1)))
    eventually(lambda: client.llen(f"{queue.name}:b:began") == 1)
    handle = queue.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60))
    assert handle.result(20) == 3
    client.set(f"{queue.name}:b:go", 1)
    queue.enqueue(PyTask("coroutines:block", (f"{queue.name}:c", 1), timeout=0.2))
    eventually(lambda: inspect(queue).dead == 1)
    (letter,) = dead_letters(queue)
    assert "TimedOut" in letter.detail


def test_a_fork_in_a_thread_and_in_a_coroutine_s_worker_is_a_child(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker(fleet, queue.name)
    for function in ("tasks:fork_and_exit", "tasks:fork_and_return"):
        queue.enqueue(PyTask(function, (f"{queue.name}:f",)))
    eventually(lambda: client.llen(f"{queue.name}:f") == 2)
    eventually(lambda: client.hlen(queue.keys.processing) == 0)
    assert not list(dead_letters(queue))
