"""Each program in examples/ runs, as its README says, on a server of its own."""

import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests import ROOT
from tests.across.agents import go_binary, have_go
from tests.conftest import check_invariants, eventually
from tests.support.processes import Fleet, Process
from tests.support.servers import free_port

pytestmark = pytest.mark.slow  # each starts programs that import a framework, or build

EXAMPLES = ROOT / "examples"
README = (EXAMPLES / "README.md").read_text()
UNITS = ROOT / "scripts" / "systemd"
PROGRAMS = ["shop", "plain", "fastapi_shop", "asyncio_service", "python_and_go"]
SHOP = ["mail.high", "mail", "mail.low", "images", "exports", "orders", "index", "webhooks"]


class Place:
    """A server of the example's own, and its processes."""

    def __init__(self, server: EmbeddedRedis, fleet: Fleet) -> None:
        self.server, self.fleet = server, fleet

    def queue(self, name: str) -> Queue:
        return Queue(name, self.server.client())

    def start(self, folder: str, *command: str, **environment: str) -> Process:
        """A process that sees the modules in the example's folder, as one that is started there."""
        self.fleet.home = EXAMPLES / folder
        return self.fleet.start(*command, PYTHONPATH=str(EXAMPLES / folder), **environment)

    def worker(self, folder: str, *words: str) -> Process:
        return self.start(folder, sys.executable, "-m", "delayed", "worker", *words).ready()

    def run(self, folder: str, *command: str) -> str:
        """What a program prints that has to end well."""
        process = self.start(folder, *command)
        assert process.wait() == 0, process.log.read_text()
        return process.log.read_text()


def says(process: Process, text: str) -> None:
    """Wait until it does."""

    def check() -> None:
        said = process.log.read_text()
        assert text in said, said

    eventually(check, 60)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """At the end nothing is held or waits, and what must hold of the queues' keys does."""
    with EmbeddedRedis() as server:
        with Fleet(server.url, tmp_path) as fleet:
            yield Place(server, fleet)
        with server.client() as client:
            for key in client.scan_iter("*_processing"):
                assert not client.hlen(key)
            for key in client.scan_iter("*_stats"):
                raise AssertionError(f"a sweep found something lost: {client.hgetall(key)}")
            for name in ("words", "orders", "probes", "gallery", "scaling", *SHOP):
                queue = Queue(name, client)
                check_invariants(queue)
                assert queue.len() == 0


def worker_of(folder: str) -> list[str]:
    """The queue and the options of the worker in the row of the README's table."""
    (command,) = re.findall(rf"^\| \[{folder}\].*?\| `delayed up ([^`]+)`", README, re.MULTILINE)
    return shlex.split(command)


def test_the_table_has_all_programs() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*PROGRAMS, "deploy"}
    assert re.findall(r"^\| \[(\w+)\]\(\1\)", README, re.MULTILINE) == PROGRAMS


def test_the_script(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three")
    (tmp_path / "b.txt").write_text("four")
    worker = place.worker("plain", *worker_of("plain"))
    missing = place.run("plain", sys.executable, str(EXAMPLES / "plain" / "count.py"), str(tmp_path / "none.txt"))
    assert "none.txt: [Errno 2] No such file or directory" in missing
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    said = place.run("plain", sys.executable, str(EXAMPLES / "plain" / "count.py"), *files)
    assert said.splitlines() == [f"{files[0]}: 3 words", f"{files[1]}: 1 words", "total: 4"], worker.log.read_text()


def request(url: str, order: object = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    data = None if order is None else json.dumps(order).encode()
    headers = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_web_application(place: Place) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    application = place.start("fastapi_shop", sys.executable, "-m", "uvicorn", "web:app", "--port", str(port))
    says(application, "Uvicorn running")
    (order,) = re.findall(r"-d '(.*)'", README)
    status, placed = request(f"{url}/orders", json.loads(order))
    assert status == 202
    shipment = f"{url}/shipments/{placed['shipment']}"
    assert request(shipment) == (200, {"state": "queued", "packed": None, "items": None, "parcel": None})
    status, refused = request(f"{url}/orders", json.loads(order))
    assert status == 409
    assert placed["shipment"] in refused["detail"]
    place.worker("fastapi_shop", *worker_of("fastapi_shop"))
    done = (200, {"state": "succeeded", "packed": 2, "items": 2, "parcel": "parcel-17"})

    def is_done() -> None:
        assert request(shipment) == done

    eventually(is_done)
    assert request(f"{url}/shipments/0123456789abcdef")[0] == 404


class Hook(http.server.BaseHTTPRequestHandler):
    """A customer's server, which is away at first."""

    heard: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.heard.append(body)
        self.send_response(503 if len(self.heard) == 1 else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.heard.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not have_go(), reason="Go is not installed")
def test_the_shop(place: Place, hook: str) -> None:
    binary, port = go_binary("shop", ROOT, "./examples/shop"), free_port()
    url = f"http://127.0.0.1:{port}"
    web = place.start("shop", sys.executable, "-m", "uvicorn", "shop.web:api", "--port", str(port))
    says(web, "Uvicorn running")

    def post(path: str, body: object = None) -> Any:
        status, answer = request(f"{url}/{path}", {} if body is None else body, x_request_id="r-1")
        assert status in (200, 202), answer
        return answer

    calm, flaky, urgent, never = (
        post(f"customers?email={email}")["task"] for email in ("ada", "flaky", "bob&urgent=true", "eve")
    )
    assert len({calm, flaky, urgent, never}) == 4
    assert request(f"{url}/tasks/{never}", method="DELETE") == (200, {"was": "queued"})
    assert request(f"{url}/tasks/{never}", method="DELETE")[0] == 404
    assert post("index") == post("index") == post("index")
    worker = place.worker("shop", *worker_of("shop"))
    go = place.start("shop", binary).ready()
    assert post("pictures?name=cat.png") == "cat.png@200"
    assert post("invoices", [1, 2, 3]) == ["invoice-1.pdf", "invoice-2.pdf", "invoice-3.pdf"]
    post("orders", {"number": 17, "total": "19.99", "customer": "c7", "hook": hook})
    for line in ("welcome, ada", "welcome, flaky", "charged order 17: 19.99 (request r-1)", "order 17: the webhook has it"):
        says(worker, line)
    assert Hook.heard == [{"event": "paid", "order": 17}] * 2, go.log.read_text()
    said = worker.log.read_text()
    assert said.index("welcome, bob") < said.index("welcome, ada")
    assert "eve" not in said
    assert said.count("the index is rebuilt") == 1
    done = {"state": "succeeded", "done": 30, "total": 30, "file": "30 rows"}
    export = post("exports?rows=30")["task"]
    eventually(lambda: request(f"{url}/exports/{export}") == (200, done))
    long = post("exports?rows=100000")["task"]
    eventually(lambda: request(f"{url}/exports/{long}")[1]["state"] == "running")
    assert request(f"{url}/exports/{long}", method="DELETE") == (200, {"was": "running"})
    eventually(lambda: request(f"{url}/exports/{long}")[1]["state"] == "cancelled")
    assert request(f"{url}/exports/{long[::-1]}")[0] == 404
    schedules = place.run("shop", sys.executable, "-m", "delayed", "cron", "list", "orders")
    assert "shop.jobs:nightly_report" in schedules
    assert len(re.findall(r"process \d+ is open", worker.log.read_text())) == 1


def test_the_service(place: Place) -> None:
    port, closed = free_port(), free_port()
    service = place.start("asyncio_service", sys.executable, str(EXAMPLES / "asyncio_service" / "service.py"), str(port))
    says(service, "listening")
    (options,) = re.findall(r"`delayed worker (probes [^`]+)`", README)
    worker = place.worker("asyncio_service", *shlex.split(options))
    with socket.create_connection(("127.0.0.1", port), 30) as client, client.makefile("rw") as lines:
        for line, answer in ((f"127.0.0.1 {port}", "open"), (f"127.0.0.1 {closed}", "closed"), ("nonsense", "say HOST PORT")):
            lines.write(f"{line}\n")
            lines.flush()
            assert lines.readline() == f"{answer}\n", worker.log.read_text()


@pytest.mark.skipif(not have_go(), reason="Go is not installed")
def test_python_beside_go(place: Place) -> None:
    binary = go_binary("python_and_go", ROOT, "./examples/python_and_go")
    python = place.worker("python_and_go", "gallery", "--allow", "gallery:*")
    go = place.start("python_and_go", binary).ready()
    (words,) = re.findall(r"^python (gallery\.py [^#]*?) +#", README, re.MULTILINE)
    program, *arguments = shlex.split(words)
    said = place.run("python_and_go", sys.executable, str(EXAMPLES / "python_and_go" / program), *arguments)
    assert said == "scaled to [800, 450]\n", go.log.read_text()
    says(python, "published cat.png at 800x450")


COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "deploy" / "compose.yaml").read_text())


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def test_the_services_of_compose(place: Place, tmp_path: Path) -> None:
    """Their commands run, in an environment that has what the image has."""
    services = COMPOSE["services"]
    for name in ("worker", "sweeper"):
        program, *words = shlex.split(services[name]["command"])
        assert program == "delayed"
        place.start("plain", sys.executable, "-m", "delayed", *words).ready()
    (tmp_path / "a.txt").write_text("one two")
    said = place.run("plain", sys.executable, str(EXAMPLES / "plain" / "count.py"), str(tmp_path / "a.txt"))
    assert said.endswith("total: 2\n")
    for process in place.fleet.processes[:2]:
        process.popen.terminate()
        assert process.wait() == 0


def test_compose_gives_workers_the_time_that_they_ask_for() -> None:
    services = COMPOSE["services"]
    (grace,) = re.findall(r"--grace (\d+)", services["worker"]["command"])
    assert seconds(services["worker"]["stop_grace_period"]) > float(grace) + 5
    assert "noeviction" in services["redis"]["command"]
    assert services["sweeper"]["environment"] == services["worker"]["environment"]
    image = services["worker"]["build"]
    dockerfile = (EXAMPLES / "deploy" / image["context"] / image["dockerfile"]).resolve().read_text()
    for source in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert (ROOT / source).exists(), source
    if shutil.which("docker-compose"):
        subprocess.run(["docker-compose", "-f", EXAMPLES / "deploy" / "compose.yaml", "config", "--quiet"], check=True)


def variables(*files: str) -> dict[str, str]:
    """What systemd's EnvironmentFile makes of them."""
    lines = "\n".join((EXAMPLES / "deploy" / file).read_text() for file in files).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("unit", "environment"), [("delayed-worker@.service", "words.env"), ("delayed-sweeper.service", "sweeper.env")]
)
def test_the_units_with_the_environment_files(place: Place, unit: str, environment: str) -> None:
    """Their command runs: `$NAME` is split into words, and `${NAME}` is one."""
    text = (UNITS / unit).read_text()
    given = variables(environment)
    assert set(given) - {"DELAYED_REDIS_URL", "PYTHONPATH"} <= set(re.findall(r"\b([A-Z]+)=", text)), given
    (line,) = re.findall(r"^ExecStart=\S+/bin/delayed (.*)$", text, re.MULTILINE)
    line = re.sub(r"\$\{(\w+)\}", lambda found: shlex.quote(given[found[1]]), line)
    words = shlex.split(re.sub(r"\$(\w+)", lambda found: given[found[1]], line))
    process = place.start("plain", sys.executable, "-m", "delayed", *words).ready()
    if unit.startswith("delayed-worker"):
        place.queue("words").enqueue(PyTask("words:count_words", (os.devnull,)))
        eventually(lambda: place.queue("words").len() == 0)
    process.popen.terminate()
    assert process.wait() == 0, process.log.read_text()
