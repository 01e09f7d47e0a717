"""What is served over a port says at its start, in a line, that the port is taken or that Redis does not let it in."""

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from starlette.testclient import TestClient

from delayed.queue.queue import Queue
from delayed.redis.connect import connect
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from delayed.web import everyone
from delayed.web.application import app
from tests.conftest import eventually
from tests.support.command import run
from tests.support.processes import Fleet
from tests.support.servers import free_port

SERVED = ("ui", "exporter")


@pytest.mark.parametrize("command", SERVED)
def test_a_port_that_is_taken(fleet: Fleet, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = fleet.delayed(command, "--listen", address)
        assert process.wait() == 1
    text = process.log.read_text()
    assert text.startswith(f"Error: cannot listen on {address}: ")
    assert text.count("\n") == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server with a port and a password."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis", numbered=True), free_port()) as embedded:
        yield embedded


def refused(guarded: EmbeddedRedis) -> dict[str, str]:
    """Addresses with which the server lets nobody in → how that is shown."""
    place = f"127.0.0.1:{guarded.port}"
    return {
        f"redis://{place}": f"redis://{place}/0 does not let us in: ",
        f"redis://:guess@{place}": f"redis://{place}/0 does not let us in: ",
        f"redis://bob:guess@{place}/2": f"redis://bob@{place}/2 does not let us in: ",
    }


@pytest.mark.parametrize("command", SERVED)
def test_who_is_not_let_in_ends_at_once(fleet: Fleet, guarded: EmbeddedRedis, command: str) -> None:
    for url, says in refused(guarded).items():
        process = fleet.delayed(command, "--listen", "127.0.0.1:0", DELAYED_REDIS_URL=url)
        assert process.wait() == 1
        text = process.log.read_text()
        assert text.startswith(f"Error: {says}")
        assert text.count("\n") == 1
        assert "guess" not in text


def said(log: Path, what: str) -> bool:
    return what in log.read_text()


def test_what_is_only_away_is_waited_for(fleet: Fleet, tmp_path: Path) -> None:
    for command, says in {"ui": "/?token=", "exporter": "serves metrics"}.items():
        process = fleet.delayed(command, "--listen", "127.0.0.1:0", DELAYED_REDIS_URL=f"unix://{tmp_path}/none")
        eventually(partial(said, process.log, says))
        assert ":0/" not in process.log.read_text()  # it says which port it has


COMMANDS = [
    ["info"], ["info", "q"], ["doctor"], ["health"], ["task", "list", "q"], ["dead", "list", "q"], ["enqueue", "q", "m:f"],
    ["enqueue", "q", "m:f", "--track"], ["queue", "pause", "q"], ["stats", "q"], ["audit"], ["token", "list"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_say_who_does_not_let_them_in(guarded: EmbeddedRedis, command: list[str]) -> None:
    for url, says in refused(guarded).items():
        text = run(*command, "--redis", url, status=1).output
        assert text.count(says) == 1, text
        assert text.count("\n") == 1, text
        assert "guess" not in text


def test_pages_say_so_too(guarded: EmbeddedRedis) -> None:
    for url, says in refused(guarded).items():
        site = TestClient(app(connect(url), access=everyone("admin"), queues=["q"]))
        for answer in (site.get("/"), site.get("/queues/q"), site.post("/queues/q/acts/queue.pause")):
            assert answer.status_code == 503
            assert says in answer.text
            assert "guess" not in answer.text


def test_a_program_hears_it_with_the_error_of_redis_py(guarded: EmbeddedRedis) -> None:
    for url, says in refused(guarded).items():
        with pytest.raises(redis.AuthenticationError, match=says.replace("?", r"\?")) as caught:
            Queue("q", connect(url)).enqueue(PyTask("m:f"))
        assert not getattr(caught.value, "__notes__", None)
