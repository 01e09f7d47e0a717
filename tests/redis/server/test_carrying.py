"""The workflows that the server carries on."""

import pytest

from delayed.queue.queue import Queue
from delayed.server import workflows as module
from delayed.server.links import Link, Links
from delayed.server.workflows import Workflows
from delayed.task.headers import Member


async def test_one_that_cannot_be_carried_on_keeps_no_other_from_it(
    redis_url: str, name: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    links, carried = Links(redis_url), list[str]()

    def carry(link: Link, home: str, flow: str) -> None:
        if flow == "first":
            raise ValueError("what another program has written")
        carried.append(f"{link.name} {home} {flow}")

    monkeypatch.setattr(module, "_carried", carry)
    workflows = Workflows(links)
    for flow in ("first", "second"):
        workflows.tell(links[name], Member(name, flow, 0, 0))
    await workflows.close()
    assert carried == [f"{name} {name} second"]
    assert "another program" in caplog.text
    await links.aclose()
    del queue
