"""The application of docs/operations.md that is traced sends what the document says."""

import re
import sys
from pathlib import Path

from delayed.queue.queue import Queue
from tests import ROOT
from tests.conftest import eventually
from tests.support.collector import collecting
from tests.support.processes import Fleet

TRACES = (ROOT / "docs" / "operations.md").read_text().partition("\n## Traces\n")[2].partition("\n## ")[0]


def test_the_example_is_traced(fleet: Fleet, name: str, tmp_path: Path) -> None:
    (module,) = re.findall(r"^```python\n(.*?)^```$", TRACES, re.MULTILINE | re.DOTALL)
    url = fleet.environment["DELAYED_REDIS_URL"]
    text = module.replace('App("redis://localhost:6379/0"', f'App("{url}", prefix="{name}-"')
    assert text != module
    (tmp_path / "traced.py").write_text(text)
    queue = f"{name}-default"
    with collecting() as collector:
        about = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        worker = fleet.delayed("worker", "--app", "traced:app", "-c", "2", folder=tmp_path, **about).ready()
        fleet.home = tmp_path
        enqueue = fleet.start(sys.executable, "-c", "import traced; traced.resize.delay('a.png', 200)", **about)
        assert enqueue.wait() == 0, enqueue.log.read_text()
        eventually(lambda: Queue(queue, url).len() == 0)  # a worker that is told to end finishes what it has
        worker.popen.terminate()
        assert worker.wait() == 0, worker.log.read_text()
        (sent,), (ran,) = collector.named(f"send {queue}"), collector.named(f"process {queue}")
    assert ran.links == [(sent.trace, sent.id)]
    said = set(re.findall(r"`((?:messaging|error)\.[\w.]+)`", TRACES))
    metrics = {each for each in said if each.endswith((".duration", ".messages"))}
    assert collector.metrics.keys() == metrics
    shown = sent.attributes.keys() | ran.attributes.keys()
    assert shown <= said - metrics
    assert said - metrics - shown == {"messaging.batch.message_count", "error.type", "messaging.delayed.workflow"}
    assert b"a.png" not in collector.raw
