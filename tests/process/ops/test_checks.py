"""`delayed fsck` and `delayed doctor`, beside processes that work."""

import json
import threading
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.ops.checks import Finding
from delayed.ops.fsck import check, examine
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.documents.test_documents import OPERATIONS
from tests.support.processes import Fleet


@pytest.mark.slow
@pytest.mark.parametrize("repair", [False, True])
def test_a_busy_queue_is_well_and_no_task_is_disturbed(
    repair: bool, queue: Queue, client: redis.Redis, fleet: Fleet, tmp_path: Path
) -> None:
    """Two workers and a sweeper are at it all the time."""
    log, count = tmp_path / "log", 30_000
    fleet.sweeper(queue.name)
    workers = [fleet.quick_worker(queue.name) for _ in range(2)]
    found: list[Finding] = []

    def produce() -> None:
        for start in range(0, count, 100):
            queue.enqueue_many(PyTask("tasks:log", (str(log), start + number)) for number in range(100))

    producer = threading.Thread(target=produce)
    producer.start()
    looks = 0
    while producer.is_alive() or queue.len():
        checked = check(queue, repair=repair)
        found += checked.repaired + checked.left
        looks += 1
    producer.join()
    eventually(lambda: queue.len() + client.hlen(queue.keys.processing) == 0)
    assert not found
    assert looks > 1
    data = log.read_bytes()
    numbers = [int.from_bytes(data[start : start + 8]) for start in range(0, len(data), 8)]
    assert sorted(numbers) == list(range(count))
    assert all(worker.popen.poll() is None for worker in workers)


@pytest.mark.slow
def test_what_killed_processes_leave_is_repaired_at_once(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    """Nobody sweeps."""
    worker = fleet.quick_worker(queue.name)
    queue.enqueue(PyTask("tasks:stay"))
    queue.enqueue(PyTask("m:f"))
    eventually(lambda: client.hlen(queue.keys.processing) == 1)
    worker.kill()
    eventually(lambda: not list(client.scan_iter(f"{queue.name}_lease_*")))
    assert {finding.invariant for finding in examine(queue, 0.02)} == {"held-live", "register-live"}
    assert not check(queue, 0.02, repair=True, at_rest=True).left
    assert queue.store.lengths() == (2, 2)


def run(*arguments: str, status: int) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def broken(queue: Queue, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Queue:
    """A queue with a task that a killed worker held, and a dead letter that somebody has written by hand."""
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    queue.store.call("HSET", queue.keys.processing, queue.keys.lease("hUM3Yp4zq0vDkJr1", 0), PyTask("m:f").serialize())
    queue.store.call("XADD", queue.keys.dead, "1767225600000-0", "task", PyTask("m:f").serialize())
    queue.store.serve()  # as its worker had
    return queue


@pytest.mark.breaks_invariants("a dead letter that lacks fields")
def test_fsck_says_what_is_wrong_and_repairs_it(broken: Queue) -> None:
    name = broken.name
    before = run("fsck", name, "--wait", "0", status=1)
    mended = run("fsck", "--repair", name, "--wait", "0", status=1)
    assert broken.store.lengths() == (1, 1)
    after = run("fsck", name, "--wait", "0", status=1)
    for text in (before, mended):
        assert text.replace(name, "default") in OPERATIONS
    assert "held-live" not in after
    broken.store.call("DEL", broken.keys.dead)
    broken.store.call("SET", f"{name}_own", "the application's")
    text = (
        f"{name}: all is well\n  note      known-keys     {name}_own: a string that is no key of the protocol; whose is it?\n"
    )
    assert run("fsck", name, status=0) == text
    broken.store.call("DEL", f"{name}_own")
    Queue(f"{name}x", broken.conn).store.serve()
    assert run("fsck", name, f"{name}x", "--at-rest", status=0) == f"{name}: all is well\n{name}x: all is well\n"


@pytest.mark.breaks_invariants("a dead letter that lacks fields")
def test_fsck_and_doctor_print_json(broken: Queue) -> None:
    (found,) = json.loads(run("fsck", broken.name, "--json", "--repair", "--wait", "0", status=1))
    assert found["queue"] == broken.name
    assert [finding["invariant"] for finding in found["repaired"]] == ["held-live"]
    assert [finding["subject"] for finding in found["left"]] == [f"{broken.keys.dead} 1767225600000-0"]
    advice = json.loads(run("doctor", broken.name, "--json", "--wait", "0", status=1))
    assert {"level": "problem", "about": "persistence"}.items() <= advice[0].items()
    assert [each["level"] for each in advice if each["about"] == broken.name] == ["warning"] * 3


@pytest.mark.breaks_invariants("a dead letter that lacks fields")
def test_doctor_says_what_is_to_be_changed(broken: Queue) -> None:
    text = run("doctor", broken.name, "--wait", "0", status=1)
    assert "problem  persistence: nothing is saved to disk" in text
    assert f"problem  {broken.name}: 1 task is held by dead workers" in text
    assert f"→ run one: delayed sweeper {broken.name}" in text


@pytest.mark.slow
def test_doctor_has_nothing_to_say_of_a_good_set_up(fleet: Fleet, name: str) -> None:
    options = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "100mb"}
    with EmbeddedRedis(options=options) as server, server.client() as client:
        fleet.environment["DELAYED_REDIS_URL"] = server.url
        fleet.worker(name)
        fleet.sweeper(name)
        eventually(lambda: client.hlen(f"{name}_workers") == 2)
        text = run("doctor", name, "--redis", server.url, status=0)
        assert f"ok       {name}: 1 worker and 1 sweeper are seen; 0 tasks wait" in text
        assert "problem" not in text
