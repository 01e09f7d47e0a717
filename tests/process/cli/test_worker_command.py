"""What `delayed worker` says at its start, what runs beside it, and how it is restarted."""

import json
import os
import signal
from pathlib import Path

import pytest
import redis

from delayed.ops.processes import entries
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet, Process


def lines(process: Process) -> list[str]:
    return process.log.read_text().splitlines()


def sweepers(queue: Queue) -> list[str]:
    return [each["place"] for each in entries(queue).values() if each["kind"] == "sweeper"]


def test_the_start_says_what_is_served_and_what_is_missing(fleet: Fleet, queue: Queue) -> None:
    process = fleet.delayed("worker", queue.name, "--allow", "tasks:*", "--allow", "tasks:no_such").ready()
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    (hello,) = [line for line in lines(process) if "] delayed 2" in line]
    assert " on Redis " in hello or " on Valkey " in hello
    assert f"queues: {queue.name}; functions tasks:*, tasks:no_such" in hello
    assert [line for line in lines(process) if f"No sweeper serves {queue.name} now" in line]


def test_of_an_application_the_start_says_how_many_functions(fleet: Fleet) -> None:
    process = fleet.delayed("worker", "--app", "shop:app", "--burst", "--log-level", "DEBUG", PYTHONPATH=".")
    assert process.wait() == 0
    text = process.log.read_text()
    assert " functions of shop:app" in text
    assert "] Function shop:welcome" in text
    assert "No sweeper" not in text


def test_json_lines_have_the_fields_of_tasks(fleet: Fleet, queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), result_ttl=60))
    queue.enqueue(PyTask("tasks:say_by_the_log", ("seen",)))
    process = fleet.delayed("worker", queue.name, "--allow", "tasks:*", "--burst", "--log-format", "json")
    assert process.wait() == 0
    records = [json.loads(line) for line in lines(process)]
    (failed,) = [each for each in records if each.get("outcome") == "failed"]
    assert (failed["task_id"], failed["queue"], failed["attempt"]) == (handle.id, queue.name, 1)
    assert failed["exception"].endswith("ValueError: no\n")
    assert [each["message"] for each in records if each["logger"] == "tasks.own"] == ["it is seen"]
    (succeeded,) = [each for each in records if each.get("outcome") == "succeeded"]
    assert succeeded["function"] == "tasks:say_by_the_log"


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-c", "1"]])
def test_a_sweeper_beside_a_worker_is_restarted_and_ends_with_it(fleet: Fleet, queue: Queue, options: list[str]) -> None:
    process = fleet.worker(queue.name, "--with-sweeper", *options)
    eventually(lambda: len(sweepers(queue)) == 1)
    (first,) = sweepers(queue)
    os.kill(int(first.rpartition(":")[2]), signal.SIGKILL)
    eventually(lambda: [each for each in sweepers(queue) if each != first])
    (second,) = [each for each in sweepers(queue) if each != first]
    process.send(signal.SIGTERM)
    assert process.wait() == 0, process.log.read_text()
    assert not Path(f"/proc/{second.rpartition(':')[2]}").exists()
    assert "The sweeper ended: killed by SIGKILL; starting it again" in process.log.read_text()
    assert "No sweeper" not in process.log.read_text()


def test_a_sweeper_ends_with_a_worker_that_is_killed(fleet: Fleet, queue: Queue) -> None:
    process = fleet.worker(queue.name, "--with-sweeper", "-c", "1")
    eventually(lambda: len(sweepers(queue)) == 1)
    (sweeper,) = sweepers(queue)
    process.kill()
    eventually(lambda: not Path(f"/proc/{sweeper.rpartition(':')[2]}").exists())


def test_a_worker_imports_no_other_part(fleet: Fleet, queue: Queue) -> None:
    """What it has no use for would be in its memory, and in what its start costs. (Modules are counted, not time.)"""
    parts = ["app", "delay", "otel", "remote", "server", "simulation", "supervisor", "sweeper", "testing", "web"]
    modules = ["cli.demo", "cli.up", "interests.pattern", "ops.doctor", "ops.fsck", "ops.info", "queue.async_queue"]
    modules += ["queue.publishing", "redis.embedded", "workflow.compose", "workflow.run"]
    names = [f"delayed.{name}" for name in (*parts, *modules)] + ["jinja2"]
    handle = queue.enqueue(PyTask("tasks:loaded", (names,), result_ttl=60))
    fleet.worker(queue.name)
    assert handle.result(30) == []


@pytest.mark.parametrize("options", [[], ["-c", "1"]])
def test_what_was_loaded_is_no_business_of_the_garbage_collector(fleet: Fleet, queue: Queue, options: list[str]) -> None:
    handle = queue.enqueue(PyTask("tasks:is_frozen", result_ttl=60))
    fleet.worker(queue.name, "--preload", "tasks", *options)
    assert handle.result(30) is True


def test_a_supervisor_names_the_task_of_a_killed_worker(fleet: Fleet, queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:kill_worker", result_ttl=60))
    process = fleet.worker(queue.name, "-c", "1")
    eventually(lambda: f"1 buried: tasks:kill_worker (id {handle.id})" in process.log.read_text())


def test_reload_restarts_the_worker_when_a_file_changes(
    fleet: Fleet, queue: Queue, client: redis.Redis, tmp_path: Path
) -> None:
    module = tmp_path / "mine.py"
    key = f"{queue.name}_said"
    body = "import os, redis\ndef say():\n    redis.Redis.from_url(os.environ['DELAYED_REDIS_URL']).rpush({!r}, {!r})\n"
    module.write_text(body.format(key, "before"))
    command = ["worker", queue.name, "--allow", "mine:*", "--preload", "mine", "--reload"]
    process = fleet.delayed(*command, folder=tmp_path)
    queue.enqueue(PyTask("mine:say"))
    assert client.blpop([key], 60) == (key.encode(), b"before")
    module.write_text("this is no Python")
    eventually(lambda: "It ended: exit status 78; waiting for a change" in process.log.read_text())
    module.write_text(body.format(key, "after"))
    queue.enqueue(PyTask("mine:say"))
    assert client.blpop([key], 60) == (key.encode(), b"after")
    assert process.log.read_text().count("Changed: mine.py; reloading") == 2
    process.send(signal.SIGINT)
    assert process.wait() == 0
    assert not [each for each in entries(queue).values() if each["kind"] == "worker"]
