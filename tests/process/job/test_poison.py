"""Tasks that harm the process which runs them: each ends in the dead letters with its cause, and the others run."""

import re

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.support.processes import Fleet

NEIGHBOURS = 40

# function, arguments, the reason, and what the detail says
POISONS = {
    "exhausts_memory": ("exhaust_memory", (), "lost|failed", "MemoryError|killed by|exit status"),
    "segfaults": ("segfault", (), "lost", "3 times; this time: killed by SIGSEGV"),
    "exits": ("exit_at_once", (0,), "lost", "3 times; this time: exit status 0 in the middle of a task"),
    "aborts": ("abort", (), "lost", "killed by SIGABRT"),
    "forks_and_leaves": ("fork_and_leave", (), "lost", "exit status 9 in the middle of a task"),
    "floods_stdout": ("flood_stdout", (), "failed", "ValueError: after the flood"),
    "recurses": ("recurse", (), "failed", "RecursionError"),
    "raises_a_base_exception": ("raise_base_exception", (), "failed", "Strange"),
    "raises_system_exit": ("leave", (3,), "failed", "SystemExit: 3"),
    "is_interrupted": ("raise_strange", ("keyboard",), "failed", "KeyboardInterrupt"),
}


QUICK = {"segfaults", "is_interrupted"}


@pytest.mark.parametrize(
    "poison",
    [pytest.param(poison, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, poison in POISONS.items()],
)
def test_poison_is_buried_with_its_cause_and_the_others_run(
    fleet: Fleet, queue: Queue, client: redis.Redis, poison: tuple[str, tuple[object, ...], str, str]
) -> None:
    function, arguments, reason, detail = poison
    key = f"{queue.name}:r"
    fleet.delayed("worker", "--allow-any", "-c", "2", queue.name).ready()
    half = NEIGHBOURS // 2
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(half))
    queue.enqueue(PyTask(f"tasks:{function}", arguments))
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(half, NEIGHBOURS))
    eventually(lambda: inspect(queue).dead == 1 and client.llen(key) >= NEIGHBOURS, 30)
    (letter,) = dead_letters(queue)
    assert letter.task == f"tasks:{function}"
    assert re.fullmatch(reason, letter.reason)
    assert re.search(detail, letter.detail)
    assert sorted(set(map(int, client.lrange(key, 0, -1)))) == list(range(NEIGHBOURS))
    queue.enqueue(PyTask("tasks:note", (f"{key}:again", 1)))
    assert client.blpop([f"{key}:again"], 30)


@pytest.mark.slow
def test_a_task_that_kills_the_supervisor_is_buried_by_the_sweeper(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """As under systemd, somebody starts the supervisor again each time."""
    fleet.sweeper(queue.name)
    queue.enqueue(PyTask("tasks:kill_parent"))
    quick = ("--keep-alive-timeout=0.5", "--keep-alive-interval=0.1")
    for _ in range(3):
        parent = fleet.delayed("worker", "--allow-any", "-c", "2", *quick, queue.name)
        assert parent.wait() == -9
        eventually(lambda: inspect(queue).held == 0)
    (letter,) = dead_letters(queue)
    assert (letter.reason, letter.task) == ("lost", "tasks:kill_parent")
    fleet.delayed("worker", "--allow-any", "-c", "2", *quick, queue.name).ready()
    queue.enqueue(PyTask("tasks:note", (f"{queue.name}:r", 1)))
    assert client.blpop([f"{queue.name}:r"], 30)
