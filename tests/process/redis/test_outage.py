"""What living workers hold survives an outage that is longer than a lease; what dead ones held comes back."""

import itertools
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.store import Store
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import eventually
from tests.support.processes import LIVES, Fleet
from tests.support.proxy import proxy
from tests.support.servers import kill, open_redis, stopped

pytestmark = pytest.mark.slow

ENDED = 2**63


class Log:
    """What `tasks:log_around` says, outside of Redis."""

    def __init__(self, folder: Path) -> None:
        self.path, self.gate = folder / "ran", folder / "gate"

    def task(self, number: int) -> PyTask:
        return PyTask("tasks:log_around", (str(self.path), number, str(self.gate)))

    def counts(self) -> Counter[int]:
        data = self.path.read_bytes() if self.path.exists() else b""
        return Counter(int.from_bytes(data[at : at + 8]) for at in range(0, len(data), 8))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with open_redis(tmp_path / "redis", persistent=True) as server:
        yield server


@pytest.fixture
def its_fleet(mortal: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(mortal.url, tmp_path) as processes:
        yield processes


def restart_after_the_leases(server: EmbeddedRedis) -> None:
    kill(server)
    threading.Event().wait(2 * LIVES)  # nobody beats meanwhile
    server.stop()
    server.start()


def stall_beyond_the_leases(server: EmbeddedRedis) -> None:
    with stopped(server):
        threading.Event().wait(2 * LIVES)


@pytest.mark.parametrize("outage", [restart_after_the_leases, stall_beyond_the_leases])
def test_only_what_a_dead_worker_held_comes_back(
    its_fleet: Fleet, mortal: EmbeddedRedis, log: Log, outage: Callable[[EmbeddedRedis], None]
) -> None:
    queue = Queue("q", mortal.url)
    sweeper = its_fleet.sweeper("q")
    living = its_fleet.quick_worker("q")
    queue.enqueue(log.task(1))
    eventually(lambda: log.counts()[1] == 1)
    victim = its_fleet.quick_worker("q")
    queue.enqueue(log.task(2))
    eventually(lambda: log.counts()[2] == 1)
    victim.kill()
    living.send(signal.SIGSTOP)  # it is the last to hear that Redis is back
    outage(mortal)
    eventually(lambda: "leases are judged in" in sweeper.log.read_text())
    queue.store.call("RPUSH", queue.keys.noti, 1)
    eventually(lambda: queue.store.call("LLEN", queue.keys.noti) == queue.len())  # what a sweep does last
    living.send(signal.SIGCONT)
    eventually(lambda: inspect(queue).recovered == 1, 30)
    log.gate.touch()
    eventually(lambda: log.counts()[ENDED + 2] == 1, 30)
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
    assert log.counts() == {1: 1, ENDED + 1: 1, 2: 2, ENDED + 2: 1}
    assert inspect(queue).recovered == 1
    assert "Superseded" not in living.log.read_text()


def test_a_connection_that_breaks_while_tasks_are_moved_is_repaired_at_once(
    mortal: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue("q", mortal.url)
    due, calls = Store.due, itertools.count()

    def breaking(self: Store, *arguments: Any) -> Any:
        if not next(calls):
            queue.enqueue(PyTask("tasks:noop"))
            queue.store.call("DEL", queue.keys.noti)
            raise redis.ConnectionError("broken")
        return due(self, *arguments)

    monkeypatch.setattr(Store, "due", breaking)
    sweeper = Sweeper([Queue("q", mortal.url)], interval=3600)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    try:
        eventually(lambda: queue.store.lengths() == (1, 1))
    finally:
        sweeper.stop()
        thread.join()


def test_a_sweeper_that_idles_sees_a_broken_connection_and_repairs_at_once(mortal: EmbeddedRedis) -> None:
    with proxy(mortal.port or 0) as between:
        queue = Queue("q", mortal.url)
        sweeper = Sweeper([Queue("q", between.url)], interval=3600)
        thread = threading.Thread(target=sweeper.run)
        thread.start()
        try:
            eventually(lambda: len(inspect(queue).processes) == 1)
            queue.enqueue(PyTask("tasks:noop"))
            queue.store.call("DEL", queue.keys.noti)
            between.reset()
            eventually(lambda: queue.store.call("LLEN", queue.keys.noti) == 1)
            queue.store.call("DEL", queue.keys.noti)
            with mortal.client() as client:
                client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
            eventually(lambda: _notifications(mortal) == 1)
        finally:
            sweeper.stop()
            thread.join(20)
        assert not thread.is_alive()


def test_a_worker_that_stands_still_is_given_another_connection(
    mortal: EmbeddedRedis, log: Log, threaded: Callable[[Worker], threading.Thread]
) -> None:
    """The last resort: here the worker has no deadline of its own."""
    log.gate.touch()
    with proxy(mortal.port or 0) as between:
        queue = Queue("q", mortal.url)
        worker = Worker(Queue("q", between.url, keep_alive_timeout=2), 0.1, allow=["tasks:*"])
        worker._parts.fetcher.wait, worker.state.longest_round = 3600, 0.5
        threaded(worker)
        eventually(lambda: mortal_clients(mortal) == ["blpop"])
        between.lose()
        queue.enqueue(log.task(1))
        eventually(lambda: log.counts()[1] == 1, 30)


def mortal_clients(server: EmbeddedRedis) -> list[str]:
    """The blocking commands that clients wait for."""
    with server.client() as client:
        return [each["cmd"] for each in client.client_list() if each["cmd"] == "blpop"]


def _notifications(server: EmbeddedRedis) -> int:
    with server.client() as client:
        try:
            return int(client.llen("q_noti"))
        except redis.ConnectionError:
            return -1
