"""How a worker carries on the workflows of the nodes that it ends."""

import threading
from typing import Any

import pytest

from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from delayed.workflow import Flow, Run, group
from delayed.workflow.carry import Carrier
from tests.conftest import burst
from tests.redis.workflow.functions import SEEN

FUNCTIONS = "tests.redis.workflow.functions"


def submit(queue: Queue, count: int) -> Run:
    members = (PyTask(f"{FUNCTIONS}:same", (number,)) for number in range(count))
    return group(members).then(PyTask(f"{FUNCTIONS}:see")).submit(queue)


@pytest.mark.parametrize("count", [1, 2])  # of more a slow worker may give some back
def test_what_comes_after_the_last_member_is_taken_without_a_question(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The join goes with what ends the members, and the next take finds what it has released."""
    run = submit(queue, count)
    asked: list[list[Any]] = []
    join = Carrier._join

    def noted(self: Carrier, flow: str) -> bytes:
        if threading.current_thread() is threading.main_thread():  # the heartbeat asks, too, while a task is slow
            asked.append(list(SEEN))
        return join(self, flow)

    SEEN.clear()
    monkeypatch.setattr(Carrier, "_join", noted)
    monkeypatch.setattr("delayed.worker.joins._LONGEST", 60.0)  # however slow the machine is
    burst(queue)
    assert run.status().state == "succeeded"
    assert [list(range(count))] == SEEN
    assert asked, "before it waits it asks what is left"
    assert asked[0] == SEEN


def test_a_worker_that_ends_leaves_nothing_that_has_to_be_asked_for(queue: Queue) -> None:
    """A map needs more than a script; and there is no sweeper."""
    flow = Flow(queue)
    flow.map(PyTask(f"{FUNCTIONS}:same"), over=flow.add(PyTask(f"{FUNCTIONS}:numbers", (3,))))
    run = flow.submit()
    Worker(queue, allow=AllowAny(), max_tasks=1).run()
    assert run.status().total == 4
    assert queue.store.call("LLEN", queue.name) == 3
