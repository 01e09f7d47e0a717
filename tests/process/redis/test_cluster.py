"""A Redis Cluster of three masters."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import redis.asyncio

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.errors import ConfigurationError, NotDurable
from delayed.ops import audit
from delayed.ops.actions import pause_queue
from delayed.ops.diagnosis import diagnose
from delayed.ops.doctor import read
from delayed.ops.fsck import check
from delayed.ops.info import inspect
from delayed.ops.job_records import job_of
from delayed.ops.jobs import Runner, begin
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote
from delayed.server.consumer import Consumer, Ending, Succeed
from delayed.server.links import Links
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from delayed.workflow import Run, chain, group, on
from delayed.workflow.tend import tend
from tests.conftest import burst, eventually
from tests.process.server.test_protocols import talk, text_port
from tests.redis.workflow.functions import same, see
from tests.support.api import serve
from tests.support.letters import bury
from tests.support.processes import Fleet
from tests.support.servers import SLOTS, open_redis


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[EmbeddedRedis]]:
    with contextlib.ExitStack() as stack:
        options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-node-timeout": "2000"}
        nodes = [stack.enter_context(open_redis(options=options)) for _ in range(3)]
        clients = [stack.enter_context(node.client()) for node in nodes]
        for index, client in enumerate(clients):
            slots = range(SLOTS * index // 3, SLOTS * (index + 1) // 3)
            client.execute_command("CLUSTER ADDSLOTS", *slots)
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for client in clients:
            eventually(lambda client=client: b"cluster_state:ok" in _info(client), 60)  # type: ignore[misc]
            eventually(lambda client=client: b"cluster_known_nodes:3" in _info(client), 60)  # type: ignore[misc]
        yield nodes


def _info(client: redis.Redis) -> bytes:
    reply = client.execute_command("CLUSTER INFO")
    text = repr(reply) if not isinstance(reply, bytes) else reply.decode()
    return text.replace("': '", ":").encode()


@pytest.fixture
def clustered(cluster: list[EmbeddedRedis]) -> Iterator[redis.RedisCluster]:
    with contextlib.closing(redis.RedisCluster(host="127.0.0.1", port=cluster[0].port or 0)) as client:
        yield client


def test_a_queue_without_a_tag_is_refused_and_told_what_to_do(clustered: redis.RedisCluster, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"call it '{{{name}}}'"):
        Queue(name, clustered)


@pytest.mark.parametrize("number", range(3))
def test_defect_u10_every_script_works_on_a_cluster(clustered: redis.RedisCluster, name: str, number: int) -> None:
    queue = Queue(f"{{{name}{number}}}", clustered)
    queue.enqueue_many(PyTask("tasks:noop", (n,)) for n in range(30))
    names = [queue.keys.lease("t", n) for n in range(5)]
    assert len(queue.store.take(names, "t", 10).tasks) == 5
    assert queue.store.succeed(names[0])
    assert queue.store.retry(names[1], PyTask("tasks:noop").serialize())
    assert queue.store.give_back(names[2:4]) == 2
    queue.store.call("DEL", names[4], queue.keys.noti)
    assert sweep(queue.store)[:3] == (1, 0, 28)
    assert queue.len() == 29
    worker = burst(queue)
    assert worker.finished == 29
    assert inspect(queue)[1:5] == (0, 0, 0, 0)


async def test_asyncio_enqueues_on_a_cluster(cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, name: str) -> None:
    queue = Queue(f"{{{name}}}", clustered)
    async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster[1].port or 0) as conn:
        other = AsyncQueue(queue.name, conn)
        await other.enqueue(PyTask("tasks:noop"))
        assert await other.len() == 1
    async with AsyncQueue(queue.name, f"redis+cluster://127.0.0.1:{cluster[1].port}") as of_a_url:
        await of_a_url.enqueue(PyTask("tasks:noop"))
    assert burst(queue).finished == 2


async def test_consumers_on_a_cluster(cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, name: str) -> None:
    queues = [Queue(f"{{{name}{number}}}", clustered) for number in range(3)]
    links = Links(f"redis+cluster://127.0.0.1:{cluster[1].port}")
    consumer = Consumer(links)
    ends: list[tuple[str, Ending]] = []
    for queue in queues:
        waiting = asyncio.create_task(consumer.take(queue.name, max=5, wait=20))
        queue.enqueue(PyTask("m:f", (1,), track=True))
        (lease,) = await waiting
        assert not (await consumer.extend(lease.token, 30)).cancelled
        ends.append((lease.token, Succeed()))
    assert await consumer.end_many(ends) == ["succeeded"] * 3
    assert await consumer.end_many(ends) == [None] * 3
    with pytest.raises(ConfigurationError, match="share a slot"):
        await consumer.take(name)
    await consumer.close()
    await links.aclose()


async def test_durable_enqueues_on_a_cluster(cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, name: str) -> None:
    """This one has no replicas and no files: each says so, and where the task is."""
    durable = Queue(f"{{{name}}}", clustered, durability="replicas:1", durability_timeout=0.01)
    with pytest.raises(NotDurable, match="0 of 1 replicas"):
        durable.enqueue(PyTask("tasks:noop"))
    with pytest.raises(ConfigurationError, match="appendonly"):
        Queue(durable.name, clustered, durability="aof").enqueue(PyTask("tasks:noop"))
    async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster[1].port or 0) as conn:
        for durability, error in (("replicas:1", NotDurable), ("aof", ConfigurationError)):
            other = AsyncQueue(durable.name, conn, durability=durability, durability_timeout=0.01)
            with pytest.raises(error):
                await other.enqueue(PyTask("tasks:noop"))
    assert durable.len() == 2


def test_the_queues_of_a_worker_share_a_slot(clustered: redis.RedisCluster, name: str) -> None:
    one, two = Queue(f"{{{name}}}high", clustered), Queue(f"{{{name}}}low", clustered)
    one.enqueue(PyTask("tasks:noop"))
    two.enqueue(PyTask("tasks:noop"))
    assert burst([one, two]).finished == 2  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="slot"):
        Worker([one, Queue(f"{{{name}x}}", clustered)], allow=["tasks:*"])


def test_what_upstream_workers_hold_is_left_alone(clustered: redis.RedisCluster, name: str) -> None:
    queue = Queue(f"{{{name}}}", clustered)
    foreign = next(str(n) for n in range(100) if clustered.keyslot(str(n)) != clustered.keyslot(queue.name))
    queue.store.call("HSET", queue.keys.processing, foreign, PyTask("tasks:noop").serialize())
    assert sweep(queue.store).recovered == 0
    assert [finding[:2] for finding in check(queue, 0, repair=True).left] == [("held-slot", foreign)]


@pytest.mark.parametrize("number", range(3))
def test_fsck_and_doctor_on_a_cluster(
    cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, name: str, number: int
) -> None:
    queue = Queue(f"{{{name}{number}}}", clustered)
    queue.enqueue(PyTask("tasks:noop"))
    queue.store.call("HSET", queue.keys.processing, queue.keys.lease("t", 0), PyTask("tasks:noop").serialize())
    queue.store.call("HSET", queue.keys.workers, queue.keys.lease("t"), b"\x80")
    queue.store.call("SET", queue.keys.lease("t", 1), "t")
    queue.store.call("DEL", queue.keys.noti)
    checked = check(queue, 0, repair=True)
    assert {finding.invariant for finding in checked.repaired} == {"notifications", "held-live", "register-live", "lease-ttl"}
    assert not checked.left
    assert queue.store.lengths() == (2, 2)
    facts = read(clustered, queue.name)
    assert (facts.mode, facts.through_cluster, facts.unreadable) == ("cluster", True, ())
    with cluster[0].client() as client:
        assert "cluster" in [advice.about for advice in diagnose(read(client)) if advice.level == "problem"]


@pytest.mark.slow
def test_worker_and_sweeper_processes_on_a_cluster(
    cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, fleet: Fleet, name: str
) -> None:
    queue = Queue(f"{{{name}}}", clustered)
    fleet.environment["DELAYED_REDIS_URL"] = f"redis+cluster://127.0.0.1:{cluster[2].port}"
    victim = fleet.quick_worker(queue.name)
    fleet.sweeper(queue.name)
    queue.enqueue(PyTask("tasks:stay"))
    eventually(lambda: inspect(queue).held == 1)
    victim.kill()
    eventually(lambda: inspect(queue).recovered == 1 and queue.len() == 1)
    queue.store.call("DEL", queue.name, queue.keys.noti)
    worker = fleet.quick_worker(queue.name)
    queue.enqueue(PyTask("tasks:noop"))
    eventually(lambda: inspect(queue)[1:5] == (0, 0, 0, 0))
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.slow
def test_a_server_on_a_cluster(cluster: list[EmbeddedRedis], clustered: redis.RedisCluster, tmp_path: Path, name: str) -> None:
    """Queues of three slots, over HTTP and the text protocol; what is about several of them asks whose {tag} is meant."""
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    queues = [Queue(f"{{{name}{number}}}", clustered) for number in range(3)]
    with Fleet(url, tmp_path) as processes:
        process, api = serve(processes, "--text", "127.0.0.1:0")
        remote = Remote(f"http://127.0.0.1:{api.port}")
        for queue in queues:
            there, path = remote.queue(queue.name), f"/v1/queues/{quote(queue.name, safe='')}"
            handle = there.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
            assert there.enqueue_many(PyTask("tasks:noop") for _ in range(1200)) == 1200
            (lease,) = api.take(queue.name, wait=20)
            assert lease["id"] == handle.id
            api.post(f"/v1/leases/{lease['token']}/succeed", {"result": 3})
            assert (handle.result(20), handle.status().state) == (3, "succeeded")
            there.pause()
            assert api.get(path)["limits"]["paused"]
            there.resume()
            job = api.post(f"{path}/jobs", {"act": "task.delete"})
            eventually(lambda path=path, job=job: api.get(f"{path}/jobs/{job['id']}")["state"] == "done")  # type: ignore[misc]
            assert queue.len() == 0
            run = chain(PyTask(same, (1,)), PyTask(see)).submit(there)
            burst(queue)
            burst(queue)
            assert (run.result(20), [node.state for node in run.nodes()]) == (1, ["succeeded"] * 2)
            there.set_interest("*", "m:f")
            assert there.publish({"event": "paid"}).keys() == {queue.name}
            assert there.remove_interest()
            assert there.purge() == 1
            assert api.get(f"/v1/queues?like={quote(queue.name)}")["next"] is None
            assert talk(text_port(process), b"7 enq %b 5 hello\n" % queue.name.encode()).startswith(b"7 enqed ")
            assert there.purge() == 1
        for asked in ("/v1/queues", "/v1/interests", "/metrics", "/v1/events", "/v1/workflows/AAAAAAAAAAAAAAAA"):
            refused = api.call("GET", asked)
            assert (refused.status, refused.body["code"]) == (422, "not-possible"), asked
        assert api.call("GET", f"/metrics?like={quote(queues[0].name)}").status == 200
        assert api.call("GET", f"/v1/events?queues={quote(queues[0].name)}&seconds=0.1").status == 200
        assert "Traceback" not in process.log.read_text()


def test_what_operators_do_is_done_and_written(clustered: redis.RedisCluster, name: str) -> None:
    queue, by = Queue(f"{{{name}}}x", clustered), audit.Actor("ada", "here")
    bury(queue, *(PyTask("m:f", (number,)) for number in range(3)))
    pause_queue(queue, by)
    job = begin(queue, by, "dead.retry")
    assert Runner(lambda: [Queue(f"{{{name}}}y", clustered), queue]).step()
    assert job_of(queue, job.id).done == 3
    assert [each.act for each in audit.read(Queue(f"{{{name}}}y", clustered)).entries] == [
        "dead.retry",
        "dead.retry",
        "queue.pause",
    ]
    assert clustered.exists(f"delayed:audit:{{{name}}}")


@pytest.fixture
def slots(clustered: redis.RedisCluster, name: str) -> tuple[Queue, Queue]:
    """The home of a workflow, and a queue in another slot."""
    home = Queue(f"{{{name}}}", clustered)
    there = (f"{{{name}{number}}}" for number in range(100))
    return home, Queue(next(each for each in there if not home.store.reaches(each)), clustered)


def _outbox(queue: Queue) -> list[bytes]:
    found: list[bytes] = queue.store.call("LRANGE", queue.keys.flow_outbox, 0, -1)
    return found


def _until_ended(run: Run, *queues: Queue) -> str:
    """Run and carry on until the workflow has ended."""

    def ended() -> bool:
        for queue in queues:
            burst(queue)
            tend(queue.store)
        return run.status().ended is not None

    eventually(ended)
    return run.status().state


def test_a_node_in_another_slot_tells_its_workflow_by_its_own_outbox(slots: tuple[Queue, Queue]) -> None:
    home, far = slots
    members = group(PyTask(same, (1,)), *(on(far.name, PyTask(same, (number,))) for number in (2, 3)))
    run = members.then(PyTask(see)).submit(home)
    assert far.len() == 2
    burst(home)
    burst(far)
    entries = _outbox(far)
    assert [entry[:1] for entry in entries] == [b"@", b"@"]  # nobody has delivered them yet
    assert run.status().left == 3
    far.store.call(
        "RPUSH", far.keys.flow_outbox, *entries
    )  # as if somebody was killed before he could remove them: they come twice
    tend(far.store)
    assert _outbox(far) == []
    assert run.status().left == 1
    assert _until_ended(run, home, far) == "succeeded"
    assert run.result(0) == [1, 2, 3]


def test_failures_losses_and_cancels_in_another_slot_reach_the_workflow(slots: tuple[Queue, Queue]) -> None:
    home, far = slots
    run = chain(on(far.name, PyTask("tasks:fail", ("no",))), PyTask(see)).submit(home)
    assert _until_ended(run, home, far) == "failed"
    assert [node.state for node in run.nodes()] == ["failed", "skipped"]
    assert retry(far, next(iter(dead_letters(far))))  # it reopens its workflow, and fails again
    tend(far.store)
    assert (run.status().state, run.status().left) == ("running", 2)
    assert _until_ended(run, home, far) == "failed"

    run = chain(on(far.name, PyTask(same, (1,))), PyTask(see)).submit(home)
    for number in range(3):  # its worker dies each time
        lease = far.keys.lease("t", number)
        assert far.store.take([lease], "t", 10).tasks
        far.store.call("DEL", lease)
        sweep(far.store)
    assert _until_ended(run, home, far) == "failed"
    assert run.retry() == 2
    assert _until_ended(run, home, far) == "succeeded"

    run = chain(PyTask(same, (1,)), on(far.name, PyTask(same, (2,))), PyTask(see)).submit(home)
    burst(home)
    tend(home.store)
    assert far.len() == 1
    run.cancel()
    assert _until_ended(run, far, home) == "cancelled"
    assert [node.state for node in run.nodes()] == ["succeeded", "cancelled", "cancelled"]


def test_what_is_nothing_in_an_outbox_stops_nobody(slots: tuple[Queue, Queue]) -> None:
    home, far = slots
    run = chain(on(far.name, PyTask(same, (1,))), PyTask(see)).submit(home)
    strange = (b"@", b"@\xc1", b"@\x93\xa1a\xa1b\xa1c", b"nothing", b"@" + run.flow.encode())
    far.store.call("RPUSH", far.keys.flow_outbox, *strange)
    burst(far)
    assert _until_ended(run, far, home) == "succeeded"
    assert _outbox(far) == []
