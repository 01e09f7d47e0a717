"""What docs/server.md shows works: its workers, its units, its manifest, its table of values."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.server.app import ALL_ROUTES
from delayed.server.mapping import parse, plain
from delayed.server.option_schemas import OPTIONS
from delayed.server.schemas import SCHEMAS
from delayed.task.codec import dumps
from delayed.task.task import PyTask
from tests import ROOT
from tests.support.api import Api, serve
from tests.support.processes import Fleet

PAGE = (ROOT / "docs" / "server.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Fleet(server.url, tmp_path_factory.mktemp("guide")) as processes:
        yield serve(processes)[1]


@pytest.mark.parametrize(
    ("language", "program"),
    [
        ("bash", "bash"),
        pytest.param("javascript", "node", marks=pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")),
    ],
)
def test_workers(language: str, program: str, api: Api, fleet: Fleet, queue: Queue, name: str, tmp_path: Path) -> None:
    code = block(language)
    assert len(code.splitlines()) <= (40 if language == "bash" else 50)
    path = tmp_path / ("worker.mjs" if program == "node" else "worker.sh")
    path.write_text(code)
    good = queue.enqueue(PyTask("words:count", ("one two three",), result_ttl=60))
    bad = queue.enqueue(PyTask("words:fail", retry=1, result_ttl=60))
    worker = fleet.start(program, str(path), name, DELAYED_SERVER=f"http://127.0.0.1:{api.port}")
    try:
        assert good.result(60) == 3
        found = api.get(f"/v1/queues/{name}/tasks/{bad.id}/result?wait=60")
        assert found["state"] == "failed", worker.log.read_text()
        assert found["error"]["kind"] == ("RangeError" if program == "node" else "bash.Failed")
    finally:
        worker.close()


def test_all_that_is_shown_is_there() -> None:
    for right in ("enqueue", "consume", "read", "operate"):
        assert f"| `{right}` |" in PAGE
    text = PAGE.partition("## Produce")[2].partition("## Consume")[0]
    for option in OPTIONS:
        assert f"`{option}`" in text, option
    for route in ALL_ROUTES:
        if route.method == "POST" and route.path.startswith("/v1/leases/{token}/"):
            assert f"| `{route.path.rpartition('/')[2]}` |" in PAGE
    assert SCHEMAS


def test_the_table_of_values() -> None:
    table = PAGE.partition("## Values")[2].partition("What cannot be shown")[0]
    found = [text for text in re.findall(r"`({[^`]*})`", table) if "…" not in text and "seconds, nano" not in text]
    assert len(found) > 12
    for text in found:
        value = json.loads(text)
        assert plain(dumps(parse(text.encode()))) == value


def test_the_manifest_asks_for_what_there_is() -> None:
    _, scaled = yaml.safe_load_all((ROOT / "deploy" / "keda.yaml").read_text())
    about = scaled["spec"]["triggers"][0]["metadata"]
    paths = {route.path for route in ALL_ROUTES}
    assert about["url"].partition("7677")[2].partition("?")[0].replace("/web/", "/{queue}/") in paths
    assert about["valueLocation"] in SCHEMAS["Scale"]["properties"]


def test_the_socket_of_the_service_manager(fleet: Fleet) -> None:
    """What systemd does: the socket is open before the server is there, and stays open while it restarts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); os.environ.update(LISTEN_FDS='1', "
            "LISTEN_PID=str(os.getpid())); os.execv(sys.executable, [sys.executable, '-m', 'delayed', 'server'])"
        )
        for _ in range(2):
            environment = {**os.environ, **fleet.environment}
            command = [sys.executable, "-c", start, str(listening.fileno())]
            running = subprocess.Popen(command, env=environment, pass_fds=[listening.fileno()])
            try:
                assert Api(port).get("/healthz")["ok"]
            finally:
                running.terminate()
                assert running.wait(60) == 0
