"""A master that Sentinel names."""

import contextlib
import time
from collections.abc import Iterator
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
import redis

from delayed.connect import NewestAsyncSentinel, NewestSentinel
from delayed.embedded import EmbeddedRedis, server_path
from delayed.guard import Guarded
from delayed.queue import AsyncQueue, Queue
from delayed.task import PyTask
from tests.conftest import burst, eventually
from tests.processes import Fleet
from tests.servers import OPEN, free_port


@pytest.fixture
def sentinel_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedRedis(port=free_port(), options=OPEN) as master:
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        )
        sentinel = Guarded([server_path(), str(config), "--sentinel"])
        with contextlib.closing(redis.Redis(port=port)) as client:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    if client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "mymaster"):
                        break
        yield f"redis+sentinel://127.0.0.1:{port}/mymaster/2"
        sentinel.stop()


def test_producer_worker_and_sweeper_find_the_master(sentinel_url: str, name: str, fleet: Fleet) -> None:
    queue = Queue(name, sentinel_url)
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(100))
    assert queue.len() == 100
    assert burst(queue).finished == 100
    fleet.environment["DELAYED_REDIS_URL"] = sentinel_url
    fleet.worker(name)
    fleet.sweeper(name)
    queue.enqueue(PyTask("tasks:noop"))
    eventually(lambda: queue.len() == 0)


async def test_an_async_producer_finds_the_master(sentinel_url: str, name: str) -> None:
    async with AsyncQueue(name, sentinel_url) as queue:
        await queue.enqueue(PyTask("tasks:noop"))
        assert await queue.len() == Queue(name, sentinel_url).len() == 1
        own: Any = queue._own
        clients = [own, *own.connection_pool.sentinel_manager.sentinels]
        connections = [each for client in clients for each in client.connection_pool._available_connections]
        assert [each.is_connected for each in connections] == [True, True]
    assert [each.is_connected for each in connections] == [False, False]


class _Witness:
    """A sentinel that says what it was told."""

    def __init__(self, port: int | None, epoch: int = 0) -> None:
        self._port, self._epoch = port, epoch

    def sentinel_masters(self) -> dict[str, dict[str, object]]:
        if self._port is None:
            raise redis.ConnectionError
        state = {"ip": "h", "port": self._port, "config-epoch": self._epoch, "num-other-sentinels": 2}
        return {"mymaster": {**state, "is_master": True, "is_sdown": False, "is_odown": False}}


class _AsyncWitness(_Witness):
    async def sentinel_masters(self) -> dict[str, dict[str, object]]:  # type: ignore[override]
        return super().sentinel_masters()


@pytest.mark.parametrize(("kind", "witness"), [(NewestSentinel, _Witness), (NewestAsyncSentinel, _AsyncWitness)])
async def test_the_sentinel_that_knows_of_the_latest_failover_is_believed(kind: Any, witness: Any) -> None:
    sentinels = kind([])

    async def found() -> object:
        address = sentinels.discover_master("mymaster")
        return await address if isawaitable(address) else address

    sentinels.sentinels = [witness(None), witness(1, 4), witness(2, 5), witness(1, 4)]
    assert await found() == ("h", 2)
    sentinels.sentinels = [witness(None)]
    with pytest.raises(redis.ConnectionError, match="no sentinel knows"):
        await found()
