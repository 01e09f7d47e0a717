"""`delayed worker -c N`: a parent with worker processes, real signals, kill -9."""

import os
import re
import resource
import signal
import sys
from contextlib import closing
from pathlib import Path

import msgpack
import psutil
import pytest
import redis

from delayed.base.ids import token
from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.supervisor.recoverer import Recoverer
from delayed.task.task import PyTask
from delayed.worker.scoreboard import Scoreboard
from tests.conftest import eventually
from tests.process.test_processes import EXIT_FORCED, KILLS, begin_and_leave_waiting, kill_under_full_load, popped
from tests.support.keys import left
from tests.support.processes import LIVES, SOON_DEAD, Fleet, Process


def supervisor(fleet: Fleet, *arguments: str) -> Process:
    return fleet.delayed("worker", "--allow-any", *arguments).ready()


def children(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def at_rest(queue: Queue) -> bool:
    return inspect(queue)[1:4] == (0, 0, 0)


def test_a_killed_child_s_task_is_back_at_once_and_its_cause_known(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """No sweeper runs, and the lease would live for a day."""
    parent = supervisor(fleet, "-c", "2", "--keep-alive-timeout=86400", queue.name)
    key = f"{queue.name}:h"
    queue.enqueue(PyTask("tasks:hold_and_say", (key,)))
    for _ in range(2):
        os.kill(int(popped(client, f"{key}:began")), signal.SIGKILL)
    pid = int(popped(client, f"{key}:began"))
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: inspect(queue).dead == 1)
    (letter,) = dead_letters(queue)
    assert letter.reason == "lost"
    assert letter.detail == "its worker died or lost its lease 3 times; this time: killed by SIGSEGV"
    assert letter.worker.endswith(f":{pid}")
    eventually(lambda: len(children(parent)) == 2)
    queue.enqueue(PyTask("tasks:note", (key, "lives")))
    assert popped(client, key) == b"lives"


def test_no_child_outlives_its_parent(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "3", queue.name)
    pids = [child.pid for child in children(parent)]
    assert len(pids) == 3
    begin_and_leave_waiting(queue, client)
    parent.kill()
    eventually(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids))


@pytest.mark.slow
def test_the_parent_beats_while_a_c_extension_lets_no_thread_run(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    supervisor(fleet, "-c", "1", *SOON_DEAD, queue.name)
    fleet.sweeper(queue.name)
    key = f"{queue.name}:s"
    queue.enqueue(PyTask("tasks:hold_the_interpreter", (key, 2 * LIVES)))
    first = popped(client, f"{key}:began")
    assert popped(client, f"{key}:ended") == first
    eventually(lambda: at_rest(queue))
    assert client.llen(f"{key}:began") == 0
    assert inspect(queue).recovered == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_lets_every_child_finish(fleet: Fleet, queue: Queue, client: redis.Redis, number: signal.Signals) -> None:
    parent = supervisor(fleet, "-c", "2", queue.name)
    key = begin_and_leave_waiting(queue, client)
    queue.enqueue(PyTask("tasks:hold", (key, "y")))
    popped(client, f"{key}:began")
    parent.send(number)
    parent.expect("STOPPING=1")
    client.rpush(f"{key}:go", 1, 1)
    assert parent.wait() == 0
    assert sorted([popped(client, f"{key}:ended"), popped(client, f"{key}:ended")]) == [b"x", b"y"]
    assert left(client, f"{queue.name}_") <= {queue.keys.noti}


@pytest.mark.slow
def test_the_second_signal_means_now(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "2", queue.name)
    key = begin_and_leave_waiting(queue, client)
    eventually(lambda: queue.len() == 0)
    parent.send(signal.SIGTERM)
    parent.expect("STOPPING=1")
    eventually(lambda: "finishing running tasks" in parent.log.read_text())
    parent.send(signal.SIGTERM)
    assert parent.wait() == EXIT_FORCED
    assert client.lindex(queue.name, 0) == PyTask("tasks:hold", (key, "x")).serialize()
    assert client.exists(queue.keys.processing, queue.keys.workers) == 0


@pytest.mark.slow
def test_a_child_that_blocks_all_signals_is_killed_after_the_grace(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "1", "--grace=0.1", queue.name)
    key = f"{queue.name}:b"
    queue.enqueue(PyTask("tasks:block_signals", (key,)))
    popped(client, key)
    parent.send(signal.SIGTERM)
    assert parent.wait() == EXIT_FORCED
    assert queue.len() == 1  # put back, with a lost count
    assert inspect(queue).held == 0


def test_children_are_replaced_after_so_many_tasks(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    supervisor(fleet, "-c", "1", "--max-tasks=10", queue.name)
    key = f"{queue.name}:p"
    queue.enqueue_many(PyTask("tasks:note_process", (key,)) for _ in range(95))
    eventually(lambda: client.llen(key) == 95)
    pids = client.lrange(key, 0, -1)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [10] * 9 + [5]


def test_children_are_replaced_when_they_have_grown(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "1", "--max-rss=150", queue.name)
    before = children(parent)
    queue.enqueue(PyTask("tasks:grow", (200_000_000,)))
    eventually(lambda: len(children(parent)) == 1 and children(parent) != before)
    eventually(lambda: at_rest(queue))
    assert inspect(queue).recovered == inspect(queue).dead == 0


@pytest.mark.slow
def test_a_child_that_hangs_between_tasks_is_replaced(fleet: Fleet, queue: Queue, tmp_path: Path) -> None:
    """The main thread neither runs a task nor asks for one, and the heartbeat goes on."""
    code = (
        "import os, sys, threading, delayed.supervisor.supervisor\n"
        "from delayed.logger import setup_logger; setup_logger(log_level='INFO')\n"
        "from delayed.job.allow import AllowAny\n"
        "from delayed.queue.queue import Queue\n"
        "from delayed.worker.fetcher import Fetcher\n"
        "from delayed.worker.options import WorkerOptions\n"
        "take = Fetcher.take\n"
        "def hanging(fetcher, most):\n"
        f"    if not os.path.exists({str(tmp_path / 'hung')!r}):\n"
        f"        open({str(tmp_path / 'hung')!r}, 'w').close()\n"
        "        threading.Event().wait()\n"
        "    return take(fetcher, most)\n"
        "Fetcher.take = hanging\n"
        "delayed.supervisor.supervisor._STUCK = 0.3\n"
        f"queue = Queue({queue.name!r}, os.environ['DELAYED_REDIS_URL'], 0.2)\n"
        "options = WorkerOptions(queues=[queue], allow=AllowAny(), grace=1)\n"
        "sys.exit(delayed.supervisor.supervisor.Supervisor(options, 1, limit=3).run())\n"
    )
    parent = fleet.start(sys.executable, "-c", code).ready()
    queue.enqueue(PyTask("tasks:noop"))
    eventually(lambda: at_rest(queue))
    assert "stuck" in parent.log.read_text()


def of_its_own(fleet: Fleet, queue: Queue, before: str = "", make: str = "") -> Process:
    """A supervisor of one worker, in a program that does something more: `before` at its start, `make` in each new process."""
    code = (
        "import os, signal, sys, time, delayed.system.children, delayed.supervisor.supervisor\n"
        "from delayed.logger import setup_logger; setup_logger(log_level='INFO')\n"
        "from delayed.job.allow import AllowAny\n"
        "from delayed.queue.queue import Queue\n"
        "from delayed.worker.options import WorkerOptions\n"
        "from delayed.worker.worker import Worker\n"
        f"queue = Queue({queue.name!r}, os.environ['DELAYED_REDIS_URL'], 0.2)\n"
        "parent = os.getpid()\n"
        "def make(options, scoreboard):\n"
        "    if os.getpid() != parent:\n"
        f"        {make or 'pass'}\n"
        "    return Worker.of(options, scoreboard)\n"
        f"{before}\n"
        "options = WorkerOptions(queues=[queue], allow=AllowAny(), keep_alive_interval=0.2, grace=1)\n"
        "sys.exit(delayed.supervisor.supervisor.Supervisor(options, 1, limit=3, make=make).run())\n"
    )
    return fleet.start(sys.executable, "-c", code)


def test_a_signal_that_comes_before_a_child_listens_is_heard_and_no_death(fleet: Fleet, queue: Queue) -> None:
    """The child has no handlers of its own when it is told; it ends as it is asked to."""
    told = "os.kill(parent, signal.SIGTERM)\n        while signal.SIGTERM not in signal.sigpending(): time.sleep(0.01)"
    parent = of_its_own(fleet, queue, make=told)
    assert parent.wait() == 0, parent.log.read_text()
    assert "killed" not in parent.log.read_text()


def test_a_child_that_has_become_another_program_is_replaced(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """Nothing else tells: the process lives, its task runs, and the supervisor would beat for it without end."""
    parent = supervisor(fleet, "-c", "1", "--keep-alive-timeout=2", "--keep-alive-interval=0.2", queue.name)
    key = f"{queue.name}:x"
    queue.enqueue(PyTask("tasks:become_another_program", (key,)))
    queue.enqueue(PyTask("tasks:note", (f"{key}:after", 1)))
    assert popped(client, f"{key}:after") == b"1"
    eventually(lambda: at_rest(queue))
    assert "another program" in parent.log.read_text()
    assert (client.get(key), inspect(queue).recovered) == (b"2", 1)


def test_a_child_whose_tasks_all_fail_is_replaced(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "1", "--keep-alive-interval=0.2", queue.name)
    before = children(parent)
    queue.enqueue(PyTask("tasks:fail_from_now_on"))

    def replaced() -> bool:
        queue.enqueue(PyTask("tasks:fail_if_broken"))
        return len(children(parent)) == 1 and children(parent) != before

    eventually(replaced)
    eventually(lambda: at_rest(queue))
    letters = client.xlen(queue.keys.dead)
    queue.enqueue(PyTask("tasks:fail_if_broken"))
    eventually(lambda: at_rest(queue))
    assert client.xlen(queue.keys.dead) == letters
    assert "latest tasks have failed" in parent.log.read_text()


def test_children_whose_tasks_never_succeeded_are_left_alone(queue: Queue, client: redis.Redis) -> None:
    with closing(Recoverer([queue], interval=0.2, ttl=5, limit=3)) as recoverer:
        scoreboard = Scoreboard(1)
        scoreboard.set_name(name := token())
        scoreboard.beat(1.0)

        def failing(**counts: object) -> bool:
            client.hset(queue.keys.workers, queue.keys.lease(name), msgpack.packb(counts))
            recoverer._next_beat = 0.0
            recoverer.tend([scoreboard])
            return scoreboard in recoverer.failing

        assert not failing(succeeded=0, failed=1000)
        assert not failing(succeeded=1, failed=1010)
        assert not failing(succeeded=1, failed=1029)
        assert failing(succeeded=1, failed=1029, retried=1)
        assert not failing(succeeded=2, failed=1029, retried=1)
        assert not failing(succeeded="many", failed=[])
        client.hset(queue.keys.workers, queue.keys.lease(name), b"\xc1")
        recoverer._next_beat = 0.0
        recoverer.tend([scoreboard])
        assert not recoverer.failing
        client.delete(queue.keys.workers)


def test_orphans_are_reaped_and_the_ends_of_children_are_still_seen(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """The supervisor adopts what its tasks leave behind, as process 1 of a container does."""
    adopt = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"  # PR_SET_CHILD_SUBREAPER
    parent = of_its_own(fleet, queue, before=adopt).ready()
    queue.enqueue_many(PyTask("tasks:leave_an_orphan") for _ in range(5))
    eventually(lambda: at_rest(queue))
    queue.enqueue(PyTask("tasks:exit_at_once", (5,)))
    eventually(lambda: client.xlen(queue.keys.dead) == 1)
    (letter,) = dead_letters(queue)
    assert "exit status 5 in the middle of a task" in letter.detail
    eventually(lambda: [each.status() for each in children(parent)].count("zombie") == 0 and len(children(parent)) == 1)


def test_without_a_descriptor_the_others_work_on(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "2", queue.name)
    key = f"{queue.name}:h"
    queue.enqueue(PyTask("tasks:hold_and_say", (key,)))
    pid = int(popped(client, f"{key}:began"))
    busy, idle = sorted(children(parent), key=lambda child: child.pid != pid)
    soft, hard = resource.prlimit(parent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (3, hard))  # what it has may stay; it gets no other
    idle.kill()
    eventually(lambda: "Worker process" in parent.log.read_text() and "SIGKILL" in parent.log.read_text())
    eventually(lambda: "defect" in parent.log.read_text() or "Cannot start" in parent.log.read_text())
    assert busy.is_running()
    resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (soft, hard))
    busy.send_signal(signal.SIGUSR1)  # its task waits for a signal, and ends
    eventually(lambda: len(children(parent)) == 2, 30)
    eventually(lambda: at_rest(queue))
    assert inspect(queue).recovered == 0


@pytest.mark.slow
def test_a_process_that_sigkill_does_not_end_holds_nothing_up(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """As one that waits in the kernel for a disk: here SIGKILL does not reach it."""
    deaf = (
        "delayed.supervisor.supervisor._MARGIN = delayed.supervisor.supervisor._STUCK = 0.3\n"
        "send = delayed.system.children.Child.send\n"
        "delayed.system.children.Child.send = lambda self, number: None if number == signal.SIGKILL else send(self, number)"
    )
    parent = of_its_own(fleet, queue, before=deaf).ready()
    (stopped,) = children(parent)
    stopped.suspend()
    try:
        queue.enqueue(PyTask("tasks:noop"))
        eventually(lambda: at_rest(queue))
        assert "does not end" in parent.log.read_text()
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0
    finally:
        stopped.kill()


def test_burst_ends_the_children_and_the_parent(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(1000))
    assert supervisor(fleet, "-c", "2", "--burst", queue.name).wait() == 0
    assert at_rest(queue)
    # Leases whose endings the heartbeat has sent, as the loop got no processor, run out by themselves.
    eventually(lambda: not left(client, queue.name))


@pytest.mark.slow
def test_burst_waits_for_what_the_dead_left(fleet: Fleet, queue: Queue) -> None:
    """Its successor finds the queue empty before the task is put back."""
    queue.enqueue(PyTask("tasks:die_with_an_heir"))
    assert supervisor(fleet, "-c", "2", "--burst", queue.name).wait() == 0
    assert queue.len() == 0
    (letter,) = dead_letters(queue)
    assert letter.reason == "lost"


def test_a_child_that_somebody_stops_is_replaced(fleet: Fleet, queue: Queue) -> None:
    parent = supervisor(fleet, "-c", "1", queue.name)
    before = children(parent)
    before[0].terminate()
    eventually(lambda: len(children(parent)) == 1 and children(parent) != before)


def test_modules_can_be_loaded_once_before_the_fork(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    parent = supervisor(fleet, "-c", "2", "--preload", "loads", queue.name)
    queue.enqueue(PyTask("loads:loaded_by", (f"{queue.name}:l",)))
    assert int(popped(client, f"{queue.name}:l")) == parent.pid
    missing = fleet.delayed("worker", "--allow-any", "-c", "2", "--preload", "no_such_module", queue.name)
    assert missing.wait() == 78
    assert "no_such_module" in missing.log.read_text()


def test_usr1_goes_to_all(fleet: Fleet, queue: Queue) -> None:
    parent = supervisor(fleet, "-c", "2", queue.name)
    parent.send(signal.SIGUSR1)
    eventually(lambda: len(re.findall(r"SIGUSR1: \{", parent.log.read_text())) == 2)


@pytest.mark.slow
@pytest.mark.timeout(900 + 3 * KILLS)
def test_children_killed_under_full_load_repeat_at_most_what_they_ran(fleet: Fleet, queue: Queue, tmp_path: Path) -> None:
    """The parent is quick to give back what they held: not before Redis has read all endings that they had sent."""
    parent = supervisor(fleet, "-c", "1", "--keep-alive-timeout=86400", queue.name)

    def kill() -> None:
        eventually(lambda: len(children(parent)) == 1)
        children(parent)[0].kill()

    kill_under_full_load(queue, tmp_path / "log", lambda: kill, lambda: None)
