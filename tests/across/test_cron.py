"""Schedules with sweepers of both languages, side by side."""

import signal
from typing import Any

import pytest
import redis

from delayed.cron.definition import define
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.queue.queue import Queue
from delayed.task.decode import decode
from delayed.task.task import PyTask
from tests import ROOT
from tests.conftest import eventually
from tests.process.cron.test_cron import fired
from tests.support.processes import Fleet, Process

from .agents import go_binary, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")


def go_sweeper(fleet: Fleet, queue: Queue, *options: str) -> Process:
    binary = go_binary("delayed-sweeper", ROOT / "interop", "./cmd/delayed-sweeper")
    return fleet.start(binary, "-redis", fleet.environment["DELAYED_REDIS_URL"], "-queues", queue.name, *options)


@pytest.mark.slow
def test_each_second_has_one_task_whichever_sweeper_is_killed(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    Schedules(queue).put("each second", define(PyTask("tasks:noop"), Cron("* * * * * *", "Europe/Zurich", "all")))
    first = int(client.zscore(queue.keys.cron_due, "each second") or 0)
    sweepers = [
        fleet.delayed("sweeper", "--interval=600", queue.name).ready(),
        go_sweeper(fleet, queue, "-interval=600s").ready(),
        go_sweeper(fleet, queue, "-interval=600s").ready(),
    ]
    eventually(lambda: fired(queue, client, first) >= 2)
    for sweeper in sweepers[:2]:
        sweeper.send(signal.SIGSTOP)  # it may stand in the middle of it for a second
        reached = fired(queue, client, first)
        eventually(lambda: fired(queue, client, first) > reached)  # noqa: B023  # it is called at once
        sweeper.kill()
    last = fired(queue, client, first)
    eventually(lambda: fired(queue, client, first) > last)
    sweepers[2].send(signal.SIGTERM)
    assert sweepers[2].wait() == 0, sweepers[2].log.read_text()
    assert queue.len() == fired(queue, client, first)


def test_what_go_fires_expires_as_python_says(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    hour, schedules = 3_600_000, Schedules(queue)
    schedules.put("a", define(PyTask("tasks:noop", expires=3 * 3600), Cron("0 * * * *", "UTC", "all")))
    definition = client.hget(queue.keys.cron, "a")
    newest = schedules.now() // hour * hour
    client.zadd(queue.keys.cron_due, {"a": newest - 9 * hour})
    sweeper = go_sweeper(fleet, queue, "-interval=600s")
    eventually(lambda: (client.zscore(queue.keys.cron_due, "a") or 0) > newest)
    found = [(decode(data).headers or {})["expires"] for data in queue.store.call("LRANGE", queue.keys.queue, 0, -1)]
    assert found[-3:] == [newest + more * hour for more in (1, 2, 3)]
    assert client.hget(queue.keys.cron, "a") == definition
    sweeper.send(signal.SIGTERM)
    assert sweeper.wait() == 0


def test_what_go_cannot_read_waits_for_python(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    schedules = Schedules(queue)
    entry = define(PyTask("tasks:noop"), Cron("0 0 1 1 *", "Europe/Zurich", "one"))
    client.hset(queue.keys.cron, "a", entry.pack().replace(b"Zurich", b"Zuerig"))
    client.zadd(queue.keys.cron_due, {"a": 1})
    sweeper = go_sweeper(fleet, queue, "-interval=600s")
    eventually(lambda: "needs a Python sweeper" in sweeper.log.read_text())
    assert client.zscore(queue.keys.cron_due, "a") == 1
    client.hset(queue.keys.cron, "a", entry.pack())
    schedules.fire()
    assert queue.len() == 1
    sweeper.send(signal.SIGTERM)
    assert sweeper.wait() == 0


def test_go_keeps_as_many_dead_letters_as_it_is_told(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    letter: dict[Any, Any] = {"task": PyTask("tasks:noop").serialize(), "reason": "failed", "detail": "", "worker": ""}
    for number in range(500):
        client.xadd(queue.keys.dead, letter, id=f"1000-{number}")
    sweeper = go_sweeper(fleet, queue, "-dead-max=200", "-dead-days=0")
    eventually(lambda: client.xlen(queue.keys.dead) < 500)
    assert 200 <= client.xlen(queue.keys.dead) <= 300
    sweeper.send(signal.SIGTERM)
    assert sweeper.wait() == 0
    assert "there were too many" in sweeper.log.read_text()
    other = go_sweeper(fleet, queue, "-dead-max=0", "-dead-days=0.5")
    eventually(lambda: client.xlen(queue.keys.dead) < 150)
    other.send(signal.SIGTERM)
    assert other.wait() == 0
