"""Schedules with real processes, and the command line for them."""

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.cron import definition
from delayed.cron.definition import Recorded
from delayed.cron.schedules import Schedules
from delayed.queue.queue import Queue
from tests import ROOT
from tests.conftest import eventually
from tests.support.processes import Fleet


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def fired(queue: Queue, client: redis.Redis, first: int) -> int:
    """How many of the seconds since the `first` have fired; there is one task for each in this very instant."""
    pipeline: Any = client.pipeline(transaction=True)
    pipeline.zscore(queue.keys.cron_due, "each second")
    pipeline.llen(queue.keys.queue)
    score, waiting = pipeline.execute()
    assert waiting == (score - first) / 1000
    return int(waiting)


@pytest.mark.slow
def test_sweepers_are_killed_and_each_second_has_one_task(
    queue: Queue, client: redis.Redis, fleet: Fleet, redis_url: str
) -> None:
    worker = fleet.delayed("worker", "--allow-any", "--preload", "planned", "--burst", queue.name, PLANNED_QUEUE=queue.name)
    assert worker.wait() == 0, worker.log.read_text()
    names = [each.name for each in Schedules(queue).list()]
    assert names == ["each second", "planned:note"]
    first = int(client.zscore(queue.keys.cron_due, "each second") or 0)
    sweepers = [fleet.delayed("sweeper", "--interval=600", queue.name).ready() for _ in range(3)]
    for number, sweeper in enumerate(sweepers[:2], 1):
        eventually(lambda: fired(queue, client, first) >= number)  # noqa: B023  # it is called at once
        sweeper.send(signal.SIGSTOP)  # it may stand in the middle of it for a second
        reached = fired(queue, client, first)
        eventually(lambda: fired(queue, client, first) > reached)  # noqa: B023
        sweeper.kill()
    last = fired(queue, client, first)
    eventually(lambda: fired(queue, client, first) > last)
    sweepers[2].send(signal.SIGTERM)
    assert sweepers[2].wait() == 0
    Schedules(queue).pause("each second")
    count = queue.len()
    served = fleet.delayed("worker", "--allow-any", "--burst", queue.name, PLANNED_QUEUE=queue.name)
    assert served.wait() == 0
    assert client.lrange(f"{queue.name}:noted", 0, -1) == [b"planned"] * count


@pytest.fixture
def planned(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The application, in this process."""
    monkeypatch.setattr(definition, "_RECORDED", dict[tuple[str, str], Recorded]())
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    monkeypatch.setenv("PLANNED_QUEUE", queue.name)
    monkeypatch.syspath_prepend(ROOT / "tests" / "app")
    yield "planned"
    sys.modules.pop("planned").queue.conn.close()


def test_the_command_line(queue: Queue, planned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run("cron", "list", queue.name).startswith(f"{queue.name} has no schedules; ")
    assert run("cron", "sync", planned) == "2 schedules, 2 of them new or changed\n"
    assert run("cron", "sync", planned) == "2 schedules, 0 of them new or changed\n"
    nightly = "planned:note"
    _, line = run("cron", "list", queue.name).splitlines()
    assert line.startswith("planned:note  30 2 * * *  Europe/Zurich  skip  planned:note  20")
    assert "02:30:00+0" in line or "03:00:00+02:00" in line
    assert "is paused" in run("cron", "pause", queue.name, nightly)
    assert "was paused already" in run("cron", "pause", queue.name, nightly)
    assert run("cron", "list", queue.name).splitlines()[1].endswith("paused")
    assert "is enqueued" in run("cron", "run", queue.name, nightly)
    assert queue.len() == 1
    assert "goes on" in run("cron", "resume", queue.name, nightly)
    assert "was not paused" in run("cron", "resume", queue.name, nightly)
    listed = json.loads(run("cron", "list", "--json", queue.name))
    assert [(each["name"], each["catch_up"]) for each in listed] == [("each second", "all"), (nightly, "skip")]
    assert "is removed" in run("cron", "remove", queue.name, nightly)
    assert "no schedule 'planned:note'; there are: each second" in run("cron", "run", queue.name, nightly, status=1)
    run("cron", "remove", queue.name, "each second")
    assert "it has none" in run("cron", "pause", queue.name, nightly, status=1)


def test_a_worker_works_without_its_schedules(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    client.config_set("maxmemory", 1)
    try:
        options = ("--allow-any", "--preload", "planned", "--burst", queue.name)
        worker = fleet.delayed("worker", *options, PLANNED_QUEUE=queue.name)
        assert worker.wait() == 0, worker.log.read_text()
    finally:
        client.config_set("maxmemory", 0)
    assert "delayed cron sync" in worker.log.read_text()
