"""Queues and applications over HTTP: real servers, and real workers of both languages."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from delayed.app.app import App
from delayed.backoff import Linear
from delayed.base.ids import new_id
from delayed.dead_letters import Search
from delayed.errors import (
    ConfigurationError,
    Duplicate,
    InvalidTask,
    NoResult,
    NotDone,
    NotEncodable,
    TaskCancelled,
    TaskFailed,
    UnknownTask,
)
from delayed.queue.queue import Queue
from delayed.queue.results import results
from delayed.redis.embedded import EmbeddedRedis
from delayed.redis.places import scheduled
from delayed.remote import AccessDenied, Remote, ServerAway
from delayed.remote.queue import RemoteQueue
from delayed.task.decode import decode
from delayed.task.task import GoTask, PyTask
from delayed.worker.worker import Worker
from tests import ROOT
from tests.across.agents import go_binary, have_go
from tests.conftest import burst
from tests.support.api import serve
from tests.support.processes import Fleet
from tests.support.proxy import Proxies
from tests.support.servers import free_port
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def remote(server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A server for all tests that leave it alone."""
    with Fleet(server.url, tmp_path_factory.mktemp("server")) as processes:
        api = serve(processes)[1]
        with contextlib.closing(Remote(f"http://127.0.0.1:{api.port}")) as found:
            yield found


@pytest.fixture
def there(remote: Remote, name: str) -> RemoteQueue:
    return remote.queue(name)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"track": True},
    {"result_ttl": 60.5, "retry": 3, "backoff": Linear(2, cap=9, jitter=False), "retry_on": KeyError, "give_up_on": "m.Gone"},
    {"retry": 0, "retry_on": (ValueError, "os.Odd")},
    {"retry": -1, "timeout": 1.5, "hard_timeout": 2},
    {"group": "a", "metadata": {"request": "7"}, "concurrency_key": "k", "concurrency": 3},
    {"unique": "u", "unique_mode": "while_queued", "unique_for": 30, "join": True},
    {"unique": "u"},
    {"expires": datetime(2999, 1, 2, 3, 4, 5, 678000, UTC)},
    {"at": datetime(2999, 1, 2, 3, 4, 5, 678901, UTC), "track": True},
    {"at": 4e9, "group": "g"},
]


def stored(queue: Queue) -> list[bytes]:
    """The bytes of all tasks that wait in the queue, in its groups and in the schedule, with ids and times that differ taken
    out."""
    call, keys = queue.store.call, queue.keys
    found = list(call("LRANGE", keys.queue, 0, -1))
    found += [scheduled(member)[1] for member in call("ZRANGE", keys.scheduled, 0, -1)]
    for group in queue.store.grouped(100):
        found += call("LRANGE", keys.group(group), 0, -1)
    ids = {key.decode()[-16:].encode() for key in call("KEYS", f"{queue.name}_task_*")}
    for each in ids:
        found = [data.replace(each, b"0123456789abcdef") for data in found]
    return [data.partition(b"\xa8enqueued")[0] + data.partition(b"\xa8enqueued")[2][9:] for data in found]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "none")
@pytest.mark.parametrize("go", [False, True], ids=["python", "go"])
def test_what_it_enqueues_is_byte_for_byte_what_a_queue_enqueues(
    there: RemoteQueue, queue: Queue, client: redis.Redis, options: dict[str, Any], go: bool
) -> None:
    def task() -> PyTask | GoTask:
        if go:
            return GoTask("main.F", ("x", [1, b"\xff"], {"a": None}), **options)
        return PyTask("m:f", (1, "ü", b"\x00", [1.5, -0.0], {"a": {"b": 2}, 3: 4}), {"k": 2**64 - 1}, **options)

    def taken() -> list[bytes]:
        found = stored(queue)
        client.delete(*client.keys(f"{queue.name}*"))
        return found

    queue.enqueue(task())
    wanted = taken()
    for enqueue in (there.enqueue, lambda each: there.enqueue_many([each])):
        enqueue(task())
        assert taken() == wanted


def test_values_come_as_they_went(there: RemoteQueue, queue: Queue) -> None:
    value = [
        None, True, -(2**63), 2**64 - 1, 1.5, float("inf"), "ü\udcff", b"\xff", {"$a": 1}, {1: 2, b"k": 3},
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC), timedelta(seconds=-1.5), Decimal("1.10"), UUID(int=7), Path("/x"), {1, 2},
        frozenset("ab"),
    ]  # fmt: skip
    handle = there.enqueue(PyTask("copy:copy", (value,), result_ttl=60))
    burst(queue)
    assert handle.result(5) == value


def test_handles_have_the_words_and_the_errors_of_handles(there: RemoteQueue, queue: Queue, fleet: Fleet, name: str) -> None:
    waits = there.enqueue(PyTask("tasks:two", (1,), track=True, after=600, result_ttl=60))
    assert waits.status().state == "scheduled"
    assert [each.event for each in waits.timeline()] == ["enqueued"]
    for seconds in (0, 0.05):
        with pytest.raises(NotDone, match=f"within {seconds:g} s"):
            waits.result(seconds)
    assert waits.cancel() == "scheduled"
    with pytest.raises(TaskCancelled):
        waits.result(5)
    with pytest.raises(UnknownTask):
        there.handle(new_id()).result(5)
    with pytest.raises(UnknownTask):
        there.handle(new_id()).status()
    with pytest.raises(UnknownTask):
        there.handle(new_id()).cancel()
    with pytest.raises(NoResult):
        there.enqueue(PyTask("tasks:noop")).result(5)
    fails = there.enqueue(PyTask("tasks:fail", ("no",), track=True))
    several = there.enqueue_all(PyTask("tasks:two", (number,), result_ttl=60) for number in range(120))
    kept = there.enqueue(PyTask("tasks:two", (1,), track=True))
    fleet.worker(name)
    assert [each.result(60) for each in several[:3]] == [2, 3, 4]
    assert list(results(several, 60)) == list(range(2, 122))
    with pytest.raises(TaskFailed) as failed:
        fails.result(60)
    assert (failed.value.kind, failed.value.message) == ("builtins.ValueError", "no")
    assert "tasks.py" in failed.value.traceback
    with pytest.raises(NoResult):
        kept.result(60)
    assert kept.status().state == "succeeded"
    assert "started" in [each.event for each in kept.timeline()]
    assert queue.len() == 0


def test_ids_and_unique_keys(there: RemoteQueue, queue: Queue) -> None:
    identity = new_id()
    first, second = (there.enqueue(PyTask("m:f", track=True), id=identity) for _ in range(2))
    assert (first.id, first.known, second.id, second.known) == (identity, False, identity, True)
    unique = there.enqueue(PyTask("m:f", unique="u"))
    with pytest.raises(Duplicate) as refused:
        there.enqueue(PyTask("m:f", unique="u"))
    assert refused.value.id == unique.id
    joined = there.enqueue(PyTask("m:f", unique="u", join=True))
    assert (joined.id, joined.known) == (unique.id, True)
    tasks = [
        PyTask("m:f"),
        PyTask("m:f", unique="v", join=True),
        PyTask("m:f", unique="u", join=True),
        PyTask("m:f", track=True),
    ]
    handles = there.enqueue_all(tasks)
    assert [handle.known for handle in handles] == [False, False, True, False]
    assert handles[3].status().state == "queued"
    with pytest.raises(Duplicate) as refused:
        there.enqueue_many([PyTask("m:f"), PyTask("m:f", unique="u"), PyTask("m:f")])
    assert refused.value.__notes__ == ["1 tasks of this call had been enqueued before"]
    assert queue.len() == there.len() == 6


def test_what_is_wrong_is_said_before_anything_is_sent(there: RemoteQueue, queue: Queue) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    for task, error in (
        (PyTask("m:f", (1j,)), NotEncodable),
        (PyTask("m:f", (deep,)), NotEncodable),
        (PyTask("m:f", group="\udcff"), NotEncodable),
        ("m:f", InvalidTask),
    ):
        with pytest.raises(error):
            there.enqueue(task)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidTask, match="only a tracked task"):
        there.enqueue(PyTask("m:f"), id=new_id())
    with pytest.raises(ConfigurationError, match="to stop a queue, pause it"):
        there.limit(concurrency=0)
    for needs_redis in (lambda: Worker(there, allow=["m:f"]), lambda: there.call("PING"), lambda: there.conn.info("x")):
        with pytest.raises(ConfigurationError, match="needs a way to Redis"):
            needs_redis()
    for wrong in ({"durability": "paper"}, {"durability": "aof", "durability_timeout": 31}):
        with pytest.raises(ConfigurationError, match="durability"):
            Remote("http://127.0.0.1").queue("q", **wrong)
    for url in ("", "redis://x", "http://", "http://a:b@c", "http://x?y", "http://[", "https://x:port"):
        with pytest.raises(ConfigurationError):
            Remote(url)
    assert queue.len() == 0


@pytest.mark.slow
def test_operators(there: RemoteQueue, remote: Remote, queue: Queue, fleet: Fleet, name: str) -> None:
    there.limit(concurrency=3, rate=2.5)
    there.pause()
    assert there.limits() == queue.limits() == (True, 3, 2.5, 2)
    there.limit()
    there.enqueue_many([PyTask("tasks:fail", (number,)) for number in range(3)])
    assert [each.args for each in there.peek(2)] == [[0], [1]]
    tracked = there.enqueue(PyTask("tasks:two", (1,), track=True))
    assert (there.find(tracked.id or "") or {})["function"] == "tasks:two"
    assert there.find(new_id()) is None
    assert [each.id for each in there.tasks(function="tasks:t*")] == [tracked.id]
    there.resume()
    worker = fleet.worker(name)
    eventually(lambda: len(list(there.dead_letters())) == 3)
    newest, *older = there.dead_letters(2)
    assert (newest.task, newest.args, newest.reason) == ("tasks:fail", [2], "failed")
    assert there.dead_letter(newest.id) == newest
    assert len(older) == 1
    assert there.dead_letter("0-1") is None
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert there.retry_dead([newest.id]) == 1
    for wanted in (Search(worker="web1"), Search(group="g"), Search(anywhere="1")):
        with pytest.raises(ConfigurationError, match="over HTTP dead letters are not searched"):
            there.remove_dead(wanted)
    assert there.remove_dead(Search(text="1")) == 1
    assert [each.args for each in there.dead_letters(wanted=Search(task="tasks:*"))] == [[0]]
    assert there.remove_dead(Search()) == 1
    assert name in remote.queue_names()
    assert (there.purge(), queue.len()) == (1, 0)


def test_interests(there: RemoteQueue, queue: Queue, client: redis.Redis) -> None:
    try:
        there.set_interest([("event", "order.*"), ("event", "exact:x")], "m:f", retry=2)
        assert queue.interests().interests == there.interests().interests
        assert [each.queue for each in there.interested({"event": "x"})] == [queue.name]
        assert there.publish({"event": "order.paid", "n": Decimal("1.5")}).keys() == {queue.name}
        assert decode(queue.store.call("LINDEX", queue.keys.queue, 0)).args == [{"event": "order.paid", "n": Decimal("1.5")}]
        with pytest.raises(NotEncodable):
            there.publish(object())
        assert there.remove_interest()
        assert not there.remove_interest()
    finally:
        client.delete("delayed:interests")


def application(remote: Remote | str, name: str) -> App:
    app = App(remote, queue=name)
    app.load()
    return app


def test_an_application_produces_over_http(remote: Remote, fleet: Fleet, queue: Queue, name: str) -> None:
    app = App(remote, queue="default", prefix=f"{name}-")
    two = app.declare("tasks:two", queue=name, result_ttl=60)
    handle = two.delay(1)
    fleet.worker(f"{name}-{name}")
    assert handle.result(60) == 3
    assert two.handle(handle.id or "").result(5) == 3
    plain = app.declare("tasks:noop", queue=name).delay()
    assert plain.id is not None
    assert len(plain.id) == 16
    assert [each.result(60) for each in app.enqueue_many([two.call(number) for number in range(3)])] == [2, 3, 4]
    late = two.options(after=600).delay(1)
    assert app.cancel(late.id or "") == "scheduled"

    async def run() -> list[Any]:
        handles = [await two.adelay(1), *await app.aenqueue_many([two.call(2)])]
        try:
            await handles[0].astatus()
            return [await handle.aresult(60) for handle in handles] + [await two.ahandle(handle.id or "").aresult(5)]
        finally:
            await app.aclose()

    assert asyncio.run(run()) == [3, 4, 3]
    with pytest.raises(ConfigurationError, match="produces over HTTP"):
        app.redis  # noqa: B018  # what it raises counts


def test_an_application_finds_its_server_in_the_environment(
    remote: Remote, queue: Queue, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(remote._connections.place)
    monkeypatch.setenv("DELAYED_REDIS_URL", url)
    App(queue=name).declare("tasks:noop", queue=f"{name}").delay()
    App(url, queue="x").declare("tasks:noop", queue=name).delay()
    assert queue.len() == 2
    app = App(url, queue="x")
    app.use("redis://127.0.0.1:1")
    assert app.redis is not None


@pytest.mark.slow
@pytest.mark.skipif(not have_go(), reason="Go is not installed")
def test_a_go_worker_runs_what_it_enqueues(there: RemoteQueue, fleet: Fleet, name: str) -> None:
    binary = go_binary("delayed-worker", ROOT / "interop", "./cmd/delayed-worker")
    fleet.start(binary, "-redis", fleet.environment["DELAYED_REDIS_URL"], "-queues", name).ready()
    handles = there.enqueue_all(GoTask("main.Sleep", (0.0,), result_ttl=60) for _ in range(20))
    handles.append(there.enqueue(GoTask("main.Sleep", (0.0,), retry=2, after=0.01, track=True)))
    for handle in handles[:20]:
        handle.result(60)
    with pytest.raises(NoResult):
        handles[20].result(60)


@pytest.mark.slow
async def test_asyncio(remote: Remote, queue: Queue, fleet: Fleet, name: str) -> None:
    async with remote.async_queue(name) as there:
        assert await there.enqueue_many(PyTask("tasks:two", (number,)) for number in range(1500)) == 1500
        assert await there.len() == 1500
        queue.call("DEL", queue.keys.queue, queue.keys.noti)
        with pytest.raises(NotDone):
            await (await there.enqueue(PyTask("tasks:noop", track=True, after=600))).aresult(0.01)
        handles = [await there.enqueue(PyTask("tasks:two", (number,), result_ttl=60)) for number in range(50)]
        waits = [asyncio.ensure_future(handle.aresult(60)) for handle in handles]
        fleet.worker(name)
        assert await asyncio.gather(*waits) == list(range(2, 52))
        late = await there.enqueue(PyTask("tasks:two", (1,), after=600, track=True))
        assert await late.acancel() == "scheduled"
        with pytest.raises(TaskCancelled):
            await there.handle(late.id or "").aresult(5)


def test_a_wait_that_is_given_up_ends(remote: Remote, name: str) -> None:
    async def run() -> None:
        async with remote.async_queue(name) as there:
            handle = await there.enqueue(PyTask("m:f", track=True))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle.aresult(), 0.1)
            await there.enqueue(PyTask("m:f"))

    asyncio.run(run())


def test_many_threads_and_a_fork_share_it(there: RemoteQueue, queue: Queue) -> None:
    there.enqueue(PyTask("m:f", (-1,)))  # now there is a connection
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: there.enqueue(PyTask("m:f", (number,))), range(100)))
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            there.enqueue(PyTask("m:f", (100,)))
        os._exit(0)
    there.enqueue(PyTask("m:f", (101,)))
    os.waitpid(child, 0)
    assert sorted(decode(data).args[0] for data in stored(queue)) == list(range(-1, 102))


@pytest.mark.slow
def test_tokens(tmp_path: Path) -> None:
    with EmbeddedRedis() as guarded, Fleet(guarded.url, tmp_path) as fleet:
        words = (
            "token",
            "create",
            "web",
            "--may",
            "enqueue",
            "--queues",
            "web",
            "--functions",
            "shop:*",
            "--redis",
            guarded.url,
        )
        done = subprocess.run([sys.executable, "-m", "delayed", *words], capture_output=True, text=True, check=True)
        api = serve(fleet)[1]
        url = f"http://127.0.0.1:{api.port}"
        there = Remote(url, token=done.stdout.strip()).queue("web")
        there.enqueue(PyTask("shop:pay"))
        there.enqueue_many([PyTask("shop:pay", track=True)])
        for enqueue in (there.enqueue, lambda task: there.enqueue_many([task])):
            with pytest.raises(AccessDenied, match="may not enqueue the function"):
                enqueue(PyTask("os:system"))
        with pytest.raises(AccessDenied, match="this needs read"):
            there.len()
        with pytest.raises(AccessDenied, match="not for the queue"):
            Remote(url, token=done.stdout.strip()).queue("other").enqueue(PyTask("shop:pay"))
        for token in (None, "dq_wrong"):
            with pytest.raises(AccessDenied):
                Remote(url, token=token).queue("web").enqueue(PyTask("shop:pay"))
        assert "dq_" not in repr(Remote(url, token="dq_secret")) + repr(Remote(url, token="dq_secret")._connections.place)


# What networks and servers do


def test_nobody_is_there(name: str) -> None:
    away = Remote(f"http://127.0.0.1:{free_port()}", patience=0.2).queue(name)
    with pytest.raises(ServerAway) as error:
        away.enqueue(PyTask("m:f"))
    assert error.value.__notes__ == ["nothing was sent"]
    assert isinstance(error.value, redis.ConnectionError)
    with pytest.raises(NotDone, match="cannot be asked"):
        away.handle(new_id()).result(0.1)

    async def run() -> None:
        async with Remote(f"http://127.0.0.1:{free_port()}", patience=0.2).async_queue(name) as there:
            await there.enqueue(PyTask("m:f"))

    with pytest.raises(ServerAway):
        asyncio.run(run())


@pytest.mark.slow
def test_answers_that_are_lost_are_asked_for_again(remote: Remote, queue: Queue, name: str) -> None:
    """Connections are reset a hundred times while tasks of each kind are enqueued: each is there once."""
    proxies = Proxies(remote._connections.place.port, 1)
    over = threading.Event()

    def reset() -> None:
        while not over.wait(0.02):
            proxies.order(0, "flap")

    breaker = threading.Thread(target=reset)
    breaker.start()
    try:
        there = Remote(f"http://127.0.0.1:{proxies.ports[0]}", patience=120).queue(name)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: there.enqueue(one_of(number)), range(200)))
        assert there.enqueue_many(one_of(number) for number in range(200, 400)) == 200
    finally:
        over.set()
        breaker.join()
        proxies.close()
    assert numbers(queue) == list(range(400))


def one_of(number: int) -> PyTask:
    """Tasks of all kinds."""
    kinds: list[dict[str, Any]] = [
        {}, {"track": True}, {"group": "a"}, {"after": 600}, {"unique": f"u{number}"}, {"result_ttl": 0.001}, {"expires": 600},
        {"group": "b", "track": True}, {"after": 600, "track": True}, {"rate_key": "k", "rate": 1000},
    ]  # fmt: skip
    return PyTask("m:f", (number,), **kinds[number % len(kinds)])


def numbers(queue: Queue) -> list[int]:
    """Of all tasks that are there, in order."""
    call, keys = queue.store.call, queue.keys
    found = [decode(data) for data in call("LRANGE", keys.queue, 0, -1)]
    found += [decode(scheduled(member)[1]) for member in call("ZRANGE", keys.scheduled, 0, -1)]
    for group in queue.store.grouped(100):
        found += [decode(data) for data in call("LRANGE", keys.group(group), 0, -1)]
    return sorted(call.args[0] for call in found)


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_request_loses_and_doubles_nothing(fleet: Fleet, queue: Queue, name: str) -> None:
    port = free_port()

    def start() -> Any:
        return fleet.delayed("server", "--http", f"127.0.0.1:{port}").ready()

    process = start()
    there = Remote(f"http://127.0.0.1:{port}", patience=200).queue(name)
    done: list[int] = []

    def produce(first: int) -> None:
        for number in range(first, first + 300):
            there.enqueue(one_of(number))
            done.append(number)
        there.enqueue_many(one_of(number) for number in range(first + 300, first + 1000))
        done.extend(range(first + 300, first + 1000))

    with ThreadPoolExecutor(4) as threads:
        producers = [threads.submit(produce, number * 1000) for number in range(4)]
        for kill in range(4):
            eventually(lambda kill=kill: len(done) > 150 * (kill + 1) or all(each.done() for each in producers))  # type: ignore[misc]
            process.kill()
            process = start()
        for each in producers:
            each.result()
    assert sorted(done) == list(range(4000))
    assert numbers(queue) == list(range(4000))
