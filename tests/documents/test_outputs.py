"""Workers whose standard output is closed or full, or whose starter ignores that children end."""

import signal
import sys

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.process.test_processes import EXIT_FORCED, popped
from tests.support.processes import Fleet, Process

STARTERS = {
    "closed": "import os; os.close(1)",
    "full": "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); os.environ.pop('PYTHONUNBUFFERED', None)",
    "no-child": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
}


def begun(fleet: Fleet, starter: str, *arguments: str) -> Process:
    """`delayed worker`, from a program that has done what `starter` says."""
    run = "import os, sys; os.execv(sys.executable, [sys.executable, '-m', 'delayed', 'worker', '--allow-any', *sys.argv[1:]])"
    return fleet.start(sys.executable, "-c", f"{STARTERS[starter]}\n{run}", *arguments)


@pytest.mark.parametrize("starter", STARTERS)
def test_processes_under_a_supervisor_end(fleet: Fleet, queue: Queue, starter: str) -> None:
    queue.enqueue(PyTask("tasks:say", ("hello",)))
    queue.enqueue(PyTask("tasks:exit_at_once", (5,)))
    process = begun(fleet, starter, "-c", "1", "--burst", queue.name)
    assert process.wait() == 0
    letters = list(dead_letters(queue))
    assert len(letters) == 1, process.log.read_text()
    (letter,) = letters
    assert letter.detail == "its worker died or lost its lease 3 times; this time: exit status 5 in the middle of a task"


@pytest.mark.parametrize("starter", ["closed", pytest.param("full", marks=pytest.mark.slow)])
def test_the_second_signal_means_now(fleet: Fleet, queue: Queue, client: redis.Redis, starter: str) -> None:
    worker = begun(fleet, starter, queue.name)
    key = f"{queue.name}:h"
    queue.enqueue(PyTask("tasks:hold", (key, "x")))
    popped(client, f"{key}:began")
    worker.send(signal.SIGTERM)
    worker.expect("STOPPING=1")
    worker.send(signal.SIGTERM)
    assert worker.wait() == EXIT_FORCED
    assert inspect(queue).held == 0
    assert queue.len() == 1


@pytest.mark.parametrize("starter", [pytest.param("closed", marks=pytest.mark.slow), "full"])
def test_a_forked_child_does_not_come_back(fleet: Fleet, queue: Queue, client: redis.Redis, starter: str) -> None:
    key = f"{queue.name}:f"
    queue.enqueue(PyTask("tasks:fork_and_return", (key,)))
    assert begun(fleet, starter, "--burst", queue.name).wait() == 0
    assert popped(client, key) == b"0"
    eventually(lambda: client.llen(key) == 0)


def test_a_process_that_cannot_begin_is_tried_again(fleet: Fleet, queue: Queue) -> None:
    """The system has no room for another one, at first."""
    code = (
        "import os, sys, delayed.supervisor.supervisor\n"
        "from delayed.logger import setup_logger; setup_logger(log_level='INFO')\n"
        "from delayed.job.allow import AllowAny\n"
        "from delayed.queue.queue import Queue\n"
        "from delayed.worker.options import WorkerOptions\n"
        "fork, failures = os.fork, [BlockingIOError(11, 'Resource temporarily unavailable')]\n"
        "def failing():\n"
        "    if failures:\n"
        "        raise failures.pop()\n"
        "    return fork()\n"
        "os.fork = failing\n"
        "delayed.supervisor.supervisor._LONGEST_PAUSE = 0.1\n"
        f"queue = Queue({queue.name!r}, os.environ['DELAYED_REDIS_URL'], 0.2)\n"
        "options = WorkerOptions(queues=[queue], allow=AllowAny(), burst=True, grace=1)\n"
        "sys.exit(delayed.supervisor.supervisor.Supervisor(options, 1, limit=3).run())\n"
    )
    queue.enqueue(PyTask("tasks:noop"))
    parent = fleet.start(sys.executable, "-c", code)
    assert parent.wait() == 0
    assert "Cannot start a worker process" in parent.log.read_text()
    assert queue.len() == 0
