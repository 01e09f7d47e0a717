"""What a task costs, in things that can be counted: a guard against losing speed. Times are measured by `scripts/bench`."""

import gc
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import redis

from bench.kinds import KINDS, Kind
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.task.task import PyTask
from delayed.worker.serial import SerialLoop
from tests.conftest import burst

TASKS = 2000


MANY = 1024  # tasks of a kind: eight hands


class Most(NamedTuple):
    """What a task may cost at most, if many are enqueued at once and drained."""

    enqueue_commands: float
    enqueue_bytes: float  # to Redis
    commands: float  # of the worker
    bytes: float  # to Redis
    calls: float  # of functions of Python and C, in the thread that runs tasks
    blocks: float  # of memory that are there until the garbage collector runs, or for good


MOST = {  # of each kind in bench/kinds.py; whoever makes one cheaper lowers its numbers
    "plain": Most(0.01, 25, 1.08, 215, 26, 0.1),
    "uid": Most(0.01, 50, 1.08, 215, 230, 0.1),
    "retry+backoff": Most(0.01, 70, 1.08, 215, 230, 0.1),
    "timeout": Most(0.01, 39, 1.08, 215, 255, 0.1),
    "tracked": Most(0.01, 112, 1.1, 470, 300, 0.1),
    "result": Most(0.01, 125, 1.1, 470, 300, 0.1),
}


@pytest.fixture(autouse=True)
def _a_quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are as large as where nothing else runs: what is counted shall not depend on how quick the machine is."""
    monkeypatch.setattr("delayed.worker.prefetch.BUDGET", 60.0)
    monkeypatch.setattr("delayed.worker.heartbeat.BUDGET", 60.0)


@contextmanager
def monitored(client: redis.Redis, name: str) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, by name. (Redis's own counters also count what scripts call.)"""
    sent: list[str] = []
    with client.monitor() as monitor:
        yield sent
        marker = f"{name} ends"
        client.echo(marker)
        for entry in monitor.listen():
            if marker in entry["command"]:
                return
            if entry["client_type"] != "lua":
                sent.append(entry["command"].split()[0].upper())


def fill(queue: Queue) -> None:
    for i in range(TASKS):
        queue.enqueue(PyTask("tasks:noop", (i,)))


def traffic(client: redis.Redis) -> tuple[int, int]:
    """Bytes that Redis has read and written so far."""
    stats: dict[str, Any] = client.info("stats")
    return stats["total_net_input_bytes"], stats["total_net_output_bytes"]


def test_commands(queue: Queue, client: redis.Redis, name: str) -> None:
    with monitored(client, name) as sent:
        fill(queue)
        worker = burst(queue)
    assert worker.finished == TASKS
    assert len(sent) <= 2.2 * TASKS, {command: sent.count(command) for command in set(sent)}


def test_bytes(queue: Queue, client: redis.Redis) -> None:
    first = traffic(client)
    burst(queue)  # what a connection costs: scripts, above all
    before = traffic(client)
    connecting = [after - earlier for earlier, after in zip(first, before, strict=True)]
    fill(queue)
    enqueued = traffic(client)
    burst(queue)
    after = traffic(client)
    assert (enqueued[0] - before[0]) / TASKS <= 160
    assert (enqueued[1] - before[1]) / TASKS <= 8
    assert (
        after[0] - enqueued[0] - connecting[0]
    ) / TASKS <= 210  # the name of each lease three times: taken, ended, confirmed
    assert (after[1] - enqueued[1] - connecting[1]) / TASKS <= 50


def test_sends(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """One system call ends a task, and one now and then takes many. None may end two: see docs/internals.md."""
    sends = 0
    send: Callable[[Channel, bytes], None] = Channel._send

    def counting(channel: Channel, packed: bytes) -> None:
        nonlocal sends
        sends += 1
        send(channel, packed)

    monkeypatch.setattr(Channel, "_send", counting)
    queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(TASKS))
    burst(queue)
    assert TASKS <= sends <= 1.1 * TASKS


def test_receives(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are read once for a batch, not once for a task."""
    receives = 0
    read: Callable[[Channel], Any] = Channel.read

    def counting(channel: Channel) -> Any:
        nonlocal receives
        receives += 1
        return read(channel)

    monkeypatch.setattr(Channel, "read", counting)
    queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(TASKS))
    burst(queue)
    assert receives <= 0.2 * TASKS


def test_allocations(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps nothing of the tasks that it has done."""
    grown: list[int] = []
    work: Callable[[SerialLoop], None] = SerialLoop._work

    def measuring(loop: SerialLoop) -> None:
        work(loop)
        gc.collect()
        grown.append(sys.getallocatedblocks())

    monkeypatch.setattr(SerialLoop, "_work", measuring)
    queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(10 * TASKS))
    gc.collect()
    gc.freeze()  # what there is already need not be looked through after each batch
    try:
        worker = burst(queue)
    finally:
        gc.unfreeze()
    assert worker.finished == 10 * TASKS
    half = len(grown) // 2  # by then leases, scripts and functions are all known
    assert (grown[-1] - grown[half]) / (5 * TASKS) < 0.1


def test_memory(queue: Queue, client: redis.Redis) -> None:
    """At most 40 bytes of Redis for a waiting task with one small integer, notification included."""
    count = 50_000
    queue.enqueue_many(PyTask("tasks:noop", (7,)) for _ in range(count))
    bytes_used = sum(client.memory_usage(key, samples=0) or 0 for key in (queue.keys.queue, queue.keys.noti))
    client.unlink(queue.keys.queue, queue.keys.noti)
    assert bytes_used / count <= 40


def test_sockets_do_not_wait_in_python(client: redis.Redis, name: str) -> None:
    """A time-out of Python's own costs a system call for each send and each receive; the kernel watches instead."""
    channel = Channel(client, name)
    channel.open()
    assert isinstance(channel._sock, socket.socket)
    assert channel._sock.gettimeout() is None
    channel.close()


def fill_with(kind: Kind, queue: Queue, count: int = MANY) -> None:
    queue.enqueue_many(kind.tasks(count, "tasks:two" if kind.returns else "tasks:noop"))


@pytest.mark.parametrize("kind", MOST)
def test_traffic_of_kinds(kind: str, queue: Queue, client: redis.Redis, name: str) -> None:
    """Commands and bytes; what a connection costs is not counted."""
    fill_with(KINDS[kind], queue, 1)
    burst(queue)
    found: list[tuple[int, int]] = []
    for step in (lambda: burst(queue), lambda: fill_with(KINDS[kind], queue), lambda: burst(queue)):
        before, _ = traffic(client)
        with monitored(client, name) as sent:
            step()
        found.append((len(sent), traffic(client)[0] - before))
    idle, enqueued, drained = found
    costs = [*(each / MANY for each in enqueued), *((each - less) / MANY for each, less in zip(drained, idle, strict=True))]
    assert all(cost <= most for cost, most in zip(costs, MOST[kind][:4], strict=True)), (costs, MOST[kind])


def calls(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, this thread calls meanwhile."""
    counts: Counter[str] = Counter()

    def count(_frame: object, event: str, _argument: object) -> None:
        counts[event] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counts["call"] + counts["c_call"]


def blocks(work: Callable[[], object]) -> int:
    """How many blocks of memory there are more afterwards, while nothing is collected."""
    with warnings.catch_warnings(action="ignore"):  # of what other tests have left behind
        gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        work()
        return sys.getallocatedblocks() - before
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", MOST)
@pytest.mark.parametrize("counted", [calls, blocks])
def test_work_of_kinds(kind: str, counted: Callable[[Callable[[], object]], int], queue: Queue) -> None:
    """What the thread of a worker does for a task. A worker's own start costs the same with few tasks and with many."""
    found = []
    for count in (MANY, 2 * MANY):
        fill_with(KINDS[kind], queue, count)
        found.append(counted(lambda: burst(queue)))
    cost, most = (found[1] - found[0]) / MANY, getattr(MOST[kind], counted.__name__)
    assert cost <= most
