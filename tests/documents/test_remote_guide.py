"""What docs/server.md shows of Python works."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.worker.worker import Worker
from tests import ROOT
from tests.support.api import Api, serve
from tests.support.processes import Fleet

from .test_guide import run

EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "server.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def api(server: EmbeddedRedis, tmp_path: Path) -> Iterator[Api]:
    with Fleet(server.url, tmp_path) as processes:
        yield serve(processes)[1]


def test_examples(
    api: Api, queue: Queue, name: str, threaded: Callable[[Worker], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text("def add(a, b):\n    return a + b\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    other = Queue(f"{name}-b", queue.conn)
    threaded(Worker([queue, other], allow=AllowAny()))
    assert EXAMPLES
    for example in EXAMPLES:
        here = example.replace('"https://tasks.example.com", token="dq_4xGk…"', f'"http://127.0.0.1:{api.port}"')
        for shown, real in (("web", queue.name), ("shop", other.name)):
            here = re.sub(rf'(queue\(|queue=)"{shown}"', rf'\g<1>"{real}"', here)
        for value, expected in run(here):
            assert value == expected
    monkeypatch.delitem(sys.modules, "shop", raising=False)
