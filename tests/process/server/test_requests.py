"""Requests that can be repeated: the server remembers them, and their tasks stay what they are."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from delayed.base.ids import new_id
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.decode import decode
from delayed.task.task import PyTask
from tests.support.api import Answer, Api, serve
from tests.support.processes import Fleet


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


def lines(api: Api, name: str, tasks: list[dict[str, Any]], **headers: str) -> Answer:
    sent = {"content-type": "application/x-ndjson", **{each.replace("_", "-"): value for each, value in headers.items()}}
    return api.call("POST", f"/v1/queues/{name}/tasks", "\n".join(map(json.dumps, tasks)).encode(), sent)


def numbers(queue: Queue) -> list[int]:
    return [decode(data).args[0] for data in queue.call("LRANGE", queue.keys.queue, 0, -1)]


def test_a_task_that_is_sent_twice_is_there_once_and_unchanged(api: Api, queue: Queue, name: str) -> None:
    kinds: list[dict[str, Any]] = [{}, {"id": ""}, {"id": "", "track": True}, {"delay": 600}, {"group": "a"}]
    for kind in kinds:
        for function in ("m:f", "main.F"):
            body: dict[str, Any] = {"function": function, "args": [1], **kind, **({"id": new_id()} if "id" in kind else {})}
            headers = {"idempotency-key": f"{name} {json.dumps(body)}", "idempotency-for": "60"}
            first, second = (api.call("POST", f"/v1/queues/{name}/tasks", body, headers) for _ in range(2))
            assert (first.status, second.status) == (201, 200)
            assert first.body["id"] == second.body["id"] == body.get("id")
    assert queue.len() + queue.call("ZCARD", queue.keys.scheduled) == 10
    assert queue.call("LINDEX", queue.keys.queue, 0) == PyTask("m:f", (1,)).serialize()


@pytest.mark.parametrize(
    "kind", [{"track": True}, {"result_ttl": 60, "delay": 600}, {"unique": "u"}, {"track": True, "group": "a"}]
)
def test_a_repeated_request_is_told_the_id_of_the_first(api: Api, queue: Queue, name: str, kind: dict[str, Any]) -> None:
    path, body = f"/v1/queues/{name}/tasks", {"function": "m:f", **kind}
    headers = {"idempotency-key": name, "idempotency-for": "60"}
    first = api.call("POST", path, body, headers)
    assert (first.status, first.body["known"]) == (201, False)
    for _ in range(2):
        again = api.call("POST", path, body, headers)
        assert (again.status, again.body) == (200, {**first.body, "known": True})
    assert api.call("GET", f"{path}/{first.body['id']}").status == 200


def test_the_key_of_a_line_that_many_tasks_had_tells_no_id(api: Api, queue: Queue, name: str) -> None:
    """Another body under the same key: it is not looked at."""
    assert lines(api, name, [{"function": "m:f"}], idempotency_key=name).status == 201
    assert lines(api, name, [{"function": "m:f", "unique": "u"}], idempotency_key=name).body["count"] == 1
    assert queue.len() == 1


def test_lines_that_are_sent_again_go_on_where_they_broke_off(api: Api, queue: Queue, name: str) -> None:
    tasks: list[dict[str, Any]] = [{"function": "m:f", "args": [number]} for number in range(2500)]
    broken = lines(api, name, [*tasks[:2300], {"function": 1}], idempotency_key=name)
    assert (broken.status, broken.body["enqueued"]) == (422, 2000)
    for _ in range(2):
        assert lines(api, name, tasks, idempotency_key=name).body["count"] == 2500
        assert numbers(queue) == list(range(2500))


def test_lines_of_all_kinds_are_there_once(api: Api, queue: Queue, name: str) -> None:
    kinds: list[dict[str, Any]] = [{}, {"track": True}, {"unique": "u"}, {"group": "a"}, {"id": new_id()}, {"expires": 60}]
    tasks = [{"function": "m:f", "args": [number], **kind} for number, kind in enumerate(kinds)]
    for _ in range(3):
        assert lines(api, name, tasks, idempotency_key=name, idempotency_for="60").body["count"] == 6
    assert numbers(queue) == [0, 1, 2, 4, 5, 3]  # that of the group has its turn when its chunk is in


def test_arguments_by_names_that_are_none_are_refused_in_lines(api: Api, queue: Queue, name: str) -> None:
    refused = lines(api, name, [{"function": "m:f"}, {"function": "m:f", "kwargs": {"$map": [[1, 2]]}}])
    assert (refused.status, refused.body["code"], refused.body["line"]) == (422, "invalid-task", 2)


def test_ids_in_lines(api: Api, queue: Queue, name: str) -> None:
    tracked, other = new_id(), new_id()
    first: dict[str, Any] = {"function": "m:f", "args": [1], "id": tracked, "track": True}
    tasks = [first, {"function": "m:f", "args": [2], "id": other}]
    assert lines(api, name, tasks).status == 201
    assert api.get(f"/v1/queues/{name}/tasks/{tracked}/state")["state"] == "queued"
    assert api.get(f"/v1/queues/{name}/tasks/{other}")["state"] == "waiting"
    known = lines(api, name, tasks[:1])
    assert (known.status, known.body["code"], known.body["enqueued"]) == (409, "known-id", 0)
    twice = [{"function": "m:f", "unique": "u"}, {"function": "m:f", "unique": "u"}]
    refused = lines(api, name, twice)
    assert (refused.status, refused.body["code"], refused.body["enqueued"]) == (409, "duplicate", 1)
    assert queue.len() == 3


@pytest.mark.parametrize("first", [True, False])
def test_an_id_twice_in_a_body_is_known_the_second_time(api: Api, queue: Queue, name: str, first: bool) -> None:
    tracked = new_id()
    tasks: list[dict[str, Any]] = [{"function": "m:f", "args": [number], "track": True} for number in range(3)]
    for number in (0, 2) if first else (1, 2):
        tasks[number]["id"] = tracked
    refused = lines(api, name, tasks)
    assert (refused.status, refused.body["code"], refused.body["enqueued"], refused.body["line"]) == (409, "known-id", 2, 3)
    assert numbers(queue) == [0, 1]


def test_results_of_many_tasks(api: Api, queue: Queue, name: str) -> None:
    handles = queue.enqueue_all(PyTask("m:f", (number,), result_ttl=60) for number in range(3))
    (lease,) = api.take(name, wait=5)
    api.post(f"/v1/leases/{lease['token']}/succeed", {"result": 7})
    queue.call("HSET", queue.keys.task(handles[1].id or ""), "result", b"\xc1")
    found = api.post(f"/v1/queues/{name}/results", {"ids": [*(handle.id for handle in handles), new_id()]})["results"]
    assert (found[0]["state"], found[0]["result"], found[0]["kept"]) == ("succeeded", 7, True)
    assert found[1]["unreadable"] is True
    assert (found[2]["state"], "result" in found[2], found[3]) == ("queued", False, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"idempotency-for": "60"},
        *({"idempotency-key": "k", "idempotency-for": each} for each in ("0", "-1", "x", "86401", "1.5")),
    ],
)
def test_what_no_request_says(api: Api, queue: Queue, name: str, headers: dict[str, str]) -> None:
    answer = api.call("POST", f"/v1/queues/{name}/tasks", {"function": "m:f"}, headers)
    assert (answer.status, queue.len()) == (422, 0)
