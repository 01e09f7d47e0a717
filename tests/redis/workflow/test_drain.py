"""`delayed.testing.drain` runs workflows, on a fake Redis and on a real one."""

import pytest

from delayed import PyTask, chain, current_task, group
from delayed.queue.queue import Queue
from delayed.testing import drain
from delayed.testing.fake import fake_queue
from delayed.workflow import Flow


def number(value: int) -> int:
    return value


def total() -> int:
    return sum(current_task().previous)


def more() -> None:
    workflow = current_task().workflow
    assert workflow is not None
    workflow.add(PyTask(number, (1,)))


def fail() -> None:
    raise ValueError("x")


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest) -> Queue:
    return fake_queue() if request.param == "fake" else request.getfixturevalue("queue")


def test_drain_runs_workflows(place: Queue) -> None:
    run = group(PyTask(number, (1,)), PyTask(number, (2,))).then(PyTask(total)).submit(place)
    assert drain(place) == 3
    assert run.result(0) == 3


def test_drain_runs_what_is_added_and_waits_for_signals(place: Queue) -> None:
    flow = Flow(place, then_complete=[PyTask(number, (5,))])
    flow.add(PyTask(number, (3,)), after=[flow.add(PyTask(more)), flow.wait("go", timeout=60)])
    run = flow.submit()
    assert drain(place) == 2
    run.signal("go")
    assert drain(place) == 2
    assert run.status().state == "succeeded"


def test_a_failure_is_shown_or_ends_as_in_a_worker(place: Queue) -> None:
    chain(PyTask(fail), PyTask(number, (1,))).submit(place)
    with pytest.raises(ValueError, match="x"):
        drain(place)
    run = chain(PyTask(fail), PyTask(number, (1,))).submit(place)
    drain(place, retries=True)
    assert [node.state for node in run.nodes()] == ["failed", "skipped"]
