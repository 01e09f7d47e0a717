"""`delayed fsck` and `delayed doctor`, beside processes that work."""

from pathlib import Path

import pytest
import redis

from delayed.fsck import check, examine
from delayed.invariants import Finding
from delayed.queue import Queue
from delayed.task import PyTask
from tests.conftest import eventually
from tests.processes import Fleet


@pytest.mark.parametrize("repair", [False, True])
def test_a_busy_queue_is_well_and_no_task_is_disturbed(
    repair: bool, queue: Queue, client: redis.Redis, fleet: Fleet, tmp_path: Path
) -> None:
    """Two workers and a sweeper are at it all the time."""
    log, count = tmp_path / "log", 30_000
    fleet.sweeper(queue.name)
    workers = [fleet.quick_worker(queue.name) for _ in range(2)]
    found: list[Finding] = []
    looks = 0
    for start in range(0, count, 3000):
        queue.enqueue_many(PyTask("tasks:log", (str(log), start + number)) for number in range(3000))
        checked = check(queue, repair=repair)
        found += checked.repaired + checked.left
        looks += queue.len() > 0
    eventually(lambda: queue.len() + client.hlen(queue.keys.processing) == 0)
    assert not found
    assert looks, "the workers were never busy while we looked"
    data = log.read_bytes()
    numbers = [int.from_bytes(data[start : start + 8]) for start in range(0, len(data), 8)]
    assert sorted(numbers) == list(range(count))
    assert all(worker.popen.poll() is None for worker in workers)


def test_what_killed_processes_leave_is_repaired_at_once(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    """Nobody sweeps."""
    worker = fleet.quick_worker(queue.name)
    queue.enqueue(PyTask("tasks:stay"))
    queue.enqueue(PyTask("m:f"))
    eventually(lambda: client.hlen(queue.keys.processing) == 1)
    worker.kill()
    eventually(lambda: not list(client.scan_iter(f"{queue.name}_lease_*")))
    assert {finding.invariant for finding in examine(queue, 0.1)} == {"held-live", "register-live"}
    assert not check(queue, 0.1, repair=True, at_rest=True).left
    assert queue.lengths() == (2, 2)
