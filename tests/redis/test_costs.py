"""What a task costs, in things that can be counted: a guard against losing speed. Times are measured by `scripts/bench`."""

import gc
import socket
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import redis

from bench.kinds import KINDS, Kind
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.scripts import SCRIPTS
from delayed.task.decode import headers_of
from delayed.task.headers import holds_in
from delayed.task.task import PyTask
from delayed.worker.serial import SerialLoop
from delayed.workflow import group, runs
from tests.conftest import burst

TASKS = 2000


MANY = 1024  # tasks of a kind: eight hands


class Most(NamedTuple):
    """What a task may cost at most, if many are enqueued at once and drained."""

    enqueue_commands: float
    enqueue_bytes: float  # to Redis
    commands: float  # of the worker
    bytes: float  # to Redis
    calls: float  # of functions of Python and C, in all threads
    blocks: float  # of memory that are there until the garbage collector runs, or for good


MOST = {  # of each kind in bench/kinds.py; whoever makes one cheaper lowers its numbers
    "plain": Most(0.01, 25, 1.08, 215, 35, 0.1),
    "uid": Most(0.01, 50, 1.08, 215, 230, 0.1),
    "retry+backoff": Most(0.01, 70, 1.08, 215, 230, 0.1),
    "timeout": Most(0.01, 39, 1.08, 215, 255, 0.1),
    "tracked": Most(0.01, 112, 1.1, 473, 300, 0.1),
    "result": Most(0.01, 125, 1.1, 473, 300, 0.1),
    "unique": Most(1.01, 460, 2.1, 830, 150, 13),
    "group": Most(0.13, 67, 1.13, 275, 60, 0.1),
    "key": Most(0.01, 46, 2.1, 800, 110, 13),
    "limit": Most(0.01, 25, 1.13, 255, 48, 0.1),
    "priority": Most(0.01, 25, 1.1, 230, 38, 0.1),
    # Where several run at once, how many share a command, and who is woken, depends on the moment:
    "async": Most(0.01, 30, 1.3, 240, 130, 0.3),
    "async+result": Most(0.01, 130, 1.4, 550, 250, 0.3),
    "threads": Most(0.01, 25, 1.3, 260, 95, 0.3),
    "threads+result": Most(0.01, 125, 1.3, 650, 200, 0.3),
}

QUICK = {"plain", "retry+backoff", "result", "async", "threads+result"}  # of these a quick run measures the work, too


@pytest.fixture(autouse=True)
def _a_quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are as large as where nothing else runs: what is counted shall not depend on how quick the machine is."""
    monkeypatch.setattr("delayed.worker.prefetch.BUDGET", 60.0)
    monkeypatch.setattr("delayed.worker.heartbeat.BUDGET", 60.0)


@contextmanager
def monitored(client: redis.Redis, name: str, *, whole: bool = False) -> Iterator[list[str]]:
    """The commands that clients send meanwhile, by name or `whole`. (Redis's own counters also count what scripts call.)"""
    sent: list[str] = []
    with client.monitor() as monitor:
        yield sent
        marker = f"{name} ends"
        client.echo(marker)
        for entry in monitor.listen():
            if marker in entry["command"]:
                return
            if entry["client_type"] != "lua":
                sent.append(entry["command"] if whole else entry["command"].split()[0].upper())


def fill(queue: Queue) -> None:
    for i in range(TASKS):
        queue.enqueue(PyTask("tasks:noop", (i,)))


def traffic(client: redis.Redis) -> tuple[int, int]:
    """Bytes that Redis has read and written so far."""
    stats: dict[str, Any] = client.info("stats")
    return stats["total_net_input_bytes"], stats["total_net_output_bytes"]


def check_costs(measure: Callable[[], Iterable[float]], most: Iterable[float]) -> None:
    """What is measured is no more than that in one of three times: what other threads of this process do meanwhile, which
    other tests have left behind, is in one of them; what the work costs is in each."""
    found: list[list[float]] = []
    for _ in range(3):
        found.append([*measure()])
        if all(cost <= bound for cost, bound in zip(found[-1], most, strict=True)):
            return
    pytest.fail(f"it costs {found}, and may cost {most}")


def test_commands(queue: Queue, client: redis.Redis, name: str) -> None:
    def measure() -> list[float]:
        with monitored(client, name) as sent:
            fill(queue)
            worker = burst(queue)
        assert worker.finished == TASKS
        return [len(sent) / TASKS]

    check_costs(measure, [2.2])


def test_bytes(queue: Queue, client: redis.Redis) -> None:
    def measure() -> list[float]:
        moments = [traffic(client)]
        for step in (burst, fill, burst):  # the first: what a connection costs; scripts, above all
            step(queue)
            moments.append(traffic(client))
        connecting, enqueued, drained = (
            [after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(moments)
        )
        drained = [cost - less for cost, less in zip(drained, connecting, strict=True)]
        return [cost / TASKS for cost in (*enqueued, *drained)]

    check_costs(measure, [160, 8, 210, 50])  # the name of each lease three times: taken, ended, confirmed


def test_sends(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """One system call ends a task, and one now and then takes many. None may end two: see docs/internals.md."""
    sends = 0
    send: Callable[[Channel, bytes], None] = Channel._send

    def measure() -> list[float]:
        nonlocal sends
        sends = 0
        queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(TASKS))
        burst(queue)
        assert sends >= TASKS
        return [sends / TASKS]

    def counting(channel: Channel, packed: bytes) -> None:
        nonlocal sends
        sends += 1
        send(channel, packed)

    monkeypatch.setattr(Channel, "_send", counting)
    check_costs(measure, [1.1])


def test_receives(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are read once for a batch, not once for a task."""
    receives = 0
    read: Callable[[Channel], Any] = Channel.read

    def measure() -> list[float]:
        nonlocal receives
        receives = 0
        queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(TASKS))
        burst(queue)
        return [receives / TASKS]

    def counting(channel: Channel) -> Any:
        nonlocal receives
        receives += 1
        return read(channel)

    monkeypatch.setattr(Channel, "read", counting)
    check_costs(measure, [0.2])


def test_allocations(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps nothing of the tasks that it has done."""
    grown: list[int] = []
    work: Callable[[SerialLoop], None] = SerialLoop._work

    def measuring(loop: SerialLoop) -> None:
        work(loop)
        gc.collect()
        grown.append(sys.getallocatedblocks())

    def measure() -> list[float]:
        grown.clear()
        queue.enqueue_many(PyTask("tasks:noop", (i,)) for i in range(10 * TASKS))
        gc.collect()
        gc.freeze()  # what there is already need not be looked through after each batch
        try:
            worker = burst(queue)
        finally:
            gc.unfreeze()
        assert worker.finished == 10 * TASKS
        half = len(grown) // 2  # by then leases, scripts and functions are all known
        return [(grown[-1] - grown[half]) / (5 * TASKS)]

    monkeypatch.setattr(SerialLoop, "_work", measuring)
    check_costs(measure, [0.1])


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


FUNCTIONS = {
    "mark": "tasks:noop",
    "echo": "tasks:two",
    "coroutine_mark": "coroutines:noop",
    "coroutine_echo": "coroutines:same",
}


def queues_of(kind: Kind, queue: Queue) -> list[Queue]:
    """As many as the kind has."""
    return [queue, *(Queue(f"{queue.name}{i}", queue.conn) for i in range(1, len(kind.queues)))]


def fill_with(kind: Kind, queue: Queue, count: int = MANY) -> None:
    queues = queues_of(kind, queue)
    for place, each in enumerate(queues):
        each.enqueue_many(kind.tasks(range(place, count, len(queues)), FUNCTIONS[kind.function]))


def drain(kind: Kind, queue: Queue) -> None:
    if kind.limit:
        queue.limit(concurrency=kind.limit)
    burst(queues_of(kind, queue), **kind.worker)  # type: ignore[arg-type]


def test_each_kind_has_its_costs() -> None:
    """A supervised worker is none that runs in this process."""
    assert set(MOST) == {name for name, kind in KINDS.items() if not kind.supervised}


@pytest.mark.parametrize("kind", MOST)
def test_traffic_of_kinds(kind: str, queue: Queue, client: redis.Redis, name: str) -> None:
    """Commands and bytes; what a connection costs is not counted."""
    fill_with(KINDS[kind], queue, 1)
    drain(KINDS[kind], queue)
    draining, filling = partial(drain, KINDS[kind], queue), partial(fill_with, KINDS[kind], queue)
    check_costs(partial(traffic_of, client, name, draining, filling), MOST[kind][:4])


def traffic_of(client: redis.Redis, name: str, draining: Callable[[], object], filling: Callable[[], object]) -> list[float]:
    """For each of `MANY` tasks the commands and bytes that `filling` costs, and then `draining`; less what that costs without
    any."""
    found: list[tuple[int, int]] = []
    for step in (draining, filling, draining):
        before, _ = traffic(client)
        with monitored(client, name) as sent:
            step()
        found.append((len(sent), traffic(client)[0] - before))
    idle, enqueued, drained = found
    return [*(each / MANY for each in enqueued), *((each - less) / MANY for each, less in zip(drained, idle, strict=True))]


NODE = Most(0.02, 95, 1.11, 573, 0, 0)  # of a group; what functions and memory it costs is not counted


def test_traffic_of_a_node(queue: Queue, client: redis.Redis, name: str) -> None:
    """Of a large group, with the join; what a connection costs is not counted."""
    members = [PyTask("tasks:noop", (i,)) for i in range(MANY)]
    group(members[:1]).submit(queue)
    burst(queue)
    check_costs(partial(traffic_of, client, name, partial(burst, queue), lambda: group(members).submit(queue)), NODE[:4])
    lefts = [run.status().left for run in runs(queue)]
    assert len(lefts) > 1
    assert not any(lefts)


@pytest.mark.parametrize("kind", ["plain", "tracked", "result"])
def test_tasks_outside_of_workflows_know_nothing_of_them(kind: str, queue: Queue, client: redis.Redis, name: str) -> None:
    """No header, no key, no command; what they cost altogether is in `MOST`."""
    burst(queue)  # loads the scripts
    with monitored(client, name, whole=True) as sent:
        fill_with(KINDS[kind], queue)
        waiting: list[bytes] = queue.store.call("LRANGE", queue.name, 0, -1)
        drain(KINDS[kind], queue)
    scripts = {script.sha for script in SCRIPTS.values() if script.name.startswith("flow_")}
    assert scripts
    assert not [command for command in sent if scripts & set(command.split()) and not command.startswith("SCRIPT EXISTS")]
    assert not [command for command in sent if f"{queue.name}_flow" in command]
    assert not client.keys(f"{queue.name}_flow*")
    assert not [data for data in waiting if holds_in(headers_of(data)).member]


def calls(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, this thread and those that it starts call meanwhile."""
    counts: Counter[str] = Counter()

    def count(_frame: object, event: str, _argument: object) -> None:
        counts[event] += 1

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
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


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in MOST])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what other tests have left behind
@pytest.mark.parametrize("counted", [calls, blocks])
def test_work_of_kinds(kind: str, counted: Callable[[Callable[[], object]], int], queue: Queue) -> None:
    """What the threads of a worker do for a task. A worker's own start costs the same with few tasks and with many."""

    def measure() -> list[float]:
        found = []
        for count in (MANY, 2 * MANY):
            fill_with(KINDS[kind], queue, count)
            found.append(counted(lambda: drain(KINDS[kind], queue)))
        return [(found[1] - found[0]) / MANY]

    check_costs(measure, [getattr(MOST[kind], counted.__name__)])
