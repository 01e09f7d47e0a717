"""A master that Sentinel names."""

import contextlib
import re
from collections.abc import Iterator
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
import redis

from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.redis.connect import check_access, connect
from delayed.redis.embedded import EmbeddedRedis, server_path
from delayed.redis.sentinels import NewestAsyncSentinel, NewestSentinel
from delayed.system.child import ChildProcess
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.support import tls
from tests.support.processes import Fleet
from tests.support.servers import free_port, open_redis


@pytest.fixture
def sentinel_url(tmp_path: Path) -> Iterator[str]:
    with open_redis() as master:
        port = free_port()
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        )
        sentinel = ChildProcess([server_path(), str(config), "--sentinel"])
        with contextlib.closing(redis.Redis(port=port)) as client:

            def knows() -> object:
                try:
                    return client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "mymaster")
                except redis.RedisError:
                    return False

            eventually(knows, 20)
        yield f"redis+sentinel://127.0.0.1:{port}/mymaster/2"
        sentinel.stop()


@pytest.mark.slow
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
        own: Any = await queue.store.client()
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


@pytest.fixture
def port_of_primary() -> Iterator[int]:
    port = free_port()
    with EmbeddedRedis(port=port) as server, server.client() as client:
        client.config_set("requirepass", "primary's")
        yield port


async def test_sentinels_have_credentials_and_tls_of_their_own(port_of_primary: int, name: str, fleet: Fleet) -> None:
    with (
        tls.listening(tls.before(port_of_primary)) as primary,
        tls.listening(tls.sentinel("mymaster", primary, "sentinel's")) as port,
    ):
        url = (
            f"rediss+sentinel://:primary%27s@localhost:{port}/mymaster/1"
            f"?sentinel_password=sentinel's&ssl_ca_certs={tls.CERTIFICATE}&socket_timeout=5&health_check_interval=30"
        )
        queue = Queue(name, url)
        handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
        async with AsyncQueue(name, url) as other:
            again = await other.enqueue(PyTask("tasks:two", (2,), result_ttl=60))
            fleet.environment["DELAYED_REDIS_URL"] = url
            fleet.worker(name)
            assert await handle.aresult(20) == 3
            assert await again.aresult(20) == 4
        assert handle.result(20) == 3
        assert "sentinel's" not in fleet.processes[0].log.read_text()
        with pytest.raises(redis.ConnectionError):
            Queue(name, url.replace(f"&ssl_ca_certs={tls.CERTIFICATE}", "")).len()  # nobody vouches for it
        fleet.processes[0].kill()


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
def test_a_sentinel_that_does_not_let_us_in_ends_the_start(name: str, fleet: Fleet, secure: bool) -> None:
    with tls.listening(tls.sentinel("mymaster", 1, "sentinel's"), tls=secure) as port:
        down = free_port()
        scheme, options = ("rediss", f"&ssl_ca_certs={tls.CERTIFICATE}") if secure else ("redis", "")
        url = f"{scheme}+sentinel://127.0.0.1:{port},127.0.0.1:{down}/mymaster?client_name=x{options}"
        for credentials, says in (("", "Authentication required"), ("&sentinel_password=wrong", "WRONGPASS|invalid")):
            process = fleet.delayed("worker", name, "--allow-any", DELAYED_REDIS_URL=url + credentials)
            assert process.wait() == 1
            text = process.log.read_text()
            assert text.startswith(
                f"Error: {scheme}+sentinel://127.0.0.1:{port},127.0.0.1:{down}/mymaster/0 does not let us in"
            )
            assert re.search(f"127.0.0.1:{port} says: .*({says}).*; 127.0.0.1:{down} says: .*refused", text)
            assert "see sentinel_password" in text
            assert "wrong" not in text


async def test_what_each_sentinel_says_is_said(name: str) -> None:
    """One that is away may be back: that is no refusal."""
    with tls.listening(tls.sentinel("other", 1), tls=False) as port:
        url = f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{free_port()}/mymaster"
        check_access(connect(url))
        says = f"127.0.0.1:{port} knows other, and not this; 127.0.0.1:.* says: .*(refused|Connect)"
        with pytest.raises(redis.ConnectionError, match=says):
            Queue(name, url).len()
        with pytest.raises(redis.ConnectionError, match=says):
            await AsyncQueue(name, url).len()
