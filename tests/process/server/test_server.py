"""The server as a process: requests over real connections, kills, stops, and clients that misbehave."""

import json
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.decode import headers_of
from delayed.task.task import PyTask
from tests.support.api import Api, port_of, serve
from tests.support.clients import blocked
from tests.support.processes import Fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests that leave it alone."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


def test_from_the_enqueue_to_the_result(api: Api, queue: Queue, name: str) -> None:
    told = api.post(
        f"/v1/queues/{name}/tasks", {"function": "shop:pay", "args": [7], "kwargs": {"total": "9"}, "result_ttl": 60}
    )
    assert (told["queue"], told["known"]) == (name, False)
    (lease,) = api.take(name, max=5, wait=5)
    assert (lease["function"], lease["args"], lease["kwargs"]) == ("shop:pay", [7], {"total": "9"})
    assert (lease["id"], lease["attempt"]) == (told["id"], 1)
    where = f"/v1/queues/{name}/tasks/{told['id']}"
    assert api.get(where)["state"] == "running"
    assert api.call("GET", f"{where}/result").status == 202
    assert api.post(f"/v1/leases/{lease['token']}/progress", {"done": 1, "total": 2}) == {"cancelled": False}
    assert api.post(f"/v1/leases/{lease['token']}/extend", {"ttl": 60})["cancelled"] is False
    assert (api.get(where)["done"], api.get(where)["total"]) == (1, 2)
    assert api.post(f"/v1/leases/{lease['token']}/succeed", {"result": {"paid": [1, None]}}) == {"state": "succeeded"}
    assert api.get(f"{where}/result") == {
        "id": told["id"], "queue": name, "state": "succeeded", "result": {"paid": [1, None]}, "kept": True,
    }  # fmt: skip


def test_who_waits_for_a_result_gets_it_when_it_is_there(api: Api, name: str) -> None:
    told = api.post(f"/v1/queues/{name}/tasks", {"function": "shop.Pay", "args": [7], "result_ttl": 60})
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(api.get, f"/v1/queues/{name}/tasks/{told['id']}/result?wait=60")
        (lease,) = api.take(name, wait=5)
        api.post(f"/v1/leases/{lease['token']}/bury", {"detail": "Traceback …\nno money", "reason": "bad_arguments"})
        found = waiting.result()
    assert (found["state"], found["error"]["kind"]) == ("failed", "bad_arguments")


def test_workers_take_what_it_enqueues(api: Api, fleet: Fleet, queue: Queue, name: str) -> None:
    fleet.worker(name)
    told = api.post(f"/v1/queues/{name}/tasks", {"function": "tasks:fail", "args": ["no"], "track": True})
    found = api.get(f"/v1/queues/{name}/tasks/{told['id']}/result?wait=60")
    assert (found["state"], found["error"]["kind"], found["error"]["message"]) == ("failed", "builtins.ValueError", "no")
    (letter,) = api.get(f"/v1/queues/{name}/dead")["letters"]
    assert (letter["function"], letter["args"], letter["id"]) == ("tasks:fail", ["no"], told["id"])
    assert api.get(f"/v1/queues/{name}/dead/{letter['letter']}") == letter
    for after, count in ((letter["letter"], 0), ("0-0", 0), ("9999999999999999999", 1)):
        assert len(api.get(f"/v1/queues/{name}/dead?after={after}&limit=5")["letters"]) == count
    assert api.post(f"/v1/queues/{name}/dead/retry", {"ids": [letter["letter"]]}) == {"count": 1}


@pytest.mark.slow
def test_a_killed_server_leaves_leases_that_run_out(fleet: Fleet, queue: Queue, name: str) -> None:
    one, first = serve(fleet)
    _, second = serve(fleet)
    fleet.sweeper(name)
    queue.enqueue_many(PyTask("shop:pay", (number,)) for number in range(3))
    kept, lost = first.take(name, max=2, ttl=2)
    one.kill()
    assert second.post(f"/v1/leases/{kept['token']}/succeed") == {"state": "succeeded"}  # any server answers for a lease
    found: list[Any] = []
    while len(found) < 2:
        found += second.take(name, max=10, wait=30)
    assert sorted(lease["args"][0] for lease in found) == [1, 2]
    late = second.call("POST", f"/v1/leases/{lost['token']}/succeed", {})
    assert (late.status, late.body["code"]) == (409, "lease-lost")
    assert second.post("/v1/leases", {"endings": [{"token": each["token"], "action": "succeed"} for each in found]}) == {
        "states": ["succeeded", "succeeded"]
    }


@pytest.mark.slow
def test_a_stop_answers_those_who_wait_and_leaves_leases_alone(
    fleet: Fleet, queue: Queue, name: str, client: redis.Redis
) -> None:
    process, api = serve(fleet)
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = api.take(name, wait=5, ttl=60)
    with ThreadPoolExecutor() as threads:
        before = blocked(client)
        waiting = threads.submit(api.take, name, wait=60)
        eventually(lambda: blocked(client) - before)
        process.send(signal.SIGTERM)
        assert waiting.result() == []
    assert process.wait() == 0
    assert queue.call("HEXISTS", queue.keys.processing, queue.keys.lease(lease["token"][:32]))
    assert not queue.call("HLEN", queue.keys.workers)
    _, other = serve(fleet)
    assert other.post(f"/v1/leases/{lease['token']}/release") == {"state": "queued"}
    assert queue.len() == 1


def test_a_client_that_goes_while_it_waits_takes_nothing(api: Api, queue: Queue, name: str, client: redis.Redis) -> None:
    before = blocked(client)
    with socket.create_connection(("127.0.0.1", api.port)) as leaving:
        body = b'{"wait": 60}'
        head = f"POST /v1/queues/{name}/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        leaving.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: blocked(client) - before)
        leaving.shutdown(socket.SHUT_WR)
        assert leaving.recv(1) == b""  # the server has heard of it
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = api.take(name, wait=30)
    api.post(f"/v1/leases/{lease['token']}/succeed")


def test_many_tasks_as_lines(api: Api, queue: Queue, name: str) -> None:
    lines = b"".join(b'{"function": "shop:pay", "args": [%d]}\n' % number for number in range(2500))
    answer = api.call("POST", f"/v1/queues/{name}/tasks", lines, {"content-type": "application/x-ndjson"})
    assert (answer.status, answer.body) == (201, {"queue": name, "count": 2500})
    assert queue.len() == 2500
    broken = lines + b'{"function": 1}\n'
    answer = api.call("POST", f"/v1/queues/{name}/tasks", broken, {"content-type": "application/x-ndjson"})
    assert (answer.status, answer.body["line"], answer.body["enqueued"]) == (422, 2501, 2000)
    assert queue.len() == 4500
    api.post(f"/v1/queues/{name}/purge")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"function": ":"},
        {"function": 1},
        {"function": "shop:pay", "kwargs": None},
        {"function": "shop:pay", "args": 1},
        {"function": "shop:pay", "args": {"$bytes": "AAE="}},
        {"function": "main.Pay", "kwargs": {"a": 1}},
        {"function": "shop:pay", "unknown": 1},
    ],
)
def test_a_line_is_refused_as_a_request_is(api: Api, name: str, body: Any) -> None:
    alone = api.call("POST", f"/v1/queues/{name}/tasks", body)
    line = api.call("POST", f"/v1/queues/{name}/tasks", json.dumps(body).encode(), {"content-type": "application/x-ndjson"})
    assert (line.status, line.body["code"], line.body["detail"]) == (alone.status, alone.body["code"], alone.body["detail"])
    assert line.status == 422


def test_a_request_that_is_repeated_adds_nothing(api: Api, queue: Queue, name: str) -> None:
    sent = f"/v1/queues/{name}/tasks", {"function": "shop:pay"}, {"idempotency-key": "order 7"}
    first, second = (api.call("POST", *sent) for _ in range(2))
    assert (first.status, second.status) == (201, 200)
    assert first.body["id"] == second.body["id"]
    (lease,) = api.take(name, max=5, wait=5)
    api.post(f"/v1/leases/{lease['token']}/succeed")
    assert api.call("POST", *sent).body == {**second.body, "known": True}
    assert queue.len() == 0


def test_the_trace_of_a_request_goes_on_to_its_tasks(api: Api, queue: Queue, client: redis.Redis, name: str) -> None:
    trace = {"traceparent": f"00-{'4b' * 16}-{'a1' * 8}-01", "tracestate": "a=b"}
    url, task = f"/v1/queues/{name}/tasks", {"function": "shop:pay"}
    assert api.call("POST", url, task, trace).status == 201
    assert (
        api.call("POST", url, b'{"function": "main.Pay"}\n', {"content-type": "application/x-ndjson", **trace}).status == 201
    )
    assert api.call("POST", url, task, {"idempotency-key": "7", **trace}).status == 201
    assert api.call("POST", url, task, {"traceparent": "nonsense"}).status == 201
    *traced, plain = (headers_of(each) for each in client.lrange(name, 0, -1) if isinstance(each, bytes))
    assert [{header: each[header] for header in trace} for each in traced] == [trace] * 3
    assert not trace.keys() & plain.keys()
    leases = api.take(name, max=5, wait=5)
    found = [lease["trace"] for lease in leases]  # to which a consumer links its own span
    assert sorted(found, key=bool) == [None, trace, trace, trace]
    for lease in leases:
        api.post(f"/v1/leases/{lease['token']}/succeed")


def test_operators(api: Api, queue: Queue, name: str) -> None:
    api.post(f"/v1/queues/{name}/pause")
    assert api.get(f"/v1/queues/{name}")["limits"]["paused"] is True
    api.post(f"/v1/queues/{name}/resume")
    assert api.call("PUT", f"/v1/queues/{name}/limits", {"concurrency": 3, "rate": 2.5}).status == 200
    assert queue.limits()[1:] == (3, 2.5, 2)
    api.call("PUT", f"/v1/queues/{name}/limits", {})
    told = api.post(f"/v1/queues/{name}/tasks", {"function": "shop:pay", "track": True, "delay": 500, "group": "a"})
    assert [each["id"] for each in api.get(f"/v1/queues/{name}/tasks?state=scheduled")["tasks"]] == [told["id"]]
    assert api.post(f"/v1/queues/{name}/tasks/{told['id']}/cancel") == {"state": "scheduled"}
    assert api.get(f"/v1/queues/{name}/tasks/{told['id']}/result")["state"] == "cancelled"
    queue.enqueue(PyTask("shop:pay"))
    assert api.get(f"/v1/queues/{name}/scale?slo=10")["desired"] == 1
    assert api.post(f"/v1/queues/{name}/purge") == {"count": 1}
    assert api.get(f"/v1/queues/{name}/scale")["desired"] == 0
    assert api.get(f"/v1/queues/{name}/schedules") == {"schedules": []}


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (("POST", "/v1/queues/{q}/tasks", b"{"), 400),
        (("POST", "/v1/queues/{q}/tasks", b"[" * 5000), 400),
        (("POST", "/v1/queues/{q}/tasks", b'{"function": "shop:pay", "args": ' + b"[" * 101 + b"]" * 101 + b"}"), 400),
        (("POST", "/v1/queues/{q}/tasks", b'{"a": 1, "a": 2}'), 400),
        (("POST", "/v1/queues/{q}/tasks", b"\xff"), 400),
        (("POST", "/v1/queues/{q}/tasks", b"9" * 5000), 400),
        (("POST", "/v1/queues/{q}/tasks", {}), 422),
        (("POST", "/v1/queues/{q}/tasks", []), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "no path"}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "kwargs": {"$map": [[1, 2]]}}), 422),
        (("POST", "/v1/workflows", {"nodes": [{"function": "shop:pay", "kwargs": {"$map": [[1, 2]]}}]}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "args": [2**70]}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "retries": 1}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "backoff": {"kind": "linear", "base": 1}}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "args": ["x" * (2 << 20)]}), 413),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "at": "2026-02-30T00:00:00Z"}), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop:pay", "expires_at": "0000-01-01T00:00:00Z"}), 422),
        (("GET", "/v1/queues/{q}/dead?since=2026-01-01T00:00:60Z", None), 422),
        (("POST", "/v1/queues/{q}/tasks", {"function": "shop.Pay", "kwargs": {"a": 1}}), 422),
        (("POST", "/v1/queues/{q}_noti/tasks", {"function": "shop:pay"}), 422),
        (("POST", "/v1/queues/{q}/leases", {"max": 0}), 422),
        (("POST", "/v1/queues/{q}/leases", {"ttl": 1e300}), 422),
        (("POST", "/v1/leases/nonsense/succeed", {}), 404),
        (("GET", "/v1/queues/{q}/tasks/none", None), 404),
        (("GET", "/v1/queues/{q}/dead/-", None), 404),
        (("GET", "/v1/queues/{q}/tasks?state=x", None), 422),
        (("GET", "/v1/queues/{q}/tasks?limit=x", None), 422),
        (("GET", "/v1/queues//tasks", None), 404),
        (("PATCH", "/v1/queues/{q}/tasks", None), 405),
        (("POST", "/v1/queues/{q}/tasks", b" " * (9 << 20)), 413),
    ],
)
def test_what_is_wrong_is_said(api: Api, name: str, request_of: tuple[str, str, Any], status: int) -> None:
    method, path, body = request_of
    answer = api.call(method, path.replace("{q}", name), body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.body["status"] == status
    assert answer.body["detail"]
    assert api.get("/healthz")["ok"]


def test_bodies_of_other_types(api: Api, name: str) -> None:
    answer = api.call("POST", f"/v1/queues/{name}/tasks", b"function=x", {"content-type": "application/x-www-form-urlencoded"})
    assert answer.status == 415


@pytest.mark.slow
def test_clients_that_do_not_go_on_are_let_go(api: Api) -> None:
    with (
        socket.create_connection(("127.0.0.1", api.port), timeout=60) as silent,
        socket.create_connection(("127.0.0.1", api.port), timeout=60) as slow,
        socket.create_connection(("127.0.0.1", api.port), timeout=60) as endless,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: ")
        endless.sendall(b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 40_000)
        assert endless.recv(4096).startswith(b"HTTP/1.1 431 ")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert silent.recv(4096) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx : y\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
def test_requests_that_could_be_two(api: Api, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client:
        client.sendall(sent)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert client.recv(4096) == b""


def test_requests_in_pieces_and_in_a_row(api: Api, queue: Queue, name: str) -> None:
    body = b'{"function": "shop:pay", "args": [%d]}'
    head = b"POST /v1/queues/%b/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%b\r\n"

    def request(number: int, more: bytes = b"") -> bytes:
        sent = body % number
        return head % (name.encode(), len(sent), more) + sent

    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client, client.makefile("rb") as heard:
        for size in (1, 60, 10_000):
            data = request(1) + request(2) + request(3, b"expect: 100-continue\r\n")
            for first in range(0, len(data), size):
                client.sendall(data[first : first + size])
        client.sendall(request(4, b"connection: close\r\n"))
        answers = heard.read()
    assert answers.count(b"HTTP/1.1 201 Created\r\n") == 10
    assert answers.count(b"\r\ncontent-length: ") == answers.count(b'"known":false}') == 10
    assert answers.count(b"\r\nconnection: close\r\n") == 1
    assert [PyTask.deserialize(data).args for data in queue.call("LRANGE", queue.keys.queue, 0, -1)] == [
        *3 * ([1], [2], [3]),
        [4],
    ]


def test_without_redis_it_says_so(fleet: Fleet) -> None:
    process = fleet.delayed("server", "--http", "127.0.0.1:0", DELAYED_REDIS_URL="redis://127.0.0.1:1/0").ready()
    api = Api(port_of(process))
    assert api.call("GET", "/healthz").status == 200
    assert api.call("GET", "/readyz").status == 503
    answer = api.call("POST", "/v1/queues/q/tasks", {"function": "shop:pay"})
    assert (answer.status, answer.headers["retry-after"], answer.body["code"]) == (503, "1", "redis-away")


def test_many_at_once(api: Api, queue: Queue, name: str) -> None:
    """Producers and consumers side by side: each task is handed out once."""
    done: list[int] = []
    lock = threading.Lock()

    def produce(first: int) -> None:
        for number in range(first, first + 50):
            api.post(f"/v1/queues/{name}/tasks", {"function": "shop:pay", "args": [number]})

    def consume(_: int) -> None:
        while len(done) < 200:
            leases = api.take(name, max=7, wait=0.5)
            ends = [{"token": each["token"], "action": "succeed"} for each in leases]
            if ends:
                assert set(api.post("/v1/leases", {"endings": ends})["states"]) == {"succeeded"}
            with lock:
                done.extend(each["args"][0] for each in leases)

    with ThreadPoolExecutor() as threads:
        futures = [threads.submit(produce, 50 * number) for number in range(4)]
        futures += [threads.submit(consume, number) for number in range(4)]
        for future in futures:
            future.result()
    assert sorted(done) == list(range(200))


def test_the_same_types_come_back(api: Api, name: str) -> None:
    args = [
        {"$bytes": "AAH/"}, {"$int": "18446744073709551615"}, {"$float": "NaN"}, {"$time": "2026-01-31T12:00:00.123456789Z"},
        {"$decimal": "12.50"}, {"$uuid": "01234567-89ab-cdef-0123-456789abcdef"}, {"$date": "2024-02-29"},
        {"$clock": "23:59:58"},
        {"$seconds": "-0.5"}, {"$path": "/tmp/x"}, {"$set": [1, "a"]}, {"$ext": [40, "AAE="]}, {"$map": [[1, 2], [[1], None]]},
        {"$map": [["$bytes", 1]]}, {"a": {"$str": "/w=="}}, 1.5, -7, True, None, "é\u2028", [], {},
    ]  # fmt: skip
    api.post(f"/v1/queues/{name}/tasks", {"function": "shop:pay", "args": args, "result_ttl": 60})
    (lease,) = api.take(name, wait=5)
    assert json.dumps(lease["args"]) == json.dumps(args)
    api.post(f"/v1/leases/{lease['token']}/succeed", {"result": args})
    assert api.get(f"/v1/queues/{name}/tasks/{lease['id']}/result")["result"] == args
