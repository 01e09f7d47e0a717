"""docs/moving-over.md, beside what the published packages offer."""

import inspect
import json
import re
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from delayed import Queue, delayed
from delayed.cron.expression import Cron
from tests import ROOT
from tests.support.upstream import upstream_python

PYTHON, GO, *_ = (ROOT / "docs" / "moving-over.md").read_text().split("\n## ")[1:]
LISTING = Path(__file__).with_name("published_names.py")


def rows(section: str) -> list[list[str]]:
    """The rows of a section's first table."""
    table = section.partition("| theirs | instead |")[2].partition("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]


def ours(module: str, name: str, queue: Queue) -> Any:
    """What has this name with us; None if nothing has."""
    if name == "delayed()":
        return delayed(queue)
    try:
        what: Any = import_module(module)
        for part in name.split("."):
            what = getattr(what, part)
    except (ImportError, AttributeError):
        return None
    return what


def missing(offered: Sequence[tuple[str, str, list[str] | None]], queue: Queue) -> set[str]:
    """What the published package offers and we do not, in the page's notation. What is missing is named without its parts."""
    found: set[str] = set()
    for module, name, parameters in offered:
        if name.partition(".")[0] in found:
            continue
        what = ours(module, name, queue)
        if what is None:
            found.add(name)
            continue
        taken = list(inspect.signature(what).parameters) if parameters else []
        wanted = enumerate(parameters or [])
        found |= {f"{name}({parameter})" for place, parameter in wanted if taken[place : place + 1] != [parameter]}
    return found


@pytest.mark.slow
def test_each_name_of_the_published_package_works_or_is_on_the_page(queue: Queue) -> None:
    done = subprocess.run([upstream_python(), "-I", LISTING], capture_output=True, text=True, check=True)
    offered = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    names = {name for _, name, _ in offered}
    assert {"PyTask.execute", "GoTask", "Queue.requeue_lost", "Sweeper.run", "Worker", "setup_logger", "delayed()"} <= names
    assert ["queue", "keep_alive_interval", "id_bits"] in [parameters for _, name, parameters in offered if name == "Worker"]
    listed = [re.findall(r"`([^`]+)`", theirs) for theirs, _ in rows(PYTHON)]
    assert sorted(missing(offered, queue)) == sorted(name for each in listed for name in each)


def test_the_page_names_what_the_go_package_has() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "interop").rglob("*.go"))
    column = "\n".join(instead for _, instead in rows(GO))
    names = re.findall(r"\b([A-Z]\w+)\(", column)
    assert len(names) > 20
    for name in names:
        assert re.search(rf"^func (\(.*?\) )?{name}\(", source, re.MULTILINE), name


def test_what_the_page_says_instead_of_tasqueue_is_there() -> None:
    section = (ROOT / "docs" / "moving-over.md").read_text().partition("\n## From Tasqueue\n")[2]
    table = [line.strip("| ").split(" | ")[1] for line in section.splitlines() if line.startswith("| ")][2:]
    source = "\n".join(path.read_text() for path in (ROOT / "interop" / "delayed").glob("*.go"))
    said = [code for instead in table for code in re.findall(r"`([^`]+)`", instead)]
    for name in {name for code in said for name in re.findall(r"\b([A-Z]\w+)[({]", code)}:
        assert re.search(rf"^(func (\(.*?\) )?|type ){name}\b", source, re.MULTILINE), name
    for name in {name for code in said for name in re.findall(r"\b((?:State|Err)[A-Z]\w+)\b", code)}:
        assert re.search(rf"^(\t|var ){name}\b", source, re.MULTILINE), name
    expressions = [code for code in said if re.fullmatch(r"(?:[*/0-9]+ ){4,5}[*/0-9]+", code)]
    assert len(expressions) == 5
    for expression in expressions:
        Cron(expression)


def test_a_name_that_is_gone_is_noticed(queue: Queue) -> None:
    gone = [("delayed.gone", name, list[str]()) for name in ("Gone", "Gone.by")]
    offered = [("delayed.queue", "Queue", ["name", "conn", "colour"]), *gone]
    assert missing(offered, queue) == {"Queue(colour)", "Gone"}
