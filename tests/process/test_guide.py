"""docs/guide.md: each example runs, and gives what it says."""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from delayed.allow import AllowAny
from delayed.queue import Queue
from delayed.sweeper import Sweeper
from delayed.worker import Worker

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "guide.md").read_text()
MODULE = "# shop.py\n"


def sections() -> dict[str, list[str]]:
    """Heading → the Python blocks under it."""
    parts = re.split(r"^## (.*)$", GUIDE, flags=re.MULTILINE)
    return {
        title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for title, text in zip(["(module)", *parts[1::2]], parts[::2], strict=True)
    }


EXAMPLES = {
    f"{title} {number}" if number else title: block
    for title, blocks in sections().items()
    for number, block in enumerate(block for block in blocks if not block.startswith(MODULE))
}


@pytest.fixture
def shop(name: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module that the examples share, a worker for it, and a sweeper."""
    module = "\n\n".join(
        block.removeprefix(MODULE) for blocks in sections().values() for block in blocks if block.startswith(MODULE)
    )
    module = module.replace('Queue("shop", redis.Redis())', f"Queue({name!r}, redis.Redis.from_url({redis_url!r}))")
    (tmp_path / "shop.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    yield
    sys.modules.pop("shop", None)


def run(block: str) -> list[tuple[str, str]]:
    """Run an example. Returns what its marked lines are and what they should be."""
    namespace: dict[str, Any] = {}
    found: list[tuple[str, str]] = []
    pending: list[str] = []
    for line in block.splitlines():
        expression, arrow, expected = line.partition("  # → ")
        if not arrow:
            pending.append(line)
            continue
        exec("\n".join(pending), namespace)
        pending = []
        statement = re.fullmatch(r"(\w+) = (.*)", expression)
        value = eval(statement[2] if statement else expression, namespace)
        if statement:
            namespace[statement[1]] = value
        found.append((repr(value), expected))
    exec("\n".join(pending), namespace)
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_gives_what_it_says(
    example: str, shop: None, name: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker runs in the main thread, where soft timeouts work; the example in another one."""
    queue = Queue(name, redis_url)
    sweeper, worker = Sweeper([queue], 1), Worker(queue, allow=AllowAny())
    sweeping = threading.Thread(target=sweeper.run)
    sweeping.start()
    found: list[tuple[str, str]] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            found.extend(run(EXAMPLES[example]))
        except BaseException as error:
            failed.append(error)
        finally:
            worker.stop()

    client = threading.Thread(target=body)
    client.start()
    worker.run()
    client.join(30)
    sweeper.stop()
    sweeping.join(30)
    if failed:
        raise failed[0]
    assert found, "the example shows nothing"
    for is_, should_be in found:
        assert is_ == should_be
