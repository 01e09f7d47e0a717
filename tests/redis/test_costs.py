"""What a task costs, in things that can be counted: a guard against losing speed. Times are measured by `scripts/bench`."""

import gc
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.task.task import PyTask
from delayed.worker.serial import SerialLoop
from tests.conftest import burst

TASKS = 2000


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
