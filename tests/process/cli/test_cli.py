"""The command `delayed`, as a user types it."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import redis

from delayed.backoff import Exponential
from delayed.cli.common import as_json_text
from delayed.cli.enqueue import enqueue
from delayed.dead_letters.letter import dead_letters
from delayed.errors import DelayedError
from delayed.ops.info import described
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.decode import decode, readable
from delayed.task.options import OPTIONS
from delayed.task.task import GoTask, PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.support.command import run
from tests.support.processes import Fleet
from tests.support.servers import free_port
from tests.support.tls import before, listening


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def test_enqueue_reads_json_and_keywords(queue: Queue) -> None:
    run("enqueue", queue.name, "m:f", "1", '"text"', "plain", "-5", "key=3", 'other="x=y"', "--retry", "2")
    (data,) = queue.store.call("LRANGE", queue.name, 0, -1)
    assert decode(data)[:4] == ("m:f", [1, "text", "plain", -5], {"key": 3, "other": "x=y"}, 2)


IMPORTED = """
import sys
from delayed.cli.main import main
main(sys.argv[1:], standalone_mode=False)
heavy = "redis", "asyncio", "ssl", "email", "importlib.metadata", "subprocess", "psutil", "opentelemetry", "delayed.worker"
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("more", [(), ("--track", "--after", "5"), ("--group", "g"), ("--metadata", "a=b")])
def test_enqueue_imports_little(queue: Queue, more: tuple[str, ...]) -> None:
    """Scripts call it once for each task. (Only the first one has to send a script, which the server refuses by name.)"""
    command = [sys.executable, "-c", IMPORTED, "enqueue", queue.name, "m:f", "1", *more]
    _first, last = (subprocess.check_output(command, text=True).splitlines()[-1] for _ in range(2))
    assert last == "[]"


def test_enqueue_lets_numbers_begin_with_a_minus_and_all_else_behind_two(queue: Queue) -> None:
    run("enqueue", queue.name, "m:f", "-5", "-.5", "--retry", "2", "--", "--retires", "-x", "-5")
    run("enqueue", queue.name, "--", "m:f", "-x")
    first, second = queue.store.call("LRANGE", queue.name, 0, -1)
    assert decode(first)[:4] == ("m:f", [-5, "-.5", "--retires", "-x", -5], {}, 2)
    assert decode(second)[:2] == ("m:f", ["-x"])


def test_enqueue_go(queue: Queue) -> None:
    run("enqueue", queue.name, "--go", "main.F", "1", "[2]")
    run("enqueue", queue.name, "--go", "main.F", '"x"')
    run("enqueue", queue.name, "--go", "main.F")
    want = [GoTask("main.F", args).serialize() for args in ([1, [2]], "x", None)]
    assert queue.store.call("LRANGE", queue.name, 0, -1) == want


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["worker", "q"], 2, "--allow"),
        (["worker", "q", "--allow", "a:*", "--allow-any"], 2, "--allow"),
        (["worker", "q", "--allow", "tasks"], 1, "no colon"),
        (["worker", "q_dead", "--allow-any"], 1, "cannot be the name"),
        (["worker"], 2, "name the queues to serve"),
        (["enqueue", "q", "nofunction"], 1, "module.path:function"),
        (["enqueue", "q", "--go", "m:f"], 1, "package/path.Function"),
        (["enqueue", "q", "m:f", "--backoff", "square:1"], 2, "exponential:1:600"),
        (["enqueue", "q", "m:f", "--backoff", "linear:0"], 2, "exponential:1:600"),
        (["enqueue", "q", "m:f", "--at", "tomorrow"], 2, "2030-01-31"),
        (["enqueue", "q", "m:f", "--at", "2030-01-31"], 2, "no time zone; write for example 2030-01-31T00:00:00+00:00"),
        (["enqueue", "q", "m:f", "--after", "-1"], 2, "--after"),
        (["enqueue", "q", "m:f", "x", "w=3", "--retires", "3"], 2, "No such option '--retires'. Did you mean '--retry'?"),
        (["enqueue", "q", "m:f", "--retires=3"], 2, "Did you mean '--retry'?"),
        (["enqueue", "q", "m:f", "-x"], 2, "Put -- before"),
        (["worker", "q", "--allow", "a:*,b:*"], 1, "comma"),
        (["worker", "q", "--allow", "a:* b:*"], 1, "blank"),
        (["worker", "q", "--allow-any", "--grace", "-1"], 2, "-1.0 is not in the range x>=0.0.\n"),
        (
            ["worker", "q", "--allow-any", "--preload", "nosuch"],
            78,
            "cannot import 'nosuch': No module named 'nosuch' (the current",
        ),
        (["cron", "sync", "nosuch"], 78, "cannot import 'nosuch': No module named 'nosuch' (the current folder is "),
        (["worker", "--app", "nosuch:app"], 78, "cannot load --app nosuch:app: ModuleNotFoundError: No module named 'nosuch'"),
        (["worker", "--app", "shop:nope"], 78, "shop has no 'nope'; its applications: app"),
        (["worker", "--app", "shop:app.nope"], 78, "shop has no 'app.nope'"),
        (["worker", "--app", "tasks:nope"], 78, "tasks has no 'nope' (the current folder"),
        (["worker", "--app", "tasks:noop"], 78, "is no delayed.App, but function"),
        (["audit", "--act", "dead.purge"], 2, "there is no act 'dead.purge'; these there are: queue.pause, "),
        (["audit", "--act", "dea"], 2, "dead.delete"),
        (["history", "q", "--cursor", "bogus"], 2, "'bogus' is none: it stands below a list that goes on"),
        (["queue", "limit", "q", "--concurrency", "0"], 1, "to stop a queue, pause it"),
        (["queue", "limit", "q", "--concurrency", "99999999999999999999"], 1, "concurrency is at most 9,007,199,254,740,992"),
        (["queue", "limit", "q", "--rate", "1e99"], 1, "rate is at most"),
        (["cron", "list", "nosuch"], 0, "nosuch has no schedules"),
        (["enqueue", "q", "m:f", "--join"], 1, "unique"),
        (["task", "status", "q", "nobody"], 1, "nobody"),
        (["info", "q", "--redis", "http://x"], 1, "redis://"),
        (["info", "q", "--redis", "unix:///no/such.sock"], 1, "no/such.sock"),
        (["dead", "show", "q", "1-1"], 1, "has no dead letter"),
        (["dead", "retry", "q"], 2, "--all"),
        (["dead", "purge", "q", "1-1", "--all"], 2, "--all"),
        (["dead", "show", "q", "nonsense"], 2, "no id of a dead letter"),
        (["dead", "retry", "q", '1"'], 2, "no id of a dead letter"),
        (["dead", "purge", "q", "nonsense"], 2, "no id of a dead letter"),
        (["dead", "retry", "q", "1-1"], 1, "q has no dead letter 1-1"),
        (["dead", "purge", "q", "1-1"], 1, "q has no dead letter 1-1"),
        (["dead", "list", "q", "--reason", "nosuch"], 2, "'failed'"),
        (["demo", "--workers", "0"], 2, "--workers"),
        (["worker", "a,b", "--allow-any"], 2, "with spaces between: a b"),
        (["sweeper", "a,b"], 2, "with spaces between: a b"),
        (["up", "a,b"], 2, "with spaces between: a b"),
    ],
)
def test_wrong_usage_is_explained_in_a_line(
    arguments: list[str], status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "shop", raising=False)  # which another test may have imported from elsewhere
    result = run(*arguments, status=status)
    assert says in result.output
    assert "Traceback" not in result.output


def test_a_pattern_whose_module_is_not_there_is_said_at_the_start(fleet: Fleet, queue: Queue) -> None:
    patterns = ["no_such_module:*", "json.nothing:f", "json.*:*", "tasks:noop", "no_*:*", "*:*", "os.path:join"]
    options = [word for pattern in patterns for word in ("--allow", pattern)]
    process = fleet.delayed("worker", queue.name, "--burst", *options)
    assert process.wait() == 0
    said = re.findall(r"--allow '(.*?)' allows nothing: there is no module '(.*?)'", process.log.read_text())
    assert said == [("no_such_module:*", "no_such_module"), ("json.nothing:f", "json.nothing")]


def test_a_worker_that_is_process_1_is_warned_of_orphans(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for reaps, said in ((True, 1), (False, 0)):
        monkeypatch.setattr("delayed.cli.run.adopts_orphans", lambda reaps=reaps: reaps)
        assert run("worker", queue.name, "--allow-any", "--burst").output.count("docker run --init") == said


def test_where_redis_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, queue: Queue) -> None:
    for variables in (
        {"REDIS_URL": redis_url},
        {"DELAYED_REDIS_URL": redis_url, "REDIS_URL": "unix:///wrong"},
        {"DELAYED_REDIS_URL_FILE": str(tmp_path / "secret"), "DELAYED_REDIS_URL": "unix:///wrong"},
    ):
        (tmp_path / "secret").write_text(f"{redis_url}\n")
        with monkeypatch.context() as patch:
            patch.delenv("DELAYED_REDIS_URL")
            for name, value in variables.items():
                patch.setenv(name, value)
            run("enqueue", queue.name, "m:f")
    assert queue.len() == 3


def test_info_shows_what_is_there(queue: Queue, fleet: Fleet, client: redis.Redis) -> None:
    key = f"{queue.name}:h"
    assert "no worker is running" in run("info", queue.name).output
    fleet.quick_worker(queue.name)
    fleet.sweeper(queue.name)
    queue.enqueue(PyTask("tasks:hold", (key, 1)))
    assert client.blpop([f"{key}:began"], 20)
    queue.enqueue(PyTask("tasks:noop"))
    text = run("info", queue.name).output
    assert re.search(rf"\n{queue.name} +1 +0 +0 +0 +0 +1 +0 +\? +\S+ +1\n", text)  # 1 waits, 1 runs, 1 worker
    assert "tasks:hold by" in text
    assert "beat" in text
    eventually(lambda: "runs tasks:hold" in run("info", queue.name).output)
    eventually(lambda: "sweeper" in run("info", queue.name).output)
    (shown,) = json.loads(run("info", queue.name, "--json").output)
    assert (shown["waiting"], shown["held"], shown["leases"][0]["task"]) == (1, 1, "tasks:hold")
    client.rpush(f"{key}:go", 1)


def test_dead_letters_are_listed_shown_retried_and_purged(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        queue.enqueue(PyTask("tasks:fail", (f"boom {number}",)))
    queue.enqueue(PyTask("tasks:nope"))
    burst(queue)
    assert caplog.text.count(f"; see `delayed dead list {queue.name}`") == 4
    assert run("dead", "list", queue.name).output.count("\n") == 4
    assert "boom 1" in run("dead", "list", queue.name, "--reason", "failed").output
    assert "nope" not in run("dead", "list", queue.name, "--reason", "failed").output
    letters = json.loads(run("dead", "list", queue.name, "--json", "--reason", "failed").output)
    assert [letter["task"] for letter in letters] == ["tasks:fail"] * 3
    shown = run("dead", "show", queue.name, letters[0]["id"]).output
    assert "task:   tasks:fail\nargs:   'boom 2'\nreason: failed\n" in shown
    assert "ValueError: boom 2" in shown
    assert json.loads(run("dead", "show", queue.name, letters[0]["id"], "--json").output)["reason"] == "failed"
    assert "1 task waits again" in run("dead", "retry", queue.name, letters[0]["id"]).output
    assert queue.len() == 1
    assert "1 dead letter removed" in run("dead", "purge", queue.name, letters[1]["id"]).output
    assert "2 tasks wait again" in run("dead", "retry", queue.name, "--all").output
    assert "0 dead letters removed" in run("dead", "purge", queue.name, "--all").output
    assert not list(dead_letters(queue))


def test_what_is_shown_of_a_letter_is_in_words(queue: Queue) -> None:
    options: dict[str, Any] = {
        "timeout": 1.5,
        "expires": datetime(2030, 1, 1, tzinfo=UTC),
        "unique": "k",
        "unique_for": 60,
        "group": "acme",
    }
    task = PyTask("m:f", ("a", [1]), {"b": None}, -1, backoff=Exponential(1, 600), retry_on=["E"], **options)
    lines = list(described(task.serialize()))
    assert lines[:3] == ["task:   m:f", "args:   'a', [1], b=None", "retry:  until it succeeds"]
    assert {
        "backoff: exponential, 1 s, at most 600 s, with jitter",
        "retry_on: ['E']",
        "timeout: 1.5 s",
        "expires: 2030-01-01 00:00:00+00:00",
        "unique: 'k', until_done, for at most 60 s",
        "group:  acme",
    } <= set(lines)
    assert list(described(PyTask("m:f").serialize())) == ["task:   m:f", "args:   (none)"]
    assert list(described(GoTask("main.F", [1, "x"]).serialize())) == ["task:   main.F (Go)", "args:   [1, 'x']"]
    for odd in (b"", b"\xc1", msgpack.packb(5), msgpack.packb(["m:f", 5, [6], 0, {"expires": 2**60, "backoff": 1, 7: "x"}])):
        assert list(described(odd))


def test_who_has_read_enough_hears_no_complaint(queue: Queue, redis_url: str) -> None:
    queue.enqueue_many(PyTask("tasks:nope") for _ in range(20))
    burst(queue)
    command = [sys.executable, "-m", "delayed", "dead", "list", queue.name, "--redis", redis_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_those_letters_that_are_there_are_retried(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:nope"))
    burst(queue)
    (letter,) = dead_letters(queue)
    assert "0 tasks" not in run("dead", "retry", queue.name, "1-1", status=1).output
    text = run("dead", "retry", queue.name, letter.id, "1-1", status=1).output
    assert "1 task waits again" in text
    assert f"{queue.name} has no dead letter 1-1" in text


def test_enqueue_with_options(queue: Queue) -> None:
    plain = ["enqueue", queue.name, "m:f", "1"]
    assert not run(*plain).output
    first = run(*plain, "--unique", "k", "--unique-mode", "until_done", "--unique-for", "60", "--group", "acme").output.strip()
    assert first in run(*plain, "--unique", "k", status=1).output
    assert run(*plain, "--unique", "k", "--join").output.strip() == first
    many = [
        "--backoff",
        "exponential:1:600",
        "--timeout",
        "1",
        "--hard-timeout",
        "2.5",
        "--result-ttl",
        "60",
        "--expires",
        "60",
    ]
    assert run("enqueue", queue.name, "--go", "main.F", "--retry", "3", "--retry-on", "a.B", "--give-up-on", "C", *many).output
    assert not run(*plain, "--at", "2000-01-31T08:00:00+00:00").output  # in the past: it waits in the queue
    _, unique, go, due = queue.store.call("LRANGE", queue.name, 0, -1)
    headers = decode(unique).headers
    assert headers is not None
    assert (headers["id"], headers["unique"], headers["group"]) == (first, ["k", "until_done", 60000], "acme")
    path, payload, asked = readable(go)
    assert (path, payload, asked["retry"], asked["backoff"]) == ("main.F", None, 3, ["exponential", 1.0, 600.0, True])
    assert (asked["retry_on"], asked["give_up_on"], asked["timeout"], asked["hard_timeout"]) == (["a.B"], ["C"], 1000, 2500)
    assert (asked["result_ttl"], decode(due).headers) == (60000, None)


def test_a_task_s_status_result_and_cancel(queue: Queue, threaded: Callable[[Worker], threading.Thread]) -> None:
    later = run("enqueue", queue.name, "tasks:two", "1", "--after", "3600", "--track").output.strip()
    assert run("task", "status", queue.name, later).output.startswith("state:    scheduled\nenqueued: 2")
    assert json.loads(run("task", "status", queue.name, later, "--json").output)["state"] == "scheduled"
    assert "not ended" in run("task", "result", queue.name, later, status=1).output
    assert run("task", "cancel", queue.name, later).output == "scheduled\n"
    assert "cancelled" in run("task", "result", queue.name, later, status=1).output
    threaded(Worker(queue, allow=["tasks:*"]))
    assert run("enqueue", queue.name, "tasks:two", "1", "b=5", "--wait", "20").output == "6\n"
    assert "ValueError: no" in run("enqueue", queue.name, "tasks:fail", "no", "--wait", "20", status=1).output
    done = run("enqueue", queue.name, "tasks:two", "1", "--result-ttl", "60").output.strip()
    assert run("task", "result", queue.name, done, "--wait", "20").output == "3\n"


def test_what_json_does_not_have() -> None:
    assert as_json_text({"a": [b"\xff", datetime(2030, 1, 1, tzinfo=UTC)]}) == '{"a": ["ff", "2030-01-01 00:00:00+00:00"]}'
    assert as_json_text({(1, 2): "é"}) == "\"{(1, 2): 'é'}\""


def test_version_and_help() -> None:
    assert run("--version").output.startswith("delayed, version ")
    for command in ("worker", "sweeper", "enqueue", "task", "info", "dead", "fsck", "doctor", "up", "demo", "simulate"):
        assert command in run("--help").output
        assert run(command, "-h").output


def test_a_failing_command_has_status_1(fleet: Fleet, name: str) -> None:
    command = fleet.delayed("info", name, "--redis", "unix:///no/such.sock")
    assert command.wait() == 1
    assert command.log.read_text().startswith("Error: ")


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    for number in range(400):
        with (tmp_path / f"{number}.bin").open("wb") as file:
            file.truncate(1_000_000 + number)  # a sparse file: hashing takes longer than reading its result
    command = [sys.executable, "-m", "delayed", "demo", "--folder", str(tmp_path), "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = {
        row.rsplit(maxsplit=1)[0].strip(): row.rsplit(maxsplit=1)[1]
        for row in done.stdout.splitlines()
        if row.strip() and " " in row.strip()
    }
    assert (table["files"], table["killed workers"], table["lost"], table["wrong digests"]) == ("400", "2", "0", "0")
    assert int(table["recovered tasks"]) >= 2
    assert int(table["repeated"]) <= 2


@pytest.mark.slow
def test_up_runs_everything_and_ends_with_its_children(fleet: Fleet, tmp_path: Path, name: str) -> None:
    port = free_port()
    options = ["--folder", str(tmp_path / "data"), "--port", str(port), "--preload", "planned"]
    process = fleet.delayed("up", name, *options, PYTHONPATH=".", PLANNED_QUEUE=name)
    process.expect("READY=1")
    process.expect("READY=1")
    with pytest.raises(redis.AuthenticationError), redis.Redis(port=port) as stranger:
        stranger.ping()
    address = tmp_path / "data" / "url"
    (said,) = re.findall(r"Redis at (\S+), data in", process.log.read_text())
    assert address.read_text().strip() == said
    with redis.Redis.from_url(said) as client:
        assert readable_by_others(tmp_path / "data") == []
        secret = client.connection_pool.connection_kwargs["password"]
        assert not [line for line in command_lines() if secret in line]
        assert secret not in process.log.read_text().partition("\n")[2].partition("\n")[2]
        queue = Queue(name, client)
        queue.enqueue(PyTask("tasks:noop"))
        eventually(lambda: queue.len() == 0)
        assert client.hexists(queue.keys.cron, "each second")
        server_pid = client.info()["process_id"]
    process.send(signal.SIGINT)
    assert process.wait() == 0, process.log.read_text()
    assert not Path(f"/proc/{server_pid}").exists()
    assert (tmp_path / "data").exists()


def readable_by_others(folder: Path) -> list[Path]:
    """What somebody else could open."""
    if folder.stat().st_mode & 0o077 == 0:
        return []
    return [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]


def command_lines() -> list[str]:
    """As `ps` shows them."""
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_a_folder_that_others_may_enter_is_closed_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "appendonly.aof").touch()
    with EmbeddedRedis(folder, free_port(), persistent=True) as server, server.client() as client:
        assert folder.stat().st_mode & 0o777 == 0o700
        client.set("k", "v")
        first = server.url
        assert not [path for path in folder.iterdir() if path != folder / "appendonly.aof" and path.stat().st_mode & 0o077]
    with EmbeddedRedis(folder, server.port, persistent=True) as server:
        assert server.url == first  # programs that know the address go on
    (folder / "password").chmod(0o644)
    with EmbeddedRedis(folder, server.port, persistent=True) as server:
        assert server.url != first
    (folder / "mine.txt").touch()
    folder.chmod(0o750)
    with pytest.raises(DelayedError, match="others may enter"):
        EmbeddedRedis(folder)
    assert folder.stat().st_mode & 0o777 == 0o750


def test_a_server_that_does_not_start_keeps_its_password(tmp_path: Path) -> None:
    server = EmbeddedRedis(
        tmp_path / "data", free_port(), options={"requirepass": "verysecret", "logfile": "/no/such/verysecret"}
    )
    with pytest.raises(DelayedError) as refused:
        server.start()
    assert "verysecret" not in str(refused.value)


@pytest.mark.parametrize("odd", ["a b", 'q"uote', "back\\slash", "é#$%{}", "x\ny"])
def test_the_folder_of_an_embedded_redis_may_have_any_name(tmp_path: Path, odd: str) -> None:
    with EmbeddedRedis(tmp_path / odd) as server, server.client() as client:
        assert client.config_get("dir")["dir"] == str(tmp_path / odd)


@pytest.mark.slow
def test_up_wants_a_port_and_a_folder_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    """Also where another Redis would answer on the port."""
    port = free_port()
    first = fleet.delayed("up", "qa", "--folder", str(tmp_path / "a"), "--port", str(port))
    for _ in range(2):
        first.expect("READY=1")
    second = fleet.delayed("up", "qb", "--folder", str(tmp_path / "b"), "--port", str(port))
    third = fleet.delayed("up", "qb", "--folder", str(tmp_path / "a"), "--port", str(free_port()))
    assert (second.wait(), third.wait()) == (1, 1)
    assert second.log.read_text() == (
        f"Error: port {port} is taken; choose another with --port, or use what is there: "
        f"delayed worker qb … --redis redis://localhost:{port}\n"
    )
    assert third.log.read_text() == (
        f"Error: {tmp_path / 'a'} is in use by process {first.pid}; choose another with --folder\n"
    )
    first.send(signal.SIGINT)
    assert first.wait() == 0
    again = fleet.delayed("up", "qa", "--folder", str(tmp_path / "a"), "--port", str(port))
    again.expect("READY=1")


def test_an_embedded_redis_is_not_taken_for_another_on_its_port(tmp_path: Path) -> None:
    port = free_port()
    with EmbeddedRedis(tmp_path / "a", port), pytest.raises(DelayedError, match="Redis did not start"):
        EmbeddedRedis(tmp_path / "b", port).start()


def test_an_embedded_redis_keeps_its_data(tmp_path: Path) -> None:
    for expected in (0, 1):
        with EmbeddedRedis(tmp_path, persistent=True) as server, server.client() as client:
            queue = Queue("q", client)
            assert queue.len() == expected
            queue.enqueue(PyTask("m:f"))


def test_enqueue_has_all_options_of_a_task() -> None:
    has = {str(parameter.name) for parameter in enqueue.params}
    assert has >= OPTIONS, OPTIONS - has


def test_no_help_text_is_cut() -> None:
    for group in ((), ("queue",), ("task",), ("dead",), ("cron",)):
        listed = run(*group, "--help").output.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


def test_a_refused_connection_has_no_number() -> None:
    text = run("info", "q", "--redis", "redis://localhost:1", status=1).output
    assert text.startswith("Error: cannot connect to localhost:1: ")


def test_a_certificate_that_nobody_vouches_for_says_where_to_read_on() -> None:
    with listening(before(1)) as port:
        text = run("info", "q", "--redis", f"rediss://localhost:{port}", status=1).output
    assert "see ssl_ca_certs and TLS in docs/operations.md" in text


def test_info_is_shown_again_and_again_until_it_is_interrupted(queue: Queue, fleet: Fleet) -> None:
    for words, told in (((), "scheduled  retrying"), (("--json",), f'[{{"queue": "{queue.name}"')):
        process = fleet.delayed("info", queue.name, "--watch", "--interval", "0.1", *words)
        eventually(lambda: process.log.read_text().count(told) > 2)  # noqa: B023  # it is called before the next turn
        process.send(signal.SIGINT)
        assert process.wait() == 0
        assert "\x1b" not in process.log.read_text()
