"""Sweepers of both languages on slow links, on links that are cut, without a processor, and beside clocks that are set."""

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from tests import ROOT
from tests.across.agents import go_binary, have_go
from tests.conftest import eventually
from tests.process.redis.test_outage import ENDED, Log
from tests.support.clock import Clock, settable
from tests.support.processes import Fleet, Process
from tests.support.proxy import Proxy, proxy
from tests.support.servers import free_port

pytestmark = pytest.mark.slow

Start = Callable[[str], Process]  # of a sweeper of queue `q`, by Redis's address
LANGUAGES = ["python", pytest.param("go", marks=pytest.mark.skipif(not have_go(), reason="Go is not installed"))]


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[EmbeddedRedis, Clock]]:
    with settable(tmp_path, free_port()) as (server, clock):
        yield server, clock


@pytest.fixture
def its_fleet(clocked: tuple[EmbeddedRedis, Clock], tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(clocked[0].url, tmp_path) as processes:
        yield processes


@pytest.fixture(params=LANGUAGES)
def sweeper(request: pytest.FixtureRequest, its_fleet: Fleet) -> Start:
    def start(url: str) -> Process:
        if request.param == "python":
            return its_fleet.delayed("sweeper", "--interval=1", "--redis", url, "q").ready()
        binary = go_binary("delayed-sweeper", ROOT / "interop", "./cmd/delayed-sweeper")
        return its_fleet.start(binary, "-redis", url, "-queues", "q", "-interval=1s").ready()

    return start


@pytest.fixture
def queue_of(clocked: tuple[EmbeddedRedis, Clock]) -> Queue:
    return Queue("q", clocked[0].url)


def lost(queue: Queue) -> None:
    """A task that a dead worker held."""
    queue.store.call("HSET", queue.keys.processing, queue.keys.lease("dead", 0), PyTask("tasks:noop").serialize())


def comes_back(queue: Queue) -> None:
    eventually(lambda: queue.len() == 1, 60)
    assert queue.store.call("HLEN", queue.keys.processing) == 0


def test_a_round_trip_of_two_seconds(clocked: tuple[EmbeddedRedis, Clock], queue_of: Queue, sweeper: Start) -> None:
    lost(queue_of)
    with proxy(clocked[0].port or 0, 1.0) as between:
        sweeper(between.url)
        comes_back(queue_of)


@contextlib.contextmanager
def flapping(between: Proxy) -> Iterator[None]:
    """The connections through it are reset each second."""
    ended = threading.Event()

    def flap() -> None:
        while not ended.wait(1):
            between.reset()

    thread = threading.Thread(target=flap)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_connections_that_are_cut_each_second(clocked: tuple[EmbeddedRedis, Clock], queue_of: Queue, sweeper: Start) -> None:
    with proxy(clocked[0].port or 0) as between, flapping(between):
        process = sweeper(between.url)
        eventually(lambda: "outage" in process.log.read_text())
        lost(queue_of)
        comes_back(queue_of)
        eventually(lambda: re.search(r"3 times running|times=3\b", process.log.read_text()) is not None)


def test_a_sweeper_that_seldom_has_a_processor(clocked: tuple[EmbeddedRedis, Clock], queue_of: Queue, sweeper: Start) -> None:
    process = sweeper(clocked[0].url)
    ended = threading.Event()

    def starve() -> None:
        while not ended.is_set():
            process.send(signal.SIGSTOP)
            ended.wait(2)
            process.send(signal.SIGCONT)
            ended.wait(0.1)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        lost(queue_of)
        comes_back(queue_of)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("steps", [(3600,), (-3600,), (3600, 0), (60, 120, 180)])
def test_a_server_s_clock_that_is_set_costs_no_living_worker_its_task(
    clocked: tuple[EmbeddedRedis, Clock],
    queue_of: Queue,
    its_fleet: Fleet,
    tmp_path: Path,
    sweeper: Start,
    steps: tuple[int, ...],
) -> None:
    log, clock = Log(tmp_path), clocked[1]
    worker, process = its_fleet.worker("q"), sweeper(clocked[0].url)
    queue_of.enqueue(log.task(1))
    eventually(lambda: log.counts()[1] == 1)
    eventually(lambda: queue_of.store.call("HLEN", queue_of.keys.workers) == 2)  # the sweeper knows the time by now
    word = {"forward": 0, "back": 0}
    for before, ahead in zip((0, *steps), steps, strict=False):
        clock.set(ahead)
        way = "forward" if ahead > before else "back"
        word[way] += 1
        eventually(lambda: process.log.read_text().count(f"clock of the Redis server was set {way}") == word[way])  # noqa: B023  # at once
    if word["forward"]:
        eventually(lambda: "judged" in process.log.read_text())
    else:
        assert "judged" not in process.log.read_text()
    seen = queue_of.store.call("HGETALL", queue_of.keys.workers)
    eventually(lambda: queue_of.store.call("HGETALL", queue_of.keys.workers) != seen)  # the worker has beaten
    log.gate.touch()
    eventually(lambda: log.counts()[ENDED + 1] == 1)
    assert log.counts() == {1: 1, ENDED + 1: 1}
    assert inspect(queue_of).recovered == 0
    assert "Superseded" not in worker.log.read_text()
    lost(queue_of)
    eventually(lambda: inspect(queue_of).recovered == 1, 60)
