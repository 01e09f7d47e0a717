"""Several tasks at once: coroutines in a loop, plain functions in threads, in one worker. Nothing here waits for a time."""

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgpack
import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import ConfigurationError, TaskCancelled, TaskFailed
from delayed.job.allow import AllowAny
from delayed.job.job import Job
from delayed.job.outcome import Done, Outcome
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.channel import Channel
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.dispatcher import Dispatcher
from delayed.worker.execution import Execution
from delayed.worker.executors import Threads
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually

Start = Callable[[Worker], threading.Thread]
MODES: list[dict[str, int]] = [{}, {"async_tasks": 10}, {"threads": 2}, {"async_tasks": 10, "threads": 2}]
SEVERAL = MODES[1:]


@pytest.fixture(autouse=True)
def _tasks_find_redis(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)


def popped(client: redis.Redis, key: str) -> bytes:
    reply = client.blpop([key], 20)
    assert reply is not None, f"nothing in {key}"
    return cast(bytes, reply[1])


def start(threaded: Start, queue: Queue, **options: Any) -> Worker:
    worker = Worker(queue, allow=["tasks:*", "coroutines:*"], **options)
    threaded(worker)
    return worker


def done(queue: Queue, client: redis.Redis) -> bool:
    return queue.len() == 0 and client.hlen(queue.keys.processing) == 0


def test_a_thousand_coroutines_are_in_flight_at_once(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    """Each waits until all are there."""
    queue.enqueue_many(PyTask("coroutines:meet", (queue.name, 1000)) for _ in range(1000))
    worker = start(threaded, queue, async_tasks=1000)
    assert popped(client, f"{queue.name}:met") == b"1000"
    eventually(lambda: worker.finished == 1000 and done(queue, client))
    assert worker.describe()["succeeded"] == 1000


def test_no_more_are_in_hand_than_can_be_in_flight(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    key = f"{queue.name}:h"
    queue.enqueue_many(PyTask("coroutines:hold", (key, number)) for number in range(20))
    worker = start(threaded, queue, async_tasks=5)
    eventually(lambda: client.llen(f"{key}:began") == 5)
    assert (client.hlen(queue.keys.processing), queue.len()) == (5, 15)
    about = worker.describe()
    assert (about["in_flight"], about["in_hand"], about["running"]) == (5, 0, "coroutines:hold")
    assert about["slots"] == 6  # and a plain function beside them
    sibling = start(threaded, queue, async_tasks=20)
    eventually(lambda: client.llen(f"{key}:began") == 20)
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))
    assert (worker.finished, sibling.finished) == (5, 15)
    assert sorted(map(int, client.lrange(f"{key}:ended", 0, -1))) == list(range(20))


@pytest.mark.parametrize("threads", [0, 3])
def test_plain_functions_hold_up_no_coroutine(queue: Queue, client: redis.Redis, threaded: Start, threads: int) -> None:
    """Nor do they gather in a worker that cannot run them."""
    key = f"{queue.name}:b"
    places = max(threads, 1)
    queue.enqueue_many(PyTask("coroutines:block", (key, n)) for n in range(places))
    worker = start(threaded, queue, async_tasks=10, threads=threads)
    eventually(lambda: client.llen(f"{key}:began") == places)
    handles = [queue.enqueue(PyTask("coroutines:add", (number, 1), result_ttl=60)) for number in range(20)]
    assert [handle.result(20) for handle in handles] == list(range(1, 21))
    queue.enqueue_many(PyTask("coroutines:block", (key, number)) for number in range(places, 10))
    sibling = start(threaded, queue, threads=10)
    eventually(lambda: client.llen(f"{key}:began") == 10)
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))
    assert (worker.finished, sibling.finished) == (places + 20, 10 - places)


@pytest.mark.parametrize("mode", MODES)
def test_each_task_of_a_mixture_runs_once(queue: Queue, client: redis.Redis, mode: dict[str, int]) -> None:
    key = f"{queue.name}:r"
    queue.enqueue_many(
        PyTask(("coroutines:anote", "tasks:note")[number % 3 == 0], (key, number), retry=number % 2) for number in range(300)
    )
    worker = burst(queue, **mode)
    assert worker.finished == 300
    assert sorted(map(int, client.lrange(key, 0, -1))) == list(range(300))


@pytest.mark.parametrize("mode", MODES)
def test_results_and_failures_of_coroutines(queue: Queue, mode: dict[str, int]) -> None:
    good = queue.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60))
    wrong = queue.enqueue(PyTask("coroutines:raise_strange", ("value",), result_ttl=60))
    queue.enqueue(PyTask("coroutines:raise_strange", ("value",)))
    queue.enqueue(PyTask("coroutines:add", (1, 2, 3)))
    missing = queue.enqueue(PyTask("coroutines:nope", result_ttl=60))
    misfit = queue.enqueue(PyTask("coroutines:add", (1, 2, 3), result_ttl=60))
    assert burst(queue, **mode).finished == 6
    assert good.result(1) == 3
    for handle, words in ((wrong, "ValueError: value"), (missing, "unknown_function"), (misfit, "bad_arguments")):
        with pytest.raises(TaskFailed, match=words):
            handle.result(1)
    letters = sorted(dead_letters(queue), key=lambda letter: letter.reason)
    reasons = [letter.reason for letter in letters]
    assert reasons == ["bad_arguments", "bad_arguments", "failed", "failed", "unknown_function"]
    for letter in letters[2:4]:
        assert "raise ValueError(kind)" in letter.detail
        assert letter.detail.count("File ") == 1
        assert "delayed/" not in letter.detail


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("data", [b"\xc1", msgpack.packb(["main.F"]), PyTask("os:getpid").serialize()])
def test_what_cannot_run_is_buried(queue: Queue, data: bytes, mode: dict[str, int]) -> None:
    queue.store.call("RPUSH", queue.name, data)
    worker = Worker(queue, allow=["tasks:*"], burst=True, unready_for=0, **mode)  # type: ignore[arg-type]
    worker.run()
    (letter,) = dead_letters(queue)
    assert letter.data == data
    assert worker.describe()["buried"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_retries_of_coroutines(queue: Queue, mode: dict[str, int]) -> None:
    handle = queue.enqueue(PyTask("coroutines:ask_again", (3,), result_ttl=60))
    queue.enqueue(PyTask("coroutines:raise_strange", ("value",), retry=2))
    eventually(lambda: (burst(queue, **mode), handle.status().state is State.SUCCEEDED)[1])
    assert handle.result() == 3
    (letter,) = dead_letters(queue)
    assert msgpack.unpackb(letter.data)[3] == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}])
@pytest.mark.parametrize("kind", ["cancelled", "exit", "keyboard", "generator", "timeout", "itself", "child", "stop"])
def test_whatever_a_coroutine_raises_it_fails_alone(
    queue: Queue, kind: str, options: dict[str, Any], mode: dict[str, int]
) -> None:
    if kind == "stop" and "async_tasks" not in mode:
        kind = "value"  # who stops a loop of its own stops itself
    queue.enqueue(PyTask("coroutines:raise_strange", (kind,), **options))
    other = queue.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60))
    assert burst(queue, **mode).finished == 2
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert letter.detail
    assert other.result(1) == 3


def test_a_forgotten_child_does_not_end_the_loop(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    start(threaded, queue, async_tasks=10)
    queue.enqueue(PyTask("coroutines:leave_a_child"))
    eventually(lambda: done(queue, client))
    handles = [queue.enqueue(PyTask("coroutines:add", (1, 2), result_ttl=60)) for _ in range(20)]
    assert [handle.result(10) for handle in handles] == [3] * 20


@pytest.mark.parametrize("mode", MODES)
def test_a_coroutine_that_takes_too_long(queue: Queue, client: redis.Redis, mode: dict[str, int]) -> None:
    handle = queue.enqueue(PyTask("coroutines:forever", (queue.name,), timeout=0.05, result_ttl=60))
    assert burst(queue, **mode).finished == 1
    with pytest.raises(TaskFailed, match=r"TimedOut: .* 0\.05 s"):
        handle.result(1)


@pytest.mark.parametrize("swallow", [False, True])
def test_a_running_coroutine_is_cancelled(queue: Queue, client: redis.Redis, threaded: Start, swallow: bool) -> None:
    key = f"{queue.name}:c"
    worker = start(threaded, queue, async_tasks=10)
    handles = [queue.enqueue(PyTask("coroutines:until_cancelled", (key, swallow), result_ttl=60, retry=3)) for _ in range(2)]
    for _ in handles:
        popped(client, f"{key}:began")
    assert handles[0].cancel() is State.RUNNING
    assert popped(client, f"{key}:told") == b"True"
    if swallow:
        assert handles[0].result(10) == "tidied up"
    else:
        with pytest.raises(TaskCancelled):
            handles[0].result(10)
    assert handles[1].status().state is State.RUNNING  # the other goes on
    handles[1].cancel()
    eventually(lambda: worker.finished == 2)
    assert not list(dead_letters(queue))


@pytest.mark.parametrize("mode", [{}, {"threads": 2}])
@pytest.mark.parametrize(("swallow", "decorated"), [(False, False), (True, False), (False, True)])
def test_a_running_coroutine_is_cancelled_in_a_loop_of_its_own(
    queue: Queue, client: redis.Redis, threaded: Start, mode: dict[str, int], swallow: bool, decorated: bool
) -> None:
    key, path = f"{queue.name}:c", "coroutines:returns_until_cancelled" if decorated else "coroutines:until_cancelled"
    start(threaded, queue, keep_alive_interval=0.1, **mode)
    handle = queue.enqueue(PyTask(path, (key, swallow), result_ttl=60, retry=3))
    popped(client, f"{key}:began")
    assert handle.cancel() is State.RUNNING
    assert popped(client, f"{key}:told") == b"True"
    if swallow:
        assert handle.result(10) == "tidied up"
    else:
        with pytest.raises(TaskCancelled):
            handle.result(10)
        assert handle.status().state is State.CANCELLED
    assert queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)).result(20) == 3  # the worker goes on
    assert not list(dead_letters(queue))


def test_a_coroutine_that_was_cancelled_before_it_began(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("coroutines:raise_strange", ("value",), result_ttl=60))
    handle.cancel()
    burst(queue, async_tasks=5)
    with pytest.raises(TaskCancelled):
        handle.result(1)


@pytest.mark.parametrize("mode", MODES)
def test_what_current_task_knows_in_each_of_many(queue: Queue, mode: dict[str, int]) -> None:
    handles = [queue.enqueue(PyTask("coroutines:about_itself", (), result_ttl=60)) for _ in range(10)]
    burst(queue, **mode)
    for handle in handles:
        func_path, identity, attempt, where, enqueued, ttl = handle.result(1)
        assert (func_path, identity, attempt, where, ttl) == ("coroutines:about_itself", handle.id, 1, queue.name, 60_000)
        assert enqueued


@pytest.mark.parametrize("mode", MODES)
def test_current_task_is_there_for_plain_coroutines_too(queue: Queue, client: redis.Redis, mode: dict[str, int]) -> None:
    queue.enqueue(PyTask("coroutines:note_itself", (f"{queue.name}:r",)))
    queue.enqueue(PyTask("tasks:noop"))
    burst(queue, **mode)
    assert client.lrange(f"{queue.name}:r", 0, -1) == [b"<coroutines:note_itself, id None, attempt 1>"]


@pytest.mark.parametrize("mode", SEVERAL)
def test_a_task_leaves_nothing_in_the_context_of_the_next(queue: Queue, mode: dict[str, int]) -> None:
    handles = [queue.enqueue(PyTask("coroutines:own_value", (), result_ttl=60)) for _ in range(3)]
    burst(queue, **mode)
    assert [handle.result(1) for handle in handles] == ["nobody"] * 3


@pytest.mark.parametrize("mode", SEVERAL)
def test_a_worker_that_was_superseded_is_told_for_each(
    queue: Queue, client: redis.Redis, threaded: Start, caplog: pytest.LogCaptureFixture, mode: dict[str, int]
) -> None:
    key = f"{queue.name}:h"
    function = "coroutines:hold" if "async_tasks" in mode else "coroutines:block"
    queue.enqueue_many([PyTask(function, (key, 1)), PyTask(function, (key, 2), track=True)])
    worker = Worker(queue, keep_alive_interval=0.05, allow=AllowAny(), **mode)  # type: ignore[arg-type]
    thread = threaded(worker)
    eventually(lambda: client.llen(f"{key}:began") == 2)
    worker.stop()  # it shall not take again what the sweep brings back
    eventually(lambda: worker.state.left)
    leases = client.hkeys(queue.keys.processing)
    while client.hlen(queue.keys.processing):  # until the sweep comes before the beat that makes the keys again
        client.delete(*leases)
        sweep(queue.store)
    eventually(lambda: client.exists(*leases) == 2)
    assert queue.len() == 2
    with caplog.at_level(logging.ERROR, "delayed"):
        client.set(f"{key}:go", 1)
        thread.join(60)
    assert worker.describe()["superseded"] == 2
    assert caplog.text.count("Superseded") == 2
    assert queue.len() == 2


@pytest.mark.parametrize("mode", SEVERAL)
def test_a_stop_waits_for_all_in_flight_and_gives_back_the_rest(
    queue: Queue, client: redis.Redis, threaded: Start, mode: dict[str, int]
) -> None:
    key = f"{queue.name}:h"
    function, places = ("coroutines:hold", 10) if "async_tasks" in mode else ("coroutines:block", 2)
    tasks = [PyTask(function, (key, number)) for number in range(15)]
    queue.enqueue_many(tasks)
    worker = Worker(queue, allow=AllowAny(), **mode)  # type: ignore[arg-type]
    thread = threaded(worker)
    eventually(lambda: client.llen(f"{key}:began") == places)
    worker.stop()
    eventually(lambda: worker.state.left)
    assert client.lrange(queue.name, 0, -1) == [task.serialize() for task in tasks[places:]]
    assert thread.is_alive()
    assert client.hlen(queue.keys.processing) == places
    client.set(f"{key}:go", 1)
    thread.join(60)
    assert not thread.is_alive()
    assert client.llen(f"{key}:ended") == worker.finished == places
    assert client.hlen(queue.keys.processing) == 0


def test_what_was_taken_when_the_stop_came_goes_back_before_the_rest_has_ended(
    queue: Queue, client: redis.Redis, threaded: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"{queue.name}:h"
    worker = Worker(queue, allow=AllowAny(), async_tasks=5)
    take = worker._parts.fetcher.take

    def taking(most: int) -> bool:
        found = take(most)
        if found and worker.state.in_flight:
            worker.stop()
        return found

    monkeypatch.setattr(worker._parts.fetcher, "take", taking)
    thread = threaded(worker)
    queue.enqueue(PyTask("coroutines:hold", (key, 1)))
    eventually(lambda: client.llen(f"{key}:began") == 1)
    queue.enqueue(PyTask("coroutines:hold", (key, 2)))
    eventually(lambda: worker.state.left and queue.len() == 1)
    assert thread.is_alive()
    client.set(f"{key}:go", 1)
    thread.join(60)
    assert client.lrange(f"{key}:ended", 0, -1) == [b"1"]


@pytest.mark.parametrize("mode", SEVERAL)
def test_faults_of_the_connection_lose_and_repeat_nothing(
    queue: Queue, client: redis.Redis, threaded: Start, mode: dict[str, int]
) -> None:
    key = f"{queue.name}:r"
    start(threaded, queue, **mode)
    sent = 0
    for _ in range(10):
        queue.enqueue_many(
            PyTask(("coroutines:anote", "tasks:note")[number % 2], (key, sent + number)) for number in range(50)
        )
        sent += 50
        for connection in client.client_list():
            if connection["cmd"] in ("blpop", "evalsha", "hdel", "ping", "pexpire"):
                client.client_kill_filter(_id=connection["id"])
    eventually(lambda: client.llen(key) >= sent and client.hlen(queue.keys.processing) == 0, 30)
    assert sorted(map(int, client.lrange(key, 0, -1))) == list(range(sent))


def test_what_is_in_flight_survives_a_broken_connection(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    """The rest of what the worker had goes back when it connects again; what runs does not."""
    key = f"{queue.name}:h"
    worker = start(threaded, queue, async_tasks=5)
    queue.enqueue_many(PyTask("coroutines:hold", (key, number)) for number in range(5))
    eventually(lambda: client.llen(f"{key}:began") == 5)
    before = worker._parts.channel.client_id
    worker._waiter.interrupt()
    queue.enqueue(PyTask("tasks:noop"))
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))
    assert worker._parts.channel.client_id != before
    assert (client.llen(f"{key}:began"), client.llen(f"{key}:ended")) == (5, 5)
    assert worker.describe()["superseded"] == 0


def test_leases_in_flight_keep_their_token(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    """The supervisor knows one token of each queue; it must cover all that a killed worker held."""
    key = f"{queue.name}:h"
    worker = start(threaded, queue, async_tasks=5)
    for number in range(3):
        queue.enqueue(PyTask("coroutines:hold", (key, number)))
        eventually(lambda count=number + 1: client.llen(f"{key}:began") == count)  # type: ignore[misc]
        worker._parts.channel.interrupt()
    token, serial = worker.state.scoreboard.leases(0)
    known = {queue.keys.lease(token, number).encode() for number in range(serial)}
    assert set(client.hkeys(queue.keys.processing)) <= known
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))


def test_what_was_lost_once_runs_beside_others_and_what_was_lost_twice_alone(
    queue: Queue, client: redis.Redis, threaded: Start
) -> None:
    """So whoever was in flight beside a task that kills its worker is not buried with it."""
    key = f"{queue.name}:h"

    once, twice = PyTask("coroutines:hold", (key, "once")), PyTask("coroutines:hold", (key, "twice"))
    for task, losses in ((once, 1), (twice, 2)):
        queue.enqueue(task)
        for _ in range(losses):
            assert queue.store.take(["gone"], "t", 10, waiting=True).tasks
            client.delete("gone")
            assert sweep(queue.store).recovered == 1
        client.delete(queue.name, queue.keys.noti)
    assert client.hlen(queue.keys.lost) == 2
    queue.enqueue_many([PyTask("coroutines:hold", (key, "first")), once, twice, PyTask("coroutines:add", (1, 2))])
    worker = start(threaded, queue, async_tasks=10)
    eventually(lambda: client.lrange(f"{key}:began", 0, -1) == [b"first", b"once"])
    eventually(lambda: client.hlen(queue.keys.processing) == 2 and cast(Dispatcher, worker._loop)._alone)
    assert queue.len() == 2
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))
    assert client.lrange(f"{key}:ended", 0, -1)[-1] == b"twice"
    assert not list(dead_letters(queue))


def test_after_so_many_tasks_it_ends(queue: Queue, threaded: Start) -> None:
    queue.enqueue_many(PyTask("coroutines:add", (number, 1)) for number in range(30))
    worker = Worker(queue, allow=AllowAny(), async_tasks=10, max_tasks=17)
    worker.run()
    assert (worker.finished, worker.recycled, queue.len()) == (17, True, 13)


def test_several_queues(name: str, client: redis.Redis, threaded: Start) -> None:
    queues = [Queue(f"{name}{number}", client, dequeue_timeout=0.5) for number in range(3)]
    worker = Worker(queues, allow=AllowAny(), async_tasks=10)
    threaded(worker)
    for number in (2, 0, 1, 2):
        assert queues[number].enqueue(PyTask("coroutines:add", (number, 1), result_ttl=60)).result(20) == number + 1


def test_middlewares_wrap_coroutines(queue: Queue) -> None:
    """Also those that are plain functions, and what they put into the context arrives."""
    seen: list[str] = []
    lock = threading.Lock()

    def plain(job: Job, call_next: Callable[[Job], Outcome]) -> Outcome:
        with lock:
            seen.append("plain")
        outcome = call_next(job)
        return Done(outcome.value + 1) if isinstance(outcome, Done) else outcome

    async def native(job: Job, call_next: Callable[[Job], Awaitable[Outcome]]) -> Outcome:
        seen.append("native")
        return await call_next(job)

    for mode, count in (({"async_tasks": 10}, 2), ({}, 0)):
        seen.clear()
        handles = [queue.enqueue(PyTask("coroutines:add", (number, 1), result_ttl=60)) for number in range(2)]
        burst(queue, middlewares=[plain, native], **mode)
        assert [handle.result(1) for handle in handles] == [2, 3]
        assert (seen.count("plain"), seen.count("native")) == (2, count)


@pytest.mark.parametrize("mode", MODES)
def test_a_middleware_that_raises_fails_the_task(queue: Queue, mode: dict[str, int]) -> None:
    def wrong(job: Job, call_next: object) -> Outcome:
        raise KeyError("wrong")

    handles = [queue.enqueue(PyTask(path, (1, 2), result_ttl=60)) for path in ("coroutines:add", "tasks:two")]
    assert burst(queue, middlewares=[wrong], **mode).finished == 2
    for handle in handles:
        with pytest.raises(TaskFailed, match="wrong"):
            handle.result(1)


def test_a_fault_at_the_start_of_a_task_leaves_no_deadline(
    queue: Queue, threaded: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the process would be ended for a task that it does not run."""
    worker = Worker(queue, allow=AllowAny())
    begin, faults = worker._parts.runner.begin, iter([True, False])
    seen: list[object] = []

    def faulty(*args: Any) -> Any:
        seen.append((worker.state.deadline, list(worker.state.in_flight)))
        if next(faults):
            raise redis.ConnectionError("gone")
        return begin(*args)

    monkeypatch.setattr(worker._parts.runner, "begin", faulty)
    lost = worker._parts.recovery.lost

    def losing(*args: Any) -> float:
        pause = lost(*args)
        seen.append((worker.state.deadline, worker.state.running, worker.state.scoreboard.working))
        return pause

    monkeypatch.setattr(worker._parts.recovery, "lost", losing)
    handle = queue.enqueue(PyTask("tasks:two", (1,), hard_timeout=60, result_ttl=60, unique="k"))
    threaded(worker)
    assert handle.result(20) == 3
    assert seen == [(None, []), (None, None, False), (None, [])]


def test_numbers_that_cannot_work(queue: Queue) -> None:
    for options in ({"async_tasks": 0}, {"threads": -1}):
        with pytest.raises(ConfigurationError, match="async_tasks"):
            Worker(queue, allow=AllowAny(), **options)  # type: ignore[arg-type]


def test_with_one_at_a_time_nothing_of_this_is_there(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not ask for it has no further connection and no further thread."""
    opened: list[Channel] = []
    before = Channel.open

    def counting(channel: Channel) -> None:
        opened.append(channel)
        before(channel)

    monkeypatch.setattr(Channel, "open", counting)
    made: list[object] = []
    for kind in (Execution, Threads):
        monkeypatch.setattr(kind, "__init__", lambda *_: made.append(1))
    queue.enqueue(PyTask("tasks:noop"))
    burst(queue)
    assert len(opened) == 2
    assert not made


def test_a_sweeper_beside_it_takes_nothing(queue: Queue, client: redis.Redis, threaded: Start) -> None:
    """The leases of all that is in flight live on."""
    key = f"{queue.name}:h"
    quick = Queue(queue.name, queue.conn, 0.5, 0.6)
    worker = Worker(quick, keep_alive_interval=0.1, allow=AllowAny(), async_tasks=20, threads=2)
    threaded(worker)
    sweeper = Sweeper([quick], 0.1)
    thread = threading.Thread(target=sweeper.run)
    thread.start()
    queue.enqueue_many(PyTask("coroutines:hold", (key, number)) for number in range(20))
    eventually(lambda: client.llen(f"{key}:began") == 20)
    beats = worker.state.fresh_at
    eventually(lambda: worker.state.fresh_at > beats + 1.5)
    client.set(f"{key}:go", 1)
    eventually(lambda: done(queue, client))
    sweeper.stop()
    thread.join(60)
    assert worker.describe()["superseded"] == 0
    assert inspect(queue).recovered == 0
    assert client.llen(f"{key}:began") == 20
