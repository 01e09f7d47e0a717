"""One ordered list of wings: each imports only from those before it, at the top of a file, and no wing has a circle inside."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import delayed

PACKAGE = Path(delayed.__file__).parent
WINGS = [
    "errors",
    "base",
    "logger",
    "events",
    "backoff",
    "system",
    "task",
    "hooks",
    "redis",
    "embedded",
    "interests",
    "queue",
    "waiting",
    "cron",
    "delay",
    "dead_letters",
    "letters",
    "workflow",
    "job",
    "middleware",
    "app",
    "otel",
    "worker",
    "supervisor",
    "sweeper",
    "ops",
    "web",
    "server",
    "remote",
    "testing",
    "simulation",
    "cli",
]
LATE = {"__init__.py": {"delayed/app", "delayed/worker", "delayed/sweeper"}}  # for types only
MAY_IMPORT = {
    "redis": {"redis"},  # the wing of this name; everybody else reaches Redis through it
    "subprocess": {"system/child.py", "cli/demo.py"},
    "threading": {
        "system/alarm.py",
        "system/signals.py",
        "system/exits.py",
        "system/kept.py",
        "job/functions.py",
        "redis/channel.py",
        "redis/outage.py",
        "queue/handle.py",
        "queue/waiter.py",
        "ops/repair.py",
        "worker/executors.py",
        "worker/dispatcher.py",
        "worker/heartbeat.py",
        "web/checking.py",
        "web/site.py",
    },
}
FILES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
DOORS = {"__init__.py", "__main__.py"}  # of the package: they only hand on


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text())


def _wing(file: str) -> str:
    return file.split("/", maxsplit=1)[0].removesuffix(".py")


@cache
def _imports(file: str) -> list[tuple[ast.stmt, str]]:
    """Each import statement of a file with what it names: 'delayed/redis/keys' for ours, 'redis.asyncio' for others."""
    found: list[tuple[ast.stmt, str]] = []
    here = ("delayed/" + file).split("/")[:-1]
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = "/".join(here[: len(here) - node.level + 1] + (node.module or "").split(".")).rstrip("/")
            found.append((node, base))
        elif isinstance(node, ast.ImportFrom):
            found.append((node, node.module or ""))
        elif isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
    return found


def _ours(name: str) -> str | None:
    """The wing of one of our own modules."""
    return name.split("/")[1] if name.startswith("delayed/") else None


def test_every_file_has_a_wing() -> None:
    assert {_wing(file) for file in FILES if file not in DOORS} == set(WINGS)


def test_imports_come_only_from_wings_before() -> None:
    late = [
        f"{file} imports from {wing}, which comes after {_wing(file)}"
        for file in FILES
        if file not in DOORS
        for _, name in _imports(file)
        if (wing := _ours(name)) is not None and WINGS.index(wing) > WINGS.index(_wing(file))
    ]
    assert not late


@pytest.mark.parametrize("wing", WINGS)
def test_no_circle_inside_a_wing(wing: str) -> None:
    inside = {file: set[str]() for file in FILES if _wing(file) == wing}
    for file, uses in inside.items():
        for _, name in _imports(file):
            module = f"{name.removeprefix('delayed/')}.py"
            if module in inside:
                uses.add(module)
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        pytest.fail(f"{' → '.join(error.args[1])}")


def test_imports_stand_at_the_top() -> None:
    """All do, and those for type checkers: `delay.py` and `cli/main.py` have modules imported by name when they are needed."""
    inner = []
    for file in FILES:
        top = {each for node in _tree(file).body for each in (node.body if isinstance(node, ast.If) else [node])}
        inner += [f"{file}: {name}" for node, name in _imports(file) if node not in top]
    assert not inner


def test_few_import_what_touches_the_world() -> None:
    for file in FILES:
        for _, name in _imports(file):
            may = MAY_IMPORT.get(re.split(r"[./]", name)[0])
            assert may is None or file in may or _wing(file) in may, f"{file} must not import {name}"


def test_a_door_has_no_code_of_its_own() -> None:
    for file in FILES:
        if file.endswith("__init__.py") and file != "__init__.py":
            body = _tree(file).body
            types = {node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"}
            kinds = {type(node) for node in set(body) - types} - {ast.Expr, ast.ImportFrom, ast.Assign}
            assert not kinds, f"{file} has {kinds}"
