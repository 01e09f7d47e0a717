"""What is read of real servers with real settings."""

from pathlib import Path

import pytest
import redis

from delayed.ops.diagnosis import ServerFacts, diagnose, diagnose_queue
from delayed.ops.doctor import queue_facts, read
from delayed.ops.product import product_of
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.servers import OPEN, free_port


def problems(facts: ServerFacts) -> set[str]:
    return {advice.about for advice in diagnose(facts) if advice.level == "problem"}


def warnings(facts: ServerFacts) -> set[str]:
    return {advice.about for advice in diagnose(facts) if advice.level == "warning"}


def test_a_server_without_persistence(client: redis.Redis) -> None:
    facts = read(client)
    assert problems(facts) == {"persistence"}
    assert (facts.product, facts.version) == product_of(client.info())
    assert (facts.mode, facts.role, facts.aof, facts.save, facts.fsync) == ("standalone", "master", False, "", "everysec")
    assert (facts.policy, facts.memory_limit, facts.replicas, facts.timeout) == ("noeviction", 0, 0, 0)
    assert (facts.buffer_limit, facts.replicas_needed, facts.unreadable) == (0, 0, ())
    assert facts.memory_used
    assert facts.round_trip is not None
    assert facts.longest is not None
    assert 0 < facts.round_trip <= facts.longest
    assert facts.clock_ahead is not None
    assert abs(facts.clock_ahead) < 1


def test_a_server_that_keeps_everything() -> None:
    options = {"appendonly": "yes", "appendfsync": "always", "maxmemory": "100mb"}
    with EmbeddedRedis(options=options) as server, server.client() as client:
        facts = read(client)
        assert not problems(facts)
        assert not warnings(facts)
        client.config_set("save", "900 1")
        client.config_set("timeout", 30)
        client.config_set("client-output-buffer-limit", "normal 1000000 0 0")
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("appendfsync", "no")
        changed = read(client)
        assert (changed.save, changed.timeout, changed.buffer_limit) == ("900 1", 30, 1_000_000)
        assert (changed.policy, changed.fsync, changed.aof) == ("volatile-lru", "no", True)
        assert problems(read(client)) == {"eviction"}
        assert warnings(read(client)) == {"persistence", "connections"}
        client.config_set("appendonly", "no")
        assert problems(read(client)) == {"persistence", "eviction"}


def test_a_master_and_its_replica() -> None:
    port = free_port()
    with EmbeddedRedis(port=port, options=OPEN) as master, EmbeddedRedis() as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", port)
            assert {"server"} <= problems(read(client))
        with master.client() as client:
            eventually(lambda: read(client).replicas == 1)
            assert "replicas" in warnings(read(client))
            client.config_set("min-replicas-to-write", 1)
            assert "replicas" not in warnings(read(client))


def test_what_a_provider_forbids_is_said(server: EmbeddedRedis, client: redis.Redis, name: str) -> None:
    for user, rules, forbidden in (
        ("managed", "+@all -config -slowlog", ("CONFIG", "SLOWLOG")),
        ("viewer", "+@connection +@read +evalsha +eval", ("INFO", "TIME", "CONFIG", "SLOWLOG")),
    ):
        client.execute_command("ACL", "SETUSER", f"{user}-{name}", "on", ">secret", "~*", *rules.split())
        with redis.Redis.from_url(server.url.replace("unix://", f"unix://{user}-{name}:secret@")) as limited:
            facts = read(limited)
        assert facts.unreadable == forbidden
        assert problems(facts) == (set() if user == "viewer" else {"persistence"})
        assert "permissions" in [advice.about for advice in diagnose(facts)]
        assert facts.round_trip is not None


def test_slow_calls_of_our_scripts_are_counted() -> None:
    with EmbeddedRedis(options={"slowlog-log-slower-than": "0"}) as server, server.client() as client:
        queue = Queue("q", client)
        queue.len()
        assert read(client).slow_calls == 0
        queue.enqueue(PyTask("m:f"))  # by its source, as the server does not know it yet
        queue.enqueue(PyTask("m:f"))
        queue.enqueue(PyTask("m:f"))
        facts = read(client)
        assert facts.slow_calls in (2, 3)  # Redis may also log the call that it refused
        assert facts.slowest > 0


def test_an_unreachable_server_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(redis.ConnectionError):
        read(redis.Redis.from_url(f"unix://{tmp_path}/none.sock"))


def test_a_queue_that_nobody_serves(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f"))
    queue.store.call("HSET", queue.keys.processing, queue.keys.lease("t", 0), PyTask("m:f").serialize())
    for own, kind in (("a", b"worker"), ("b", b"sweeper"), ("c", b"sweeper")):
        queue.store.call("HSET", queue.keys.workers, queue.keys.lease(own), b"\x81\xa4kind" + bytes([0xA0 + len(kind)]) + kind)
    assert queue_facts(queue, 0.02)[:7] == (queue.name, 1, 0, 0, 1, 0.02, 3)
    for own in "abc":
        queue.store.call("SET", queue.keys.lease(own), own, "PX", 60_000)
    assert queue_facts(queue, 0.02)[:7] == (queue.name, 1, 1, 2, 1, 0.02, 0)


def test_a_worker_of_the_older_packages_beside_tasks_with_headers(queue: Queue, client: redis.Redis) -> None:
    worker = "81985529216486895"  # as they name themselves, and their leases
    client.hset(queue.keys.processing, worker, PyTask("m:f").serialize())
    client.set(worker, "1", ex=60)
    queue.enqueue(PyTask("m:f"))
    facts = queue_facts(queue, 0.01)
    assert (facts.old_workers, facts.headers) == (1, False)
    assert not any("lose such tasks" in advice.says for advice in diagnose_queue(facts))
    queue.enqueue(PyTask("m:f", track=True))
    advice = diagnose_queue(queue_facts(queue, 0.01))[0]
    assert (advice.level, advice.about) == ("problem", queue.name)
    assert "1 worker of the older packages" in advice.says
    client.hdel(queue.keys.processing, worker)
    client.delete(worker)
