"""Tasks that ask for more, from one language to the other: what one enqueues, the other runs, moves, answers and cancels."""

import threading
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from delayed.backoff import Constant
from delayed.dead_letters.letter import dead_letters
from delayed.errors import Duplicate, TaskCancelled, TaskExpired, TaskFailed
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.keys import Keys
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from delayed.worker.worker import Worker
from tests import ROOT
from tests.conftest import burst, eventually
from tests.support.processes import Fleet, Process
from tests.support.waiting import LONG_AGO

from .agents import Ask, go_binary, go_program, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")


def program(fleet: Fleet, *arguments: str) -> Process:
    return fleet.start(go_binary("conformance", ROOT / "interop", "./cmd/conformance"), *arguments)


@pytest.fixture
def go_worker(fleet: Fleet, queue: Queue) -> Process:
    return program(fleet, "work", queue.name).ready()


@pytest.fixture
def ask(redis_url: str, queue: Queue) -> Ask:
    """Asks a Go program to do something with a task of the queue."""
    return go_program(redis_url, "ask", queue.name)


@pytest.mark.usefixtures("go_worker")
def test_values_of_extension_types_go_there_and_back(queue: Queue) -> None:
    day, opens = date(2026, 2, 28), time(8, 30, 0, 5)
    order = (Decimal("9.90"), uuid4(), day, opens, timedelta(hours=1, microseconds=1), Path("/srv/ä"), {"new", "paid"})
    handle = queue.enqueue(GoTask("main.Order", order, result_ttl=60))
    assert handle.result(20) == list(order)


@pytest.mark.usefixtures("go_worker")
def test_python_gets_what_go_returned(queue: Queue) -> None:
    added = queue.enqueue(GoTask("main.Add", (1, 2), result_ttl=60))
    assert added.result(20) == 3
    assert added.status().state is State.SUCCEEDED
    failed = queue.enqueue(GoTask("main.Fail", track=True))
    with pytest.raises(TaskFailed) as caught:
        failed.result(20)
    assert (caught.value.kind, str(caught.value.message)) == ("errors.errorString", "as it was told to")
    late = queue.enqueue(GoTask("main.Add", (1, 2), expires=LONG_AGO, track=True))
    with pytest.raises(TaskExpired):
        late.result(20)
    timed_out = queue.enqueue(GoTask("main.UntilCancelled", timeout=0.05, track=True))
    with pytest.raises(TaskFailed, match=r"(exceeded|longer than) its timeout"):
        timed_out.result(20)
    assert [letter.reason for letter in dead_letters(queue)] == ["failed", "expired", "failed"]


@pytest.mark.usefixtures("go_worker")
def test_who_waits_hears_that_go_cannot_run_a_task(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", result_ttl=60, unique="u"))
    with pytest.raises(TaskFailed, match="is the path of a Python function") as caught:
        handle.result(20)
    (letter,) = dead_letters(queue)
    assert (letter.reason, caught.value.kind, caught.value.traceback) == ("wrong_language", "wrong_language", "")
    assert handle.status().state is State.FAILED
    assert handle.status().error == f"wrong_language: {letter.detail}"
    assert queue.enqueue(PyTask("tasks:noop", unique="u")).id != handle.id


@pytest.mark.usefixtures("go_worker")
def test_python_cancels_what_go_runs(queue: Queue) -> None:
    handle = queue.enqueue(GoTask("main.UntilCancelled", track=True))
    eventually(lambda: handle.status().note == "waiting")
    assert handle.cancel() is State.RUNNING
    with pytest.raises(TaskCancelled):
        handle.result(20)
    assert not list(dead_letters(queue))


@pytest.mark.usefixtures("go_worker", "sweeping")
def test_go_retries_with_back_off(queue: Queue) -> None:
    handle = queue.enqueue(GoTask("main.FailUntil", (3,), retry=5, backoff=Constant(0.02), result_ttl=60))
    assert handle.result(20) == 3
    assert handle.status().error == "attempt 2"
    failed = queue.enqueue(GoTask("main.FailUntil", (3,), retry=1, backoff=Constant(0.02), result_ttl=60))
    with pytest.raises(TaskFailed, match="attempt 2"):
        failed.result(20)


def test_go_gets_what_python_returned(queue: Queue, ask: Ask, threaded: Callable[[Worker], threading.Thread]) -> None:
    threaded(Worker(queue, allow=["tasks:*"]))
    assert ask(path="tasks:two", args=[1, 5], wait=True)["value"] == 6
    failed = ask(path="tasks:fail", args=["no"], wait=True)
    assert (failed["kind"], failed["message"]) == ("builtins.ValueError", "no")
    assert "known" in ask(id="A" * 16, wait=True)["error"]
    assert [letter.reason for letter in dead_letters(queue)] == ["failed"]


def test_go_cancels_what_python_runs(queue: Queue, ask: Ask, threaded: Callable[[Worker], threading.Thread]) -> None:
    threaded(Worker(queue, allow=["life:*"]))
    handle = queue.enqueue(PyTask("life:until_cancelled", result_ttl=60))
    eventually(lambda: handle.status().state is State.RUNNING)
    assert ask(id=handle.id, cancelit=True)["state"] == "running"
    assert ask(id=handle.id, wait=True)["value"] == handle.result(20)


def test_a_unique_key_is_one_for_both(queue: Queue, ask: Ask) -> None:
    first = queue.enqueue(PyTask("tasks:two", (1,), unique="käse"))
    assert ask(path="tasks:two", args=[1], unique="käse")["duplicate"] == first.id
    assert ask(path="tasks:two", args=[1], unique="käse", join=True)["id"] == first.id
    burst(queue)  # and now it is free
    second = ask(path="tasks:two", args=[1], unique="käse")["id"]
    with pytest.raises(Duplicate) as caught:
        queue.enqueue(PyTask("tasks:two", (1,), unique="käse"))
    assert caught.value.id == second
    burst(queue)
    assert Handle(queue, second).status().state is State.SUCCEEDED


def scheduled(queue: Queue) -> int:
    return int(queue.store.call("ZCARD", queue.keys.scheduled))


@pytest.mark.usefixtures("sweeping")
def test_a_sweeping_moves_what_go_has_scheduled(queue: Queue, ask: Ask) -> None:
    handle = Handle(queue, ask(path="tasks:two", args=[1, 2], after=0.3)["id"])
    assert queue.len() + scheduled(queue) == 1
    eventually(lambda: queue.len() == 1)
    burst(queue)
    assert handle.result(20) == 3


def test_a_go_sweeper_moves_what_python_has_scheduled(queue: Queue, fleet: Fleet) -> None:
    binary = go_binary("delayed-sweeper", ROOT / "interop", "./cmd/delayed-sweeper")
    fleet.start(binary, "-redis", fleet.environment["DELAYED_REDIS_URL"], "-queues", queue.name, "-interval", "1h").ready()
    later = queue.enqueue(PyTask("tasks:two", (1,), after=timedelta(hours=1).total_seconds(), track=True))
    handle = queue.enqueue(PyTask("tasks:two", (1, 2), after=0.3, result_ttl=60))
    eventually(lambda: queue.len() == 1)
    assert later.status().state is State.SCHEDULED
    burst(queue)
    assert handle.result(20) == 3
    assert later.cancel() is State.SCHEDULED
    assert scheduled(queue) == 0


def test_both_name_the_keys_of_a_task_alike() -> None:
    keys = Keys("q")
    assert keys.unique("k") == "q_unique_13fbd79c3d390e5d6585a21e11ff5ec1970cff0c"  # as the Go module's tests have it
    assert keys.task("i") == "q_task_i"
