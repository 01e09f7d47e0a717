"""Whoever looks at a queue sees that it is paused, as nothing of it begins."""

import pytest
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.cli.top_panes import PANES, Chosen
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.support.command import run


@pytest.mark.parametrize("paused", [True, False])
def test_a_pause_is_seen(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch, paused: bool) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    queue.enqueue(PyTask("m:f", track=True))
    if paused:
        queue.pause()
    row = PANES["queues"](Chosen((queue,), queue)).rows[0]
    assert (row.key, row.cells[0].text) == (queue.name, f"{queue.name} (paused)" if paused else queue.name)
    says = {
        ("info", queue.name): f"{queue.name} (paused)",
        ("queue", "peek", queue.name): f"{queue.name} is paused: none of them begins until `delayed queue resume",
        ("health", queue.name, "--max-age", "60"): "; it is paused",
    }
    for command, words in says.items():
        assert (words in run(*command).output) == paused, command
    doctor = CliRunner().invoke(main, ["doctor", queue.name, "--wait", "0"]).output  # the server has faults of its own
    assert ("it is paused: none of its tasks begins, and 1 task waits" in doctor) == paused
