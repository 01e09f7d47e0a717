import gc
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import redis
import redis.utils
from hypothesis import HealthCheck, settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from delayed.job.allow import AllowAny
from delayed.ops.checks import Invariant, Snapshot, When
from delayed.ops.fsck import look
from delayed.ops.invariants import INVARIANTS
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.worker.worker import Worker
from delayed.workflow.tend import tend
from tests.support.processes import Fleet
from tests.support.waiting import eventually as eventually  # noqa: PLC0414  # the tests have it from here

# redis-py reads its version from its metadata for each connection that it makes, which takes milliseconds.
redis.utils.get_lib_version = cache(redis.utils.get_lib_version)
sys.path.insert(0, str(Path(__file__).parent / "app"))  # tasks are `tasks:…` for workers in this process and in others


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedRedis]:
    """A private real Redis. Where there is none, the tests fail: they prove nothing without it."""
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture
def redis_url(server: EmbeddedRedis) -> str:
    return server.url


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    """It waits for a reply for as long as a command does: redis-py gives up after 5 s by itself, also amid a BLPOP of 30."""
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=None) as connected:
        yield connected


@pytest.fixture
def name() -> str:
    """The name of a queue that no other test uses."""
    return f"q{secrets.token_hex(6)}"


@pytest.fixture
def queue(name: str, client: redis.Redis) -> Iterator[Queue]:
    yield Queue(name, client, dequeue_timeout=0.5)
    client.hdel("delayed:interests", name)  # others would publish to it


@pytest.fixture
def fleet(server: EmbeddedRedis, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server.url, tmp_path) as processes:
        yield processes


@pytest.fixture(autouse=True)
def _no_redis_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DELAYED_REDIS_URL", "DELAYED_REDIS_URL_FILE", "REDIS_URL", "NOTIFY_SOCKET"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def _invariants_hold(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used a queue's name, when its processes have ended: what always holds must hold. Then all leases
    die, as they do when nobody beats, and one sweep must bring back every task and leave nothing else."""
    if not {"name", "server"} <= set(request.fixturenames):
        yield
        return
    name, server = request.getfixturevalue("name"), request.getfixturevalue("server")
    yield
    if not request.node.get_closest_marker("breaks_invariants"):
        with server.client() as client:
            if not any(client.scan_iter(f"{name}*", count=10_000)):
                return  # nothing can be wrong
            check_invariants(Queue(name, client))
            if left := list(client.scan_iter(f"{name}*", count=10_000)):  # the next tests need not look through it
                client.unlink(*left)


def check_invariants(queue: Queue) -> None:
    """The invariants of a queue on which no process works any more. Its leases are ended, its workflows carried on."""
    wrong = look(queue, [each for each in of_what_is_there(queue) if each.when is When.ALWAYS])
    assert not wrong, wrong
    call, keys = queue.store.call, queue.keys
    tend(queue.store)
    tasks = queue.len() + call("HLEN", keys.processing) + waiting_for_keys(queue)
    leases = [lease for hashed in (keys.processing, keys.workers) for lease in call("HKEYS", hashed)]
    leases += Snapshot(queue).leases
    if leases:
        call("UNLINK", *leases)
    sweep(queue.store, limit=1_000_000)
    wrong = look(queue, of_what_is_there(queue))
    assert not wrong, wrong
    assert queue.len() + waiting_for_keys(queue) == tasks


def of_what_is_there(queue: Queue) -> Iterable[Invariant]:
    """Those invariants that can be broken: most queues have few kinds of keys, and to look at the others takes time."""
    snapshot, known = Snapshot(queue), set(queue.keys.all().values())
    ours = (queue.keys.owns_for_a_task, queue.keys.owns_stats)
    if not all(key in known or any(owns(key) for owns in ours) for key in snapshot.suffixed):
        return INVARIANTS  # keys for groups, workflows and what waits are looked at with others, or without them
    return [each for each in INVARIANTS if not each.parts or any(snapshot.types[part] != "none" for part in each.parts)]


def waiting_for_keys(queue: Queue) -> int:
    """How many tasks wait for a unique or a concurrency key."""
    names = (name.decode() for name in queue.store.call("HKEYS", queue.keys.waited))
    return sum(queue.store.call("ZCARD", f"{queue.name}_waits_{name}") for name in names)


def burst(queue: Queue, **options: object) -> Worker:
    """Run what waits, in this thread; what cannot run is buried at once, if nothing else is said."""
    options = {"unready_for": 0, **options}
    worker = Worker(queue, allow=AllowAny(), burst=True, **options)  # type: ignore[arg-type]
    worker.run()
    return worker


@pytest.fixture
def threaded() -> Iterator[Callable[[Worker], threading.Thread]]:
    """Runs workers in threads, and stops them at the end."""
    running: list[tuple[Worker, threading.Thread]] = []

    def start(worker: Worker) -> threading.Thread:
        thread = threading.Thread(target=worker.run)
        thread.start()
        running.append((worker, thread))
        return thread

    yield start
    for worker, thread in running:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def sweeping(queue: Queue) -> Iterator[Sweeper]:
    """A sweeper of the test's queue, in a thread."""
    sweeper = Sweeper([queue], 0.5)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    yield sweeper
    sweeper.stop()
    thread.join(60)


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried with fewer examples in a quick run. However busy the machine is, no example takes too long."""
    examples = 20 if config.option.markexpr == "not slow" else settings().max_examples
    settings.register_profile("tests", max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell has started in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else the tests' processes would ignore it, too


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected and imported stays to the end: the garbage collector need not look through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged goes to another process, which takes only text that has a form in UTF-8."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In CI nothing may be skipped but for a reason that is listed here."""
    if os.environ.get("CI"):
        for item in items:
            for marker in item.iter_markers("skipif"):
                if any(marker.args) and marker.kwargs.get("reason") not in ALLOWED_SKIPS:
                    raise pytest.UsageError(f"{item.nodeid} would be skipped, which is not allowed in CI: {marker.kwargs}")


ALLOWED_SKIPS: frozenset[str] = frozenset()
