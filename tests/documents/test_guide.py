"""docs/guide.md and docs/events.md: each example runs, and gives what it says."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from delayed.app.app import find_app
from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.sweeper.sweeper import Sweeper
from delayed.worker.application import worker_of
from delayed.worker.worker import Worker
from tests import ROOT
from tests.across.agents import go_binary, have_go
from tests.support.processes import Fleet

DOCS = ROOT / "docs"
MODULES = ("# shop.py\n", "# jobs.py\n")
URL = "redis://localhost:6379/0"


class Example(NamedTuple):
    language: str
    text: str
    modules: dict[str, str]  # what its document puts into shop.py and jobs.py


def examples(document: str) -> dict[str, Example]:
    """The document, a heading and a number → the example."""
    text = (DOCS / document).read_text()
    blocks = re.findall(r"^## ([^\n]*)$|^```(python|bash)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    modules = {
        first[2:-1]: "\n\n".join(block.removeprefix(first) for _, _, block in blocks if block.startswith(first))
        for first in MODULES
    }
    title, found = "", dict[str, Example]()
    for heading, language, block in blocks:
        title = heading or title
        if block and not block.startswith(MODULES):
            found[f"{document} {title} {sum(key.startswith(f'{document} {title}') for key in found)}"] = Example(
                language, block, modules
            )
    return found


DOCUMENTS = ("guide.md", "events.md", "workflows.md")
EXAMPLES = {key: example for document in DOCUMENTS for key, example in examples(document).items()}


def test_all_examples_are_found() -> None:
    for document in DOCUMENTS:
        text = (DOCS / document).read_text()
        modules = sum(map(text.count, MODULES))
        shown = sum(text.count(f"\n```{language}\n") for language in ("python", "bash")) - modules
        assert len([key for key in EXAMPLES if key.startswith(document)]) == shown
        in_go = text.count("\n```go\n")  # see below
        assert text.count("\n```") == 2 * (shown + modules + in_go), "a block in a language that nobody runs"


def test_the_examples_in_go_are_those_that_its_tests_run() -> None:
    source = (ROOT / "interop" / "delayed" / "flow_examples_test.go").read_text()
    blocks = re.findall(r"^```go\n(.*?)^```$", (DOCS / "workflows.md").read_text(), re.MULTILINE | re.DOTALL)
    functions = re.findall(r"^func Example\w+\(\) \{\n(.*?)^\}$", source, re.MULTILINE | re.DOTALL)
    bodies = [re.sub(r"^\t", "", function, flags=re.MULTILINE) for function in functions]
    for block in blocks:
        definitions = block.startswith("func ")
        assert (
            all(part.strip() in source for part in block.split("\n\n"))
            if definitions
            else any(block in body for body in bodies)
        ), block
    for body in bodies:
        said, _, printed = body.partition("// Output:\n")
        assert re.findall(r"// → (.*)", said) == re.findall(r"^// (.*)", printed, re.MULTILINE)
    assert len([block for block in blocks if not block.startswith("func ")]) == len(bodies)


@pytest.fixture
def example(key: str, name: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """One example, with the module that it imports, on this test's queue."""

    def here(text: str) -> str:
        text = re.sub(r'(?<=Queue\()"shop"', repr(name), text).replace(f'App("{URL}"', f'App("{URL}", prefix="{name}-"')
        return text.replace(URL, redis_url).replace('on("go"', f'on("{name}go"')

    language, text, modules = EXAMPLES[key]
    text = here(text) if language == "python" else text.replace(" shop ", f" {name} ")
    monkeypatch.syspath_prepend(tmp_path)
    for file, module in modules.items():
        (tmp_path / file).write_text(here(module))
        monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
    yield Example(language, text, modules)
    for file in modules:
        sys.modules.pop(file.removesuffix(".py"), None)


def run(block: str) -> list[tuple[str, str]]:
    """Run Python. Returns what its marked lines are and what they should be."""
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


def run_shell(block: str, redis_url: str, folder: Path) -> list[tuple[str, str]]:
    """Likewise, with what the marked lines print. `folder` has the modules of its document."""
    script = re.sub(r"^(.*)  # → .*$", r"echo '→ '; \1", block, flags=re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DELAYED_REDIS_URL": redis_url}
    command = ["bash", "-euc", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    printed = [part.splitlines()[0] for part in done.stdout.split("→ \n")[1:]]
    return list(zip(printed, re.findall(r"# → (.*)", block), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("key", EXAMPLES)
def test_the_example_gives_what_it_says(
    key: str, example: Example, name: str, redis_url: str, tmp_path: Path, fleet: Fleet
) -> None:
    """The worker runs in the main thread, where soft timeouts work; the example in another one, unless it brings a worker."""
    if "Worker(queue" in example.text:
        check(run(example.text))
        return
    if "jobs" in example.text:
        app = find_app("jobs:app")
        sweeper, worker = Sweeper(app.queues(), 1), worker_of(app)
    else:
        queue = Queue(name, redis_url)
        sweeper, worker = Sweeper([queue], 1), Worker(queue, allow=AllowAny())
    if "GoTask(" in example.text:
        if not have_go():
            pytest.skip("Go is not installed")
        fleet.start(go_binary("conformance", ROOT / "interop", "./cmd/conformance"), "work", f"{name}go").ready()
    sweeping = threading.Thread(target=sweeper.run)
    sweeping.start()
    found: list[tuple[str, str]] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            found.extend(run(example.text) if example.language == "python" else run_shell(example.text, redis_url, tmp_path))
        except BaseException as error:
            failed.append(error)
        finally:
            worker.stop()

    client = threading.Thread(target=body)
    client.start()
    worker.run()
    client.join(240)
    sweeper.stop()
    sweeping.join(30)
    if failed:
        raise failed[0]
    check(found)


def check(found: list[tuple[str, str]]) -> None:
    assert found, "the example shows nothing"
    for is_, should_be in found:
        assert is_ == should_be
