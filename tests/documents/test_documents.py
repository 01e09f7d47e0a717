"""The documents say what is so."""

import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from delayed.base.ids import new_id
from delayed.cli.main import main
from delayed.cli.run import worker
from delayed.cli.simulate import simulate
from delayed.dead_letters.letter import dead_letters
from delayed.ops.statistics import Sums
from delayed.ops.watch import KINDS
from delayed.queue.queue import Queue
from delayed.queue.waiting import find, move
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.decode import decode
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, group
from delayed.workflow.tend import tend
from tests import ROOT
from tests.conftest import burst, eventually
from tests.support.processes import Fleet
from tests.support.servers import free_port

README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_quick_start_of_the_readme_runs(
    server: EmbeddedRedis, client: redis.Redis, fleet: Fleet, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(text: str) -> str:
        text = text.replace("App()", f"App(queue={name!r})").replace('"default"', repr(name))
        return text.replace('"go"', repr(f"{name}go")).replace(" default ", f" {name} ")

    module, call, more = map(here, blocks(README, "python"))
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "tasks.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)
    queue = Queue(name, client)
    exec(call, {})
    expected = [("myapp.tasks:resize", [200])]
    assert [(decode(data).func_path, decode(data).args[1:]) for data in queue.store.call("LRANGE", name, 0, -1)] == expected
    queue.enqueue(PyTask("myapp.tasks:fetch", ("http://x",)))
    exec(more, {})
    assert queue.len() == 1 + 1 + 1 + 100 + 1
    (for_go,) = client.lrange(f"{name}go", 0, -1)
    assert b"main.Resize" in for_go
    (enqueue,) = [block for block in blocks(README, "bash") if "delayed enqueue" in block]
    assert CliRunner().invoke(main, shlex.split(here(enqueue))[1:]).exit_code == 0
    command = next(line for line in README.splitlines() if line.startswith("delayed worker"))
    words = shlex.split(here(command).partition("#")[0])[1:]
    process = fleet.delayed(*words, "--burst", PYTHONPATH=str(tmp_path))
    assert process.wait() == 0
    said = process.log.read_text()
    assert said.count("resizing a.png to 200") == 4
    assert said.count("resizing b.png to ") == 100
    eventually(lambda: queue.len() == 0)
    assert client.xlen(queue.keys.dead) == 0


def test_the_quick_start_needs_no_redis(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines in their order, but for the port."""
    port = free_port()
    module, call, _ = blocks(README, "python")
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "tasks.py").write_text(module)
    shell = blocks(README, "bash")
    command = next(position for position, block in enumerate(shell) if block.startswith("delayed up"))
    assert not [block for block in shell[:command] if "delayed worker" in block]
    words = shlex.split(shell[command])[1:]
    process = fleet.delayed(*words, "--port", str(port), "--folder", str(tmp_path / "data"), PYTHONPATH=str(tmp_path))
    process.expect("READY=1")
    process.expect("READY=1")
    (export,) = re.findall(r"`export (DELAYED_REDIS_URL=\$\(cat) \.delayed/url\)`", README)
    there = f"{export} {shlex.quote(str(tmp_path / 'data' / 'url'))}) {shlex.quote(sys.executable)} -c {shlex.quote(call)}"
    fleet.start("/bin/sh", "-c", there, PYTHONPATH=str(tmp_path)).popen.wait(30)
    eventually(lambda: "resizing a.png to 200" in process.log.read_text())
    process.send(signal.SIGINT)
    assert process.wait() == 0


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)  # without its code
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        file = document.parent / target if target else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings], anchor


def test_the_table_for_go_names_what_its_module_has() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "interop" / "delayed").glob("*.go"))
    text = (ROOT / "docs" / "interop.md").read_text().partition("## Tasks that ask for more")[2]
    column = "\n".join(line.replace(r"\|", "").split("|")[2] for line in text.splitlines() if line.startswith("|"))
    for name in re.findall(r"\b([A-Z]\w+)\(", column):
        assert re.search(rf"^func (\(.*?\) )?{name}\b", source, re.MULTILINE), name
    for name, method in re.findall(r"(New\w+)\([^()]*\)\.(\w+)", column):
        (kind,) = re.findall(rf"^func {name}\(.*\) (\*\w+)", source, re.MULTILINE)
        assert re.search(rf"^func \(\w+ {re.escape(kind)}\) {method}\(", source, re.MULTILINE), f"{name}(…).{method}"


def test_the_tables_for_taskqueue_name_what_there_is() -> None:
    text = (ROOT / "docs" / "moving-over.md").read_text().partition("## From taskqueue and jobqueue")[2]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    here = {row[0].removeprefix("| "): row[1].removesuffix(" |") for row in rows}
    sizes = ("input_queue_size", "work_queue_size", "dead_queue_size")
    for theirs in ("enqueued", "started", "retried", "failed", "completed", *sizes):
        assert re.findall(r"`(\w+)`", here[f"`{theirs}`"])[0] in Sums._fields
    for theirs in ("MANAGER_STATS`, each second", "TASK_RETRY`", "TASK_FAILURE`", "TASK_COMPLETION`"):
        assert re.findall(r"`(\w+)`", here[f"`{theirs}"])[0] in KINDS
    assert here["`MANAGER_START`, `MANAGER_STOP`"].startswith("`came`, `went`")
    options = {name: option.default for option in simulate.params for name in option.opts}
    for theirs in [each for each in here if each.startswith(("`-", "`e2e"))]:
        for name, default in re.findall(r"`(?:delayed simulate )?(--[a-z-]+) ([\d.]+)`", here[theirs]):
            assert options[name] == float(default), name
        assert set(re.findall(r"--[a-z-]+", here[theirs])) <= {*options}, theirs


def test_operations_gives_the_defaults_of_the_code() -> None:
    options = {option.opts[0]: option.default for option in worker.params if option.opts[0].startswith("--")}
    for name, default in re.findall(r"^\| `(--[a-z-]+)` \| (\d+) s", OPERATIONS, re.MULTILINE):
        if name != "--keep-alive-timeout":
            assert options[name] == float(default), name


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
    assert sweep(Queue(name, urls["sweeper"]).store).recovered == 1
    burst(Queue(name, urls["worker"]))
    fleet.environment["DELAYED_REDIS_URL"] = urls["sweeper"]
    fleet.sweeper(name)
    eventually(lambda: client.hlen(f"{name}_workers") == 1)
    shown = CliRunner().invoke(main, ["info", name, "--redis", urls["viewer"]])
    assert shown.exit_code == 0, shown.output
    assert re.search(rf"\n{name} +0 +0 +0 +0 +0 +0 +1 ", shown.output)
    assert "1 lost task recovered" in shown.output
    for role in ("producer", "viewer"):
        with pytest.raises(redis.ResponseError):
            Queue(name, urls[role]).store.call("DEL", name)
    with pytest.raises(redis.ResponseError):
        Queue("other", urls["worker"]).len()


def test_the_acl_rules_are_enough_for_workflows(
    users: list[str], server: EmbeddedRedis, client: redis.Redis, name: str
) -> None:
    urls = {user.partition("-")[0]: server.url.replace("unix://", f"unix://{user}:secret@") for user in users}
    (rights,) = re.findall(r"A producer of \[workflows\][^`]*`~Q\*` and, beside its own,\s`([^`]+)`", OPERATIONS)
    client.execute_command("ACL", "SETUSER", f"producer-{name}", f"~{name}*", *rights.split())
    flow = Flow(Queue(name, urls["producer"]))
    flow.add(PyTask("tasks:noop"), after=flow.add(group(PyTask("tasks:fail", ("x",)), PyTask("tasks:noop"))))
    rows = flow.map(PyTask("tasks:noop"), over=flow.add(PyTask("tasks:two", (1,))))
    flow.add(PyTask("tasks:noop"), after=[rows, flow.wait("go", timeout=3600)], when="continue")
    flow.add(group(PyTask("tasks:noop", (each,)) for each in range(1001)), after=flow.wait(timeout=0.001))
    run = flow.submit()
    run.signal("go", 1)
    Run(Queue(name, urls["sweeper"]), run.id).cancel()
    assert run.wait(10) == "cancelled"
    Run(Queue(name, urls["sweeper"]), run.id).retry()
    eventually(lambda: tend(Queue(name, urls["sweeper"]).store) is None)  # the pause is over
    burst(Queue(name, urls["worker"]))
    tend(Queue(name, urls["sweeper"]).store)
    assert run.status().state == "failed"
    for letter in dead_letters(Queue(name, client)):
        assert CliRunner().invoke(main, ["dead", "retry", name, letter.id, "--redis", urls["sweeper"]]).exit_code == 0
    burst(Queue(name, urls["worker"]))
    assert run.status().state == "failed"
    shown = CliRunner().invoke(main, ["flow", "show", run.id, "--queue", name, "--redis", urls["viewer"]])
    assert "2 failed" in shown.output, shown.output


def test_the_acl_rules_are_enough_for_tasks_with_options(users: list[str], server: EmbeddedRedis, name: str) -> None:
    urls = {user.partition("-")[0]: server.url.replace("unix://", f"unix://{user}:secret@") for user in users}
    client = server.client()
    queue, sweeper = Queue(name, urls["producer"]), Queue(name, urls["sweeper"])
    tasks = [PyTask("tasks:noop", (), track=True), PyTask("tasks:noop", (), track=True, group="g")]
    for rights in (["-copy"], ["+copy"]):  # which saves time, and no more
        (given,) = re.findall(r"A producer of \[workflows\][^`]*`~Q\*` and, beside its own,\s`([^`]+)`", OPERATIONS)
        client.execute_command("ACL", "SETUSER", f"producer-{name}", f"~{name}*", *given.split(), *rights)
        assert all(each.status().state is State.QUEUED for each in queue.enqueue_all(3 * tasks))
    task, identity = PyTask("tasks:noop", (), track=True, unique="u", unique_for=60, after=60), new_id()
    handle = queue.enqueue(task, id=identity)
    assert queue.enqueue(task, id=identity).known
    waits = find(sweeper, identity)
    assert waits is not None
    assert move(sweeper, waits, time.time() + 120)
    assert sweeper.handle(identity).cancel()
    assert handle.status().state is State.CANCELLED
    assert sweeper.handle(queue.enqueue(tasks[0]).id or "").cancel()
    burst(Queue(name, urls["worker"]))


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
        ("viewer", r"`delayed doctor` needs\s`([^`]+)`"),
    ):
        (rights,) = re.findall(sentence, OPERATIONS)
        client.execute_command("ACL", "SETUSER", f"{role}-{name}", *rights.split())
    assert "6 repaired, 0 wrong" in run("sweeper", "fsck", "--repair", name).output
    text = run("viewer", "doctor", name).output
    assert "may not be used" not in text
    assert "1 task waits" in text


def test_the_go_program_of_the_readme_is_the_one_that_is_tested() -> None:
    """interop/delayed/process_test.go runs it against both languages."""
    (program,) = blocks(README, "go")
    source = (ROOT / "interop" / "examples" / "quickstart" / "main.go").read_text()
    assert program == source.partition("\n")[2]
    assert len([line for line in program.splitlines() if line.strip()]) <= 40
