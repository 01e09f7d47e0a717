"""Workflows over HTTP: made by requests, run by workers and by consumers, looked at and acted on."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from delayed.base.ids import node_id
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from tests.conftest import burst
from tests.process.server.test_access import token
from tests.support.api import Api, serve
from tests.support.clients import tracking
from tests.support.processes import Fleet
from tests.support.waiting import eventually

FUNCTIONS = "tests.redis.workflow.functions"


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


def same(value: Any, **more: Any) -> dict[str, Any]:
    return {"function": f"{FUNCTIONS}:same", "args": [value], **more}


def test_workers_run_what_a_request_describes(api: Api, queue: Queue, name: str) -> None:
    other = Queue(f"{name}-other", queue.conn)
    made = api.post(
        "/v1/workflows",
        {
            "queue": name,
            "name": "import",
            "nodes": [
                same({"page": [1, None]}, name="page"),
                {"group": [same(1), same(2, queue=other.name)], "after": ["page"], "name": "rows"},
                {"function": f"{FUNCTIONS}:see", "after": [1], "name": "all"},
            ],
            "then_success": [same("told", result_ttl=60)],
        },
    )
    assert made == {"queue": name, "id": made["id"], "known": False}
    where = f"/v1/workflows/{made['id']}?queue={name}"
    assert (api.get(where)["state"], api.get(where)["total"]) == ("running", 4)
    assert api.call("GET", f"/v1/workflows/{made['id']}/result?queue={name}").status == 202
    for _ in range(3):
        burst(queue)
        burst(other)
    found = api.get(f"{where}&wait=30")
    assert (found["state"], found["succeeded"], found["left"], found["name"]) == ("succeeded", 4, 0, "import")
    assert api.get(f"/v1/workflows/{made['id']}/result?queue={name}")["result"] == [1, 2]
    assert api.get(f"/v1/workflows/{made['id']}/nodes/page?queue={name}")["result"] == {"page": [1, None]}
    node = api.get(f"/v1/workflows/{made['id']}/nodes/2?queue={name}")
    assert (node["result"], node["queue"], node["label"], node["state"]) == (2, other.name, "rows", "succeeded")
    assert api.call("GET", f"/v1/workflows/{made['id']}/nodes/none?queue={name}").status == 404


def test_nodes_in_pages(api: Api, name: str) -> None:
    nodes = [same(0, name="first"), {"group": [same(number) for number in range(5)], "after": [0]}, same(9, after=[1])]
    made = api.post("/v1/workflows", {"queue": name, "nodes": nodes})
    seen: list[int] = []
    after = ""
    while True:
        page = api.get(f"/v1/workflows/{made['id']}/nodes?queue={name}&limit=2{after}")
        seen += [each["number"] for each in page["nodes"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == list(range(7))
    waiting = api.get(f"/v1/workflows/{made['id']}/nodes?queue={name}&state=waiting")["nodes"]
    assert [each["number"] for each in waiting] == list(range(1, 7))


def test_edges_with_policies_of_their_own(api: Api, queue: Queue, name: str) -> None:
    made = api.post(
        "/v1/workflows",
        {
            "queue": name,
            "on_failure": "continue",
            "nodes": [
                {"function": "tasks:fail", "args": ["no"], "name": "bad"},
                same("good", name="good"),
                same("handles", after=[{"node": "bad", "when": "failure"}]),
                same("never", after=["bad", "good"], when="stop"),
                same("any", after=["bad", "good"], when={"quorum": 1}),
            ],
        },
    )
    burst(queue)
    burst(queue)
    where = f"/v1/workflows/{made['id']}"
    states = [each["state"] for each in api.get(f"{where}/nodes?queue={name}")["nodes"]]
    assert states == ["failed", "succeeded", "succeeded", "skipped", "succeeded"]
    failed = api.get(f"{where}/nodes/bad?queue={name}")
    assert (failed["error"]["kind"], failed["error"]["message"]) == ("builtins.ValueError", "no")
    assert api.post(f"{where}/retry?queue={name}", {"mode": "failed_only"})["count"] >= 1
    assert api.call("POST", f"{where}/retry?queue={name}", {}).status == 409  # it goes on
    assert api.post(f"{where}/cancel?queue={name}")["state"] in ("cancelling", "cancelled")


def test_maps_waits_and_signals(api: Api, queue: Queue, name: str) -> None:
    made = api.post(
        "/v1/workflows",
        {
            "queue": name,
            "nodes": [
                {"function": f"{FUNCTIONS}:numbers", "args": [3], "name": "list"},
                {"map": {"function": f"{FUNCTIONS}:same"}, "over": "list", "name": "each"},
                {"wait": {"signal": "paid", "timeout": 3600}, "after": ["each"], "name": "paid"},
                {"function": f"{FUNCTIONS}:see", "after": ["each", "paid"]},
            ],
        },
    )
    signal = f"/v1/workflows/{made['id']}/signal?queue={name}"
    assert api.post(signal, {"name": "paid", "payload": {"$bytes": "AAE="}}) == {"first": True}
    assert api.post(signal, {"name": "paid", "payload": 1}) == {"first": False}
    for _ in range(4):
        burst(queue)
    found = api.get(f"/v1/workflows/{made['id']}/result?queue={name}&wait=30")
    assert found["result"] == [0, 1, 2, {"$bytes": "AAE="}]


def test_a_consumer_finds_what_comes_before_its_node(api: Api, name: str) -> None:
    nodes = [{"function": "shop:price", "name": "one"}, {"function": "shop:price"}, {"function": "shop:sum", "after": [0, 1]}]
    made = api.post("/v1/workflows", {"queue": name, "nodes": nodes})
    prices = api.take(name, max=2, wait=5)
    assert {lease["workflow"] for lease in prices} == {made["id"]}
    assert api.get(f"/v1/leases/{prices[0]['token']}/inputs") == {"many": False, "inputs": [], "next": None}
    for lease, price in zip(prices, ({"$decimal": "9.50"}, 3), strict=True):
        api.post(f"/v1/leases/{lease['token']}/succeed", {"result": price})
    (total,) = api.take(name, wait=30)
    first = api.get(f"/v1/leases/{total['token']}/inputs?limit=1")
    assert (first["many"], first["inputs"][0]["result"], first["next"]) == (True, {"$decimal": "9.50"}, 1)
    rest = api.get(f"/v1/leases/{total['token']}/inputs?after=1")
    assert (rest["inputs"][0]["result"], rest["inputs"][0]["state"], rest["next"]) == (3, "succeeded", None)
    api.post(f"/v1/leases/{total['token']}/succeed", {"result": 12.5})
    assert api.get(f"/v1/workflows/{made['id']}/result?queue={name}&wait=30")["result"] == 12.5
    assert api.call("GET", f"/v1/leases/{total['token']}/inputs").status == 409


def test_inputs_are_for_who_holds_a_node(tmp_path: Path) -> None:
    """What a task says of itself gives nobody what is in a queue that their token is not for; what a workflow says does."""
    with EmbeddedRedis() as redis, Fleet(redis.url, tmp_path) as processes:
        admin = token(redis.url, "admin", "--may", "enqueue,consume,read,operate")
        some = token(redis.url, "some", "--may", "consume", "--queues", "web*")
        port = serve(processes)[1].port
        api, consumer = Api(port, admin), Api(port, some)
        nodes = [same(1, name="first"), same(2, after=["first"], queue="web", name="there"), same(3, after=["first"])]
        made = api.post("/v1/workflows", {"queue": "secret", "nodes": nodes})
        (first,) = api.take("secret", wait=30)
        api.post(f"/v1/leases/{first['token']}/succeed", {"result": "a secret"})
        (held,) = consumer.take("web", wait=30)
        assert consumer.get(f"/v1/leases/{held['token']}/inputs")["inputs"][0]["result"] == "a secret"
        consumer.post(f"/v1/leases/{held['token']}/succeed")
        for number, set_ in ((2, 2), (2, 1), (9, 1)):  # another queue's, one that is in another set, and none
            forged = ["x:y", [], {}, 0, {"id": node_id(made["id"][:10], number), "enqueued": 1, "flow": ["secret", set_]}]
            other = Queue(f"web{number}{set_}", redis.url)
            other.store.enqueue([msgpack.packb(forged)])
            (held,) = consumer.take(other.name)
            refused = consumer.call("GET", f"/v1/leases/{held['token']}/inputs")
            assert (refused.status, "secret" in refused.body["detail"]) == (403, True)
            seen = api.get(f"/v1/leases/{held['token']}/inputs")["inputs"]
            assert [each["result"] for each in seen] == ["a secret"]


def test_one_of_a_key(api: Api, name: str) -> None:
    body = {"queue": name, "nodes": [same(1)], "unique": "nightly"}
    first = api.post("/v1/workflows", body)
    again = api.call("POST", "/v1/workflows", body)
    assert (again.status, again.body["code"], again.body["id"]) == (409, "duplicate", first["id"])
    joined = api.call("POST", "/v1/workflows", {**body, "join": True})
    assert (joined.status, joined.body) == (200, {**first, "known": True})
    del body["unique"]
    keyed = [api.call("POST", "/v1/workflows", body, {"idempotency-key": "order 7"}) for _ in range(2)]
    assert [each.status for each in keyed] == [201, 200]
    assert keyed[0].body["id"] == keyed[1].body["id"] != first["id"]
    listed = api.get(f"/v1/workflows?queue={name}&limit=1")
    rest = api.get(f"/v1/workflows?queue={name}&after={listed['next']}")
    assert {each["id"] for each in listed["workflows"] + rest["workflows"]} == {first["id"], keyed[0].body["id"]}
    assert rest["next"] is None


def test_a_request_of_a_key_is_known_again(api: Api, queue: Queue, name: str) -> None:
    body = {"queue": name, "nodes": [same(1)], "unique": "nightly"}
    first, again, other = (api.call("POST", "/v1/workflows", body, {"idempotency-key": key}) for key in ("7", "7", "8"))
    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert again.body == {**first.body, "known": True}
    queue.store.call("HSET", queue.keys.flow(first.body["id"][:10]), "state", "building")  # as if it had been killed amid that
    late = api.call("POST", "/v1/workflows", body, {"idempotency-key": "7"})
    assert (late.status, late.body["code"]) == (503, "being-built")
    queue.store.call("HSET", queue.keys.flow(first.body["id"][:10]), "state", "running")


def test_nodes_are_called_what_people_call_them(api: Api, queue: Queue, name: str) -> None:
    nodes = [
        same([1], name="a", label="page", group="g"),
        {"group": [same(2)], "label": "page"},
        {"map": same("more"), "over": ["a", 1], "label": "rows"},
    ]
    made = api.post("/v1/workflows", {"queue": name, "nodes": nodes})
    where = f"/v1/workflows/{made['id']}/nodes"
    assert [each["label"] for each in api.get(f"{where}?queue={name}")["nodes"]] == ["page", "page", "rows"]
    for _ in range(2):
        burst(queue)
    assert api.get(f"{where}/@2?queue={name}")["result"] == [1]
    assert [each["number"] for each in api.get(f"{where}?queue={name}")["nodes"]] == [0, 1, 3, 4]
    for none in ("@3", "@x", "@"):
        assert api.call("GET", f"{where}/{none}?queue={name}").status == 404


def test_without_its_home_it_is_looked_for(api: Api, fleet: Fleet, queue: Queue, name: str) -> None:
    made = api.post("/v1/workflows", {"queue": name, "nodes": [same(1)]})
    fleet.sweeper(name)
    eventually(lambda: api.call("GET", f"/v1/workflows/{made['id']}").status == 200)
    assert api.get(f"/v1/workflows/{made['id']}")["queue"] == name
    assert api.call("GET", "/v1/workflows/AAAAAAAAAAAAAAAA").status == 404
    assert api.call("GET", "/v1/workflows/short").status == 404


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([{"name": "nothing"}], "nodes[0]: a node has one of"),
        ([{"function": "a:b", "group": []}], "nodes[0]: a node has one of"),
        ([{"function": "a:b", "after": ["later"]}, {"function": "a:b", "name": "later"}], "no node 'later' before"),
        ([{"function": "a:b", "after": [0]}], "no node 0 before"),
        ([{"function": "a:b", "name": "x"}, {"function": "a:b", "name": "x"}], "another node is called 'x'"),
        ([{"wait": {}}], "needs the name of a signal"),
        ([{"wait": {"signal": "x"}, "args": []}], "a node with wait has no args"),
        ([{"map": {"function": "a:b"}}], "a map has `over`"),
        ([{"function": "a:b"}, {"function": "a:b", "after": [0], "when": "sometimes"}], "when= is one of"),
        ([{"function": "a:b"}, {"function": "a:b", "after": [{"node": 0, "when": {"quorum": 0}}]}], "a quorum is"),
        ([{"function": "a:b", "delay": 5}], "delay is not known here"),
        ([{"function": "no path"}], "nodes[0]"),
        ([{"function": "a:b", "queue": ""}], "queue must have 1"),
    ],
)
def test_what_is_no_workflow(api: Api, name: str, nodes: list[Any], says: str) -> None:
    answer = api.call("POST", "/v1/workflows", {"queue": name, "nodes": nodes})
    assert answer.status == 422
    assert says in answer.body["detail"]


@pytest.mark.slow
def test_a_stop_answers_those_who_wait_for_a_workflow(fleet: Fleet, client: redis.Redis, name: str) -> None:
    process, api = serve(fleet)
    where = f"/v1/workflows/{api.post('/v1/workflows', {'queue': name, 'nodes': [same(1)]})['id']}"
    before = tracking(client)
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(api.get, f"{where}?queue={name}&wait=300") for _ in range(2)]
        eventually(lambda: tracking(client) - before)
        process.send(signal.SIGTERM)
        assert [each.result()["state"] for each in asked] == ["running"] * 2
    assert process.wait() == 0
