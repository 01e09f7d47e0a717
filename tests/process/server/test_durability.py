"""Enqueues that wait for more than Redis's memory, and such that wait for nothing."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.server.access import Access
from delayed.server.app import App
from delayed.server.calls import Services
from delayed.server.consumer import Consumer
from delayed.server.later import Later
from delayed.server.links import Links
from tests.support.api import Api, serve
from tests.support.asgi import ask
from tests.support.processes import Fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


def test_what_no_replica_has_is_not_durable(api: Api, queue: Queue, name: str) -> None:
    path = f"/v1/queues/{name}/tasks?durability=replicas:1&durability_timeout=0.01"
    answer = api.call("POST", path, {"function": "shop:pay"})
    assert (answer.status, answer.body["code"]) == (503, "not-durable")
    for kind in ("", ', "unique": "u"'):
        line = b'{"function": "shop:pay"%b}\n' % kind.encode()
        lines = api.call("POST", path, line, {"content-type": "application/x-ndjson"})
        assert (lines.status, lines.body["code"]) == (503, "not-durable")
        assert (lines.body["enqueued"], lines.body["not_durable"]) == (1, 1)
    assert queue.len() == 3  # as of a queue
    assert api.call("POST", f"/v1/queues/{name}/tasks?durability=memory", {"function": "shop:pay"}).status == 201


@pytest.mark.slow
def test_a_proof_may_take_longer_than_other_replies(api: Api, queue: Queue, name: str) -> None:
    """The clients of the server have a `socket_timeout` of 5 s."""
    path = f"/v1/queues/{name}/tasks?durability=replicas:1&durability_timeout=5.5"
    answer = api.call("POST", path, {"function": "shop:pay"})
    assert (answer.status, answer.body["code"], answer.body["acknowledged"]) == (503, "not-durable", 0)
    assert queue.len() == 1


def test_what_the_disk_has_is_durable(tmp_path_factory: pytest.TempPathFactory) -> None:
    with EmbeddedRedis() as redis, Fleet(redis.url, tmp_path_factory.mktemp("disk")) as processes:
        queue = Queue("web", redis.url)
        _, api = serve(processes)
        refused = api.call("POST", "/v1/queues/web/tasks?durability=aof", {"function": "shop:pay"})
        assert (refused.status, "appendonly" in refused.body["detail"]) == (422, True)
        queue.conn.config_set("appendonly", "yes")
        eventually(lambda: not queue.conn.info("persistence")["aof_rewrite_in_progress"])
        path = "/v1/queues/web/tasks?durability=aof&durability_timeout=30"
        assert api.call("POST", path, {"function": "shop:pay", "result_ttl": 60}).status == 201
        assert queue.len() == 1


@pytest.mark.parametrize("wrong", ["durability=disk", "durability=replicas:0", "durability_timeout=0"])
def test_what_is_no_durability(api: Api, name: str, wrong: str) -> None:
    assert api.call("POST", f"/v1/queues/{name}/tasks?{wrong}", {"function": "shop:pay"}).status == 422


def test_an_answer_before_redis_has_it(api: Api, queue: Queue, name: str) -> None:
    path, prefer = f"/v1/queues/{name}/tasks", {"prefer": "wait=5, respond-async; x"}
    plain = api.call("POST", path, {"function": "shop:pay"}, prefer)
    assert (plain.status, plain.body) == (202, {"queue": name, "id": None, "known": None})
    assert plain.headers["preference-applied"] == "respond-async"
    tracked = api.call("POST", path, {"function": "shop:pay", "track": True}, prefer)
    eventually(lambda: queue.len() == 2)
    assert api.get(f"{path}/{tracked.body['id']}")["state"] == "queued"
    keyed = [api.call("POST", path, {"function": "shop:pay"}, {**prefer, "idempotency-key": "7"}) for _ in range(2)]
    assert keyed[0].body == keyed[1].body
    eventually(lambda: queue.len() == 3)
    assert api.call("POST", path, {"function": "no path"}, prefer).status == 422
    assert api.call("POST", path, {"function": "a:b", "args": ["x" * 2_000_000]}, prefer).status == 413


@pytest.mark.slow
def test_a_stop_enqueues_what_was_accepted(fleet: Fleet, queue: Queue, name: str) -> None:
    process, api = serve(fleet)
    for _ in range(20):
        assert api.call("POST", f"/v1/queues/{name}/tasks", {"function": "a:b"}, {"prefer": "respond-async"}).status == 202
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert queue.len() == 20


@pytest.mark.slow
def test_a_stop_enqueues_what_couchqueue_has_accepted(fleet: Fleet, queue: Queue, name: str) -> None:
    process, api = serve(fleet, "--compat", "couchqueue")
    assert "error" not in api.post("/api/interestCreate", {"queue": name, "interests": "*"})
    queue.conn.client_pause(3000, all=False)
    for _ in range(5):
        told = api.post("/api/taskCreate", {"publisher": "p", "data": '{"a": 1}', "fastPost": True})
        assert told["interestedSubscriptions"] == []
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    assert queue.len() == 5, process.log.read_text()
    assert "Traceback" not in process.log.read_text()
    queue.remove_interest()


async def test_what_is_accepted_has_a_bound_of_bytes() -> None:
    later, go, most = Later(), asyncio.Event(), 32 << 20
    assert later.takes(most)
    assert not later.takes(most + 1)
    for size in (most - 10, 10):
        later.add("a task", go.wait, size, again=False)
    assert later.takes(0)
    assert not later.takes(1)
    go.set()
    await later.close()
    assert not later.takes(0)


async def test_who_comes_when_too_much_is_under_way_waits(queue: Queue, name: str, redis_url: str) -> None:
    links = Links(redis_url)
    services = Services(links, Consumer(links), Access(links), 8 << 20)
    app, go = App(services), asyncio.Event()
    headers = {"prefer": "respond-async", "content-type": "application/json"}
    path, body = f"/v1/queues/{name}/tasks", b'{"function": "shop:pay"}'
    services.later.add("a task", go.wait, 32 << 20, again=False)
    assert (await ask(app, "POST", path, body, headers=headers)).status == 201
    go.set()
    while not services.later.takes(1 << 20):
        await asyncio.sleep(0)
    assert (await ask(app, "POST", path, body, headers=headers)).status == 202
    await services.later.close()
    await links.aclose()
    assert queue.len() == 2
