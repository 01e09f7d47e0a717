"""Tasks that fail, and say in each way that there is what they were called with."""

from typing import NamedTuple

import msgpack
import redis

from delayed.backoff import Constant
from delayed.base.clock import now
from delayed.base.ids import node_id
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests.conftest import burst
from tests.support.letters import bury

CALLED = "builtins:int"  # which quotes what is no number
TRACE = 'Traceback (most recent call last):\n  File "m.py", line 1, in f\n    int("{0}")\nValueError: no number: {0}'


class Told(NamedTuple):
    """What has told the secret."""

    letter: str  # id of a dead letter with a traceback
    failed: str  # id of a tracked task that has failed,
    retrying: str  # of one that is tried again,
    reports: str  # and of one that reports it as its progress
    flow: str  # id of a workflow whose node has failed

    def paths(self, queue: str) -> list[str]:
        """Pages of the web UI that have errors."""
        below = f"/queues/{queue}"
        tasks = [
            f"/task/{each}?queue={queue}" for each in (self.failed, self.retrying, self.reports, node_id(self.flow[:10], 0))
        ]
        return [
            "/", below, "/dead", f"{below}/dead", f"{below}/dead/{self.letter}", f"{below}/history",
            f"{below}/flows/{self.flow}",
            *tasks, "/tasks?q=state:dead", "/tasks?q=state:retrying", "/tasks?q=state:tracked&look=1000000",
            "/audit", "/jobs",
        ]  # fmt: skip


def tell(queue: Queue, client: redis.Redis, secret: str) -> Told:
    """Let errors of one function have the secret, wherever errors are kept."""
    call = PyTask(CALLED, (secret,))
    (letter,) = bury(queue, call, detail=TRACE.format(secret))
    failed = queue.enqueue(PyTask(CALLED, (secret,), result_ttl=600)).id
    retrying = queue.enqueue(PyTask(CALLED, (secret,), track=True, retry=1, backoff=Constant(3600))).id
    flow = Flow(queue)
    flow.add(PyTask(CALLED, (secret,)), name="node")
    run = flow.submit()
    burst(queue)
    reports = str(queue.enqueue(PyTask(CALLED, (secret,), track=True, after=3600)).id)
    client.hset(queue.keys.task(reports), "progress", msgpack.packb([1, 2, secret]))
    events = [event(now() - 60, each, CALLED, "0" * 16, said=f"ValueError: {secret}") for each in ("retried", "failed")]
    client.xadd(queue.keys.history, {"batch": packed("h:1", {}, events, 0.0)})
    return Told(letter, str(failed), str(retrying), reports, run.id)
