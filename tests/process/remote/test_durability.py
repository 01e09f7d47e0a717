"""What an enqueue over HTTP waits for, on a primary with a replica."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from delayed.base.ids import new_id
from delayed.errors import ConfigurationError, NotDurable
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.remote import Remote
from delayed.task.task import PyTask
from delayed.workflow import chain, group, runs
from tests.support.api import serve
from tests.support.processes import Fleet
from tests.support.servers import follow, open_redis, pid
from tests.support.waiting import eventually

TASK = PyTask("tasks:noop")
SHORT = 0.05  # seconds


class Pair(NamedTuple):
    """A primary that a server serves, and its replica."""

    url: str
    remote: Remote
    replica: EmbeddedRedis


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(open_redis(persistent=True, options={"appendfsync": "always"}))
        replica = stack.enter_context(open_redis())
        client = stack.enter_context(primary.client())
        follow(replica, primary.port or 0)
        eventually(lambda: client.wait(1, 100) == 1)
        processes = stack.enter_context(Fleet(primary.url, tmp_path_factory.mktemp("server")))
        yield Pair(primary.url, Remote(f"http://127.0.0.1:{serve(processes)[1].port}"), replica)


@pytest.fixture
def stopped(pair: Pair) -> Iterator[None]:
    """The replica takes nothing."""
    process = pid(pair.replica)
    os.kill(process, signal.SIGSTOP)
    yield
    os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("durability", ["aof", "replicas:1"])
def test_what_is_durable_is_in_the_queue(pair: Pair, name: str, durability: str) -> None:
    queue = pair.remote.queue(name, durability=durability, durability_timeout=30)
    queue.enqueue(TASK)
    assert queue.enqueue_many([TASK] * 1500) == 1500
    assert len(queue.enqueue_all([PyTask("tasks:noop", track=True)] * 3)) == 3
    assert chain(TASK, TASK).submit(queue).status().state == "running"
    assert queue.len() == 1505


def test_too_few_replicas_are_said_and_the_task_is_in_the_queue(pair: Pair, name: str) -> None:
    queue = pair.remote.queue(name, durability="replicas:2", durability_timeout=SHORT)
    with pytest.raises(NotDurable, match=r"^not durable: [01] of 2 replicas had the task after 0\.05 s") as caught:
        queue.enqueue(TASK)
    assert caught.value.acknowledged in (0, 1)  # there is one, which may need longer
    with pytest.raises(NotDurable) as caught:
        queue.enqueue_many([TASK] * 3)
    assert "0 tasks of this call had been enqueued before" in caught.value.__notes__
    with pytest.raises(NotDurable):
        group([TASK, TASK]).submit(queue)
    assert len(list(runs(queue))) == 1
    assert queue.len() == 4
    queue.set_interest("*", "m:f")
    try:
        with pytest.raises(NotDurable):
            queue.publish({"a": "b"})
    finally:
        queue.remove_interest()
    assert queue.len() == 5


@pytest.mark.usefixtures("stopped")
def test_what_is_said_again_is_proven_again(pair: Pair, name: str) -> None:
    """A request that is sent once more, as its answer was lost, is not durable because Redis has the task already."""
    there = pair.remote.queue(name, durability="replicas:1", durability_timeout=SHORT)
    for sent in (there.requests.enqueue(TASK, None), next(there.requests.enqueue_many([TASK, TASK]))):
        for _ in range(2):
            assert there.ask(sent.ask).says["code"] == "not-durable"
    assert there.len() == 3
    identity = new_id()
    queue = Queue(name, pair.url, durability="replicas:1", durability_timeout=SHORT)
    for _ in range(2):
        with pytest.raises(NotDurable):
            queue.enqueue(PyTask("tasks:noop", track=True), id=identity)
    assert queue.len() == 4


async def test_asyncio(pair: Pair, name: str) -> None:
    async with pair.remote.async_queue(name, durability="aof", durability_timeout=30) as queue:
        await queue.enqueue(TASK)
        assert await queue.enqueue_many([TASK] * 10) == 10
        run = await queue.submit(chain(TASK, TASK))
        assert (await run.status()).state == "running"
        assert await queue.len() == 12
    async with pair.remote.async_queue(name, durability="replicas:9", durability_timeout=SHORT) as queue:
        with pytest.raises(NotDurable):
            await queue.enqueue(TASK)
        with pytest.raises(NotDurable):
            await queue.submit(chain(TASK))


def test_without_an_append_only_file_aof_is_refused(pair: Pair, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_redis() as server, Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        queue = Remote(f"http://127.0.0.1:{serve(processes)[1].port}").queue(name, durability="aof")
        with pytest.raises(ConfigurationError, match="appendonly yes"):
            queue.enqueue(TASK)
        assert queue.len() == 0
