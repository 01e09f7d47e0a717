"""The handle of a workflow finds its nodes."""

from typing import Any

import pytest
import redis

from delayed import PyTask, chain
from delayed.errors import InvalidTask, UnknownTask
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.workflow import Flow, group
from tests.conftest import burst
from tests.redis.test_costs import monitored


def numbers(*found: int) -> list[int]:
    return list(found)


def test_a_node_is_found_by_what_add_returned_also_of_a_map_that_has_been_made(queue: Queue) -> None:
    flow = Flow(queue)
    first = flow.add(PyTask(numbers, (4, 5)))
    rows = flow.map(PyTask(numbers), over=first, name="rows")
    none = flow.map(PyTask(numbers), over=flow.add(PyTask(numbers)), name="none")
    run = flow.submit()
    assert run.node(rows).state == "waiting"
    burst(queue)
    assert run.status().state == "succeeded"
    assert [run.value(which) for which in (first, rows, "rows", run.node(rows).id, run.node(rows).number + 1)] == [
        [4, 5], [4], [4], [4], [5],
    ]  # fmt: skip
    for which in (none, "none", 99, -1, run.id, "x" * 16):
        with pytest.raises(UnknownTask, match="has no node"):
            run.node(which)


def test_a_node_behind_many_others_is_found_at_once(queue: Queue, client: redis.Redis) -> None:
    run = chain(*(PyTask(numbers, (each,)) for each in range(900))).submit(queue)
    with monitored(client, queue.name) as commands:
        assert run.node(899).state == "waiting"
    assert len([each for each in commands if each not in ("HELLO", "CLIENT")]) <= 4, commands
    run.cancel()
    burst(queue)


def test_the_handle_of_a_node_says_what_its_workflow_knows(queue: Queue) -> None:
    flow = Flow(queue)
    first = flow.add(group(PyTask(numbers, (number,)) for number in range(3)))
    flow.add(PyTask(numbers, (1,)), after=flow.wait("never", after=first))
    flow.add(group(PyTask(numbers, (number,)) for number in range(2)), after=first)
    run = flow.submit()
    handles = [Handle[Any](queue, node.id) for node in run.nodes()]
    assert [handle.status().state for handle in handles] == ["queued"] * 7
    assert [bool(handle.status().waits) for handle in handles] == [False] * 3 + [True] * 4
    with pytest.raises(InvalidTask, match="one of 2"):
        handles[5].cancel()
    assert handles[1].cancel() == "queued"
    assert handles[1].status().state == "cancelled"
    assert handles[4].cancel() == "cancelled"  # as it has been skipped by then
    assert "skipped" in handles[4].status().error
    burst(queue)
    assert run.wait(0) == "failed"
    assert [node.state for node in run.nodes()] == ["succeeded", "cancelled", "succeeded", *["skipped"] * 4]
    with pytest.raises(UnknownTask):
        Handle[Any](queue, f"{run.flow}zzzzzz").status()
    with pytest.raises(UnknownTask):
        Handle[Any](queue, f"{run.flow}zzzzzz").cancel()


def test_one_node_that_waits_can_be_cancelled(queue: Queue) -> None:
    flow = Flow(queue, on_failure="continue")
    waits = flow.wait("never")
    flow.add(PyTask(numbers, (2,)), after=flow.add(PyTask(numbers, (1,)), after=waits))
    run = flow.submit()
    assert Handle[Any](queue, run.node(1).id).cancel() == "queued"
    assert Handle[Any](queue, run.node(0).id).cancel() == "queued"
    burst(queue)
    assert [node.state for node in run.nodes()] == ["cancelled", "cancelled", "succeeded"]
    assert run.wait(0) == "failed"
