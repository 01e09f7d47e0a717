"""Our Go worker and sweeper as services: what they tell systemd."""

import contextlib
import signal

import pytest

from delayed.ops.statistics import sums_of
from delayed.queue.queue import Queue
from delayed.task.task import GoTask
from tests import ROOT
from tests.conftest import eventually
from tests.support.processes import Fleet, Process

from .agents import go_binary, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")


def start(fleet: Fleet, name: str, queue: Queue, *options: str, **environment: str) -> Process:
    binary = go_binary(name, ROOT / "interop", f"./cmd/{name}")
    url = fleet.environment["DELAYED_REDIS_URL"]
    return fleet.start(binary, "-redis", url, "-queues", queue.name, *options, **environment)


@pytest.mark.parametrize("name", ["delayed-worker", "delayed-sweeper"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_says_when_it_is_ready_and_when_it_stops(fleet: Fleet, queue: Queue, name: str, number: signal.Signals) -> None:
    process = start(fleet, name, queue).ready()
    process.send(number)
    process.expect("STOPPING=1")
    assert process.wait() == 0, process.log.read_text()


def test_a_worker_without_redis_is_not_ready(fleet: Fleet, queue: Queue) -> None:
    binary = go_binary("delayed-worker", ROOT / "interop", "./cmd/delayed-worker")
    process = fleet.start(binary, "-redis", "unix:///nowhere/redis.sock", "-queues", queue.name)
    eventually(lambda: "heartbeat failed" in process.log.read_text())
    with pytest.raises(AssertionError):
        process.expect("READY=1", seconds=0.5)


@pytest.mark.slow
def test_the_watchdog_follows_the_loop(fleet: Fleet, queue: Queue) -> None:
    """It is fed while the loop turns and while a task runs, and not while nothing moves."""
    busy = start(fleet, "delayed-worker", queue, "-dequeue-timeout=50ms", WATCHDOG_USEC="200000").ready()
    for _ in range(3):
        busy.expect("WATCHDOG=1")
    queue.enqueue(GoTask("main.Sleep", (60.0,)))
    eventually(lambda: queue.len() == 0)
    for _ in range(3):
        busy.expect("WATCHDOG=1")
    still = start(fleet, "delayed-worker", queue, "-dequeue-timeout=1h", WATCHDOG_USEC="200000").ready()
    for _ in range(3):  # the first ones may come while the loop begins
        with contextlib.suppress(AssertionError):
            still.expect("WATCHDOG=1", seconds=0.5)
    with pytest.raises(AssertionError):
        still.expect("WATCHDOG=1", seconds=0.5)


def test_the_watchdog_of_a_sweeper(fleet: Fleet, queue: Queue) -> None:
    sweeper = start(fleet, "delayed-sweeper", queue, "-interval=1h", WATCHDOG_USEC="200000").ready()
    for _ in range(4):
        sweeper.expect("WATCHDOG=1")


def test_it_is_not_another_process_s_watchdog(fleet: Fleet, queue: Queue) -> None:
    sweeper = start(fleet, "delayed-sweeper", queue, "-interval=1h", WATCHDOG_USEC="200000", WATCHDOG_PID="1").ready()
    sweeper.expect("WATCHDOG=1")  # after a sweep
    with pytest.raises(AssertionError):
        sweeper.expect("WATCHDOG=1", seconds=0.5)


@pytest.mark.slow
def test_a_simulation_has_a_go_worker(fleet: Fleet, queue: Queue) -> None:
    binary = go_binary("delayed-worker", ROOT / "interop", "./cmd/delayed-worker")
    go = Queue(f"simulation:{queue.name}:go", queue.conn)
    words = ("--queue", queue.name, "--workers", "1", "--fill-time", "0.02", "--run-time", "0.01")
    url = fleet.environment["DELAYED_REDIS_URL"]
    process = fleet.delayed("simulate", *words, "--redis", url, "--go-worker", str(binary), "--clean")

    def completed() -> list[int]:
        return [total.completed for _, total in sums_of([go]) if total.completed]

    eventually(completed, 90)
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.log.read_text()
    assert process.log.read_text().count("all is well") == 2
