"""Real workers and sweepers, real signals, kill -9."""

import array
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweeper import INTERVAL, JITTER
from delayed.task.task import PyTask
from delayed.worker.options import KEEP_ALIVE_TIMEOUT
from tests.conftest import eventually
from tests.support.keys import left
from tests.support.processes import LIVES, SOON_DEAD, Fleet, Process

EXIT_FORCED = 3


def popped(client: redis.Redis, key: str) -> bytes:
    reply = client.blpop([key], 30)
    assert reply is not None, f"nothing in {key}"
    value = reply[1]
    assert isinstance(value, bytes)
    return value


def begin_and_leave_waiting(queue: Queue, client: redis.Redis) -> str:
    """A task in execution and two that wait. The name of the list where it waits to go on."""
    key = f"{queue.name}:h"
    queue.enqueue(PyTask("tasks:hold", (key, "x")))
    popped(client, f"{key}:began")
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(2))
    return key


@pytest.mark.slow
def test_a_killed_worker_s_task_is_run_again(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    victim = fleet.quick_worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    victim.kill()
    fleet.sweeper(queue.name)
    fleet.quick_worker(queue.name)
    assert popped(client, f"{key}:began") == b"x"
    client.rpush(f"{key}:go", 1)
    assert popped(client, f"{key}:ended") == b"x"
    eventually(lambda: inspect(queue)[1:5] == (0, 0, 0, 0))
    assert inspect(queue).recovered == 1


@pytest.mark.slow
def test_defect_u9_with_default_settings_a_task_is_back_within_15_seconds(
    fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    victim = fleet.worker(queue.name)
    fleet.delayed("sweeper", queue.name).ready()
    key = begin_and_leave_waiting(queue, client)
    victim.kill()
    client.delete(queue.name, queue.keys.noti)
    eventually(lambda: queue.len() == 1, 30)
    assert client.llen(f"{key}:began") == 0
    assert KEEP_ALIVE_TIMEOUT + INTERVAL * JITTER[1] < 15  # the longest it can take, on a machine that is not overloaded


@pytest.mark.slow
def test_defect_u15_a_task_that_kills_its_worker_is_buried_and_harms_no_other(
    fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    fleet.sweeper(queue.name)
    key = f"{queue.name}:r"
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(20))
    queue.enqueue(PyTask("tasks:kill_worker"))
    queue.enqueue_many(PyTask("tasks:note", (key, number)) for number in range(20, 60))
    workers: list[Process] = []
    while not list(dead_letters(queue)) or queue.len() or client.hlen(queue.keys.processing):
        assert len(workers) < 10
        workers.append(fleet.delayed("worker", "--allow-any", "--burst", *SOON_DEAD, queue.name))
        workers[-1].wait()
        eventually(lambda: client.hlen(queue.keys.processing) == 0)
    (letter,) = dead_letters(queue)
    assert (letter.reason, letter.task) == ("lost", "tasks:kill_worker")
    assert [worker.wait() for worker in workers].count(-signal.SIGKILL) == 3
    assert sorted(map(int, client.lrange(key, 0, -1))) == list(range(60))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_defect_u8_a_signal_lets_the_worker_finish_its_task(
    fleet: Fleet, queue: Queue, client: redis.Redis, number: signal.Signals
) -> None:
    worker = fleet.worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    worker.send(number)
    worker.expect("STOPPING=1")
    client.rpush(f"{key}:go", 1)
    assert worker.wait() == 0
    assert popped(client, f"{key}:ended") == b"x"
    assert queue.len() == 2
    assert not inspect(queue).leases
    assert left(client, f"{queue.name}_") == {queue.keys.noti}


def test_an_idle_worker_stops_at_once(fleet: Fleet, queue: Queue) -> None:
    worker = fleet.worker("--dequeue-timeout=600", queue.name)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGQUIT,),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM, signal.SIGINT),
    ],
    ids=lambda numbers: "-".join(number.name for number in numbers),
)
def test_the_second_signal_means_now(
    fleet: Fleet, queue: Queue, client: redis.Redis, numbers: tuple[signal.Signals, ...]
) -> None:
    worker = fleet.worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    *first, last = numbers
    for number in first:
        worker.send(number)
        worker.expect("STOPPING=1")  # two equal signals that have not arrived yet are one
    worker.send(last)
    assert worker.wait() == EXIT_FORCED, worker.log.read_text()
    assert queue.len() == 3
    assert client.lindex(queue.name, 0) == PyTask("tasks:hold", (key, "x")).serialize()
    assert client.llen(queue.keys.noti) == 3
    assert client.exists(queue.keys.processing, queue.keys.workers) == 0


def test_a_reload_and_then_a_stop_is_not_a_second_stop(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    for number in (signal.SIGHUP, signal.SIGTERM):
        worker.send(number)
        worker.expect("STOPPING=1")
    client.rpush(f"{key}:go", 1)
    assert worker.wait() == 0


def test_after_the_grace_what_runs_is_given_back(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.worker("--grace=0.3", queue.name)
    key = begin_and_leave_waiting(queue, client)
    worker.send(signal.SIGTERM)
    assert worker.wait() == EXIT_FORCED
    assert client.lindex(queue.name, 0) == PyTask("tasks:hold", (key, "x")).serialize()
    assert "grace" in worker.log.read_text()


@pytest.mark.slow
def test_a_task_that_holds_the_processor_costs_no_lease(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    fleet.quick_worker(queue.name)
    fleet.sweeper(queue.name)
    key = f"{queue.name}:s"
    queue.enqueue(PyTask("tasks:spin", (key, LIVES + 1)))
    first = popped(client, f"{key}:began")
    assert popped(client, f"{key}:ended") == first
    assert client.llen(f"{key}:began") == 0
    assert inspect(queue).recovered == 0


@pytest.mark.slow
def test_a_worker_that_was_paused_is_superseded_and_says_so(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.quick_worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    worker.send(signal.SIGSTOP)
    fleet.sweeper(queue.name)
    eventually(lambda: inspect(queue).recovered == 1)
    other = fleet.quick_worker(queue.name)
    popped(client, f"{key}:began")
    worker.send(signal.SIGCONT)
    client.rpush(f"{key}:go", 1, 1)
    for _ in range(2):
        popped(client, f"{key}:ended")
    for process in (worker, other):
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    assert "1 superseded" in worker.log.read_text()
    assert "0 superseded" in other.log.read_text()
    assert inspect(queue)[1:5] == (0, 0, 0, 0)


def test_usr1_dumps_what_it_is_doing(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.worker(queue.name)
    key = begin_and_leave_waiting(queue, client)
    worker.send(signal.SIGUSR1)
    eventually(lambda: "in hold" in worker.log.read_text() and "delayed-heartbeat" in worker.log.read_text())
    assert "'running': 'tasks:hold'" in worker.log.read_text()
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")
    sweeper = fleet.sweeper(queue.name)
    sweeper.send(signal.SIGUSR1)
    eventually(lambda: "in _wait" in sweeper.log.read_text())


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT], ids=lambda number: number.name
)
def test_defect_u8_signals_stop_a_sweeper(fleet: Fleet, queue: Queue, client: redis.Redis, number: signal.Signals) -> None:
    sweeper = fleet.delayed("sweeper", "--interval=600", queue.name).ready()
    eventually(lambda: client.hlen(queue.keys.workers) == 1)
    sweeper.send(number)
    assert sweeper.wait() == 0
    eventually(lambda: not left(client, queue.name))


def test_a_worker_outlives_redis(fleet: Fleet, name: str, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, persistent=True, options={"appendfsync": "always"}) as server:
        fleet.environment["DELAYED_REDIS_URL"] = server.url
        worker = fleet.quick_worker("--dequeue-timeout=0.5", name)
        sweeper = fleet.sweeper(name)
        with server.client() as client:
            queue = Queue(name, client)
            key = begin_and_leave_waiting(queue, client)
        server.stop()
        eventually(lambda: "retrying" in worker.log.read_text() and "retrying" in sweeper.log.read_text())
        server.start()
        with server.client() as client:
            queue = Queue(name, client)
            for _ in range(1 + client.llen(f"{key}:began")):
                client.rpush(f"{key}:go", 1)
            eventually(lambda: inspect(queue)[1:4] == (0, 0, 0), 30)
            assert client.llen(f"{key}:ended") + inspect(queue).dead > 0  # the task's own connection may have failed it
            queue.enqueue(PyTask("tasks:note", (f"{key}:again", 1)))
            assert popped(client, f"{key}:again") == b"1"
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_worker_without_redis_still_stops(fleet: Fleet, name: str, tmp_path: Path) -> None:
    fleet.environment["DELAYED_REDIS_URL"] = f"unix://{tmp_path}/nothing.sock"
    worker = fleet.delayed("worker", "--allow-any", name)
    eventually(lambda: "retrying" in worker.log.read_text())
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_the_watchdog_follows_the_loop(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """It is fed while the loop turns and while a task runs, and not when the main thread hangs between two tasks."""
    worker = fleet.start(
        sys.executable, "-m", "delayed", "worker", "--allow-any", "--dequeue-timeout=0.05", queue.name, WATCHDOG_USEC="400000"
    ).ready()
    for _ in range(3):
        worker.expect("WATCHDOG=1")
    key = begin_and_leave_waiting(queue, client)
    for _ in range(3):
        worker.expect("WATCHDOG=1")
    client.rpush(f"{key}:go", 1)
    popped(client, f"{key}:ended")


def test_a_loop_that_hangs_starves_the_watchdog(fleet: Fleet, queue: Queue) -> None:
    code = (
        "import sys, threading; from delayed.worker.worker import Worker; from delayed.job.allow import AllowAny;"
        "from delayed.queue.queue import Queue; import os\n"
        "class Hanging(Worker):\n"
        "    def _take(self):\n"
        "        threading.Event().wait()\n"
        f"Hanging(Queue({queue.name!r}, os.environ['DELAYED_REDIS_URL']), allow=AllowAny()).run()"
    )
    worker = fleet.start(sys.executable, "-c", code, WATCHDOG_USEC="200000").ready()
    for _ in range(2):  # the first ones may come while the loop begins
        with contextlib.suppress(AssertionError):
            worker.expect("WATCHDOG=1", seconds=1)
    with pytest.raises(AssertionError):
        worker.expect("WATCHDOG=1", seconds=1)


@pytest.mark.parametrize("exits", [("fork_and_exit", b"7"), ("fork_and_return", b"0")], ids=lambda exits: exits[0])
def test_a_child_that_comes_back_out_of_its_task_is_no_second_worker(
    fleet: Fleet, queue: Queue, client: redis.Redis, exits: tuple[str, bytes]
) -> None:
    function, status = exits
    worker = fleet.worker("--burst", queue.name)
    key = f"{queue.name}:r"
    for _ in range(3):
        queue.enqueue(PyTask(f"tasks:{function}", (key,)))
    fleet.worker("--burst", queue.name).wait()
    worker.wait()
    assert client.lrange(key, 0, -1) == [status] * 3
    assert inspect(queue)[1:5] == (0, 0, 0, 0)


def test_children_of_a_task_obey_signals_and_do_not_pass_them_on(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    worker = fleet.worker(queue.name)
    key = f"{queue.name}:r"
    queue.enqueue(PyTask("tasks:terminate_children", (key,)))
    assert popped(client, key) == b"[1, 2] -15"
    queue.enqueue(PyTask("tasks:note", (key, "lives")))
    assert popped(client, key) == b"lives"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_task_that_meddles_with_signals_does_not_make_the_worker_deaf(
    fleet: Fleet, queue: Queue, client: redis.Redis
) -> None:
    worker = fleet.worker("--dequeue-timeout=0.2", queue.name)
    queue.enqueue(PyTask("tasks:meddle_with_signals"))
    queue.enqueue(PyTask("tasks:note", (f"{queue.name}:r", 1)))
    popped(client, f"{queue.name}:r")
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
    turns = inspect(queue)
    queue.enqueue(PyTask("tasks:note", (f"{queue.name}:r", 2)))
    popped(client, f"{queue.name}:r")
    assert turns.processes
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize("attempt", range(4))
def test_a_forced_exit_under_full_load_leaves_nothing_held(
    fleet: Fleet, queue: Queue, client: redis.Redis, attempt: int
) -> None:
    queue.enqueue_many(PyTask("tasks:noop", (number,)) for number in range(50_000))
    worker = fleet.worker(queue.name)
    eventually(lambda: queue.len() < 45_000 - 5_000 * attempt)
    worker.send(signal.SIGQUIT)
    assert worker.wait() == EXIT_FORCED
    assert left(client, f"{queue.name}_") <= {queue.keys.noti}
    client.delete(queue.name, queue.keys.noti)


KILLS = int(os.environ.get("DELAYED_TEST_KILLS", "20"))


def kill_under_full_load(
    queue: Queue, log: Path, victim: Callable[[], Callable[[], object]], last: Callable[[], object]
) -> None:
    """Kill so often somewhere in the middle of tasks of a few microseconds, and count what was lost and repeated.

    Args:
        queue: the queue.
        log: where the tasks note that they ran.
        victim: makes sure that there is a worker; what it returns kills that.
        last: called when no more is killed.
    """
    count = 0
    rng = random.Random(KILLS)
    for _ in range(KILLS):
        queue.enqueue_many(PyTask("tasks:log", (str(log), count + number)) for number in range(20_000))
        count += 20_000
        kill = victim()
        some = queue.len() * rng.random()
        eventually(lambda some=some: queue.len() <= some)  # type: ignore[misc]
        kill()
    last()
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0), 60)
    numbers = array.array("Q", log.read_bytes())
    numbers.byteswap()
    assert set(numbers) == set(range(count))
    repeated = len(numbers) - count
    print(f"{KILLS} kills, {count:,} tasks, 0 lost, {repeated} repeated")
    assert repeated <= KILLS
    assert not list(dead_letters(queue))


@pytest.mark.slow
@pytest.mark.timeout(900 + 3 * KILLS)
def test_kill_9_under_full_load_loses_nothing_and_repeats_at_most_what_ran(fleet: Fleet, queue: Queue, tmp_path: Path) -> None:
    """What is repeated has been executed and ended, unless it was in execution."""
    fleet.sweeper(queue.name)

    def worker() -> Process:
        return fleet.quick_worker(queue.name)

    kill_under_full_load(queue, tmp_path / "log", lambda: worker().kill, worker)


def test_burst_drains_and_exits(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("tasks:note", (f"{queue.name}:r", number)) for number in range(100))
    assert fleet.worker("--burst", queue.name).wait() == 0
    assert client.llen(f"{queue.name}:r") == 100


def test_an_embedded_redis_ends_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from delayed.redis.embedded import EmbeddedRedis;"
        f"server = EmbeddedRedis(Path({str(tmp_path)!r})).start();"
        "print(server.client().info()['process_id'], flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    owner.stdin.close()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(gone)
