"""Workflows that clients describe."""

import pytest

from delayed.queue.queue import Queue
from delayed.redis.command import ConnectionError as Outage
from delayed.redis.store import Store
from delayed.server.access import ALL
from delayed.server.flow_forms import FlowForm
from delayed.workflow.tend import tend


def test_what_a_killed_server_leaves_of_a_large_workflow_is_removed_after_a_minute(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"function": "m:f", "args": []}
    body = {"nodes": [{"group": [call] * 3000}]}
    add, pages = Store.add, list[str]()

    def once(self: Store, name: str, *about: object) -> object:
        pages.append(name)
        if len(pages) > 1:
            raise Outage("killed")
        return add(self, name, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "add", once)
    flow = FlowForm(body, queue, ALL, "nightly").flow()
    with pytest.raises(Outage):
        flow.submit()
    monkeypatch.undo()
    ((entry, due),) = queue.store.call("ZRANGE", queue.keys.flow_due, 0, -1, "WITHSCORES")
    assert entry.endswith(b" B")
    assert 0 < float(due) - queue.ask_time() * 1000 <= 60_001
    queue.store.call("ZADD", queue.keys.flow_due, 1, entry)
    tend(queue.store)
    assert not queue.store.call("EXISTS", queue.keys.flow_due, queue.keys.flow_ids)
    assert FlowForm(body, queue, ALL, "nightly").flow().submit().status().total == 3000
