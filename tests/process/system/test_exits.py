"""Processes end, whoever does not read their output, and whatever tasks have left behind."""

import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import redis

from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import eventually
from tests.process.test_processes import EXIT_FORCED, popped
from tests.support.processes import SOON_DEAD, Fleet, Process

UNREAD = """
import os, sys
reader, writer = os.pipe()
os.set_inheritable(reader, True)
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 1); os.dup2(writer, 2)
os.environ.pop("PYTHONUNBUFFERED", None)
os.execv(sys.executable, [sys.executable, "-m", "delayed", "worker", "--allow", "odd:*", "--allow", "tasks:*", *sys.argv[1:]])
"""


def unread(fleet: Fleet, *arguments: str) -> Process:
    """A worker whose output nobody reads: a pipe that is full."""
    return fleet.start(sys.executable, "-c", UNREAD, *arguments).ready()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [(), ("--threads=2",), ("-c", "1")], ids=str)
def test_a_hard_timeout_ends_a_process_that_waits_for_its_reader(
    fleet: Fleet, queue: Queue, client: redis.Redis, mode: tuple[str, ...]
) -> None:
    handle = queue.enqueue(PyTask("odd:print_without_end", (f"{queue.name}:n",), hard_timeout=1, result_ttl=60))
    worker = unread(fleet, *mode, queue.name)
    popped(client, f"{queue.name}:n")
    if "-c" in mode:
        with pytest.raises(Exception, match="hard timeout"):
            handle.result(20)
        worker.send(signal.SIGTERM)
        assert worker.wait() in (0, EXIT_FORCED)
    else:
        assert worker.wait() == EXIT_FORCED
        with pytest.raises(Exception, match="hard timeout"):
            handle.result(20)
    assert inspect(queue).held == 0


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)], ids=str)
def test_so_do_the_end_of_the_grace_and_a_second_signal(
    fleet: Fleet, queue: Queue, client: redis.Redis, numbers: tuple[signal.Signals, ...]
) -> None:
    queue.enqueue(PyTask("odd:print_without_end", (f"{queue.name}:n",)))
    worker = unread(fleet, "--grace=1", queue.name)
    popped(client, f"{queue.name}:n")
    worker.send(*numbers)
    assert worker.wait() == EXIT_FORCED
    assert (inspect(queue).held, queue.len()) == (0, 1)


def has_beaten(queue: Queue, seen: float) -> bool:
    return [(about["running_for"] or 0) > seen for about in inspect(queue).processes] == [True]


@pytest.mark.slow
def test_it_beats_meanwhile(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """SIGUSR1 has much to say, to nobody."""
    queue.enqueue(PyTask("odd:print_without_end", (f"{queue.name}:n",)))
    worker = unread(fleet, *SOON_DEAD, queue.name)
    popped(client, f"{queue.name}:n")
    for _ in range(3):
        worker.send(signal.SIGUSR1)
        (about,) = inspect(queue).processes
        eventually(partial(has_beaten, queue, about["running_for"] or 0))
    (lease,) = client.hkeys(queue.keys.processing)
    assert client.exists(lease)
    worker.send(signal.SIGQUIT)
    assert worker.wait() == EXIT_FORCED


@pytest.mark.parametrize("mode", [(), ("--threads=2",), ("-c", "1")], ids=str)
def test_a_thread_that_a_task_has_left_does_not_keep_a_worker(
    fleet: Fleet, queue: Queue, client: redis.Redis, mode: tuple[str, ...]
) -> None:
    queue.enqueue(PyTask("odd:leave_a_thread", (f"{queue.name}:n",)))
    worker = fleet.delayed("worker", "--allow", "odd:*", "--grace=1", *mode, queue.name).ready()
    popped(client, f"{queue.name}:n")
    eventually(lambda: inspect(queue).held == 0)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert mode or "left-behind" in worker.log.read_text()


def test_nor_does_it_keep_one_that_ends_by_itself(fleet: Fleet, queue: Queue) -> None:
    queue.enqueue(PyTask("odd:leave_a_thread", (f"{queue.name}:n",)))
    assert fleet.delayed("worker", "--allow", "odd:*", "--grace=1", "--burst", queue.name).wait() == 0
    queue.store.call("DEL", f"{queue.name}:n")


EXITS = """
import atexit, time
from pathlib import Path
atexit.register(lambda: Path("{path}").write_text("ran"))
{more}

def f():
    pass
"""


@pytest.mark.parametrize("more", ["", "atexit.register(lambda: time.sleep(1000))"], ids=["quick", "endless"])
def test_exit_handlers_of_the_application_run_for_as_long_as_there_is_time(
    fleet: Fleet, queue: Queue, tmp_path: Path, more: str
) -> None:
    path = tmp_path / "ran"
    (tmp_path / "application.py").write_text(EXITS.format(path=path, more=""))
    (tmp_path / "endless.py").write_text(EXITS.format(path=path, more=more))
    queue.enqueue(PyTask("endless:f" if more else "application:f"))
    arguments = ("worker", "--allow", "*:f", "--grace=1", "--burst", queue.name)
    assert fleet.delayed(*arguments, PYTHONPATH=str(tmp_path)).wait() == 0
    assert path.exists() == (not more)


def test_an_application_that_configures_its_log_does_not_silence_the_workers(
    fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    queue.enqueue(PyTask("odd:configure_logging", (f"{queue.name}:n",)))
    queue.enqueue(PyTask("tasks:fail", ("no such customer",)))
    worker = fleet.delayed("worker", "--allow", "odd:*", "--allow", "tasks:*", "-c", "1", "--burst", queue.name)
    assert worker.wait() == 0
    text = worker.log.read_text()
    assert "no such customer" in text
    assert "stopped: 1 succeeded" in text
    client.delete(f"{queue.name}:n")


@pytest.mark.slow
def test_what_it_has_printed_does_not_keep_a_worker(fleet: Fleet, queue: Queue) -> None:
    """It stays in the buffer, as nobody reads it."""
    queue.enqueue(PyTask("tasks:say", ("hello",)))
    assert fleet.start(sys.executable, "-c", UNREAD, "--burst", "--grace=1", queue.name).wait() == 0
    assert queue.len() == 0
