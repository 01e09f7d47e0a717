"""Workers are killed in the midst of tasks, and the history of the queue is compared with what the tasks noted themselves."""

import contextlib
import os
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import redis

from delayed.ops.processes import entries
from delayed.queue.history import HistoryEvent, keep, unpacked
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet

TASKS = 1200
KILLS = 4
UNWRITTEN = 64 + 128  # events of a killed worker: of an entry, and of a hand


def told(queue: Queue) -> list[HistoryEvent]:
    written: list[Any] = queue.store.call("XRANGE", queue.keys.history, "-", "+")
    return [each for entry, (_, batch) in written for each in unpacked(entry.decode(), batch)]


def ran(log: Path) -> Counter[int]:
    data = log.read_bytes() if log.exists() else b""
    return Counter(int.from_bytes(data[at : at + 8]) for at in range(0, len(data), 8))


def ran_at_least(log: Path, count: int) -> None:
    eventually(lambda: len(ran(log)) >= count, 60)


def drained(queue: Queue, log: Path) -> None:
    eventually(lambda: len(ran(log)) == TASKS and queue.len() == 0, 90)
    eventually(lambda: queue.store.call("HLEN", queue.keys.processing) == 0, 90)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--threads", "4")])
def test_each_task_has_an_ending_or_its_worker_was_killed(
    queue: Queue, fleet: Fleet, tmp_path: Path, options: tuple[str, ...]
) -> None:
    log = tmp_path / "log"
    keep(queue, "all")
    ids = [queue.enqueue(PyTask("tasks:log_slowly", (str(log), n), track=True)).id for n in range(TASKS)]
    fleet.sweeper(queue.name)
    for number in range(1, KILLS + 1):
        victim = fleet.quick_worker(queue.name, *options)
        ran_at_least(log, number * TASKS // 6)
        victim.kill()
    last = fleet.quick_worker(queue.name, *options)
    drained(queue, log)
    last.send(signal.SIGTERM)
    assert last.wait() == 0
    executions, events = ran(log), defaultdict[str, Counter[str]](Counter)
    for each in told(queue):
        events[each.id][each.outcome] += 1
    assert set(events) <= set(ids)
    silent = 0
    for number, identity in enumerate(ids):
        found = events[identity or ""]
        assert found["succeeded"] <= executions[number], (identity, found, executions[number])
        assert executions[number] <= 1 + found["lost"] + found["buried"], (identity, found, executions[number])
        silent += not found["succeeded"] and not found["buried"]
    assert silent <= KILLS * UNWRITTEN
    assert sum(1 for each in events.values() if each["succeeded"]) >= TASKS - KILLS * UNWRITTEN


@pytest.mark.slow
def test_a_supervisor_counts_the_ends_that_it_says(queue: Queue, client: redis.Redis, fleet: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "log"
    keep(queue, "all")
    queue.enqueue_many(PyTask("tasks:log_slowly", (str(log), n)) for n in range(TASKS))
    supervisor = fleet.worker("-c", "1", queue.name)
    for number in range(1, KILLS + 1):
        ran_at_least(log, number * TASKS // 6)
        pids = [int(about["place"].rpartition(":")[2]) for about in entries(queue).values() if about.get("kind") == "worker"]
        for pid in pids[:1]:
            with contextlib.suppress(ProcessLookupError):  # it may be the one before
                os.kill(pid, signal.SIGKILL)
    drained(queue, log)
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait() == 0
    events, executions = told(queue), ran(log)
    outcomes = Counter(each.outcome for each in events)
    unwritten = sum(each.attempt or 0 for each in events if each.outcome == "unwritten")
    assert outcomes["died"] >= 1
    assert outcomes["succeeded"] + unwritten <= sum(executions.values()) + outcomes["lost"]
    assert outcomes["succeeded"] + unwritten >= TASKS - outcomes["died"] * UNWRITTEN
