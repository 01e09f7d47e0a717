"""CouchQueue's interface over HTTP."""

import json
import re
import threading
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest
import redis

from delayed.base.clock import now
from delayed.dead_letters.search import search as letters
from delayed.ops.fsck import check
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.server.access import ALL, Access, Grant
from delayed.server.compat import couch_parameters, couch_store, couchqueue, plain_json
from delayed.server.compat.couch_actions import Actions
from delayed.server.compat.couch_operate import Client
from delayed.server.compat.couch_status import FUNCTION
from delayed.server.compat.couchqueue import CouchQueue
from delayed.server.consumer import Consumer
from delayed.server.http import Problem, Request
from delayed.server.later import Later
from delayed.server.links import Links
from delayed.server.sweeping import Sweeping
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.support.asgi import Answer, ask, leave

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Couch:
    """A client, as CouchQueue's own tests are."""

    def __init__(self, app: CouchQueue, access: "_As") -> None:
        self.app, self.access = app, access

    def may(self, *rights: str, queues: str) -> None:
        """From now on a token is shown that may do this with queues of a pattern."""
        self.access.shown = Grant("t", rights, (queues,))

    async def form(self, action: str, **given: Any) -> Any:
        return (await self.posted(action, **given)).json

    async def posted(self, action: str, **given: Any) -> Answer:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await ask(self.app, "POST", "/api", urlencode({"action": action, **given}).encode(), headers=headers)

    async def json(self, action: str, **given: Any) -> Any:
        body = json.dumps({"action": action, **given}).encode()
        return (await ask(self.app, "POST", "/api", body, headers={"content-type": "application/json"})).json

    async def route(self, method: str, path: str, **given: Any) -> Any:
        return (await ask(self.app, method, f"{path}?{urlencode(given)}" if given else path)).json

    async def interest(self, queue: str, interests: str = "*") -> None:
        assert "error" not in await self.form("interestCreate", queue=queue, interests=interests)

    async def worker(self, *queues: str) -> str:
        found = await self.form("workerRegister", queues=",".join(queues))
        assert UUID.fullmatch(found["workerId"])
        return str(found["workerId"])

    async def publish(self, data: Any, **given: Any) -> list[str]:
        found = await self.form("taskCreate", publisher="TEST", data=json.dumps(data), **given)
        subscriptions: list[str] = found["interestedSubscriptions"]
        return subscriptions

    async def take(self, worker: str) -> Any:
        return (await self.form("taskGet", workerId=worker)).get("task")

    async def status(self, **given: Any) -> Any:
        return (await self.form("status", **given))["status"]


class _As(Access):
    """Clients show some token; at first one that may do everything."""

    shown = ALL
    refuses: Problem | None = None

    async def grant(self, request: Request) -> Grant:
        if self.refuses is not None:
            raise self.refuses
        return self.shown


@pytest.fixture
def conn(server: EmbeddedRedis) -> redis.Redis:
    return server.client()


@pytest.fixture
async def couch(redis_url: str, conn: redis.Redis) -> AsyncIterator[Couch]:
    links = Links(redis_url)
    consumer, access, later = Consumer(links), _As(links), Later()
    yield Couch(CouchQueue(Actions(links, consumer, Sweeping(links), later), access, 10_000), access)
    await later.close()
    await consumer.close()
    await links.aclose()
    conn.delete("delayed:interests", *conn.keys("delayed:couchqueue*"), *conn.keys("couchqueue-worker*"))


@pytest.fixture
def b(name: str, conn: redis.Redis) -> Any:
    """The name of one more queue."""
    yield f"{name}-b"
    conn.delete(*conn.keys(f"{name}-b*"), f"{name}-b")


async def test_the_integration_flow(couch: Couch, name: str, b: str) -> None:
    assert list(await couch.route("PUT", "/api/interest", queue=name, interests="*")) == INFORMATION
    await couch.interest(b, json.dumps({"email": "@test.com$"}))
    worker = await couch.form("workerRegister", queues=f"{name}, {b}")
    assert worker["queues"] == [name, b]
    identity = worker["workerId"]
    assert await couch.publish({"email": "evan@test.com", "name": "task 1"}) == [name, b]
    assert await couch.publish({"email": "evan@else.com", "name": "task 2"}) == [name]
    assert await couch.status(queues=1) == {"queues": {name: 2, b: 1}}
    got = await couch.route("GET", "/api/task", workerId=identity)
    task = got["task"]
    assert got["worker"] == {"workerId": identity, "queues": [name, b]}
    assert list(task) == [
        "status", "createdAt", "publisher", "data", "runAt", "scope", "singularlyEnqueue", "singularlyRun", "taskId",
        "enquedAt", "queue", "workerId", "startedAt",
    ]  # fmt: skip
    assert task["data"] == {"email": "evan@test.com", "name": "task 1"}
    assert (task["status"], task["publisher"], task["queue"], task["workerId"]) == ("processing", "TEST", name, identity)
    assert (task["runAt"], task["scope"], task["singularlyRun"]) == (task["createdAt"] - 1, "any", False)
    assert list((await couch.status(tasksInProgress="x"))["tasksInProgress"]) == [task["taskId"]]
    done = await ask(
        couch.app,
        "POST",
        "/api/task",
        urlencode({"workerId": identity, "taskId": task["taskId"], "state": "success"}).encode(),
    )
    assert list(done.json) == INFORMATION
    assert (await couch.status(tasksInProgress=1, task=task["taskId"])) == {
        "tasksInProgress": {},
        "task": {**task, "status": "complete", "updatedAt": await _updated(couch, task["taskId"])},
    }
    second, third = await couch.take(identity), await couch.take(identity)
    assert (second["data"]["name"], second["queue"]) == ("task 2", name)
    assert (third["data"]["name"], third["queue"]) == ("task 1", b)
    assert third["taskId"] != task["taskId"]
    empty = await couch.form("taskGet", workerId=identity)
    assert empty["error"] == "no tasks found"
    assert "task" not in empty
    assert empty["worker"]["workerId"] == identity
    for each in (second, third):
        await couch.form("taskUpdate", workerId=identity, taskId=each["taskId"], state="success")


async def _updated(couch: Couch, task: str) -> Any:
    return (await couch.status(task=task))["task"]["updatedAt"]


INFORMATION = ["serverInformation", "requestorInformation"]


async def test_the_envelope(couch: Couch) -> None:
    answer = await couch.posted("status", queues="")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-powered-by"] == "couchqueue"
    cookie = re.fullmatch(r"sessionID=([0-9a-f]{40});.*", answer.headers["set-cookie"])
    assert cookie
    found = answer.json
    assert list(found) == ["status", *INFORMATION]
    server, requestor = found["serverInformation"], found["requestorInformation"]
    assert (server["serverName"], server["apiVersion"]) == ("couchqueue", "0.0.1")
    assert isinstance(server["requestDuration"], int)
    assert requestor == {
        "id": cookie[1],
        "remoteIP": "127.0.0.1",
        "receivedParams": {"action": "status", "limit": 100, "offset": 0},
    }
    for cookies in (f"sessionID={cookie[1]}", f'a=1; b="; sessionID="{cookie[1]}"; c'):
        again = await ask(couch.app, "GET", "/api/status", headers={"cookie": cookies})
        assert again.json["requestorInformation"]["id"] == cookie[1]
    for cookies in (f"sessionID={cookie[1]}0", f"mysessionID={cookie[1]}", 'sessionID="' + "\\\\" * 15_000 + '"'):
        again = await ask(couch.app, "GET", "/api/status", headers={"cookie": cookies})
        assert again.json["requestorInformation"]["id"] != cookie[1]


async def test_the_length_is_in_bytes(couch: Couch, name: str) -> None:
    answer = await couch.posted("taskCreate", publisher="Jürg €", data="{}")
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.json["requestorInformation"]["receivedParams"]["publisher"] == "Jürg €"
    del name


async def test_callback_and_xml(couch: Couch) -> None:
    answer = await ask(couch.app, "GET", "/api/status?callback=a.b$1&queues=1")
    assert answer.headers["content-type"] == "application/javascript"
    assert re.fullmatch(rb"a\.b\$1\(\{.*\}\);", answer.body)
    for wrong in ("alert(1)//", "a b", "%3Cscript%3E"):
        assert (await ask(couch.app, "GET", f"/api/status?callback={quote(wrong)}")).headers[
            "content-type"
        ] == "application/json"
    answer = await ask(couch.app, "GET", "/api/status?outputType=xml&queue=x%3C%01")
    assert answer.headers["content-type"] == "application/xml"
    tree = ElementTree.fromstring(answer.body)  # it is ours
    assert tree.findtext("serverInformation/serverName") == "couchqueue"


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("PUT", "/api/task", "taskCreate"), ("GET", "/API/Task/x", "taskGet"), ("POST", "/task", "taskUpdate"),
        ("PUT", "/worker", "workerRegister"), ("DELETE", "/api/worker/", "workerDelete"),
        ("PUT", "/interest", "interestCreate"), ("DELETE", "/interest", "interestDelete"),
        ("DELETE", "/queue", "queueDelete"), ("GET", "/status", "status"), ("DELETE", "/api/taskGet", "taskGet"),
        ("GET", "/api/nope", "nope"), ("GET", "/api", ""), ("PATCH", "/api/task", "task"),
    ],
)  # fmt: skip
async def test_routes(couch: Couch, method: str, path: str, action: str) -> None:
    found = (await ask(couch.app, method, path)).json
    assert found["requestorInformation"]["receivedParams"]["action"] == action
    assert found.get("error", "").endswith("is not a known action.") == (action in ("nope", "", "task"))


async def test_ways_to_give_parameters(couch: Couch) -> None:
    def received(answer: Any) -> Any:
        return answer["requestorInformation"]["receivedParams"]

    found = await couch.json("status", queue=7, limit=5, offset="2", odd=1, task="")
    assert received(found) == {"queue": 7, "action": "status", "limit": 5, "offset": 2}
    body = (
        b'--x\r\nContent-Disposition: form-data; name="action"\r\n\r\nstatus\r\n'
        b'--x\r\nContent-Disposition: form-data; name="queue"; filename="f"\r\n\r\na\r\nb\r\n--x--\r\n'
    )
    answer = await ask(
        couch.app, "POST", "/api?queue=c&limit=x", body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert received(answer.json) == {"queue": "a\r\nb", "action": "status", "limit": 100, "offset": 0}
    for kind, body in (("application/json", b"[1]"), ("application/json", b"{"), ("multipart/form-data", b"x")):
        answer = await ask(couch.app, "POST", "/api", body, headers={"content-type": kind})
        assert answer.status == 400
        assert answer.json["error"].startswith("Error: the body is no")
    assert (await ask(couch.app, "POST", "/api", b"x" * 10_001)).status == 413


FORM = {"content-type": 'multipart/form-data; charset=utf-8; Boundary="x y"'}


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (b'first\r\n--x y\r\nContent-Disposition: form-data; name="queue"\r\n\r\na\r\n--x y--\r\nlast', "a"),
        (b"--x y \r\na: b\r\ncontent-disposition: form-data; name=queue\r\n\r\n\r\na\r\n\r\n--x y--", "\r\na\r\n"),
        (b'--x y\nContent-Disposition: form-data; name="queue"\n\na --x y\n--x yz\n--x y\n\n--x y--', "a --x y\n--x yz"),
        (b'--x y\r\nContent-Disposition: form-data; name="queue"\r\n\r\na', "a"),
        (b'--x y\r\n--x y\r\nContent-Disposition: form-data; name="queue"\r\n\r\n\xff\r\n--x y--', "\ufffd"),
        (b'--x y--\r\n--x y\r\nContent-Disposition: form-data; name="queue"\r\n\r\na\r\n--x y--', None),
        (b'--x y\r\nContent-Disposition: form-data; filename="queue"\r\n\r\na\r\n--x y--', None),
    ],
)  # fmt: skip
async def test_forms_of_parts(couch: Couch, parts: bytes, found: str | None) -> None:
    answer = await ask(couch.app, "POST", "/api/status", parts, headers=FORM)
    assert answer.json["requestorInformation"]["receivedParams"].get("queue") == found


async def test_a_form_has_so_many_parts_at_most(couch: Couch) -> None:
    async def status_of(count: int) -> int:
        return (await ask(couch.app, "POST", "/api/status", b"--x y\r\n" * count + b"--x y--", headers=FORM)).status

    assert [await status_of(count) for count in (1000, 1001)] == [200, 400]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "application/x-www-form-urlencoded"])
async def test_nothing_is_made_of_what_somebody_sends_who_is_not_known(couch: Couch, kind: str) -> None:
    couch.access.refuses = Problem(401, "who is that?")
    answer = await ask(couch.app, "POST", "/api?outputType=xml", b"&".join([b"x=1"] * 1001), headers={"content-type": kind})
    assert (answer.status, answer.headers["content-type"]) == (401, "application/xml")
    assert b"who is that?" in answer.body


async def test_large_values_are_read_and_written_in_threads(couch: Couch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.server.http._LONG", 100)
    here, used = threading.get_ident(), list[tuple[str, bool]]()

    def noted(what: str, work: Any) -> Any:
        def noting(value: Any) -> Any:
            used.append((what, threading.get_ident() == here))
            return work(value)

        return noting

    monkeypatch.setattr(couch_parameters, "read_json", noted("read", couch_parameters.read_json))
    monkeypatch.setattr(couchqueue, "written", noted("written", plain_json.written))
    for length in (200, 1):
        await couch.json("taskCreate", publisher="x", data=json.dumps("x" * length))
        is_here = length == 1
        assert used == [("read", is_here), ("read", is_here), ("written", is_here)]  # the body, and the data in it
        used.clear()


async def test_deep_values(couch: Couch, name: str) -> None:
    def nested(levels: int) -> Any:
        return json.loads("[" * levels + "]" * levels)

    for levels in (100, 500, 950):  # in the object of all parameters
        body = b'{"queue":' + b"[" * levels + b"]" * levels + b"}"
        answer = await ask(couch.app, "POST", "/api/status", body, headers={"content-type": "application/json"})
        assert (answer.status, "nested more than 100 levels" in answer.json["error"]) == (400, True)
        found = await couch.form("taskCreate", publisher="x", data=body.decode())
        assert found["error"] == "Error: The server experienced an internal error"
    found = await couch.json("status", queue=nested(99))
    assert found["requestorInformation"]["receivedParams"]["queue"] == nested(99)
    await couch.interest(name)
    worker = await couch.worker(name)
    assert await couch.publish({"a": nested(99)}) == [name]
    task = await couch.take(worker)
    assert task["data"] == {"a": nested(99)}
    await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


@pytest.mark.parametrize("levels", [90, 150, 190, 240, 300, 450, 495])
async def test_deep_values_of_other_producers(couch: Couch, name: str, queue: Queue, levels: int) -> None:
    worker = await couch.worker(name)
    value = json.loads("[" * levels + "]" * levels)
    forged = {"taskId": "x", "queue": name, "data": value}
    for task in (PyTask("m:f", (value,)), PyTask(FUNCTION, (forged,))):
        queue.enqueue(task)
        (shown,) = (await couch.status(queue=name))["queue"]
        found = await couch.posted("taskGet", workerId=worker, outputType="xml")
        identity = ElementTree.fromstring(found.body).findtext("task/taskId")
        assert identity, found
        known = (await couch.status(task=identity))["task"]
        assert known["data"] == shown["data"]
        assert (list(known["data"]) == ["$msgpack"]) == (levels > 190)
        assert "error" not in await couch.form("taskUpdate", workerId=worker, taskId=identity, state="success")


@pytest.mark.parametrize(
    ("action", "given", "missing"),
    [
        ("taskCreate", {}, "publisher"),
        ("taskCreate", {"publisher": "x", "data": ""}, "data"),
        ("taskGet", {}, "workerId"),
        ("taskUpdate", {"workerId": "x", "state": "fail"}, "taskId"),
        ("workerRegister", {}, "queues"),
        ("workerDelete", {}, "workerId"),
        ("interestCreate", {"queue": "q"}, "interests"),
        ("interestDelete", {}, "queue"),
        ("queueDelete", {}, "queue"),
    ],
)
async def test_what_is_missing(couch: Couch, action: str, given: dict[str, str], missing: str) -> None:
    assert (await couch.form(action, **given))["error"] == f"Error: {missing} is a required parameter for this action"


async def test_errors(couch: Couch, name: str) -> None:
    internal = {"error": "Error: The server experienced an internal error"}
    assert await couch.form("taskCreate", publisher="x", data="{") == internal
    assert await couch.json("taskCreate", publisher="x", data={"a": 1}) == internal
    assert await couch.form("taskCreate", publisher="x", data="[" * 3000) == internal
    assert await couch.form("interestCreate", queue=name, interests="[1]") == internal
    assert await couch.form("interestCreate", queue=name, interests="{") == internal
    refused = await couch.form("interestCreate", queue=name, interests='{"(": "a"}')
    assert "a group is not closed" in refused["error"]
    worker = await couch.worker(name)
    assert (await couch.form("taskUpdate", workerId=worker, taskId="x", state="success")) == internal
    assert (await couch.form("taskUpdate", workerId="x", taskId="x", state="y"))["error"] == "state must be fail,success"
    for action in ("taskGet", "taskUpdate"):
        found = await couch.form(action, workerId="x", taskId="x", state="fail")
        assert found["error"] == "no worker with that workerId"
    for action in ("workerDelete", "queueDelete"):
        assert (await couch.form(action, workerId="x", queue="nothing"))["error"] == "Error: child does not exist"
    assert "* is not allowed" in (await couch.form("workerRegister", queues="*"))["error"]
    assert "runAt" in (await couch.form("taskCreate", publisher="x", data='{"a":1}', runAt="soon"))["error"]
    assert list(await couch.form("interestDelete", queue="nothing")) == INFORMATION


async def test_interests(couch: Couch, name: str, b: str) -> None:
    await couch.interest(name, json.dumps({"^e": "^a$", "x": "1"}))
    await couch.interest(b, json.dumps({"n": "null|true|object"}))
    for data, queues in (
        ({"e1": "a"}, [name]), ({"e1": "ab"}, []), ({"xx": [2, 1], "e": "a"}, [name]), ({"n": None}, [b]), ({"n": {}}, [b]),
        ({"n": True}, [b]), ({"m": {"n": None}}, []), ({}, []), (7, []), (None, []),
    ):  # fmt: skip
        assert await couch.publish(data) == queues, data
    await couch.interest(name)
    assert (await couch.status(interests=1))["interests"] == {name: {"^.*": "^.*"}, b: {"n": "null|true|object"}}
    assert await couch.publish({"other": 1}) == [name]
    await couch.route("DELETE", "/api/interest", queue=name)
    assert await couch.publish({"other": 1}) == []


async def test_another_worker_cannot_end_a_task(couch: Couch, name: str) -> None:
    await couch.interest(name)
    one, two = await couch.worker(name), await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(one)
    for _ in range(2):
        found = await couch.form("taskUpdate", workerId=two, taskId=task["taskId"], state="success")
        assert found["error"] == "this worker is not working on this task"
    assert "error" not in await couch.form("taskUpdate", workerId=one, taskId=task["taskId"], state="success")
    late = await couch.form("taskUpdate", workerId=one, taskId=task["taskId"], state="success")
    assert late["error"] == "this worker is not working on this task"


async def test_a_worker_that_was_too_slow(couch: Couch, name: str, queue: Queue) -> None:
    await couch.interest(name)
    one, two = await couch.worker(name), await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(one)
    queue.call("UNLINK", *queue.call("HKEYS", queue.keys.processing))
    sweep(queue.store)
    late = await couch.form("taskUpdate", workerId=one, taskId=task["taskId"], state="success")
    assert late["error"] == "this worker is not working on this task"
    again = await couch.take(two)
    assert again["taskId"] == task["taskId"]
    assert "error" not in await couch.form("taskUpdate", workerId=two, taskId=task["taskId"], state="success")


async def test_fail_and_re_enqueue(couch: Couch, name: str, queue: Queue) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(worker)
    mine = {"workerId": worker, "taskId": task["taskId"]}
    assert "error" not in await couch.form("taskUpdate", **mine, state="fail", failReason="no luck", reEnqueue="true")
    waiting = (await couch.status(task=task["taskId"]))["task"]
    assert (waiting["status"], waiting["failReason"]) == ("pending", "no luck")
    again = await couch.take(worker)
    assert (again["taskId"], again["data"]) == (task["taskId"], {"a": 1})
    assert "error" not in await couch.form("taskUpdate", **mine, state="fail", failReason="no luck")
    assert [letter.detail for letter in letters(queue)] == ["no luck"]
    (failed,) = (await couch.status(failedQueue=name))["failedQueue"]
    assert (failed["taskId"], failed["status"], failed["failReason"]) == (task["taskId"], "failed", "no luck")
    assert "error" not in await couch.form("taskUpdate", **mine, state="fail", reEnqueue="1")  # of one that has failed
    assert (await couch.status(failedQueue=name))["failedQueue"] == []
    again = await couch.take(worker)
    assert again["taskId"] == task["taskId"]
    assert "error" not in await couch.form("taskUpdate", **mine, state="success", reEnqueue="true")
    again = await couch.take(worker)
    assert again["taskId"] == task["taskId"]
    assert "error" not in await couch.form("taskUpdate", **mine, state="success")
    assert await couch.take(worker) is None


async def test_who_takes_a_task_at_once_that_was_put_back_has_it(
    couch: Couch, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await couch.interest(name)
    one, two = await couch.worker(name), await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(one)
    end, taken = Consumer.end_many, list[Any]()

    async def ended(self: Consumer, endings: Any) -> list[str | None]:
        states = await end(self, endings)
        monkeypatch.undo()
        taken.append(await couch.take(two))
        return states

    monkeypatch.setattr(Consumer, "end_many", ended)
    mine = {"taskId": task["taskId"], "workerId": one}
    assert "error" not in await couch.form("taskUpdate", **mine, state="fail", reEnqueue="true")
    assert taken[0]["taskId"] == task["taskId"]
    assert (await couch.form("taskUpdate", **mine, state="success"))["error"] == "this worker is not working on this task"
    assert list((await couch.status(tasksInProgress=1))["tasksInProgress"]) == [task["taskId"]]
    assert "error" not in await couch.form("taskUpdate", taskId=task["taskId"], workerId=two, state="success")


async def test_a_task_that_could_not_be_put_back_is_still_the_workers(
    couch: Couch, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(worker)
    before = await couch.status(task=task["taskId"], tasksInProgress=1)

    async def refused(self: Consumer, endings: Any) -> list[str | None]:
        raise redis.exceptions.ResponseError("OOM")

    monkeypatch.setattr(Consumer, "end_many", refused)
    mine = {"taskId": task["taskId"], "workerId": worker}
    assert "OOM" in (await couch.form("taskUpdate", **mine, state="fail", reEnqueue="true"))["error"]
    monkeypatch.undo()
    assert await couch.status(task=task["taskId"], tasksInProgress=1) == before
    assert "error" not in await couch.form("taskUpdate", **mine, state="success")


async def test_re_enqueue_is_for_who_may_enqueue(couch: Couch, name: str) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(worker)
    mine = {"workerId": worker, "taskId": task["taskId"], "state": "success", "reEnqueue": "true"}
    for grant in (Grant("c", ("consume",)), Grant("f", ("consume", "enqueue"), functions=("shop:*",))):
        with pytest.raises(Problem, match="enqueue"):
            await couch.app._actions.run("taskUpdate", mine, Client(grant, "here"))
    assert (await couch.status(task=task["taskId"]))["task"]["status"] == "processing"  # nothing has happened
    everything = Grant("all", ("consume", "enqueue"), functions=("couchqueue:*",))
    await couch.app._actions.run("taskUpdate", mine, Client(everything, "here"))
    assert (await couch.take(worker))["taskId"] == task["taskId"]
    await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_a_task_that_has_failed_is_put_back_once(couch: Couch, name: str, queue: Queue) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    for kind in ({}, {"singularlyRun": "true"}, {"singularlyEnqueue": "true"}, {"scope": "all"}):
        await couch.publish({"a": 1}, **kind)
        task = await couch.take(worker)
        mine = {"workerId": worker, "taskId": task["taskId"]}
        assert "error" not in await couch.form("taskUpdate", **mine, state="fail", failReason="no")
        assert "error" not in await couch.form("taskUpdate", **mine, state="fail", reEnqueue="true")
        assert (await couch.status(failedQueue=name, task=task["taskId"])) == {
            "failedQueue": [], "task": (await couch.status(task=task["taskId"]))["task"],
        }  # fmt: skip
        assert list(letters(queue)) == []
        again = await couch.form("taskUpdate", **mine, state="fail", reEnqueue="true")
        assert again["error"] == "this worker is not working on this task"  # it waits
        assert (await couch.take(worker))["taskId"] == task["taskId"]
        assert "error" not in await couch.form("taskUpdate", **mine, state="success")
        assert await couch.take(worker) is None


async def test_what_an_operator_has_removed_is_not_put_back(couch: Couch, name: str, queue: Queue) -> None:
    queue.enqueue(PyTask("shop:pay", (1,)))
    worker = await couch.worker(name)
    task = await couch.take(worker)
    mine = {"workerId": worker, "taskId": task["taskId"], "state": "fail"}
    await couch.form("taskUpdate", **mine)
    assert "error" not in await couch.form("taskUpdate", **mine, reEnqueue=1)
    assert queue.call("LINDEX", queue.keys.queue, 0) == PyTask("shop:pay", (1,)).serialize()  # as it came
    task = await couch.take(worker)
    mine["taskId"] = task["taskId"]
    await couch.form("taskUpdate", **mine)
    queue.call("DEL", queue.keys.dead)
    assert "no dead letter any more" in (await couch.form("taskUpdate", **mine, reEnqueue=1))["error"]
    assert (await couch.status(task=task["taskId"]))["task"]["status"] == "failed"
    assert queue.len() == 0


async def test_a_task_whose_answer_nobody_takes_goes_back(couch: Couch, name: str, queue: Queue) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    await couch.publish({"a": 1})
    await leave(couch.app, "GET", f"/api/task?workerId={worker}")
    assert (queue.len(), queue.call("HLEN", queue.keys.processing)) == (1, 0)
    assert (await couch.status(tasksInProgress=1))["tasksInProgress"] == {}
    task = await couch.take(worker)
    assert task["data"] == {"a": 1}
    await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_run_at(couch: Couch, name: str, queue: Queue) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    later = queue.ask_time() + 3600
    assert await couch.publish({"a": 1}, runAt=str(later)) == [name]
    assert await couch.take(worker) is None
    span = (round(1000 * later) - 1000, round(1000 * later) + 1000)
    assert queue.call("ZCOUNT", queue.keys.scheduled, *span) == 1
    queue.call("DEL", queue.keys.scheduled)
    for moment in ("null", "0", str(later - 7200)):
        assert await couch.publish({"a": 1}, runAt=moment) == [name]
        task = await couch.take(worker)
        assert task["runAt"] == moment
        await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_scope_all_is_for_each_worker(couch: Couch, name: str) -> None:
    await couch.interest(name)
    one, two, other = await couch.worker(name), await couch.worker(name), await couch.worker("elsewhere")
    assert await couch.publish({"a": 1}, scope="all") == [name]
    assert await couch.status(queues=1) == {"queues": {name: 0}}
    (waiting,) = (await couch.status(workerQueue=one))["workerQueue"]
    assert (waiting["data"], waiting["scope"]) == ({"a": 1}, "all")
    first, second = await couch.take(one), await couch.take(two)
    assert first["taskId"] != second["taskId"]
    assert (first["queue"], second["queue"]) == (name, name)
    assert await couch.take(one) is await couch.take(other) is None
    for worker, task in ((one, first), (two, second)):
        assert "error" not in await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")
    assert await couch.publish({"a": 1}, scope="any") == [name]
    task = await couch.take(two)
    assert await couch.take(one) is None
    await couch.form("taskUpdate", workerId=two, taskId=task["taskId"], state="success")
    await couch.publish({"a": 2}, scope="all")
    for worker in (one, two):
        assert "error" not in await couch.route("DELETE", "/api/worker", workerId=worker)
        assert (await couch.status(workerQueue=worker))["workerQueue"] == []
    await couch.publish({"a": 3}, scope="all")  # there is no worker: it waits for the first
    late = await couch.worker(name)
    task = await couch.take(late)
    assert task["data"] == {"a": 3}
    await couch.form("taskUpdate", workerId=late, taskId=task["taskId"], state="success")


async def test_singularly(couch: Couch, name: str) -> None:
    await couch.interest(name)
    one, two = await couch.worker(name), await couch.worker(name)
    for _ in range(2):
        assert await couch.publish({"a": 1}, singularlyEnqueue="true") == [name]
    assert await couch.publish({"a": 2}, singularlyEnqueue="true") == [name]
    assert await couch.status(queues=1) == {"queues": {name: 2}}
    tasks = [await couch.take(one) for _ in range(3)]
    assert [task and task["data"] for task in tasks] == [{"a": 1}, {"a": 2}, None]
    assert await couch.publish({"a": 1}, singularlyEnqueue="true") == [name]  # the first has begun
    tasks[2] = await couch.take(one)
    for task in tasks:
        await couch.form("taskUpdate", workerId=one, taskId=task["taskId"], state="success")
    for _ in range(2):
        await couch.publish({"b": 1}, singularlyRun="true")
    task = await couch.take(one)
    assert await couch.take(two) is None
    await couch.form("taskUpdate", workerId=one, taskId=task["taskId"], state="success")
    second = await couch.take(two)
    assert second["data"] == {"b": 1}
    await couch.form("taskUpdate", workerId=two, taskId=second["taskId"], state="success")


async def test_fast_post(couch: Couch, name: str) -> None:
    await couch.interest(name)
    found = await couch.form("taskCreate", publisher="x", data='{"a":1}', fastPost="true")
    assert found["interestedSubscriptions"] == []
    worker = await couch.worker(name)
    for _ in range(100):
        task = await couch.take(worker)
        if task is not None:
            break
    assert task["data"] == {"a": 1}
    await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_fast_post_is_for_who_may(couch: Couch, name: str, queue: Queue) -> None:
    post = {"publisher": "x", "data": '{"a":1}', "fastPost": "true"}
    assert "runAt" in (await couch.form("taskCreate", **post, runAt="soon"))["error"]
    couch.may("read", queues="*")
    assert (await couch.posted("taskCreate", **post)).status == 403  # whoever is interested
    couch.access.shown = ALL
    await couch.interest(name)
    couch.may("enqueue", queues="other")
    assert (await couch.posted("taskCreate", **post)).status == 403
    couch.access.shown = Grant("f", ("enqueue",), functions=("shop:*",))
    assert (await couch.posted("taskCreate", **post)).status == 403
    assert queue.len() == 0


async def test_what_is_refused_later_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def refused() -> None:
        raise Problem(403, "this token is not for the queue")

    later = Later()
    later.add("a task", refused, 1, again=False)
    await later.close()
    (record,) = caplog.records
    assert record.getMessage() == "a task was accepted, and is not enqueued: this token is not for the queue"


async def test_a_worker_takes_for_those_alone_who_may_consume_its_queues(couch: Couch, name: str, b: str) -> None:
    await couch.interest(name)
    worker = await couch.worker(name, b)
    for scope in ("all", "any"):
        await couch.publish({"a": scope}, scope=scope)
    for rights, queues in ((("enqueue",), "*"), (("consume",), "other"), (("consume",), b)):
        couch.may(*rights, queues=queues)
        assert (await couch.posted("taskGet", workerId=worker)).status == 403
    assert (await couch.posted("workerRegister", queues=name)).status == 403
    couch.may("enqueue", "read", queues=name)
    assert (await couch.posted("workerRegister", queues=",")).status == 403
    couch.may("consume", queues=f"{name}*")
    for scope in ("all", "any"):
        task = await couch.take(worker)
        assert task["data"] == {"a": scope}
        await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_a_token_sees_its_queues_alone(couch: Couch, name: str, b: str) -> None:
    for queue in (name, b):
        await couch.interest(queue)
    both, one = await couch.worker(name, b), await couch.worker(name)
    await couch.publish({"a": 1}, scope="all")
    tasks = [await couch.take(both) for _ in range(2)]
    everything = {"workers": 1, "queues": 1, "interests": 1, "tasksInProgress": 1}
    sees = await couch.status(**everything)
    assert [len(sees[each]) for each in everything] == [2, 2, 2, 2]
    couch.may("read", queues=name)
    sees = await couch.status(**everything)
    assert (list(sees["workers"]), list(sees["queues"]), list(sees["interests"])) == ([one], [name], [name])
    assert [task["queue"] for task in sees["tasksInProgress"].values()] == [name]
    assert len((await couch.status(workerQueue=one))["workerQueue"]) == 1
    for hidden in ({"workerQueue": both}, {"workerQueue": "gone"}, {"queue": b}, {"failedQueue": b}):
        assert (await couch.posted("status", **hidden)).status == 403
    statuses = {task["queue"]: (await couch.posted("status", task=task["taskId"])).status for task in tasks}
    assert statuses == {name: 200, b: 403}
    couch.access.shown = ALL
    for task in tasks:
        await couch.form("taskUpdate", workerId=both, taskId=task["taskId"], state="success")
    await couch.route("DELETE", "/worker", workerId=one)
    await couch.route("DELETE", "/worker", workerId=both)


async def test_a_record_that_names_another_queue_is_no_record(couch: Couch, name: str, b: str, queue: Queue) -> None:
    worker = await couch.worker(name)
    for forged in ({"taskId": UUID.pattern, "queue": b, "data": 1}, {"taskId": 7, "queue": name}):
        queue.enqueue(PyTask(FUNCTION, (forged,)))
        task = await couch.take(worker)
        assert (task["queue"], task["data"][0], task["publisher"]) == (name, FUNCTION, "delayed")
        assert "error" not in await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_idle_workers_are_removed(couch: Couch, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    assert list((await couch.status(workers=1))["workers"]) == [worker]
    await couch.publish({"a": 1}, scope="all")
    moment = now()
    monkeypatch.setattr(couch_store, "now", lambda: moment + couch_store.IDLE + 1)
    assert (await couch.status(workers=1))["workers"] == {}
    assert (await couch.form("taskGet", workerId=worker))["error"] == "no worker with that workerId"
    await couch.worker(name)
    assert (await couch.status(workerQueue=worker))["workerQueue"] == []


async def test_a_worker_with_a_task_stays(couch: Couch, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await couch.interest(name)
    worker = await couch.worker(name)
    await couch.publish({"a": 1})
    task = await couch.take(worker)
    moment = now()
    monkeypatch.setattr(couch_store, "now", lambda: moment + couch_store.IDLE + 1)
    assert "error" not in await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")


async def test_delete_queues_and_workers(couch: Couch, name: str) -> None:
    await couch.interest(name)
    assert await couch.status(queues=1) == {"queues": {name: 0}}
    one, two = await couch.worker(name), await couch.worker(name)
    await couch.publish({"a": 1})
    (waiting,) = (await couch.status(queue=name))["queue"]
    assert waiting["status"] == "pending"
    assert "error" not in await couch.route("DELETE", "/api/queue", queue=name)
    assert await couch.status(queues=1, interests=1) == {"queues": {}, "interests": {name: {"^.*": "^.*"}}}
    assert await couch.take(one) is None
    assert "error" not in await couch.route("DELETE", "/worker", queue=name)
    assert await couch.status(workers=1) == {"workers": {}}
    assert (await couch.route("DELETE", "/worker", workerId=two))["error"] == "Error: child does not exist"


async def test_workers_of_other_kinds(couch: Couch, name: str, queue: Queue) -> None:
    worker = await couch.worker(name)
    queue.enqueue(PyTask("shop:pay", (1, b"x"), {"a": 2}))
    task = await couch.take(worker)
    assert task["data"][0] == "shop:pay"
    assert "error" not in await couch.form("taskUpdate", workerId=worker, taskId=task["taskId"], state="success")
    queue.set_interest({"a": "*"}, "tasks:noop")
    assert await couch.publish({"a": 1}) == [name]
    assert burst(queue).state.finished == 1
    assert queue.call("XLEN", queue.keys.dead) == 0
    assert FUNCTION == "couchqueue:task"


async def test_what_no_queue_can_be_called(couch: Couch, name: str) -> None:
    assert "cannot be the name" in (await couch.form("interestCreate", queue=f"{name}_dead", interests="*"))["error"]
    worker = await couch.worker(f"{name}_dead", name)
    assert (await couch.form("taskGet", workerId=worker))["error"] == "no tasks found"
    assert await couch.status(queue=f"{name}_dead") == {"queue": []}
    assert list(await couch.form("interestDelete", queue=f"{name}_dead")) == INFORMATION


async def test_actions_view(couch: Couch) -> None:
    found = await couch.form("actionsView")
    assert found["actions"]["taskGet"]["inputs"]["required"] == ["workerId"]


def test_fsck_knows_the_keys(queue: Queue) -> None:
    assert not check(queue, 0).wrong
