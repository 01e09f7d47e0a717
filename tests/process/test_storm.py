"""What the storm does to links and outputs, and what it finds in Redis at the end."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chaos.output import Output
from chaos.rest import keys_left
from delayed.base.ids import token
from tests.conftest import eventually
from tests.support.proxy import Proxies

FAR = 150  # milliseconds


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    """One gate in front of a server that echoes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        opened = Proxies(listener.getsockname()[1], 1)
        yield opened
        opened.close()
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(client,), daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client, contextlib.suppress(ConnectionError):
        while data := client.recv(100):
            client.sendall(data)


def connect(proxies: Proxies) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxies.ports[0]), timeout=20)


def echo(link: socket.socket, data: bytes) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    link.sendall(data)
    found = b""
    while len(found) < len(data):
        found += link.recv(100)
    assert found == data
    return time.monotonic() - began


def test_a_slow_link_takes_its_time_in_both_directions_and_keeps_the_order(proxies: Proxies) -> None:
    with connect(proxies) as link:
        echo(link, b"a")
        proxies.order(0, f"slow:{FAR}")
        assert echo(link, b"b") >= 2 * FAR / 1000
        link.sendall(b"c")
        proxies.order(0, "slow:0")
        echo_of_both = b""
        link.sendall(b"d")
        while len(echo_of_both) < 2:
            echo_of_both += link.recv(100)
        assert echo_of_both == b"cd"
        proxies.order(0, f"slow:{FAR}")
        link.sendall(b"e")
        link.shutdown(socket.SHUT_WR)
        assert (link.recv(100), link.recv(100)) == (b"e", b"")  # what was sent before the end arrives before it


def test_a_flapping_link_breaks_and_works_again(proxies: Proxies) -> None:
    with connect(proxies) as link:
        echo(link, b"a")
        proxies.order(0, f"slow:{FAR}")
        link.sendall(b"lost")
        proxies.order(0, "hold")
        proxies.order(0, "flap")
        proxies.order(0, "heal")
        proxies.order(0, "slow:0")
        with pytest.raises(ConnectionResetError):
            link.recv(100)
    with connect(proxies) as link:
        echo(link, b"b")


def test_a_blocked_output_takes_no_byte_more_until_it_is_read(tmp_path: Path) -> None:
    output = Output(tmp_path / "log")
    command = [sys.executable, "-c", "import sys; print('begun', flush=True); sys.stdin.read(); print('ended', flush=True)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output.writer) as process:
        eventually(lambda: "begun" in _log(output, tmp_path))
        output.block()
        assert process.stdin is not None
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert _log(output, tmp_path).split() == ["begun"]
        output.unblock()
        eventually(lambda: _log(output, tmp_path).split() == ["begun", "ended"])
    output.close()


def _log(output: Output, folder: Path) -> str:
    output.read()
    log = folder / "log"
    return log.read_text() if log.exists() else ""


def test_what_workers_did_not_know_may_stay_for_a_day_and_nothing_else(client: redis.Redis) -> None:
    name = f"storm{token()}"

    def found() -> list[str]:
        return [key for key in keys_left(client, [name]) if key.startswith(name)]

    deferred, waiting = f"{name}_deferred", f"{name}_waits_{40 * 'a'}"
    client.hset(deferred, 40 * "a", "1700000000000:1700000001000:2")
    assert found() == [deferred]  # it would stay for ever
    client.pexpire(deferred, 86_400_000)
    assert found() == []
    client.zadd(waiting, {"x": 1})
    assert found() == [waiting]
    client.hset(deferred, "x", "y")
    assert found() == [deferred, waiting]
    client.delete(deferred, waiting)
