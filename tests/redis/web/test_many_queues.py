"""However many queues there are, and whatever is looked for, a page costs Redis at most a dozen commands."""

import re
from urllib.parse import quote

import pytest
import redis

from delayed.base.ids import new_id, node_id
from delayed.ops.audit import Actor, write
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.web.words import part
from tests.redis.ops.test_overview import spied
from tests.redis.web.browsing import Full, browser, filled

QUEUES = 60
MOST = 11  # and one more for the names of the queues, where they are not given
NOTHING = "what-nothing-says"


@pytest.fixture(autouse=True)
def _always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is kept."""
    monkeypatch.setattr("delayed.web.site._FRESH", -1)


def crowded(queue: Queue, client: redis.Redis) -> None:
    """Much of all that is looked through."""
    queue.enqueue_many(PyTask("m:plain", (number,)) for number in range(12_000))
    queue.enqueue_many(PyTask("m:later", (number,), after=3600) for number in range(1000))
    queue.enqueue_many(PyTask("m:grouped", (number,), group=f"g{number}") for number in range(2000))
    batch = packed("h:1", {}, [event(1e9, "failed", "m:f", said="no")], 0.0)
    letter = {"task": PyTask("m:f").serialize(), "reason": "failed", "detail": "ValueError: no", "worker": "h:1"}
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(3000):
            pipeline.xadd(queue.keys.dead, letter)  # type: ignore[arg-type]
            pipeline.xadd(queue.keys.history, {"batch": batch})
        pipeline.execute()
    queue.store.take([queue.keys.lease("t", number) for number in range(20)], "t", 60, waiting=True)
    for number in range(50):
        write(queue, Actor("ada", "here"), "queue.pause", f"{number}", result="done")


def addresses(full: Full, plain: str) -> list[str]:
    """All pages, and those that look far."""
    below = f"/queues/{part(full.queue)}"
    searches = [
        "", "state:dead", "state:running", "state:tracked", "overdue", "where:group", "where:key", "state:retrying", NOTHING,
        f"state:dead {NOTHING}", f"state:running {NOTHING}", f"state:tracked {NOTHING}", f"fn:{NOTHING}",
    ]  # fmt: skip
    found = [f"/tasks?q={quote(words + queue)}" for words in searches for queue in ("", f" queue:{full.queue}")]
    found += [f"/metrics?queue={quote(full.queue)}&last={last}" for last in ("hour", "day", "week", "quarter")]
    found += [f"/task/{each}" for each in (full.task, plain, node_id(full.flow[:10], 0), node_id(full.flow[:10], 3))]
    found += [f"/task/{new_id()}", f"/task/{new_id()}?queue={quote(full.queue)}"]
    found += [f"{below}/history?text={NOTHING}", f"{below}/dead?text={NOTHING}", f"/audit?who={NOTHING}"]
    return [path for path in full.paths if path != f"/redis?queue={quote(full.queue)}"] + found


@pytest.mark.slow
def test_every_page_costs_a_dozen_commands(name: str, client: redis.Redis) -> None:
    queues = [Queue(f"{name}-{number:02}", client) for number in range(QUEUES)]
    full = [filled(queue, client) for queue in queues]
    crowded(queues[-1], client)
    plain = new_id()
    queues[0].enqueue(PyTask("m:plain", (plain,)))
    site = browser(queues[-1], "view", readonly=True, queues=[queue.name for queue in queues])
    wrong = []
    for path in addresses(full[-1], plain):
        assert site.get(path).status_code in (200, 404), path
        with spied(client, name) as sent:
            answer = site.get(path)
        sent = [command for command in sent if command[0] not in ("CLIENT", "HELLO")]
        print(f"{len(sent):3} commands, {len(answer.content):7,} bytes, {path}")
        if len(sent) > MOST:
            wrong.append(f"{len(sent)} commands for {path}: {[command[0] for command in sent]}")
    assert not wrong, "\n".join(wrong)
    shown = site.get("/").text
    assert len(set(re.findall(rf"{name}-\d\d</a>", shown))) == QUEUES
    client.delete(*client.keys(f"{name}*"))
    client.hdel("delayed:interests", *(queue.name for queue in queues))
