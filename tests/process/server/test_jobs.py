"""Bulk acts and statistics over HTTP."""

from collections.abc import Iterator

import pytest

from delayed.ops.audit import read
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.support.api import Api, serve
from tests.support.letters import bury
from tests.support.processes import Fleet
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def api(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests that leave it alone."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        yield serve(processes)[1]


def test_a_job_goes_on_by_itself(api: Api, queue: Queue, name: str) -> None:
    queue.enqueue_many(PyTask("shop:pay", (number,), after=3600) for number in range(120))
    queue.enqueue(PyTask("shop:ship", after=3600))
    where = f"/v1/queues/{name}/jobs"
    job = api.post(where, {"act": "task.delete", "tasks": {"function": "shop:pay"}})
    assert (job["act"], job["queue"], job["who"]) == ("task.delete", name, "loopback")
    eventually(lambda: api.get(f"{where}/{job['id']}")["state"] == "done")
    assert api.get(f"{where}/{job['id']}")["done"] == 120
    assert [each["id"] for each in api.get(where)["jobs"]] == [job["id"]]
    assert queue.call("ZCARD", queue.keys.scheduled) == 1
    late = api.call("POST", f"{where}/{job['id']}/stop")
    assert (late.status, late.body["code"]) == (409, "not-now")
    assert api.call("GET", f"{where}/none").status == 404
    assert api.call("POST", f"{where}/none/stop").status == 404


def test_dead_letters_in_a_job(api: Api, queue: Queue, name: str) -> None:
    queue.enqueue_many(PyTask("tasks:fail", ("no",)) for _ in range(5))
    burst(queue)
    job = api.post(f"/v1/queues/{name}/jobs", {"act": "dead.retry", "letters": {"function": "tasks:*"}})
    eventually(lambda: queue.len() == 5)
    eventually(lambda: api.get(f"/v1/queues/{name}/jobs/{job['id']}")["state"] == "done")


@pytest.mark.slow
@pytest.mark.parametrize("act", ["dead.retry", "task.cancel"])
def test_what_a_killed_server_leaves_another_goes_on_with(fleet: Fleet, queue: Queue, name: str, act: str) -> None:
    """Each dead letter is retried once, each task cancelled once, whenever that was; and the job says how many those are."""
    many = 3000
    if act == "dead.retry":
        bury(queue, *(PyTask("shop:pay", (number,)) for number in range(many)))
    else:
        queue.enqueue_many(PyTask("shop:pay", (number,), track=True) for number in range(many))
    (process, first), (_, second) = serve(fleet), serve(fleet)
    where = f"/v1/queues/{name}/jobs"
    job = f"{where}/{first.post(where, {'act': act})['id']}"
    eventually(lambda: second.get(job)["done"] > 0)
    process.kill()
    eventually(lambda: second.get(job)["state"] == "done")
    found = second.get(job)
    assert found["done"] + found["unsure"] >= many, found
    assert (found["done"], found["left"]) == (many, 0) or found["unsure"], found
    if act == "dead.retry":
        assert queue.len() == many == len(set(queue.store.call("LRANGE", queue.keys.queue, 0, -1)))
    else:
        states = {queue.store.call("HGET", key, "state") for key in queue.store.call("KEYS", f"{name}_task_*")}
        assert states == {b"cancelled"}
    done = [each for each in read(queue).entries if each.queue == name and each.act == act]
    assert len(done) == 2  # its begin and its end
    assert f"{found['done']:,}" == f"{done[0].count:,}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"act": "eat"}, "act must be one of"),
        ({"act": "dead.retry", "tasks": {}}, "dead.retry is for dead letters"),
        ({"act": "task.delete", "letters": {}}, "task.delete is for tasks that wait"),
        ({"act": "task.move"}, "a time is for task.move"),
        ({"act": "queue.purge", "tasks": {"function": "a:*"}}, "queue.purge takes no filter"),
        ({"act": "task.move", "moment": "2026-02-30T00:00:00Z"}, "moment is no time"),
    ],
)
def test_what_is_no_job(api: Api, name: str, body: object, says: str) -> None:
    answer = api.call("POST", f"/v1/queues/{name}/jobs", body)
    assert (answer.status, says in answer.body["detail"]) == (422, True), answer


@pytest.mark.slow
def test_what_was_counted(api: Api, queue: Queue, name: str) -> None:
    queue.enqueue_many([PyTask("tasks:noop"), PyTask("tasks:noop"), PyTask("tasks:fail", ("no",))])
    burst(queue)
    queue.enqueue(PyTask("shop:pay"))
    (lease,) = api.take(name, wait=5)
    api.post(f"/v1/leases/{lease['token']}/succeed")
    eventually(lambda: api.get(f"/v1/queues/{name}/stats")["all"]["succeeded"] == 3)
    found = api.get(f"/v1/queues/{name}/stats?period=hour")
    assert (found["period"], found["step"], len(found["steps"])) == ("hour", 60, 60)
    assert (found["all"]["started"], found["all"]["failed"], found["sums"]["enqueued"]) == (4, 1, 4)
    assert {path: each["started"] for path, each in found["functions"].items()} == {
        "tasks:noop": 2, "tasks:fail": 1, "shop:pay": 1,
    }  # fmt: skip
    one = api.get(f"/v1/queues/{name}/stats?function=tasks:fail")
    assert list(one["functions"]) == ["tasks:fail"]
