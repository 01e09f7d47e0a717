"""What a worker logs of its tasks, and with which fields."""

import logging
import traceback
from typing import Any

import pytest
import redis

from delayed import App, chain
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.worker.application import worker_of
from tests.app import shop
from tests.conftest import burst, eventually


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "delayed")


def of_tasks(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if hasattr(each, "function")]


def test_a_plain_task_that_succeeds(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.enqueue(PyTask("tasks:noop", ("secret",)))
    burst(queue)
    (record,) = of_tasks(caplog)
    assert record.levelname == "INFO"
    assert record.getMessage().startswith(f"Task tasks:noop succeeded (queue {queue.name}, ran 0.")
    fields = vars(record)
    assert (fields["queue"], fields["function"], fields["outcome"]) == (queue.name, "tasks:noop", "succeeded")
    assert 0 <= fields["seconds"] < 60
    assert "secret" not in caplog.text


@pytest.mark.parametrize("several", [{}, {"threads": 2}])
def test_a_tracked_task_says_how_long_it_has_waited(
    queue: Queue, caplog: pytest.LogCaptureFixture, several: dict[str, int]
) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", result_ttl=60))
    burst(queue, **several)
    (record,) = of_tasks(caplog)
    fields = vars(record)
    assert (fields["task_id"], fields["attempt"], fields["outcome"]) == (handle.id, 1, "succeeded")
    assert 0 <= fields["waited"] < 60
    assert f"(id {handle.id}, queue {queue.name}, attempt 1, ran 0." in record.getMessage()


@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}])
def test_a_failure_has_the_exception_and_its_own_frames(
    queue: Queue, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), **options))
    burst(queue)
    (record,) = of_tasks(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    kind, error, trace = record.exc_info
    assert kind is type(error)
    assert [frame.name for frame in traceback.extract_tb(trace)] == ["fail"]
    assert "\n" not in record.getMessage()
    assert vars(record)["outcome"] == "failed"
    assert "Traceback" in vars(record)["task_detail"]


@pytest.mark.parametrize("options", [{"retry": 1}, {"retry": 1, "result_ttl": 60}])
def test_each_failed_attempt_has_a_line(queue: Queue, caplog: pytest.LogCaptureFixture, options: dict[str, Any]) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), **options))
    burst(queue)
    assert [vars(each)["outcome"] for each in of_tasks(caplog)] == ["retried", "failed"]
    assert [each.levelname for each in of_tasks(caplog)] == ["WARNING", "ERROR"]


def test_a_task_of_an_app_has_its_id_and_metadata(
    client: redis.Redis, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(client, queue=name)
    marked = app.task(metadata={"tenant": "a"})(shop.unregistered)
    monkeypatch.setattr(shop, "unregistered", marked)
    monkeypatch.setattr(shop, "seen", [])
    handle = marked.delay()
    worker_of(app, burst=True).run()
    (record,) = of_tasks(caplog)
    assert (vars(record)["task_id"], vars(record)["metadata"]) == (handle.id, {"tenant": "a"})


@pytest.mark.usefixtures("sweeping")
def test_a_sweeper_names_what_was_lost(queue: Queue, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", result_ttl=60))
    data = client.lpop(queue.name)
    client.lpop(queue.keys.noti)
    assert isinstance(data, bytes)
    client.hset(queue.keys.processing, queue.keys.lease("gone"), data)
    eventually(lambda: f" put back, 0 buried after 3 losses: tasks:noop (id {handle.id})" in caplog.text)


@pytest.mark.parametrize("several", [{}, {"threads": 2}, {"async_tasks": 2}], ids=str)
@pytest.mark.parametrize("starts", [False, True])
def test_a_line_when_a_task_starts_is_for_who_asks(
    queue: Queue, caplog: pytest.LogCaptureFixture, several: dict[str, int], starts: bool
) -> None:
    queue.enqueue_many([PyTask("tasks:noop"), PyTask("tasks:noop", (), track=True), PyTask("coroutines:add", (1, 2))])
    burst(queue, log_starts=starts, **several)
    started = [vars(each)["function"] for each in of_tasks(caplog) if vars(each)["outcome"] == "started"]
    assert sorted(started) == ["coroutines:add", "tasks:noop", "tasks:noop"] * starts


def test_a_line_names_the_workflow_of_a_node(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    graph = chain(PyTask("tasks:noop"), PyTask("tasks:fail", ("x",))).submit(queue)
    burst(queue)
    assert [vars(record)["flow"] for record in of_tasks(caplog)] == [graph.id] * 2
