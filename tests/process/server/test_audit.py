"""What is done over HTTP is in the audit, under the name of the token."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from delayed.ops.audit import AuditEntry, AuditFilter, read
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.support.api import Api, serve
from tests.support.processes import Fleet


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A server of Redis in which there may be tokens."""
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture
def api(fleet: Fleet, name: str) -> Api:
    token = fleet.delayed("token", "create", name, "--may", "enqueue,consume,read,operate", "--queues", name)
    assert token.wait() == 0
    _, found = serve(fleet, "--compat", "couchqueue")
    return Api(found.port, token.log.read_text().split()[-1])


def entries(queue: Queue) -> list[AuditEntry]:
    """The newest first."""
    return list(read(queue, AuditFilter(queue=queue.name)).entries)


def test_all_that_operators_do_is_in_the_audit(api: Api, queue: Queue, name: str, fleet: Fleet) -> None:
    queue.enqueue_many(PyTask("tasks:fail", (number,)) for number in range(4))
    burst(queue)
    first, second, *_ = (each["letter"] for each in api.get(f"/v1/queues/{name}/dead")["letters"])
    late = queue.enqueue(PyTask("shop:pay", after=600, track=True))
    untracked = queue.enqueue(PyTask("shop:pay").but({"track": False}))
    assert untracked.id is None
    where = f"/v1/queues/{name}"
    made = api.post("/v1/workflows", {"queue": name, "nodes": [{"wait": {"signal": "go"}}, {"wait": {"signal": "never"}}]})
    flow = f"/v1/workflows/{made['id']}"
    told: list[tuple[str, str, Any, str, str, int]] = [
        ("POST", f"{where}/pause", {}, "queue.pause", "", 1),
        ("POST", f"{where}/resume", None, "queue.resume", "", 1),
        ("PUT", f"{where}/limits", {"concurrency": 3, "rate": 2.5}, "queue.limit", "concurrency=3, rate=2.5", 1),
        ("PUT", f"{where}/limits", {}, "queue.limit", "none", 1),
        ("POST", f"{where}/dead/retry", {"ids": [first, "1-1"]}, "dead.retry", f"{first}, 1-1", 1),
        ("POST", f"{where}/dead/remove", {"ids": [second]}, "dead.delete", second, 1),
        ("POST", f"{where}/dead/retry", {"function": "tasks:f*"}, "dead.retry", "task=tasks:f*", 2),
        ("POST", f"{where}/dead/remove", {"all": True}, "dead.delete", "all", 0),
        ("POST", f"{where}/tasks/{late.id}/cancel", {"hard": True}, "task.cancel", f"{late.id} (hard)", 1),
        ("PUT", f"{where}/interest", {"function": "m:f"}, "interest.add", "m:f", 1),
        ("DELETE", f"{where}/interest", None, "interest.remove", "", 1),
        ("POST", f"{flow}/signal?queue={name}", {"name": "go"}, "flow.signal", f"{made['id']} go", 1),
        ("POST", f"{flow}/cancel?queue={name}", None, "flow.cancel", made["id"], 1),
        ("POST", f"{flow}/retry?queue={name}", {"mode": "failed_only"}, "flow.retry", f"{made['id']} failed_only", 1),
        ("POST", f"{where}/purge", {}, "queue.purge", "all that waits", 4),
    ]
    for method, path, body, act, what, count in told:
        answer = api.call(method, path, body)
        assert answer.status == 200, (path, answer)
        entry = entries(queue)[0]
        assert (entry.who, entry.origin.partition(" ")[0], entry.act, entry.what) == (name, "http", act, what)
        assert entry.count == count, entry
    assert entries(queue)[0].origin == "http 127.0.0.1"
    shown = fleet.delayed("audit", name, "--who", name)
    assert shown.wait() == 0
    assert all(act in shown.log.read_text() for _, _, _, act, _, _ in told)


def test_what_is_refused_is_in_the_audit(api: Api, queue: Queue, name: str) -> None:
    assert api.call("POST", f"/v1/queues/{name}/tasks/AAAAAAAAAAAAAAAA/cancel").status == 404
    assert api.call("PUT", f"/v1/queues/{name}/limits", {"burst": 3}).status == 422
    assert [(each.act, each.result.partition(":")[0]) for each in entries(queue)] == [
        ("queue.limit", "refused"),
        ("task.cancel", "refused"),
    ]
    assert api.call("POST", "/v1/queues/other/pause").status == 403
    assert not read(queue, AuditFilter(queue="other", who=name)).entries


def test_what_operators_do_by_couchqueue_is_in_the_audit(api: Api, queue: Queue, name: str) -> None:
    def ask(method: str, path: str, **given: str) -> Any:
        answer = api.call(method, f"{path}?{urlencode(given)}")
        assert answer.status == 200, answer
        return answer.body

    def newest() -> tuple[str, str, str, int, str]:
        entry = entries(queue)[0]
        assert (entry.who, entry.origin) == (name, "http 127.0.0.1")
        return entry.act, entry.queue, entry.what, entry.count, entry.result

    ask("PUT", "/interest", queue=name, interests="*")
    assert newest() == ("interest.add", name, "couchqueue:task", 1, "done")
    assert "error" in ask("PUT", "/interest", queue=name, interests='{"(": "a"}')
    assert newest()[4].startswith("refused: ")
    worker = ask("PUT", "/worker", queues=name)["workerId"]
    ask("PUT", "/task", publisher="x", data='{"a":1}')
    mine = {"workerId": worker, "taskId": ask("GET", "/task", workerId=worker)["task"]["taskId"], "state": "fail"}
    ask("POST", "/task", **mine)
    (letter,) = api.get(f"/v1/queues/{name}/dead")["letters"]
    assert "error" not in ask("POST", "/task", **mine, reEnqueue="1")
    assert newest() == ("dead.retry", name, letter["letter"], 1, "done")
    ask("DELETE", "/queue", queue=name)
    assert newest() == ("queue.purge", name, "all that waits", 1, "done")
    ask("DELETE", "/interest", queue=name)
    assert newest() == ("interest.remove", name, "", 1, "done")
    before = entries(queue)
    ask("DELETE", "/worker", workerId=worker)
    assert entries(queue) == before  # a worker is no operator
