"""Tasks that ask for more than a call: what they cost nothing else, and do."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import redis

from delayed.backoff import Constant, Exponential
from delayed.base.ids import new_id
from delayed.dead_letters.letter import dead_letters
from delayed.errors import (
    ConfigurationError,
    Duplicate,
    InvalidTask,
    NoResult,
    NotDone,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TimedOut,
    UnknownTask,
)
from delayed.ops.info import inspect
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.handle import AsyncHandle, Handle
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import sweep
from delayed.task.decode import headers_of
from delayed.task.edit import with_retry
from delayed.task.headers import Holds
from delayed.task.options import ENDED_FOR
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask, Task
from delayed.testing.enqueued import enqueued
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually
from tests.support.waiting import LONG_AGO


def start(queue: Queue, threaded: Callable[[Worker], threading.Thread], **options: object) -> None:
    threaded(Worker(queue, allow=["tasks:*", "life:*"], **options))  # type: ignore[arg-type]


def test_a_result_comes_back(queue: Queue, threaded: Callable[[Worker], threading.Thread]) -> None:
    start(queue, threaded)
    handle = queue.enqueue(PyTask("tasks:two", (1,), {"b": 5}, result_ttl=60))
    assert handle.result(10) == 6
    assert handle.result() == 6  # everybody sees it
    assert handle.status().state is State.SUCCEEDED


def test_several_wait_for_one_result(queue: Queue, threaded: Callable[[Worker], threading.Thread]) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    found: list[int] = []
    waiting = [threading.Thread(target=lambda: found.append(handle.result(20))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    start(queue, threaded)
    for thread in waiting:
        thread.join(60)
    assert found == [3] * 5


def test_a_failure_comes_back(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("no",), result_ttl=60))
    assert handle.status().state is State.QUEUED
    with pytest.raises(NotDone):
        handle.result(0.01)
    burst(queue)
    with pytest.raises(TaskFailed, match="ValueError: no") as caught:
        handle.result(10)
    assert "raise ValueError(message)" in caught.value.traceback
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert handle.status().state is State.FAILED


def test_what_cannot_be_encoded_is_a_failure(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:return_itself", (), result_ttl=60))
    burst(queue)
    with pytest.raises(TaskFailed, match="MessagePack cannot carry"):
        handle.result(10)
    assert inspect(queue).dead == 1


def test_a_task_that_keeps_nothing_says_so(queue: Queue) -> None:
    with pytest.raises(NoResult, match="result_ttl"):
        queue.enqueue(PyTask("tasks:noop")).result()
    tracked = queue.enqueue(PyTask("tasks:two", (1,), track=True))
    burst(queue)
    assert tracked.status().state is State.SUCCEEDED
    with pytest.raises(NoResult, match="result_ttl"):
        tracked.result(1)
    queue.store.call("DEL", queue.keys.task(tracked.id or ""))
    with pytest.raises(UnknownTask):
        tracked.result(1)
    with pytest.raises(UnknownTask):
        tracked.status()


def test_a_retry_waits_in_redis(queue: Queue, client: redis.Redis, redis_url: str, sweeping: object) -> None:
    key = f"{queue.name}:k"
    backoff = Constant(0.05, jitter=False)
    handle = queue.enqueue(PyTask("tasks:fail_until", (redis_url, key, 3), retry=5, backoff=backoff, result_ttl=60))
    burst(queue)
    assert handle.status().state is State.RETRYING
    assert handle.status().error == "ValueError: not yet"
    eventually(lambda: (burst(queue), handle.status().state is State.SUCCEEDED)[1])
    assert client.get(key) == b"3"
    assert handle.result() is None


def test_retries_come_to_an_end(queue: Queue, sweeping: object) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), retry=2, backoff=Exponential(0.01, jitter=False)))
    eventually(lambda: (burst(queue), inspect(queue).dead == 1)[1])
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"


@pytest.mark.parametrize(
    ("options", "runs"),
    [({"retry_on": ValueError}, 3), ({"retry_on": [OSError, "KeyError"]}, 1), ({"give_up_on": ["builtins.Exception"]}, 1)],
)
def test_only_some_errors_are_retried(queue: Queue, options: dict[str, Any], runs: int) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), retry=2, **options))
    assert sum(burst(queue).finished for _ in range(3)) == runs
    assert inspect(queue).dead == 1


def test_a_task_may_ask_for_a_retry(queue: Queue, client: redis.Redis, sweeping: object) -> None:
    handle = queue.enqueue(PyTask("life:ask_again", (3,), result_ttl=60))
    eventually(lambda: (burst(queue), handle.status().state is State.SUCCEEDED)[1])
    assert handle.result() == 3


def test_later(queue: Queue, threaded: Callable[[Worker], threading.Thread], sweeping: object) -> None:
    start(queue, threaded)
    began = time.monotonic()
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    whens: list[dict[str, Any]] = [{"after": 0.5}, {"at": soon}]
    handles = [queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60, **when)) for when in whens]
    assert [handle.status().state for handle in handles] == [State.SCHEDULED] * 2
    assert [handle.result(20) for handle in handles] == [3, 3]
    assert time.monotonic() - began >= 0.45


def test_equal_tasks_at_one_instant_stay_two(queue: Queue) -> None:
    for _ in range(2):
        queue.enqueue(PyTask("tasks:noop", (1,), at=9_999_999_999))
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 2
    assert queue.store.call("ZRANGE", queue.keys.scheduled, 0, 0)[0][16:] == PyTask("tasks:noop", (1,)).serialize()


def test_too_late(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", expires=LONG_AGO, result_ttl=60))
    burst(queue)
    with pytest.raises(TaskExpired):
        handle.result(1)
    (letter,) = dead_letters(queue)
    assert letter.reason == "expired"


@pytest.mark.parametrize("mode", ["while_queued", "until_done"])
def test_a_unique_task_is_refused_a_second_time(queue: Queue, mode: str) -> None:
    task: dict[str, Any] = {"unique": "a", "unique_mode": mode}
    first = queue.enqueue(PyTask("tasks:noop", **task))
    with pytest.raises(Duplicate) as caught:
        queue.enqueue(PyTask("tasks:noop", **task))
    assert caught.value.id == first.id
    assert queue.enqueue(PyTask("tasks:noop", **task, join=True)).id == first.id
    assert queue.len() == 1
    queue.enqueue(PyTask("tasks:noop", unique="b"))
    burst(queue)
    assert queue.enqueue(PyTask("tasks:noop", **task)).id != first.id
    burst(queue)
    assert not queue.store.call("KEYS", f"{queue.name}_unique_*")


def test_two_with_one_key_do_not_run_at_once(queue: Queue, sweeping: object) -> None:
    task: dict[str, Any] = {"unique": "a", "unique_mode": "while_running", "result_ttl": 60}
    queue.store.call("SET", queue.keys.unique("a"), "another", "EX", 600)
    handle = queue.enqueue(PyTask("tasks:two", (1,), **task))
    burst(queue)
    status = handle.status()
    assert (status.state, status.waits) == (State.QUEUED, "another task with its unique key is running")
    queue.store.call("PEXPIRE", queue.keys.unique("a"), 1)
    eventually(lambda: (burst(queue), handle.status().state is State.SUCCEEDED)[1])
    assert not queue.store.call("KEYS", f"{queue.name}_unique_*")


def test_the_status_says_how_it_went(queue: Queue, sweeping: object) -> None:
    failing = queue.enqueue(PyTask("tasks:fail", ("no",), retry=1, backoff=Constant(0.01), track=True))
    waiting = queue.enqueue(PyTask("tasks:noop", unique="a", unique_mode="while_running", track=True))
    queue.store.call("SET", queue.keys.unique("a"), "another", "PX", 50)
    eventually(lambda: (burst(queue), failing.status().state, waiting.status().state)[1:] == (State.FAILED, State.SUCCEEDED))
    failed, succeeded = failing.status(), waiting.status()
    assert (failed.attempt, failed.error, failed.waits) == (2, "ValueError: no", "")
    assert (succeeded.attempt, succeeded.error, succeeded.waits) == (1, "", "")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (GoTask("main.X", (1,), result_ttl=60), "wrong_language"),
        (PyTask("os:getpid", result_ttl=60, retry=2), "unknown_header"),
        (PyTask("tasks:gone", result_ttl=60), "unknown_function"),
        (PyTask("os:getpid", result_ttl=60), "not_allowed"),
    ],
)
def test_whoever_waits_for_a_task_that_cannot_run_is_told(queue: Queue, task: Task, reason: str) -> None:
    handle = queue.enqueue(task)
    if reason == "unknown_header":  # a later version's; for this one it is no task that it could run
        data = queue.store.call("LINDEX", queue.keys.queue, 0)
        queue.store.call("LSET", queue.keys.queue, 0, with_retry(data, 2, {"!later": 1}))
    Worker(queue, allow=["tasks:*"], burst=True, unready_for=0).run()
    with pytest.raises(TaskFailed, match=rf"^{reason}: (?!{reason})"):
        handle.result(5)
    status, (letter,) = handle.status(), dead_letters(queue)
    assert (status.state, letter.reason, status.error.partition(":")[0]) == (State.FAILED, reason, reason)


def test_a_lost_task_waits_and_says_why(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", track=True))
    name = queue.keys.lease("t", 0)
    queue.store.take([name], "t", 60)
    assert handle.id is not None
    queue.store.start(name, Holds(handle.id), worker="host:1")
    assert handle.status().state is State.RUNNING
    queue.store.call("DEL", name)
    assert sweep(queue.store).recovered == 1
    assert handle.status()[:1] + handle.status()[6:7] == (State.QUEUED, "its worker died or lost its lease")
    assert handle.cancel() is State.QUEUED
    burst(queue)
    with pytest.raises(TaskCancelled, match=f"task {handle.id} of '{queue.name}'"):
        handle.result(5)


def test_a_failed_task_frees_its_key(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:fail", ("no",), unique="a"))
    burst(queue)
    queue.enqueue(PyTask("tasks:noop", unique="a"))


@pytest.mark.parametrize("options", [{}, {"after": 100}])
def test_a_task_that_has_not_begun_can_be_cancelled(queue: Queue, options: dict[str, Any]) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("it ran",), result_ttl=60, unique="a", **options))
    assert handle.cancel() == (State.SCHEDULED if options else State.QUEUED)
    assert queue.store.call("ZCARD", queue.keys.scheduled) == 0
    with pytest.raises(TaskCancelled):
        handle.result(1)
    burst(queue)
    assert inspect(queue)[1:5] == (0, 0, 0, 0)
    assert handle.status().state is State.CANCELLED
    assert handle.cancel() is State.CANCELLED
    queue.enqueue(PyTask("tasks:noop", unique="a"))


def test_a_task_that_was_cancelled_in_the_schedule_is_forgotten_as_soon_as_its_result(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:noop", after=86400, track=True))
    handle.cancel()
    assert handle.id is not None
    assert 0 < queue.store.call("PTTL", queue.keys.task(handle.id)) <= 1000 * ENDED_FOR
    assert queue.store.call("HGET", queue.keys.task(handle.id), "data") is None


def test_a_running_task_is_told(queue: Queue, client: redis.Redis, threaded: Callable[[Worker], threading.Thread]) -> None:
    start(queue, threaded)
    handle = queue.enqueue(PyTask("life:until_cancelled", (), result_ttl=60))
    eventually(lambda: handle.status().done == 1)
    status = handle.status()
    assert (status.done, status.total, status.note) == (1, 10, "begun")
    assert handle.cancel() is State.RUNNING
    assert handle.result(10) == "cancelled"


def test_what_current_task_knows(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("life:describe_itself", (), result_ttl=60))
    burst(queue)
    func_path, identity, attempt, where, enqueued = handle.result(1)
    assert (func_path, identity, attempt, where) == ("life:describe_itself", handle.id, 1, queue.name)
    assert abs(enqueued - time.time()) < 60


def test_current_task_is_there_for_plain_tasks_too(
    queue: Queue, client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    queue.enqueue(PyTask("life:note_itself", (f"{queue.name}:r",)))
    burst(queue)
    assert client.lrange(f"{queue.name}:r", 0, -1) == [b"<life:note_itself, id None, attempt 1>"]


@pytest.mark.parametrize("make", [partial(PyTask, "tasks:noop"), partial(GoTask, "main.Noop")])
@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}, {"track": True, "group": "g"}, {"after": 60}])
async def test_what_is_enqueued_twice_is_there_twice(
    make: Callable[..., Task], options: dict[str, Any], queue: Queue, redis_url: str
) -> None:
    """An option must not change what an enqueue means."""
    task = make((), **options)
    handles: list[Handle[Any] | AsyncHandle[Any]] = [queue.enqueue(task) for _ in range(2)]
    async with AsyncQueue(queue.name, redis_url) as other:
        handles.append(await other.enqueue(task))
        assert queue.enqueue_many([task, task]) == await other.enqueue_many([task, task]) == 2
    assert (
        len(enqueued(queue)) + sum(queue.store.call("LLEN", queue.keys.group(digest)) for digest in queue.store.grouped(9))
        == 7
    )
    assert not any(handle.known for handle in handles)
    assert len({handle.id for handle in handles}) == (3 if "id" in headers_of(task.serialize()) else 1)


async def test_who_names_the_id_may_enqueue_again(queue: Queue, redis_url: str) -> None:
    task, identity = PyTask("tasks:two", (1,), result_ttl=60), new_id()
    first, again = queue.enqueue(task, id=identity), queue.enqueue(task, id=identity)
    async with AsyncQueue(queue.name, redis_url) as other:
        last = await other.enqueue(PyTask("tasks:noop", track=True), id=identity)
    assert [(each.id, each.known) for each in (first, again, last)] == [(identity, False), (identity, True), (identity, True)]
    assert queue.len() == 1
    burst(queue)
    assert again.result(10) == 3
    for wrong, words in ((PyTask("m:f"), "only a tracked task"), (task, "16 characters")):
        with pytest.raises(InvalidTask, match=words):
            queue.enqueue(wrong, id=identity if wrong is not task else "short")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeuot": 3}, "did you mean 'timeout'"),
        ({"timeout": 0}, "above 0"),
        ({"result_ttl": -1}, "above 0"),
        ({"at": 1, "after": 1}, "either at or after"),
        ({"after": -1}, "not below 0"),
        ({"after": float("nan")}, "not below 0"),
        ({"after": float("inf")}, "not below 0"),
        ({"at": 1e300}, "seconds"),
        ({"at": float("nan")}, "seconds"),
        ({"at": time.time() * 1000}, "seconds"),
        ({"at": "tomorrow"}, "seconds"),
        ({"expires": float("inf")}, "seconds"),
        ({"timeout": "5"}, "above 0"),
        ({"timeout": True}, "above 0"),
        ({"result_ttl": float("inf")}, "above 0"),
        ({"unique_for": 1e16}, "above 0"),
        ({"unique": 5}, "a string"),
        ({"at": datetime(2026, 1, 1)}, "time zone"),
        ({"expires": 0}, "above 0"),
        ({"unique": "a", "unique_for": None}, "bound"),
        ({"unique": "a", "unique_mode": "always"}, "while_queued"),
        ({"join": True}, "unique"),
        ({"timeout": 5, "hard_timeout": 5}, "hard_timeout is above timeout"),
        ({"timeout": 1e-9}, "a millisecond at least"),  # it would be none
        ({"unique_for": 1e-9}, "a millisecond at least"),
        ({"group": 5}, "group must be a string"),
        ({"concurrency_key": b"k"}, "concurrency_key must be a string"),
        ({"concurrency_key": "k", "concurrency": "2"}, "a number of tasks"),
        ({"concurrency_key": "k", "concurrency": 1.5}, "a number of tasks"),
        ({"concurrency_key": "k", "concurrency": True}, "a number of tasks"),
        ({"backoff": 5}, "Exponential"),
        ({"backoff": Exponential}, "Exponential"),
        ({"retry_on": 5}, "exception types"),
        ({"retry_on": [ValueError, int]}, "exception types"),
        ({"give_up_on": ValueError()}, "exception types"),
        ({"retry": "3"}, "a whole number"),
        ({"retry": True}, "a whole number"),
        ({"retry": 1.5}, "a whole number"),
    ],
)
def test_bad_options_say_what_to_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        PyTask("m:f", **options)


def test_other_bad_use_says_what_to_do(queue: Queue) -> None:
    with pytest.raises(InvalidTask, match="cannot work"):
        Exponential("1")  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="a whole number"):
        GoTask("p.F", retry="3")  # type: ignore[arg-type]
    assert PyTask("m:f", retry=None).serialize() == PyTask("m:f").serialize()  # as upstream
    for wrong in ("m:f", print, None):
        with pytest.raises(InvalidTask, match="a PyTask or a GoTask"):
            queue.enqueue(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidTask, match="a PyTask or a GoTask"):
            queue.enqueue_many([PyTask("m:f"), wrong])  # type: ignore[list-item]
    with pytest.raises(InvalidTask, match="several tasks, not one"):
        queue.enqueue_many(PyTask("m:f"))  # type: ignore[arg-type]
    handle = queue.enqueue(PyTask("m:f", track=True))
    for endless in (float("nan"), "5"):
        with pytest.raises(ConfigurationError, match="a number of seconds to wait"):
            handle.result(endless)  # type: ignore[arg-type]
    assert queue.len() == 1


def test_a_result_is_waited_for_beyond_the_client_s_own_deadline(queue: Queue, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, socket_timeout=0.5) as impatient:
        handle = Queue(queue.name, impatient).enqueue(PyTask("tasks:two", (1,), result_ttl=60))
        with pytest.raises(NotDone):
            handle.result(0.7)


def test_a_command_that_an_exception_interrupts_leaves_its_reply_to_nobody(queue: Queue, client: redis.Redis) -> None:
    """As the timeout of a task does, between the command and its reply."""
    connection = client.connection_pool.get_connection()
    read = connection.read_response

    def interrupted(*_: object, **__: object) -> None:
        connection.read_response = read  # type: ignore[method-assign]
        raise TimedOut

    connection.read_response = interrupted  # type: ignore[method-assign]
    connection.can_read = lambda timeout=0: False  # type: ignore[method-assign]  # the reply is on its way
    client.connection_pool.release(connection)
    with pytest.raises(TimedOut):
        queue.store.call("ECHO", "one")
    assert queue.store.call("ECHO", "two") == b"two"
