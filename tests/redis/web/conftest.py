from typing import Any

import pytest
import redis

from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.ops.audit import Actor
from delayed.ops.job_records import create
from delayed.queue.queue import Queue
from delayed.queue.waiting import search
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill


@pytest.fixture
def full(queue: Queue, client: redis.Redis) -> dict[str, dict[str, Any]]:
    """A queue to which every act does something, and the fields of a form with which it does."""
    later, ids = fill(queue), letters(queue, 4)
    Schedules(queue).put("nightly", Entry(Cron("0 3 * * *"), PyTask("m:f").serialize()))
    flow = Flow(queue)
    flow.wait("go")
    running, again = flow.submit(), Flow(queue)
    again.wait("go")
    ended = again.submit()
    ended.cancel()
    job = create(queue, Actor("ada", "here"), "dead.retry", {}, total=0, newest="", moment=None)
    other = next(each.id for each in search(queue) if each.where == "scheduled")
    queue.set_interest("*", "m:f")
    return {
        "interest.remove": {}, "fsck.repair": {},
        "queue.pause": {}, "queue.resume": {}, "queue.limit": {"concurrency": "3"},
        "dead.retry": {"id": ids[0]}, "dead.edit": {"id": ids[1], "args": "[5]"}, "dead.delete": {"id": [ids[2]]},
        "task.run": {"id": later}, "task.move": {"id": later, "moment": "1900000000"}, "task.cancel": {"id": [later]},
        "task.delete": {"id": other}, "flow.signal": {"id": running.id, "name": "other"}, "flow.cancel": {"id": running.id},
        "flow.retry": {"id": ended.id, "mode": "all"}, "cron.pause": {"name": "nightly"}, "cron.resume": {"name": "nightly"},
        "cron.run": {"name": "nightly"}, "cron.remove": {"name": "nightly"}, "job.stop": {"id": job.id}, "queue.purge": {},
    }  # fmt: skip
