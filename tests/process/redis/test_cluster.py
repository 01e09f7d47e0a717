"""A Redis Cluster of three masters."""

import contextlib
import signal
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from delayed.errors import ConfigurationError, NotDurable
from delayed.ops.diagnosis import diagnose
from delayed.ops.doctor import read
from delayed.ops.fsck import check
from delayed.ops.info import inspect
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.support.processes import Fleet
from tests.support.servers import OPEN, SLOTS, free_port


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[EmbeddedRedis]]:
    with contextlib.ExitStack() as stack:
        options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-node-timeout": "2000", **OPEN}
        nodes = [stack.enter_context(EmbeddedRedis(port=free_port(), options=options)) for _ in range(3)]
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
