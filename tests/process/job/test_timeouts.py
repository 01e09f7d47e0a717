"""Tasks that take too long."""

import os
import signal

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskFailed
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.system import alarm
from delayed.task.result import State
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.process.test_processes import EXIT_FORCED, popped
from tests.support.processes import Fleet


def test_soft_an_exception_inside(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:sleep", (60,), timeout=0.05, result_ttl=60))
    burst(queue)
    with pytest.raises(TaskFailed, match=r"TimedOut: it exceeded its timeout of 0\.05 s"):
        handle.result(1)
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert "in sleep" in letter.detail


def test_soft_a_task_can_clear_up(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("life:clear_up", (60,), timeout=0.05, result_ttl=60))
    burst(queue)
    assert handle.result(1) == "cleared up"


def test_soft_is_tried_again(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:sleep", (60,), retry=2, timeout=0.02))
    assert sum(burst(queue).finished for _ in range(3)) == 3
    assert inspect(queue).dead == 1


def test_soft_is_over_with_the_task(queue: Queue) -> None:
    before = signal.getsignal(signal.SIGALRM)
    queue.enqueue_many(PyTask("tasks:noop", timeout=0.01) for _ in range(200))
    assert burst(queue).finished == 200
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
    assert inspect(queue).dead == 0


def test_soft_timeouts_leave_no_timer_to_tasks_without_one(queue: Queue) -> None:
    path = "tasks:see_timer"
    timed = PyTask(path, (True,), timeout=60)
    queue.enqueue_many([timed, PyTask(path, (False,)), timed, PyTask(path, (False,), expires=600), timed])
    assert burst(queue).finished == 5
    assert inspect(queue).dead == 0
    assert inspect(queue).waiting == 0


def test_soft_is_not_kept_in_a_thread_and_the_log_says_so_once(
    queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm, "_warned", set())
    queue.enqueue_many(PyTask(path, timeout=0.5) for path in ("tasks:noop", "tasks:noop", "coroutines:about_itself"))
    queue.enqueue(PyTask("tasks:noop"))
    assert burst(queue, threads=2, async_tasks=2).finished == 4
    (warned,) = [record.getMessage() for record in caplog.records if "timeout" in record.getMessage()]
    assert warned.startswith("Task tasks:noop has a timeout of 0.5 s, which is not kept in a thread: make it `async def`")


def test_hard_the_process_ends_and_says_why(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.worker(queue.name)
    task = PyTask("tasks:hold", (f"{queue.name}:h", "x"), hard_timeout=2, result_ttl=60)
    handle = queue.enqueue(task)
    popped(client, f"{queue.name}:h:began")
    queue.enqueue(PyTask("tasks:noop"))
    assert worker.wait() == EXIT_FORCED
    with pytest.raises(TaskFailed, match="timed_out"):
        handle.result(1)
    (letter,) = dead_letters(queue)
    assert letter.reason == "timed_out"
    assert letter.detail == "it exceeded its hard timeout of 2 s; its process was ended"
    assert queue.len() == 1
    assert inspect(queue).held == 0


@pytest.mark.slow
def test_hard_is_tried_again(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    fleet.delayed("worker", "--allow-any", "-c", "1", queue.name).ready()
    queue.enqueue(PyTask("tasks:note_and_stay", (f"{queue.name}:n",), retry=1, hard_timeout=2))
    first, second = popped(client, f"{queue.name}:n"), popped(client, f"{queue.name}:n")
    assert first != second  # another process
    eventually(lambda: inspect(queue).dead == 1)
    assert inspect(queue).recovered == 0


@pytest.mark.slow
def test_hard_the_supervisor_kills_who_cannot_end_himself(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """A C extension that lets no other thread run: nobody in that process can end the task."""
    fleet.delayed("worker", "--allow-any", "-c", "1", "--limit", "1", queue.name).ready()
    queue.enqueue(PyTask("tasks:hold_the_interpreter", (f"{queue.name}:n", 60), hard_timeout=2, result_ttl=60))
    pid = int(popped(client, f"{queue.name}:n:began"))
    eventually(lambda: inspect(queue).dead == 1)
    (letter,) = dead_letters(queue)
    assert letter.reason == "lost"
    assert letter.detail.endswith("this time: its task exceeded its hard timeout")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_worker_that_was_killed_in_a_tracked_task_leaves_no_key_locked(
    fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    fleet.delayed("worker", "--allow-any", "-c", "1", queue.name).ready()
    key = f"{queue.name}:n"
    for mode in ("while_running", "until_done"):
        handle = queue.enqueue(PyTask("tasks:kill_once", (key, mode), unique=mode, unique_mode=mode, result_ttl=60))
        assert handle.result(30) == "the second time"
        assert handle.status().state is State.SUCCEEDED
    assert not list(client.scan_iter(f"{queue.name}_unique_*"))


@pytest.mark.slow
def test_hard_is_told_to_those_who_listen(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    fleet.delayed("worker", "--allow-any", "-c", "1", queue.name).ready()
    key = f"{queue.name}:heard"
    queue.enqueue(PyTask("life:stay_and_be_heard", (key,), hard_timeout=2, retry=1))
    assert [popped(client, key) for _ in range(4)] == [b"started", b"retrying", b"started", b"buried"]
