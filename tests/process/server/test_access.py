"""Who may do what: tokens, their scopes, and what is served without any."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from delayed.cli.main import main
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.keys import TOKENS
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
def api(guarded: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Fleet(guarded.url, tmp_path_factory.mktemp("access")) as processes:
        yield serve(processes, "--compat", "taskq,couchqueue")[1]


def delayed(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "delayed", *words, "--redis", url], capture_output=True, text=True, check=False
    )


def token(url: str, *words: str) -> str:
    return run("token", "create", *words, "--redis", url).stdout.strip()


def refused(url: str, *words: str) -> None:
    assert CliRunner().invoke(main, ["token", "create", *words, "--redis", url]).exit_code in (1, 2)


def call(api: Api, token: str | None, method: str, path: str, body: object = None) -> int:
    return Api(api.port, token).call(method, path, body).status


@pytest.mark.slow
def test_rights_queues_and_functions(guarded: EmbeddedRedis, api: Api) -> None:
    assert call(api, None, "GET", "/v1/queues") == 200  # there is no token, and we are here
    producer = token(guarded.url, "producer", "--may", "enqueue", "--queues", "web:*", "--functions", "shop:*")
    eventually(lambda: call(api, None, "GET", "/v1/queues") == 401)
    worker = token(guarded.url, "worker", "--may", "consume,read", "--queues", "web:*")
    pay, steal = {"function": "shop:pay"}, {"function": "os:system"}
    assert call(api, producer, "POST", "/v1/queues/web:1/tasks", pay) == 201
    assert call(api, producer, "POST", "/v1/queues/web:1/tasks", steal) == 403
    assert call(api, producer, "POST", "/v1/queues/other/tasks", pay) == 403
    assert call(api, producer, "POST", "/v1/queues/web:1/leases", {}) == 403
    assert call(api, producer, "GET", "/v1/queues/web:1") == 403
    lines = Api(api.port, producer).call(
        "POST", "/v1/queues/web:1/tasks", json.dumps(steal).encode(), {"content-type": "application/x-ndjson"}
    )
    assert lines.status == 403
    (lease,) = Api(api.port, worker).take("web:1", wait=5)
    assert call(api, producer, "POST", f"/v1/leases/{lease['token']}/succeed", {}) == 403
    stranger = token(guarded.url, "stranger", "--may", "consume", "--queues", "other")
    assert call(api, stranger, "POST", f"/v1/leases/{lease['token']}/succeed", {}) == 403
    ends = {"endings": [{"token": lease["token"], "action": "succeed"}]}
    assert call(api, stranger, "POST", "/v1/leases", ends) == 403
    assert call(api, worker, "POST", f"/v1/leases/{lease['token']}/succeed", {}) == 200
    assert call(api, worker, "POST", "/v1/queues/web:1/pause", {}) == 403
    operator = token(guarded.url, "operator", "--may", "operate", "--queues", "web:*", "--functions", "shop:*")
    assert call(api, operator, "PUT", "/v1/queues/web:1/interest", pay) == 200
    assert call(api, operator, "PUT", "/v1/queues/web:1/interest", steal) == 403
    assert [each["queue"] for each in Api(api.port, worker).get("/v1/queues")["queues"]] == ["web:1"]
    assert call(api, None, "GET", "/healthz") == call(api, None, "GET", "/v1/openapi.json") == 200


@pytest.mark.slow
def test_a_worker_of_couchqueue_is_removed_by_who_may_consume_its_queues(guarded: EmbeddedRedis, api: Api) -> None:
    owner, other = (token(guarded.url, queue, "--may", "consume", "--queues", queue) for queue in ("mine", "theirs"))
    eventually(lambda: call(api, None, "GET", "/v1/queues") == 401)

    def acts(who: str, action: str, **given: str) -> Any:
        return Api(api.port, who).call("POST", "/api", {"action": action, **given})

    worker = acts(owner, "workerRegister", queues="mine").body["workerId"]
    assert acts(other, "workerDelete", workerId=worker).status == 403
    assert acts(other, "workerDelete", queue="mine").status == 403
    assert "error" not in acts(owner, "workerDelete", workerId=worker).body


def test_only_hashes_are_kept(guarded: EmbeddedRedis, api: Api) -> None:
    secret = token(guarded.url, "hidden", "--may", "read")
    with redis.Redis.from_url(guarded.url) as client:
        stored = b"".join(part for pair in client.hgetall(TOKENS).items() for part in pair)
    assert secret.encode() not in stored
    listed = json.loads(run("token", "list", "--json", "--redis", guarded.url).stdout)
    assert "hidden" in [each["name"] for each in listed]
    assert secret not in run("token", "list", "--redis", guarded.url).stdout


@pytest.mark.slow
def test_revoked_and_expired(guarded: EmbeddedRedis, api: Api) -> None:
    short = token(guarded.url, "short", "--may", "read", "--expires", "1s")
    gone = token(guarded.url, "gone", "--may", "read")
    assert call(api, gone, "GET", "/v1/queues") == 200
    run("token", "revoke", "gone", "--redis", guarded.url)
    eventually(lambda: call(api, gone, "GET", "/v1/queues") == call(api, short, "GET", "/v1/queues") == 401)
    run("token", "revoke", "gone", "--redis", guarded.url, status=1)


@pytest.mark.parametrize("wrong", ["Bearer", "Basic abc", "Bearer nonsense", "Bearer a b", "Bearer " + "x" * 5000])
def test_what_is_no_token(api: Api, wrong: str) -> None:
    answer = api.call("GET", "/v1/queues", headers={"authorization": wrong})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["/v1/queues/q/tasks", "/api", "/task", "/apps/taskq/q/tasks"])
def test_who_is_not_known_is_answered_before_the_body_is_there(api: Api, path: str) -> None:
    head = f"PUT {path} HTTP/1.1" if path == "/task" else f"POST {path} HTTP/1.1"
    fields = ("host: here", "authorization: Bearer nonsense", "content-type: application/json", "content-length: 100000")
    with socket.create_connection(("127.0.0.1", api.port), 60) as connection, connection.makefile("rb") as heard:
        connection.sendall("\r\n".join((head, *fields, "", "{")).encode())
        assert heard.readline().split()[1] == b"401"


@pytest.mark.parametrize(
    "words",
    [
        ("x", "--may", "fly"),
        ("x", "--may", ""),
        ("x", "--may", "read", "--expires", "soon"),
        ("twice", "--may", "read"),
    ],
)
def test_tokens_that_cannot_be(guarded: EmbeddedRedis, words: tuple[str, ...]) -> None:
    if words[0] == "twice":
        token(guarded.url, *words)
    refused(guarded.url, *words)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"x-forwarded-for": "10.0.0.1"},
        {"forwarded": "for=10.0.0.1"},
    ],
)
def test_without_tokens_only_programs_of_this_machine(
    fleet: Fleet, server: EmbeddedRedis, headers: dict[str, str], one: Api
) -> None:
    assert one.call("GET", "/v1/queues").status == 200
    assert one.call("GET", "/v1/queues", headers=headers).status == 401


@pytest.fixture(scope="module")
def one(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Fleet(server.url, tmp_path_factory.mktemp("open")) as processes:
        yield serve(processes)[1]


def test_without_tokens_it_does_not_listen_to_others(server: EmbeddedRedis) -> None:
    done = delayed(server.url, "server", "--http", "0.0.0.0:0")
    assert done.returncode == 1
    assert "delayed token create" in done.stderr


@pytest.mark.slow
def test_a_unix_socket(fleet: Fleet, tmp_path: Path) -> None:
    path = f"/tmp/{tmp_path.name[-30:]}.sock"
    for _ in range(2):  # the second finds what the first has left
        process = fleet.delayed("server", "--uds", path).ready()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(path)
            client.sendall(b"GET /v1/queues HTTP/1.1\r\nhost: delayed\r\nconnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        process.kill()
    Path(path).unlink(missing_ok=True)
