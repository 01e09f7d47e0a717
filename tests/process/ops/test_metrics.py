"""Metrics over HTTP, of processes as people start them."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import SOON_DEAD, Fleet


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Nothing, while nobody listens yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    families = text_string_to_metric_families(text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
        return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one worker", "a supervisor", "an exporter"])
def test_what_workers_count_is_served(fleet: Fleet, queue: Queue, port: int, how: str) -> None:
    """Of a supervisor's workers, together: there is one port."""
    beside = {"one worker": ("--metrics-port", str(port)), "a supervisor": ("-c", "2", "--metrics-port", str(port))}
    fleet.worker(*SOON_DEAD, *beside.get(how, ()), queue.name)
    if how == "an exporter":
        fleet.delayed("exporter", "--listen", f"127.0.0.1:{port}", queue.name)
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(100))
    eventually(lambda: scraped(port).get(("delayed_tasks_total", queue.name, "succeeded")) == 100)
    found = scraped(port)
    assert found["delayed_workers", queue.name, "worker", "python"] == (2 if how == "a supervisor" else 1)
    assert found["delayed_task_run_seconds_count", queue.name, "tasks:noop"] == 100
    assert found["delayed_redis_up",] == 1
