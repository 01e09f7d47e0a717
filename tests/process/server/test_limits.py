"""What a token may ask for: so many requests, over so many connections, in both protocols."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from delayed.redis.embedded import EmbeddedRedis
from delayed.server.access import Grant
from tests.process.server.test_access import refused, token
from tests.process.server.test_protocols import text_port
from tests.support.api import Api, serve
from tests.support.command import run
from tests.support.processes import Fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedRedis]:
    """A server of Redis in which there may be tokens."""
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture(scope="module")
def server_of(guarded: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of a server: HTTP, text."""
    with Fleet(guarded.url, tmp_path_factory.mktemp("limits")) as processes:
        process, api = serve(processes, "--text", "127.0.0.1:0")
        yield api.port, text_port(process)


def test_more_requests_than_a_token_may_send(guarded: EmbeddedRedis, server_of: tuple[int, int]) -> None:
    api = Api(server_of[0], token(guarded.url, "slow", "--may", "read,enqueue", "--rate", "3/h"))
    answers = [api.call("GET", "/v1/queues") for _ in range(5)]
    assert [each.status for each in answers] == [200, 200, 200, 429, 429]
    assert 0 < int(answers[-1].headers["retry-after"]) <= 1200
    assert answers[-1].body["code"] == "too-many-requests"
    other = Api(server_of[0], token(guarded.url, "free", "--may", "read"))
    assert other.call("GET", "/v1/queues").status == 200
    assert "3 requests in 3600 s" in run("token", "list", "--redis", guarded.url).stdout
    assert json.loads(run("token", "list", "--json", "--redis", guarded.url).stdout)[0]["rate"] == [3, 3600.0]


def test_more_requests_over_the_text_protocol(guarded: EmbeddedRedis, server_of: tuple[int, int]) -> None:
    secret = token(guarded.url, "slow text", "--may", "enqueue", "--rate", "2/h")
    with socket.create_connection(("127.0.0.1", server_of[1]), 20) as connection, connection.makefile("rb") as heard:
        connection.sendall(
            b"1 HELLO 1 token=%b\n" % secret.encode() + b"".join(b"%d enq q 1 a\n" % each for each in range(2, 6))
        )
        said = [heard.readline() for _ in range(5)]
    assert [line.split()[1] for line in said] == [b"hello", b"enqed", b"enqed", b"error", b"error"]
    assert b"2 requests in 3600 s: try again in" in said[-1]


def test_more_connections_than_a_token_may_have(guarded: EmbeddedRedis, server_of: tuple[int, int]) -> None:
    secret = token(guarded.url, "narrow", "--may", "read,enqueue", "--connections", "2")
    headers = {"authorization": f"Bearer {secret}"}
    some = [http.client.HTTPConnection("127.0.0.1", server_of[0], timeout=60) for _ in range(3)]

    def status(connection: http.client.HTTPConnection) -> int:
        connection.request("GET", "/v1/queues", headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    assert [status(each) for each in some] == [200, 200, 429]
    assert [status(each) for each in some[:2]] == [200, 200]
    with socket.create_connection(("127.0.0.1", server_of[1]), 20) as connection, connection.makefile("rb") as heard:
        connection.sendall(b"1 HELLO 1 token=%b\n" % secret.encode())
        assert heard.readline() == b"1 error this token may have 2 connections at once\n"
        assert heard.readline() == b""
    some[0].close()
    eventually(lambda: Api(server_of[0], secret).call("GET", "/v1/queues").status == 200)
    for each in some:
        each.close()


def test_larger_requests_than_a_token_may_send(guarded: EmbeddedRedis, server_of: tuple[int, int]) -> None:
    secret = token(guarded.url, "small", "--may", "enqueue", "--max-body", "2000")
    small, large = ({"function": "shop:pay", "args": ["x" * size]} for size in (1000, 2000))
    assert Api(server_of[0], secret).call("POST", "/v1/queues/q/tasks", small).status == 201
    refused = Api(server_of[0], secret).call("POST", "/v1/queues/q/tasks", large)
    assert (refused.status, refused.body["detail"]) == (413, "the body of a request has 2,000 bytes at most")
    lines = json.dumps(small).encode() + b"\n"
    kind = {"content-type": "application/x-ndjson"}
    assert Api(server_of[0], secret).call("POST", "/v1/queues/q/tasks", lines * 3, kind).status == 201
    assert Api(server_of[0], secret).call("POST", "/v1/queues/q/tasks", json.dumps(large).encode(), kind).status == 413
    assert Api(server_of[0], secret).call("POST", "/v1/queues/q/tasks", json.dumps(large).encode() + b"\n", kind).status == 413
    other = token(guarded.url, "large", "--may", "enqueue")
    assert Api(server_of[0], other).call("POST", "/v1/queues/q/tasks", large).status == 201
    with socket.create_connection(("127.0.0.1", server_of[1]), 20) as connection, connection.makefile("rb") as heard:
        connection.sendall(b"1 HELLO 1 token=%b\n2 enq q 2001 %b\n" % (secret.encode(), b"x" * 2001))
        assert [heard.readline() for _ in range(2)] == [b"1 hello 1 delayed\n", b"2 error a body has 2000 bytes at most\n"]
    assert "2,000 bytes" in run("token", "list", "--redis", guarded.url).stdout


def test_older_servers_read_tokens_that_ask_for_nothing_new() -> None:
    assert b"size" not in Grant("x").packed()
    assert Grant.of(Grant("x", size=5).packed()).size == 5


@pytest.mark.parametrize(
    "words",
    [("--rate", "0/s"), ("--rate", "5"), ("--rate", "5/d"), ("--connections", "0"), ("--max-body", "0"), ("--max-body", "x")],
)
def test_limits_that_cannot_be(guarded: EmbeddedRedis, words: tuple[str, str]) -> None:
    refused(guarded.url, "x", "--may", "read", *words)
