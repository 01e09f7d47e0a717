"""The documents say what is so."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from delayed.cli import main
from delayed.commands_process import worker
from delayed.embedded import EmbeddedRedis
from delayed.queue import Queue
from delayed.sweep import sweep
from delayed.task import PyTask
from delayed.wire import decode
from tests.conftest import burst, eventually
from tests.processes import Fleet
from tests.unit.test_layers import LEVELS

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_quick_start_of_the_readme_runs(
    server: EmbeddedRedis, client: redis.Redis, fleet: Fleet, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, call, more = blocks(README, "python")[:3]
    (tmp_path / "myapp").mkdir()
    module = module.replace("redis.Redis()", f"redis.Redis.from_url({server.url!r})").replace('"default"', repr(name))
    (tmp_path / "myapp" / "tasks.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, object] = {"paths": ["b.png"], "redis": redis}
    exec(call, namespace)
    sys.modules["myapp.tasks"].queue.enqueue(PyTask("myapp.tasks:fetch", ("http://x",)))
    queue = Queue(name, client)
    assert queue.len() == 2
    namespace["queue"] = queue
    *imports, asynchronous = more.rstrip().rpartition("\nawait ")
    exec(imports[0], namespace)
    exec(f"async def enqueue(conn):\n    await {asynchronous}", namespace)
    expected = [("myapp.tasks:resize", 2), ("myapp.tasks:fetch", 1), ("myapp.tasks:resize", 1), ("myapp.tasks:resize", 2)]
    tasks = queue.call("LRANGE", name, 0, -1)
    assert [(decode(data).func_path, len(decode(data).args)) for data in tasks[:4]] == expected
    assert b"main.Resize" in tasks[4]
    (command,) = [block for block in blocks(README, "bash") if "delayed enqueue" in block]
    arguments = command.split()[1:]
    arguments[1] = name
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)
    assert CliRunner().invoke(main, shlex.split(" ".join(arguments))).exit_code == 0
    worker_command = next(line for line in README.splitlines() if line.startswith("delayed worker"))
    words = shlex.split(worker_command.partition("#")[0])[1:]
    process = fleet.delayed(*[name if word == "default" else word for word in words], "--burst", PYTHONPATH=str(tmp_path))
    assert process.wait() == 0
    assert "resizing a.png to 200" in process.log.read_text()
    eventually(lambda: queue.len() == 0)
    assert asyncio.iscoroutinefunction(namespace["enqueue"])


def test_the_readme_names_only_files_that_exist() -> None:
    for text, folder in (
        (README, ROOT),
        (OPERATIONS, ROOT / "docs"),
        ((ROOT / "docs" / "internals.md").read_text(), ROOT / "docs"),
    ):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (folder / target).exists(), target


def test_operations_gives_the_defaults_of_the_code() -> None:
    options = {option.opts[0]: option.default for option in worker.params if option.opts[0].startswith("--")}
    for name, default in re.findall(r"^\| `(--[a-z-]+)` \| (\d+) s", OPERATIONS, re.MULTILINE):
        if name != "--keep-alive-timeout":
            assert options[name] == float(default), name


def test_internals_lists_the_levels_of_the_test() -> None:
    table = re.findall(r"^\| \d+ \| ([^|]+) \|", (ROOT / "docs" / "internals.md").read_text(), re.MULTILINE)
    assert [set(row.strip().split(", ")) for row in table] == LEVELS


@pytest.fixture
def users(client: redis.Redis, name: str) -> list[str]:
    """The ACL users of the documents, for this queue."""
    names = []
    for line in _acl_lines():
        words = line.replace("~Q", f"~{name}").split()
        words[2] = f"{words[2]}-{name}"
        client.execute_command(*words)
        names.append(words[2])
    return names


def _acl_lines() -> list[str]:
    return [line for line in OPERATIONS.splitlines() if line.startswith("ACL SETUSER")]


def test_the_acl_rules_are_enough_and_not_too_much(
    users: list[str], server: EmbeddedRedis, client: redis.Redis, name: str, fleet: Fleet
) -> None:
    urls = {user.partition("-")[0]: server.url.replace("unix://", f"unix://{user}:secret@") for user in users}
    assert set(urls) == {"producer", "worker", "sweeper", "viewer"}
    Queue(name, urls["producer"]).enqueue(PyTask("tasks:noop"))
    Queue(name, urls["producer"]).enqueue(PyTask("tasks:fail", ("x",), retry=1))
    burst(Queue(name, urls["worker"]))
    client.hset(f"{name}_processing", f"{name}_lease_gone", PyTask("tasks:noop").serialize())
    assert sweep(Queue(name, urls["sweeper"])).recovered == 1
    burst(Queue(name, urls["worker"]))
    fleet.environment["DELAYED_REDIS_URL"] = urls["sweeper"]
    fleet.sweeper(name)
    eventually(lambda: client.hlen(f"{name}_workers") == 1)
    shown = CliRunner().invoke(main, ["info", name, "--redis", urls["viewer"]])
    assert shown.exit_code == 0, shown.output
    assert "0 waiting, 0 held, 1 dead; 1 recovered" in shown.output
    for role in ("producer", "viewer"):
        with pytest.raises(redis.ResponseError):
            Queue(name, urls[role]).call("DEL", name)
    with pytest.raises(redis.ResponseError):
        Queue("other", urls["worker"]).len()


@pytest.mark.breaks_invariants("a lease without a TTL")
def test_the_acl_rules_let_fsck_and_doctor_read_and_repair(
    users: list[str], server: EmbeddedRedis, client: redis.Redis, name: str
) -> None:
    urls = {user.partition("-")[0]: server.url.replace("unix://", f"unix://{user}:secret@") for user in users}
    keys = Queue(name, client).keys
    client.hset(keys.processing, keys.lease("gone", 0), PyTask("tasks:noop").serialize())
    client.hset(keys.stats, "buried", "x")
    client.set(keys.lease("t", 0), "t")
    client.hset(keys.lost, "0" * 40, "1:p")
    client.hset(keys.workers, keys.lease("gone"), b"\x80")
    client.rpush(keys.noti, 1)

    def run(role: str, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--wait", "0", "--redis", urls[role]])

    assert "0 repaired, 6 wrong" in run("viewer", "fsck", name).output
    assert "may not be used" in run("viewer", "doctor").output
    for role, sentence in (
        ("sweeper", r"needs the sweeper's and `([^`]+)`"),
        ("viewer", r"`delayed doctor` wants\s`([^`]+)`"),
    ):
        (rights,) = re.findall(sentence, OPERATIONS)
        client.execute_command("ACL", "SETUSER", f"{role}-{name}", *rights.split())
    assert "6 repaired, 0 wrong" in run("sweeper", "fsck", "--repair", name).output
    text = run("viewer", "doctor", name).output
    assert "may not be used" not in text
    assert "1 tasks wait" in text


def test_the_go_program_of_the_readme_is_the_one_that_is_tested() -> None:
    """interop/process_test.go runs it against both languages."""
    (program,) = blocks(README, "go")
    source = (ROOT / "interop" / "examples" / "quickstart" / "main.go").read_text()
    assert program == source.partition("\n")[2]
    assert len([line for line in program.splitlines() if line.strip()]) <= 40
