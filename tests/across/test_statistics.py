"""Workers in Go count as Python's do, into the same statistics."""

import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from delayed.ops.overview import look
from delayed.ops.statistics import Sums, rows, sums, totals
from delayed.queue.queue import Queue
from delayed.redis.statistics import TIERS
from delayed.task.task import GoTask, PyTask
from tests import ROOT
from tests.conftest import burst, eventually
from tests.support.processes import Fleet, Process
from tests.support.waiting import LONG_AGO

from .agents import go_binary, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")


def go_worker(fleet: Fleet, queue: Queue, *options: str) -> Process:
    binary = go_binary("delayed-worker", ROOT / "interop", "./cmd/delayed-worker")
    url = fleet.environment["DELAYED_REDIS_URL"]
    return fleet.start(binary, "-redis", url, "-queues", queue.name, "-dequeue-timeout", "100ms", *options)


def summed(queue: Queue) -> Sums:
    return sums(totals(queue), look(queue))


def test_go_counts_as_python_does(fleet: Fleet, queue: Queue) -> None:
    """The same tasks in either language have the same numbers, and both together their sum."""
    found = []
    for make, noop, fails in ((PyTask, "tasks:noop", "tasks:fail"), (GoTask, "main.Noop", "main.Fail")):
        queue.enqueue_many(make(noop) for _ in range(20))
        queue.enqueue_many(make(noop, track=True) for _ in range(5))
        queue.enqueue_many(make(noop, concurrency_key="k", concurrency=1) for _ in range(3))
        queue.enqueue_many(make(fails, ("x",), retry=1, track=True) for _ in range(2))
        queue.enqueue(make(fails, ("x",)))
        queue.enqueue(make(noop, track=True)).cancel()
        queue.enqueue(make(noop, track=True, expires=LONG_AGO))
        if make is PyTask:
            burst(queue)
        else:
            assert go_worker(fleet, queue, "-burst").wait() == 0
        found.append(totals(queue).all)
    python, both = found
    assert {name: 2 * count for name, count in python.outcomes.items()} == both.outcomes
    assert python.outcomes == {
        "succeeded": 28, "retried": 2, "failed": 3, "buried": 0, "cancelled": 1, "expired": 1, "superseded": 0,
    }  # fmt: skip
    assert both.run.tasks == 2 * python.run.tasks
    assert both.wait.tasks == 2 * python.wait.tasks
    functions = totals(queue).functions
    assert [functions[path].outcomes["succeeded"] for path in ("tasks:noop", "main.Noop")] == [28, 28]
    for tier in TIERS:
        assert sum(row.all.outcomes["succeeded"] for row in rows(queue, tier.name, 3600)) == 56
    total = summed(queue)
    assert total.enqueued == 66
    assert total.started == total.completed + total.retried + total.failed + total.cancelled + total.expired


def test_a_go_worker_is_scraped_and_promtool_finds_nothing(fleet: Fleet, queue: Queue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    go_worker(fleet, queue, "-metrics-addr", f"127.0.0.1:{port}").ready()
    queue.enqueue(GoTask("main.Noop"))
    line = f'delayed_process_tasks_total{{queue="{queue.name}",outcome="succeeded"}} 1\n'
    eventually(lambda: line in scraped(port))
    lint = go_binary("promlint", ROOT / "tests/across/promlint")
    done = subprocess.run([lint], input=scraped(port), capture_output=True, text=True, check=False, timeout=600)
    assert (done.stdout, done.returncode) == ("", 0)


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize("language", ["go", "python"])
def test_a_killed_worker_loses_one_beat_at_most(fleet: Fleet, queue: Queue, tmp_path: Path, language: str) -> None:
    """What it counted before its last beat is there; its tasks are, too, if they had not ended."""
    log = tmp_path / "log"
    log.touch()
    make, path = (GoTask, "main.Log") if language == "go" else (PyTask, "tasks:log")
    worker = go_worker(fleet, queue, "-beat", "200ms").ready() if language == "go" else fleet.quick_worker(queue.name)
    queue.enqueue_many(make(path, (str(log), number)) for number in range(50))
    eventually(lambda: summed(queue).completed == 50)  # a beat has brought it
    queue.enqueue_many(make(path, (str(log), number)) for number in range(50))
    eventually(lambda: log.stat().st_size == 100 * 8)
    worker.kill()
    assert 50 <= summed(queue).completed <= 100
