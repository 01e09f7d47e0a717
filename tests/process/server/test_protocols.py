"""The text protocol and the interfaces of other systems, as a process has them."""

import re
import socket
from urllib.parse import urlencode

import redis

from delayed.queue.queue import Queue
from delayed.task.decode import headers_of
from tests import ROOT
from tests.across.text_checks import CHECKS, Server, comes_back, run
from tests.support.api import Api, serve
from tests.support.processes import Fleet, Process
from tests.support.waiting import eventually


def text_port(process: Process) -> int:
    found = re.search(r"text protocol is spoken on 127\.0\.0\.1:(\d+)", process.log.read_text())
    assert found, process.log.read_text()
    return int(found[1])


def talk(port: int, said: bytes) -> bytes:
    """One request, over a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection, connection.makefile("rb") as heard:
        connection.sendall(said)
        return heard.readline()


def started(fleet: Fleet, *options: str) -> tuple[Process, Api, int]:
    process, api = serve(fleet, "--text", "127.0.0.1:0", "--compat", "taskq,couchqueue", *options)
    return process, api, text_port(process)


def test_the_server_conforms(fleet: Fleet, client: redis.Redis) -> None:
    *_, port = started(fleet)
    checks = [each for each in CHECKS if each is not comes_back]
    for check in checks:
        server = Server(("127.0.0.1", port), None)
        check(server)
        server.close()
        client.delete("nothing", *client.keys(f"{server.queue.decode()}*"))
    assert len(checks) > 15
    assert callable(run)


def test_the_document_has_the_checks() -> None:
    table = re.findall(r"^\| (R\d+) \| (.*) \|$", (ROOT / "docs" / "text-protocol.md").read_text(), re.MULTILINE)
    assert [f"{name}: {text}" for name, text in table] == [each.__doc__ for each in CHECKS]


def test_a_killed_server_loses_nothing_and_another_goes_on(fleet: Fleet, name: str, queue: Queue) -> None:
    process, api, port = started(fleet)
    q = name.encode()
    assert api.call("POST", f"/apps/taskq/{name}/tasks", b"first").body == b"task 1 enqueued\n"
    assert talk(port, b"1 enq %b 6 second\n" % q) == b"1 enqed %b 2\n" % q
    assert talk(port, b"2 deq %b\n" % q) == b"2 deqed %b 1 5 first\n" % q
    process.kill()
    _, api, port = started(fleet)
    assert talk(port, b"3 enq %b 5 third\n" % q) == b"3 enqed %b 3\n" % q
    assert api.call("DELETE", f"/apps/taskq/{name}/tasks/1").status == 200  # it was handed out once
    assert talk(port, b"4 deq %b\n" % q) == b"4 deqed %b 2 6 second\n" % q
    for lease in queue.call("HKEYS", queue.keys.processing):  # its time is over
        queue.call("PEXPIRE", lease, 1)
    eventually(lambda: queue.len() == 2, 30)  # the server sweeps itself
    assert talk(port, b"5 deq %b\n" % q) == b"5 deqed %b 2 6 second\n" % q
    assert talk(port, b"6 ack %b 2\n" % q) == b"6 acked %b 2\n" % q


def test_who_asks_for_what_no_queue_can_be_called_ends_no_sweeping(
    fleet: Fleet, name: str, queue: Queue, client: redis.Redis
) -> None:
    _, api, port = started(fleet)
    bad, tasks = f"{name}_noti", f"/apps/taskq/{name}/tasks"
    assert b"cannot be the name" in api.call("POST", f"/apps/taskq/{bad}/tasks/deque").body
    assert b" error " in talk(port, b"1 deq %b\n" % bad.encode())
    worker = api.call("PUT", f"/worker?queues={bad}").body["workerId"]
    assert api.get(f"/task?workerId={worker}")["error"] == "no tasks found"
    with socket.create_connection(("127.0.0.1", port), 20) as connection, connection.makefile("rb") as heard:
        connection.sendall(b"1 HELLO 1\n2 deq %b\n" % bad.encode())
        assert [heard.readline().split()[1] for _ in range(2)] == [b"hello", b"error"]
    api.call("POST", tasks, b"x")
    assert api.call("POST", f"{tasks}/deque").status == 200
    for lease in queue.call("HKEYS", queue.keys.processing):  # its time is over
        queue.call("PEXPIRE", lease, 1)
    eventually(lambda: queue.len() == 1, 30)
    client.delete(*client.keys("delayed:couchqueue*"))


def test_couchqueue_in_a_process(fleet: Fleet, name: str, client: redis.Redis) -> None:
    _, api, _ = started(fleet)

    def ask(method: str, path: str, **given: str) -> dict[str, object]:
        body: dict[str, object] = (
            api.get(f"{path}?{urlencode(given)}") if method == "GET" else api.call(method, f"{path}?{urlencode(given)}").body
        )
        return body

    try:
        ask("PUT", "/interest", queue=name, interests="*")
        worker = str(ask("PUT", "/api/worker", queues=name)["workerId"])
        assert ask("PUT", "/task", publisher="x", data='{"a":1}')["interestedSubscriptions"] == [name]
        task = ask("GET", "/API/task", workerId=worker)["task"]
        assert isinstance(task, dict)
        assert task["data"] == {"a": 1}
        assert "error" not in ask("POST", "/api/task", workerId=worker, taskId=task["taskId"], state="success")
    finally:
        client.delete("delayed:interests", *client.keys("delayed:couchqueue*"))


def test_what_there_is_not_is_refused(fleet: Fleet) -> None:
    for options in (["--compat", "nonsense"], ["--text", "nonsense"]):
        process = fleet.delayed("server", "--http", "127.0.0.1:0", *options)
        assert process.wait() == 1
        assert "nonsense" in process.log.read_text()


def test_publish_over_http(fleet: Fleet, name: str, queue: Queue, client: redis.Redis) -> None:
    _, api = serve(fleet)
    try:
        interest = {"match": {"event": "order.*"}, "function": "shop:audit", "retry": 2}
        found = api.call("PUT", f"/v1/queues/{name}/interest", interest)
        assert found.body == {"queue": name, "match": [["event", "order.*"]], "function": "shop:audit", "retry": 2}
        assert api.get("/v1/interests") == {"interests": [found.body]}
        ((copy),) = api.post("/v1/publish", {"data": {"event": "order.paid", "at": {"$time": "2024-01-01T00:00:00Z"}}})[
            "copies"
        ]
        assert copy["queue"] == name
        assert queue.len() == 1
        trace = {"traceparent": f"00-{'4b' * 16}-{'a1' * 8}-01", "tracestate": "a=b"}
        assert api.call("POST", "/v1/publish", {"data": {"event": "order.paid"}}, trace).status == 200
        plain, traced = (headers_of(each) for each in client.lrange(name, 0, -1) if isinstance(each, bytes))
        assert traced.items() >= trace.items()
        assert not plain.keys() & trace.keys()
        assert api.post("/v1/publish", {"data": {"event": "user.new"}}) == {"copies": []}
        assert api.call("POST", "/v1/publish", {"data": {str(each): 1 for each in range(1001)}}).status == 422
        assert api.call("PUT", f"/v1/queues/{name}/interest", {**interest, "match": {"a": "regex:("}}).status == 422
        assert api.call("DELETE", f"/v1/queues/{name}/interest").status == 200
        assert api.call("DELETE", f"/v1/queues/{name}/interest").status == 404
    finally:
        client.delete("delayed:interests")
