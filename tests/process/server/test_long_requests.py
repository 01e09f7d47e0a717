"""A token is looked at again in requests that take long: it may be revoked meanwhile, or expire."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.process.server.test_access import token
from tests.process.server.test_protocols import text_port
from tests.support.api import Api, serve
from tests.support.command import run
from tests.support.processes import Fleet
from tests.support.waiting import eventually


class Ports(NamedTuple):
    """Of a server."""

    http: int
    text: int


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A server of Redis in which there may be tokens."""
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture(scope="module")
def ports(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        process, api = serve(processes, "--text", "127.0.0.1:0")
        yield Ports(api.port, text_port(process))


def revoke(server: EmbeddedRedis, api: Api, name: str) -> None:
    """Until the server has heard of it."""
    run("token", "revoke", name, "--redis", server.url)
    eventually(lambda: api.call("GET", "/v1/queues").status == 401)


@pytest.mark.slow
def test_a_long_poll_hands_nothing_out_for_a_token_that_was_revoked(
    server: EmbeddedRedis, ports: Ports, queue: Queue, name: str
) -> None:
    api = Api(ports.http, token(server.url, name, "--may", "consume,read"))
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(api.call, "POST", f"/v1/queues/{name}/leases", {"wait": 120}, None, 180)
        eventually(lambda: queue.conn.info("clients")["blocked_clients"] > 0)
        revoke(server, api, name)
        queue.enqueue(PyTask("shop:pay"))
        assert waits.result(180).status == 401
    assert queue.len() == 1  # it is there for others


@pytest.mark.slow
def test_a_wait_ends_when_its_token_expires(server: EmbeddedRedis, ports: Ports, queue: Queue, name: str) -> None:
    api = Api(ports.http, token(server.url, name, "--may", "consume,read", "--expires", "4s"))
    task = queue.enqueue(PyTask("shop:pay", track=True, after=600))
    with ThreadPoolExecutor(3) as threads:
        asked = [
            threads.submit(api.call, "GET", f"/v1/queues/{name}/tasks/{task.id}/result?wait=300", None, None, 400),
            threads.submit(api.call, "POST", f"/v1/queues/{name}/leases", {"wait": 300}, None, 400),
            threads.submit(api.call, "GET", f"/v1/queues/{name}/events", None, None, 400),
        ]
        assert [each.result(120).status for each in asked] in ([401, 401, 200], [401] * 3)
    assert api.call("GET", f"/v1/queues/{name}/events").status == 401


@pytest.mark.slow
def test_deq_hands_nothing_out_for_a_token_that_was_revoked(
    server: EmbeddedRedis, ports: Ports, queue: Queue, name: str
) -> None:
    secret = token(server.url, name, "--may", "consume,read")
    with socket.create_connection(("127.0.0.1", ports.text), 180) as connection, connection.makefile("rb") as heard:
        connection.sendall(b"1 HELLO 1 token=%b\n2 deq %b wait=120000\n" % (secret.encode(), name.encode()))
        assert heard.readline().split()[1] == b"hello"
        eventually(lambda: queue.conn.info("clients")["blocked_clients"] > 0)
        revoke(server, Api(ports.http, secret), name)
        queue.enqueue(PyTask("shop:pay"))
        assert heard.readline().split()[:2] == [b"2", b"error"]
    eventually(lambda: queue.len() == 1)


@pytest.mark.slow
def test_a_stream_of_events_ends_when_its_token_is_revoked(server: EmbeddedRedis, ports: Ports, name: str) -> None:
    """Within the seconds in which a server hears of it, and those until it looks."""
    api = Api(ports.http, token(server.url, name, "--may", "read"))
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(api.call, "GET", f"/v1/queues/{name}/events", None, None, 180)
        eventually(lambda: api.call("GET", "/v1/queues").status == 200)
        revoke(server, api, name)
        answer = stream.result(180)
    assert (answer.status, answer.body[:6]) in ((200, b"retry:"), (401, b""))
