"""The whole web UI in the test's own process, and a queue of which each page has something to show."""

from typing import Any, NamedTuple
from urllib.parse import quote

import msgpack
import redis
from starlette.testclient import TestClient

from delayed import web
from delayed.base.clock import now
from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.web.words import part
from delayed.workflow import Flow, group
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill


class Full(NamedTuple):
    """What is in a queue."""

    queue: str
    task: str  # id of a tracked task
    letter: str  # id of a dead letter
    flow: str  # id of a workflow

    @property
    def paths(self) -> list[str]:
        """All pages, those of this queue among them."""
        below = f"/queues/{part(self.queue)}"
        return [
            "/", "/tasks", "/tasks?q=fn:m:*", "/dead", "/workers", "/flows", "/flows?state=running", "/schedules", "/redis",
            f"/metrics?queue={quote(self.queue)}",
            f"/redis?queue={quote(self.queue)}", "/jobs", "/audit", f"/task/{self.task}?queue={quote(self.queue)}",
            f"{below}/dead", f"{below}/dead/{self.letter}", f"{below}/flows/{self.flow}", f"{below}/history",
            f"{below}/history?function=m:*&outcome=failed&since=2h", below,
        ]  # fmt: skip


def filled(queue: Queue, client: redis.Redis, *, said: str = "go") -> Full:
    """Fill a queue; `said` is written wherever a program may write what it wants."""
    task, (letter, *_) = fill(queue), letters(queue, 3)
    queue.enqueue(PyTask("m:said", (said,), {"x": said}, group=said))
    detail = {
        "task": PyTask(f"m:{said}", (said,)).serialize(),
        "reason": said,
        "detail": f"ValueError: {said}",
        "worker": said,
    }
    client.xadd(queue.keys.dead, detail)  # type: ignore[arg-type]
    told = [event(now() - 60, "failed", f"m:{said}", said=said)]
    client.xadd(queue.keys.history, {"batch": packed(said, {}, told, 0.0)})
    client.hset(queue.keys.task(task), mapping={"error": said, "worker": said, "progress": msgpack.packb([1, 2, said])})
    Schedules(queue).put(f"nightly {said}", Entry(Cron("0 3 * * *"), PyTask("m:f", (said,)).serialize()))
    queue.set_interest({f"exact:{said}": f"exact:{said}"}, f"m:{said}")
    flow = Flow(queue, name=said)
    many = flow.add(group(PyTask(f"m:{said}", (number,)) for number in range(3)), name=said)
    first = flow.add(PyTask(f"m:{said}", (said,)), after=[many, flow.wait("".join(said.split()))], name=said)
    flow.add(PyTask(f"n:{said}", (said,)), after=first, when="failure", name=said)
    return Full(queue.name, task, letter, flow.submit().id)


def browser(queue: Queue, role: str = "admin", *, prefix: str = "", access: Any = None, **options: Any) -> TestClient:
    """A browser that sees this queue. Nothing works on jobs beside the pages, unless it is entered."""
    options = {"queues": [queue.name], **options}
    app = web.app(queue.conn, access=access or web.everyone(role, "ada"), **options)
    return TestClient(web.below(prefix, app) if prefix else app, follow_redirects=False)
