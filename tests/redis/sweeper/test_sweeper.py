"""Sweepers on bad links, on servers whose clock is set, and among data that other programs wrote."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from delayed.base.ids import token
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.command import ResponseError
from delayed.redis.store import Store
from delayed.sweeper.server import SweptServer
from delayed.sweeper.sweeper import Sweeper
from delayed.sweeper.wake import WakeListener
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.clock import Clock, settable


class Link:
    """A link to Redis on which time is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.takes = 0.0  # seconds for each answer


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    link = Link()
    exchange = Channel.exchange

    def slowly(channel: Channel, packed: bytes, count: int) -> Any:
        link.now += link.takes
        return exchange(channel, packed, count)

    monkeypatch.setattr(Channel, "exchange", slowly)
    for module in ("sweeper.server", "sweeper.sweeper"):
        monkeypatch.setattr(f"delayed.{module}.monotonic", lambda: link.now)
    return link


class Looks:
    """The looks of a sweeper at one server, one by one."""

    def __init__(self, sweeper: Sweeper, link: Link) -> None:
        self.sweeper, self._link = sweeper, link
        (self.site,) = sweeper._servers.values()

    def __call__(self, after: float = 0.0) -> None:
        """Wait for so many seconds, and look."""
        self._link.now += after
        self.site.waited(0)
        self.sweeper._visit(self.site)


@pytest.fixture
def look(queue: Queue, link: Link) -> Iterator[Looks]:
    looks = Looks(Sweeper(queue), link)
    yield looks
    looks.sweeper._goodbye()


def hold(queue: Queue, name: str = "t", seconds: float = 0) -> str:
    """A lease that holds a task: of a dead worker, or of one that has beaten."""
    lease = queue.keys.lease(name, 0)
    queue.store.call("HSET", queue.keys.processing, lease, PyTask("tasks:noop", (name,)).serialize())
    if seconds:
        queue.store.call("SET", lease, name, "PX", round(seconds * 1000))
    return lease


def held(queue: Queue) -> int:
    return int(queue.store.call("HLEN", queue.keys.processing))


def test_what_is_dead_is_taken_at_once_if_nothing_speaks_of_an_outage(queue: Queue, look: Looks) -> None:
    hold(queue)
    look()
    assert held(queue) == 0


def test_a_slow_answer_is_an_outage(queue: Queue, link: Link, look: Looks, caplog: pytest.LogCaptureFixture) -> None:
    look()
    link.takes = 0.3
    lease = hold(queue)
    with caplog.at_level(logging.INFO, "delayed"):
        look(5)
    assert held(queue) == 1
    assert "leases are judged in 5 s" in caplog.text
    link.takes = 0.0
    look(1)
    assert held(queue) == 1
    queue.store.call("SET", lease, "t", "PX", 60_000)  # it has beaten
    dead = hold(queue, "d")
    look(5)
    assert queue.store.call("HKEYS", queue.keys.processing) == [lease.encode()]
    assert dead.encode() not in queue.store.call("HKEYS", queue.keys.processing)


def test_a_link_that_is_always_slow_is_none(queue: Queue, link: Link, look: Looks) -> None:
    link.takes = 2.0
    hold(queue)
    began = link.now
    look()
    look(0.5)
    assert held(queue) == 0
    assert link.now - began < 60
    hold(queue)
    look(0.5)  # nothing speaks of an outage
    assert held(queue) == 0
    assert look.site.caution.postponed == 0


def test_an_outage_at_each_look_keeps_nothing_for_ever(queue: Queue, look: Looks, caplog: pytest.LogCaptureFixture) -> None:
    hold(queue)
    own = queue.keys.lease(token())
    queue.store.call("HSET", queue.keys.workers, own, b"\x80")
    looks = 0
    while held(queue) or queue.store.call("HEXISTS", queue.keys.workers, own):
        look.site.broke()
        look()
        look(1)
        looks += 1
        assert looks < 20, "it is never judged"
    assert looks > 4, "the living had no time"
    assert [record.levelname for record in caplog.records if "3 times running" in record.getMessage()] == ["WARNING"]


def test_nobody_who_beats_is_suspect_long_enough(queue: Queue, look: Looks) -> None:
    look()
    lease = hold(queue)
    for number in range(40):  # it loses its lease again and again, and makes it again each time
        queue.store.call("UNLINK" if number % 2 else "GET", lease)
        look.site.broke()
        look()
        queue.store.call("SET", lease, "t", "PX", 60_000)
        look(4)
    assert held(queue) == 1


def test_a_process_that_was_stopped_lets_others_go_first(queue: Queue, look: Looks) -> None:
    look()
    hold(queue)
    look.site.waited(20)
    look()
    assert held(queue) == 1
    look(5)
    assert held(queue) == 0


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[Queue, Clock]]:
    with settable(tmp_path) as (server, clock), server.client() as client:
        yield Queue("q", client), clock


@pytest.fixture
def clocked_look(clocked: tuple[Queue, Clock], link: Link) -> Iterator[Looks]:
    looks = Looks(Sweeper(clocked[0]), link)
    yield looks
    looks.sweeper._goodbye()


@pytest.mark.parametrize("about", [b"", b"\xc1", msgpack.packb({"ttl": True}), msgpack.packb({"ttl": float("inf")})])
def test_a_clock_that_is_set_forward_costs_no_living_worker_its_task(
    clocked: tuple[Queue, Clock], link: Link, clocked_look: Looks, caplog: pytest.LogCaptureFixture, about: bytes
) -> None:
    queue, clock = clocked
    living, dead = hold(queue, "living", 10), hold(queue, "dead", 10)
    own = queue.keys.lease("living")
    queue.store.call("SET", own, "living", "PX", 10_000)
    queue.store.call("HSET", queue.keys.workers, own, about)
    clocked_look()
    clock.set(3600)
    link.now += 1
    clocked_look()
    assert held(queue) == 2
    assert any("set forward by 3" in record.getMessage() and record.levelname == "WARNING" for record in caplog.records)
    queue.store.call("SET", living, "living", "PX", 10_000)  # its next beat
    queue.store.call("SET", own, "living", "PX", 10_000)
    clocked_look(5)
    assert [held(queue), queue.len()] == [1, 1]
    assert inspect(queue).recovered == 1
    assert queue.store.call("HEXISTS", queue.keys.workers, own)
    assert queue.store.call("HEXISTS", queue.keys.processing, dead) == 0


def test_a_clock_that_is_set_amid_a_sweep_is_seen(
    clocked: tuple[Queue, Clock], clocked_look: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, clock = clocked
    hold(queue, "living", 10)
    clocked_look()
    page = Store.page

    def late(asked: Store, *arguments: Any) -> Any:
        clock.set(3600)
        return page(asked, *arguments)

    monkeypatch.setattr(Store, "page", late)
    clocked_look()
    assert held(queue) == 1


def test_those_that_beat_seldom_have_the_time_to(clocked: tuple[Queue, Clock], clocked_look: Looks) -> None:
    queue, clock = clocked
    lease = hold(queue, "living", 60)
    own = queue.keys.lease("living")
    queue.store.call("SET", own, "living", "PX", 60_000)
    queue.store.call("HSET", queue.keys.workers, own, msgpack.packb({"ttl": 60.0}))
    clocked_look()
    clock.set(3600)
    clocked_look()
    clocked_look(20)
    assert held(queue) == 1
    queue.store.call("SET", lease, "living", "PX", 60_000)
    clocked_look(11)
    assert held(queue) == 1


def test_a_clock_that_is_set_back_is_told_of(
    clocked: tuple[Queue, Clock], clocked_look: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    queue, clock = clocked
    hold(queue, "dead")
    hold(queue, "living", 10)
    clock.set(3600)
    queue.store.call("SET", queue.keys.lease("living", 0), "x", "PX", 10_000)
    clocked_look()
    assert held(queue) == 1
    clock.set(0)
    clocked_look(1)
    assert "set back by 3" in caplog.text
    assert held(queue) == 1


def test_a_clock_that_steps_again_and_again_keeps_nothing_for_ever(clocked: tuple[Queue, Clock], clocked_look: Looks) -> None:
    queue, clock = clocked
    hold(queue)
    clocked_look()
    hold(queue)
    for number in range(1, 10):
        clock.set(100 * number)
        clocked_look(2)
    assert held(queue) == 0


def refusing(*_: object) -> Any:
    raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")


def failing(*_: object) -> Any:
    raise ValueError("what another program wrote")


@pytest.mark.parametrize("goes_wrong", [refusing, failing])
@pytest.mark.parametrize("step", ["page", "repair", "prune", "call"])
def test_the_steps_of_a_sweep_fail_one_by_one(
    queue: Queue, client: redis.Redis, look: Looks, monkeypatch: pytest.MonkeyPatch, step: str, goes_wrong: Callable[..., Any]
) -> None:
    for number in range(500):
        queue.store.call("XADD", queue.keys.dead, f"{number + 1}-1", "task", "x", "reason", "", "detail", "", "worker", "")
    look.sweeper = Sweeper(queue, dead_max=100)
    (look.site,) = look.sweeper._servers.values()
    hold(queue)
    client.rpush(queue.keys.noti, 1, 1)
    client.hset(queue.keys.workers, queue.keys.lease("gone"), b"\x80")
    if step == "call":  # whoever waits cannot be told
        monkeypatch.setattr("delayed.dead_letters.lost.LostTasks.tell", goes_wrong)
    else:
        monkeypatch.setattr(Store, step, goes_wrong)
    look()
    assert (held(queue) == 0) == (step != "page")
    assert (client.llen(queue.keys.noti) == queue.len()) == (step != "repair")
    assert bool(client.hexists(queue.keys.workers, queue.keys.lease("gone"))) == (step in ("page", "prune"))
    assert client.xlen(queue.keys.dead) < 300 or (step, goes_wrong) == ("call", failing)
    monkeypatch.undo()


def test_what_is_refused_in_one_queue_keeps_no_other(queue: Queue, client: redis.Redis, link: Link) -> None:
    second = Queue(f"{queue.name}2", client)
    looks = Looks(Sweeper([queue, second]), link)
    hold(second)
    client.set(queue.keys.processing, "another program's")
    looks()
    assert held(second) == 0
    client.delete(queue.keys.processing)
    looks.sweeper._goodbye()
    client.delete(*client.scan_iter(f"{second.name}*"))


def test_what_cannot_be_moved_keeps_no_schedule_and_is_no_outage(
    queue: Queue, look: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    look()
    fired = threading.Event()
    monkeypatch.setattr(Store, "due", refusing)
    monkeypatch.setattr(Store, "feed", failing)
    monkeypatch.setattr("delayed.cron.schedules.Schedules.fire", lambda *_: fired.set())
    look.sweeper._move_due()
    look.site.channel.open()
    look.sweeper._move_due()
    assert look.site.failures == 0


def test_one_queue_is_enough(queue: Queue) -> None:
    assert [each.name for each in Sweeper(queue)._stores] == [queue.name]


@pytest.mark.parametrize("loop", ["page", "repair", "grouped", "due"])
def test_a_stop_is_heard_inside_each_loop(queue: Queue, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    """A loop that has no end: it asks Redis again and again."""
    begun = threading.Event()

    def endless(asked: Store, *_: object) -> Any:
        while True:
            asked.call("LLEN", asked.keys.queue)
            begun.set()

    monkeypatch.setattr(Store, loop, endless)
    monkeypatch.setattr("delayed.sweeper.sweeper._FINISH", 0.0)
    sweeper = Sweeper(queue, 600)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    assert begun.wait(20)
    sweeper.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert queue.store.call("EXISTS", queue.keys.workers) == 0


def test_while_it_catches_up_it_sweeps_and_hears_a_stop(queue: Queue) -> None:
    task = PyTask("tasks:noop").serialize()
    definition = {"expression": "* * * * * *", "tz": "UTC", "catch_up": "all", "task": task}
    queue.store.call("HSET", queue.keys.cron, "a", msgpack.packb(definition))
    queue.store.call("ZADD", queue.keys.cron_due, 1, "a")
    sweeper = Sweeper(queue, 0.2)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    eventually(lambda: queue.len() > 1000)
    hold(queue)
    eventually(lambda: held(queue) == 0)
    sweeper.stop()
    thread.join(60)
    assert not thread.is_alive()
    queue.store.call("UNLINK", queue.keys.cron, queue.keys.cron_due, queue.name, queue.keys.noti)


def test_a_bell_is_one_for_all_queues_of_a_server(queue: Queue, client: redis.Redis) -> None:
    sweeper = Sweeper([queue, Queue(f"{queue.name}2", client)])
    (site,) = sweeper._servers.values()
    assert isinstance(site, SweptServer)
    assert isinstance(site.wake_listener, WakeListener)
    assert f"{queue.name}2_wake".encode() in site.wake_listener._pop
