"""What a supervisor does on Redis for its workers."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from delayed.base.clock import monotonic
from delayed.base.ids import token
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.store import Store
from delayed.supervisor import recoverer as module
from delayed.supervisor.recoverer import Recoverer
from delayed.system import process as causes
from delayed.system.process import cause_of_death, out_of_memory_kills
from delayed.task.task import PyTask
from delayed.worker.scoreboard import Scoreboard
from tests.conftest import eventually


@pytest.fixture
def recoverer(queue: Queue) -> Iterator[Recoverer]:
    with closing(Recoverer([queue], interval=0.2, ttl=5, limit=3)) as kept:
        yield kept


def holding(queue: Queue, count: int, seconds: float = 100) -> Scoreboard:
    """A worker that holds some tasks."""
    scoreboard = Scoreboard(1)
    scoreboard.set_name(token())
    secret = token()
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(count))
    names = [queue.keys.lease(secret, number) for number in range(count)]
    queue.store.take(names, scoreboard.name, seconds, waiting=True)
    scoreboard.lease(0, secret, count)
    return scoreboard


def settle(recoverer: Recoverer) -> None:
    def done() -> bool:
        recoverer.tend([])
        return recoverer.done

    eventually(done)


def test_the_tasks_of_a_dead_process_go_back_in_order(queue: Queue, client: redis.Redis, recoverer: Recoverer) -> None:
    scoreboard = holding(queue, 3)
    own = queue.keys.lease(scoreboard.name)
    client.set(own, "x")
    client.hset(queue.keys.workers, own, "x")
    recoverer.add(scoreboard, "host:1", "killed by SIGKILL")
    settle(recoverer)
    assert client.lrange(queue.name, 0, -1) == [PyTask("tasks:noop", (number,)).serialize() for number in range(3)]
    assert client.llen(queue.keys.noti) == 3
    assert inspect(queue).recovered == 3
    assert not client.exists(own, queue.keys.workers, queue.keys.processing)
    assert not list(client.scan_iter(f"{queue.name}_lease_*"))


def test_nothing_is_touched_before_redis_has_read_all_that_the_process_sent(
    queue: Queue, client: redis.Redis, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DRAIN", 1000)
    scoreboard = holding(queue, 2)
    with closing(Channel(queue.conn, queue.name)) as channel:
        channel.open()
        scoreboard.connect(0, channel.client_id)
        recoverer.add(scoreboard, "host:1", "killed by SIGKILL")
        for _ in range(3):
            recoverer.tend([])
        assert client.hlen(queue.keys.processing) == 2
        channel.call("HDEL", queue.keys.processing, queue.keys.lease(scoreboard.leases(0)[0], 0))
    settle(recoverer)
    assert client.lrange(queue.name, 0, -1) == [PyTask("tasks:noop", (1,)).serialize()]


def test_a_server_that_tells_no_ids_gets_some_time(
    queue: Queue, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DRAIN", 0.2)
    recoverer.add(holding(queue, 2), "host:1", "killed by SIGKILL")
    recoverer.tend([])
    assert not recoverer.done
    settle(recoverer)
    assert queue.len() == 2


def test_it_beats_for_those_that_do_not(queue: Queue, client: redis.Redis, recoverer: Recoverer) -> None:
    late, punctual, young = (holding(queue, 1, seconds=2) for _ in range(3))
    late.beat(monotonic() - 1)
    punctual.beat(monotonic())
    recoverer.tend([late, punctual, young])
    ttls = [client.pttl(queue.keys.lease(*scoreboard.leases(0)[:1], 0)) for scoreboard in (late, punctual, young)]
    assert [ttl > 3000 for ttl in ttls] == [True, False, False]
    client.delete(queue.keys.lease(late.leases(0)[0], 0))
    recoverer._next_beat = 0
    recoverer.tend([late])
    assert client.exists(queue.keys.lease(late.leases(0)[0], 0)) == 0  # a lease that was lost is not brought to life


def test_it_goes_on_when_redis_is_back(queue: Queue, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch) -> None:
    recoverer.add(holding(queue, 1), "host:1", "killed by SIGKILL")
    with monkeypatch.context() as broken:
        broken.setattr(Channel, "open", lambda channel: channel._refuse(b""))
        recoverer.tend([])
    assert not recoverer.done
    settle(recoverer)
    assert queue.len() == 1


def test_what_is_refused_keeps_no_other_waiting(
    queue: Queue, client: redis.Redis, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, late = holding(queue, 1), holding(queue, 1), holding(queue, 1, seconds=2)
    late.beat(monotonic() - 1)
    refused = queue.keys.lease(first.leases(0)[0], 0)
    sweep = Store.sweep

    def refusing(asked: Store, names: list[str], *arguments: object) -> object:
        if refused in names:
            raise redis.ResponseError("OOM command not allowed")
        return sweep(asked, names, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Store, "sweep", refusing)
        recoverer.add(first, "host:1", "killed by SIGKILL")
        recoverer.add(second, "host:2", "killed by SIGKILL")
        eventually(lambda: (recoverer.tend([late]), recoverer.left == ["host:1"])[1])
        assert client.pttl(queue.keys.lease(late.leases(0)[0], 0)) > 3000
    settle(recoverer)
    assert queue.len() == 2


def test_a_defect_leaves_it_to_sweepers_and_keeps_no_other_waiting(
    queue: Queue, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = holding(queue, 1), holding(queue, 1)
    failing = queue.keys.lease(first.leases(0)[0], 0)
    sweep = Store.sweep

    def odd(asked: Store, names: list[str], *arguments: object) -> object:
        if failing in names:
            raise ValueError("what another program wrote")
        return sweep(asked, names, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "sweep", odd)
    recoverer.add(first, "host:1", "killed by SIGKILL")
    recoverer.add(second, "host:2", "killed by SIGKILL")
    settle(recoverer)
    assert queue.len() == 1
    assert "What worker host:1 held goes back when its leases have run out" in caplog.text


def test_many_tasks_go_back_in_steps_and_in_order(
    queue: Queue, client: redis.Redis, recoverer: Recoverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_A_TIME", 4)
    monkeypatch.setattr(module, "_BYTES", 30)  # of three tasks
    monkeypatch.setattr(module, "_DEADLINE", 0.0)  # there is always something else to do
    read: list[int] = []
    sweep = Store.sweep

    def noting(asked: Store, names: list[str], *arguments: object) -> object:
        read.append(len(names))
        return sweep(asked, names, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "sweep", noting)
    recoverer._channel._deadline = 20
    recoverer.add(holding(queue, 10), "host:1", "killed by SIGKILL")
    settle(recoverer)
    assert client.lrange(queue.name, 0, -1) == [PyTask("tasks:noop", (number,)).serialize() for number in range(10)]
    assert inspect(queue).recovered == 10
    assert max(read) <= 3
    assert client.hlen(queue.keys.lost) == 10  # each was lost once


def test_causes_in_words() -> None:
    assert cause_of_death(7 << 8, working=True, out_of_memory=False) == "exit status 7 in the middle of a task"
    assert cause_of_death(7 << 8, working=False, out_of_memory=True) == "exit status 7"
    assert cause_of_death(11, working=True, out_of_memory=True) == "killed by SIGSEGV"
    assert cause_of_death(9, working=True, out_of_memory=False) == "killed by SIGKILL"
    assert cause_of_death(9, working=True, out_of_memory=True) == "killed by SIGKILL: out of memory, says the kernel"


def test_kills_for_want_of_memory_are_read_from_the_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def inside(*parts: str) -> Path:
        return tmp_path.joinpath(*(part.lstrip("/") for part in parts))

    monkeypatch.setattr(causes, "Path", inside)
    assert out_of_memory_kills() == 0  # the system does not say
    for path, text in (
        ("proc/self/cgroup", "0::/mine/own\n"),
        ("sys/fs/cgroup/mine/own/memory.events", "oom 4\noom_kill 3\n"),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    assert out_of_memory_kills() == 3
