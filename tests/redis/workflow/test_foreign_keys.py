"""Another program's data under the names of a workflow's keys: it is named, no task is held up, and what can go on goes on."""

import logging

import pytest
import redis

from delayed.ops.fsck import check
from delayed.queue.queue import Queue
from delayed.redis.foreign import ForeignType
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from delayed.workflow import Run, chain, group, runs
from delayed.workflow.tend import tend
from tests.conftest import burst
from tests.redis.redis.test_foreign import make_foreign, mend

from .functions import same, see

pytestmark = pytest.mark.breaks_invariants("keys have foreign types here")

COMMON = ("_flow_outbox", "_flow_ids", "_flow_due")  # of all workflows of a queue
OWN = ("_flow_{}", "_flow_marks_{}", "_flow_joins_{}")  # of one


def submitted(queue: Queue) -> Run:
    return group(PyTask(same, (number,)) for number in range(3)).then(PyTask(see)).submit(queue)


def kind_for(key: str) -> str:
    """A type that it does not have."""
    return "string" if "_ids" in key or "_due" in key or "_outbox" in key else "stream"


@pytest.mark.parametrize("suffix", COMMON)
def test_a_submit_names_the_key_and_leaves_nothing(queue: Queue, client: redis.Redis, suffix: str) -> None:
    key = queue.name + suffix
    make_foreign(client, key, kind_for(key))
    with pytest.raises(ForeignType, match=key):
        submitted(queue)
    assert client.keys(f"{queue.name}*") == [key.encode()]
    mend(client, key)
    run = submitted(queue)
    burst(queue)
    assert run.wait(0) == "succeeded"


@pytest.mark.parametrize("suffix", [*COMMON, *OWN])
def test_endings_are_not_held_up(queue: Queue, client: redis.Redis, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    run = submitted(queue)
    other = submitted(queue)
    queue.enqueue(PyTask(same, (1,)))
    key = queue.name + suffix.format(run.flow)
    make_foreign(client, key, kind_for(key))
    with caplog.at_level(logging.WARNING):
        burst(queue)
    assert queue.len() == 0
    assert client.hlen(queue.keys.processing) == 0
    assert key in caplog.text
    assert suffix in COMMON or other.wait(0) == "succeeded"
    with pytest.raises(ForeignType, match=key):
        next(runs(queue)) if suffix == "_flow_ids" else run.cancel()
    mend(client, key)
    check(queue, 0, repair=True)  # tells what nobody heard meanwhile
    tend(queue.store)
    burst(queue)
    cancelled = suffix == "_flow_marks_{}"  # that was heard, before the marks were read
    assert (run.wait(0), other.wait(0)) == ("cancelled" if cancelled else "succeeded", "succeeded")


@pytest.mark.parametrize("suffix", OWN)
def test_a_lost_node_goes_back_to_its_queue(queue: Queue, client: redis.Redis, suffix: str) -> None:
    run = chain(PyTask(same, (1,)), PyTask(see)).submit(queue)
    key = queue.name + suffix.format(run.flow)
    make_foreign(client, key, kind_for(key))
    for _ in range(2):
        lease = queue.keys.lease("t", 0)
        assert queue.store.take([lease], "t", 10).tasks
        client.delete(lease)
        assert sweep(queue.store).recovered == 1
    assert queue.store.take([lease], "t", 10).tasks
    client.delete(lease)
    assert sweep(queue.store).buried == 1


def test_a_workflow_that_cannot_go_on_keeps_no_other_from_it(queue: Queue, client: redis.Redis) -> None:
    flows = [chain(PyTask(same, (1,)), PyTask(see)).submit(queue) for _ in range(4)]
    for run in flows:  # their ends have been told by workers that were killed before they carried that on
        queue.store.run("flow_tell", _names(queue, run), run.flow, "e0 0 s", "", b"", "")
    make_foreign(client, queue.keys.marks(flows[0].flow), "set")
    client.lpush(queue.keys.joins(flows[1].flow), "M0 99999999999999999999")  # nobody's
    client.hset(queue.keys.flow(flows[1].flow), "s0", "no set")
    with pytest.raises(ForeignType, match="marks"):
        tend(queue.store)
    assert queue.len() == 4 + 2


def _names(queue: Queue, run: Run) -> tuple[str, ...]:
    keys = queue.keys
    return keys.flow(run.flow), keys.joins(run.flow), keys.flow_outbox, keys.flow_due
