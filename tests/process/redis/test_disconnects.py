"""After every kind of fault of Redis, consumption goes on. Each kind once; `DELAYED_TEST_DISCONNECTS=200` for so many of
mixed kinds, with `-s -n 0` to see how long each took."""

import contextlib
import os
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet
from tests.support.proxy import Proxy, proxy
from tests.support.servers import free_port, kill, open_redis, stopped

pytestmark = pytest.mark.slow

MANY = int(os.environ.get("DELAYED_TEST_DISCONNECTS", "0"))
STALL = 30 if MANY else 6  # seconds; longer than any deadline for a reply
FAULT = 1.5  # seconds that other faults last
SOON = 5.0  # seconds
FILLERS = 4000  # keys of 2 KiB: a server that loads looks at its clients after every 2 MiB


class World:
    """Redis behind a proxy, a worker and a sweeper, and a list of the tasks that ran, outside of Redis."""

    def __init__(self, server: EmbeddedRedis, between: Proxy, fleet: Fleet, log: Path) -> None:
        self.server, self.between, self.fleet, self.log = server, between, fleet, log
        self.queue = Queue("marks", server.url)
        self.producer = Queue("marks", between.url)
        self.marks = 0
        self.times: dict[str, list[float]] = defaultdict(list)

    def enqueue(self, queue: Queue) -> int:
        self.marks += 1
        queue.enqueue(PyTask("tasks:log", (str(self.log), self.marks)))
        return self.marks

    def ran(self) -> Counter[int]:
        data = self.log.read_bytes() if self.log.exists() else b""
        return Counter(int.from_bytes(data[at : at + 8]) for at in range(0, len(data), 8))

    def report(self) -> None:
        every = sorted(each for some in self.times.values() for each in some)
        print(f"\n{'fault':12} {'times':>5} {'p50':>6} {'max':>6}  (seconds from the return of Redis to execution)")
        for name, some in sorted(self.times.items()):
            print(f"{name:12} {len(some):5} {statistics.median(some):6.2f} {max(some):6.2f}")
        if every:
            soon = sum(each <= SOON for each in every)
            print(f"{'all':12} {len(every):5} {statistics.median(every):6.2f} {every[-1]:6.2f}  {soon} within {SOON:g} s")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("disconnects")
    with (
        open_redis(folder / "redis", persistent=True) as server,
        proxy(server.port or 0) as between,
        Fleet(between.url, folder) as fleet,
    ):
        fleet.worker("--log-level=DEBUG", "marks")
        fleet.delayed("sweeper", "marks").ready()
        world = World(server, between, fleet, folder / "ran")
        yield world
        world.report()


def _admin(world: World, *commands: str) -> None:
    with world.server.client() as client:
        for command in commands:
            client.execute_command(*command.split(" "))


def _wait(seconds: float) -> None:
    time.sleep(seconds)  # what the fault lasts: there is nothing to wait for


def killed(world: World) -> None:
    kill(world.server)
    world.server.stop()
    world.server.start()


def reset(world: World) -> None:
    world.between.reset()


def half_open(world: World) -> None:
    world.between.lose()


def pause_all(world: World) -> None:
    _admin(world, f"CLIENT PAUSE {FAULT * 1000:.0f} ALL")
    _wait(FAULT)


def pause_write(world: World) -> None:
    _admin(world, f"CLIENT PAUSE {FAULT * 1000:.0f} WRITE")
    _wait(FAULT)


def client_kill(world: World) -> None:
    _admin(world, "CLIENT KILL TYPE normal SKIPME yes")


def stall(world: World) -> None:
    with stopped(world.server):
        _wait(STALL)


def read_only(world: World) -> None:
    _admin(world, f"REPLICAOF 127.0.0.1 {free_port()}")
    _wait(FAULT)
    _admin(world, "REPLICAOF NO ONE")


def loading(world: World) -> None:
    """A restart with data that take a second to load."""
    with world.server.client() as client:
        client.config_set("rdbcompression", "no")
        client.eval(f"for i = 1, {FILLERS} do redis.call('SET', 'filler' .. i, string.rep('x', 2048)) end", 0)
        client.bgrewriteaof()
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    options = world.server.options
    slow = {"key-load-delay": "300"}
    world.server.options = {**options, **slow}
    try:
        killed(world)
    finally:
        world.server.options = options
        _admin(world, "CONFIG SET key-load-delay 0")
    assert "LOADING" in world.fleet.processes[0].log.read_text()


def out_of_memory(world: World) -> None:
    _admin(world, "CONFIG SET maxmemory 1")
    _wait(FAULT)
    _admin(world, "CONFIG SET maxmemory 0")


def misconf(world: World) -> None:
    """The last snapshot failed, so Redis refuses to write."""
    obstacle = world.server.folder / "dump.rdb"
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir()
    with world.server.client() as client:
        client.config_set("save", "3600 1000000")
        client.bgsave()
        eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        _wait(FAULT)
        obstacle.rmdir()
        client.config_set("save", "")


def script_flush(world: World) -> None:
    _admin(world, "SCRIPT FLUSH")


FAULTS: list[Callable[[World], None]] = [
    killed,
    reset,
    half_open,
    pause_all,
    pause_write,
    client_kill,
    stall,
    read_only,
    loading,
    out_of_memory,
    misconf,
    script_flush,
]


def _chosen() -> list[Callable[[World], None]]:
    """Each kind once, or equally often in an order that is always the same."""
    chosen = [FAULTS[number % len(FAULTS)] for number in range(MANY or len(FAULTS))]
    if MANY:
        random.Random(MANY).shuffle(chosen)
    return chosen


@pytest.mark.parametrize("fault", _chosen(), ids=lambda fault: fault.__name__)
def test_consumption_resumes(world: World, fault: Callable[[World], None]) -> None:
    before = [world.enqueue(world.queue) for _ in range(20)]  # some are held, or ended and not confirmed, in what comes
    fault(world)
    back = time.monotonic()
    mark = world.enqueue(world.queue)
    eventually(lambda: world.ran()[mark] == 1, 60)
    world.times[fault.__name__].append(time.monotonic() - back)
    eventually(lambda: all(world.ran()[number] >= 1 for number in before), 60)
    eventually(lambda: _producer_goes_on(world), 60)
    assert world.queue.len() == 0


def _producer_goes_on(world: World) -> bool:
    """A producer gets at most one error for each connection that broke, and then can enqueue."""
    with contextlib.suppress(redis.RedisError):
        mark = world.enqueue(world.producer)
        eventually(lambda: world.ran()[mark] == 1, 60)
        return True
    return False
