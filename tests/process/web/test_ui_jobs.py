"""`delayed ui` works on jobs, and what a killed one leaves another finishes: nothing is lost, nothing is doubled."""

import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

import pytest
import redis

from delayed.ops.audit import AuditFilter, read
from delayed.ops.job_records import job_of, jobs
from delayed.queue.queue import Queue
from delayed.task.codec import loads
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.letters import bury_many
from tests.support.processes import Fleet
from tests.support.servers import free_port

LETTERS = 30_000


def answer(browser: urllib.request.OpenerDirector, address: str) -> bytes:
    try:
        return bytes(browser.open(address, timeout=60).read())
    except urllib.error.URLError:  # it does not listen yet
        return b""


@pytest.mark.slow
def test_a_killed_ui_leaves_a_job_to_the_next(queue: Queue, client: redis.Redis, fleet: Fleet) -> None:
    bury_many(queue, (PyTask("m:f", (number,)) for number in range(LETTERS)))
    port = free_port()
    first = fleet.delayed("ui", "--listen", f"127.0.0.1:{port}", "--queue", queue.name)
    eventually(lambda: "token=" in first.log.read_text(), 60)
    (address,) = re.findall(r"http://\S+token=\S+", first.log.read_text())
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    eventually(lambda: b"Overview" in answer(browser, address), 60)
    form = urllib.parse.urlencode({"matching": "1", "task": "m:*"}).encode()
    act = f"http://127.0.0.1:{port}/queues/{queue.name}/acts/dead.retry"
    request = urllib.request.Request(act, form, {"Origin": f"http://127.0.0.1:{port}"})
    assert b"<h1>Job " in browser.open(request, timeout=60).read()
    (job,) = jobs(queue)
    eventually(lambda: queue.len() > 0, 30)
    first.popen.kill()
    first.popen.wait()
    assert job_of(queue, job.id).state == "open"
    client.delete(queue.keys.job_lease(job.id))  # as when its time is over
    fleet.delayed("ui", "--listen", f"127.0.0.1:{free_port()}", "--queue", queue.name)
    eventually(lambda: job_of(queue, job.id).state == "done", 60)
    assert job_of(queue, job.id).done == LETTERS
    assert sorted(loads(data)[1][0] for data in queue.store.call("LRANGE", queue.name, 0, -1)) == list(range(LETTERS))
    entry = read(queue, AuditFilter(queue=queue.name)).entries[0]
    assert (entry.who, entry.origin, entry.count, entry.result) == ("operator", "ui 127.0.0.1", LETTERS, "done")
