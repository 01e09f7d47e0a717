"""Runners of a job are killed again and again: each dead letter is retried once, and the count is right."""

import random
import time

import pytest
import redis

from delayed.ops.audit import Actor, AuditFilter, read
from delayed.ops.job_records import job_of
from delayed.ops.jobs import begin
from delayed.queue.queue import Queue
from delayed.task.codec import loads
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.letters import bury_many
from tests.support.processes import Fleet

LETTERS = 20_000


@pytest.mark.slow
def test_killed_runners_lose_nothing_and_double_nothing(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    bury_many(queue, (PyTask("m:f", (number,)) for number in range(LETTERS)))
    job = begin(queue, Actor("ada", "here"), "dead.retry")
    kills, chance = 0, random.Random(5)
    for round_ in range(1, 6):
        before = queue.len()
        process = fleet.delayed("job", "run", queue.name)
        eventually(lambda before=before: queue.len() > before, 30)  # type: ignore[misc]
        time.sleep(chance.random() / 100)
        process.popen.kill()
        process.popen.wait()
        kills += process.popen.returncode == -9 and job_of(queue, job.id).state == "open"
        client.delete(queue.keys.job_lease(job.id))  # as when its time is over
        if job_of(queue, job.id).state != "open":
            break
        assert round_ < 6
    assert kills >= 2
    assert fleet.delayed("job", "run", queue.name).wait() == 0
    done = job_of(queue, job.id)
    assert (done.state, done.done, done.left) == ("done", LETTERS, 0)
    assert sorted(loads(data)[1][0] for data in queue.store.call("LRANGE", queue.name, 0, -1)) == list(range(LETTERS))
    assert client.xlen(queue.keys.dead) == 0
    assert read(queue, AuditFilter(queue=queue.name)).entries[0].count == LETTERS
