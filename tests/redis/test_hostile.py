"""Headers that lie, middlewares and values that raise: a task may fail of them, and its worker works on."""

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskFailed
from delayed.job.allow import AllowAny
from delayed.job.job import Job
from delayed.job.middleware import Middleware, Step
from delayed.job.outcome import Outcome
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.store import Store
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually

ID = "0123456789abcdef"
HUGE, TINY = 2**64 - 1, -(2**63)


def put(queue: Queue, func_path: str, args: list[Any], count: int, headers: dict[str, Any]) -> None:
    """A task of another program."""
    queue.store._add("enqueue", (queue.keys.queue, queue.keys.noti), [msgpack.packb([func_path, args, {}, count, headers])])


NUMBERS: list[Any] = [HUGE, TINY, -1, 0, True, "1", None, [1], 1e300]
LIES: dict[str, list[Any]] = {
    **dict.fromkeys(("timeout", "result_ttl", "expires", "attempt", "enqueued", "retry"), NUMBERS),
    "hard_timeout": NUMBERS,
    "unique": [
        *(["a", "while_running", bound] for bound in (HUGE, TINY, True, 1.5, "1", None)),
        ["a", [], 1],
        ["a", True, 1],
        ["a", "never", 1],
        [True, "until_done", 1],
        ["a", "until_done"],
        "a",
        {},
        5,
    ],
    "concurrency": [*(["k", limit] for limit in (True, HUGE, TINY, 0, 1.5, "1", None)), [True, 1], [b"k", 1], ["k"], "k", {}],
    "group": [*NUMBERS[:-3], [1], b"g"],
    "backoff": [
        ["constant", float("inf"), float("inf"), False],
        ["constant", float("inf"), float("inf"), True],
        [[], 1, 1, 1],
        ["linear", True, 1, False],
        ["linear", 1, 1, 1],
        "abcd",
        5,
        [],
        {},
    ],
    "retry_on": [[["a"]], [{}], "a", 5, [None]],
    "give_up_on": [[["a"]], [{}], "a", 5, [None]],
}


@pytest.mark.parametrize("headers", [{name: value} for name in LIES for value in LIES[name]], ids=str)
@pytest.mark.parametrize("func_path", ["tasks:two", "tasks:fail"])
def test_headers_that_lie(queue: Queue, threaded: Callable[[Worker], object], headers: dict[str, Any], func_path: str) -> None:
    put(queue, func_path, [1], 1, {"id": ID, **headers})
    last = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    threaded(Worker(queue, allow=AllowAny()))
    assert last.result(15) == 3


@pytest.mark.parametrize("identity", ["a", "0" * 36, "é" * 16, "a/b c:d*e?f[g]h!", 5, None])
def test_an_id_of_another_form_is_none(queue: Queue, identity: object) -> None:
    """Whatever it is, the task comes out of the schedule as it went in."""
    put(queue, "tasks:fail", ["no"], 1, {"id": identity, "backoff": ["constant", 0.001, 1, False]})
    burst(queue)
    eventually(lambda: (burst(queue), inspect(queue).dead == 1)[1])
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"


@pytest.mark.parametrize("timeout", [HUGE, TINY, -1, True, 1e300])
def test_a_timer_that_cannot_be_set(queue: Queue, timeout: object) -> None:
    """In the main thread, where there are timers."""
    put(queue, "tasks:two", [1], 0, {"timeout": timeout})
    assert burst(queue).finished == 1


def forgets(job: Job, call_next: Step) -> Outcome:
    call_next(job)
    return None  # type: ignore[return-value]


def breaks(job: Job, call_next: Step) -> Outcome:
    raise redis.ConnectionError("the middleware's own Redis is away")


def leaves(job: Job, call_next: Step) -> Outcome:
    raise SystemExit(5)


@pytest.mark.parametrize("middleware", [forgets, breaks, leaves])
def test_a_middleware_that_fails_fails_the_task(queue: Queue, middleware: Middleware) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    queue.enqueue_many([PyTask("tasks:noop")] * 3)
    queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    assert burst(queue, middlewares=[middleware]).finished == 5
    assert handle.status().state is State.FAILED
    assert inspect(queue).dead == 2


@pytest.mark.parametrize("kind", ["str", "traceback"])
def test_exceptions_that_cannot_be_shown_are_retried(queue: Queue, kind: str) -> None:
    handle = queue.enqueue(PyTask("tasks:raise_strange", (kind,), retry=2, result_ttl=60))
    assert sum(burst(queue).finished for _ in range(3)) == 3
    assert handle.status().state is State.FAILED


def test_text_that_has_no_form_in_utf_8_is_retried(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delayed.job.runner.logger.disabled", True)  # what collects the logs of tests cannot have it either
    handle = queue.enqueue(PyTask("tasks:fail_without_utf8", (), retry=1, result_ttl=60))
    assert sum(burst(queue).finished for _ in range(2)) == 2
    with pytest.raises(TaskFailed):
        handle.result(1)


@pytest.mark.parametrize("func_path", ["tasks:return_unshowable", "tasks:return_deep"])
def test_results_that_cannot_be_shown_are_failures(queue: Queue, func_path: str) -> None:
    handle = queue.enqueue(PyTask(func_path, (), result_ttl=60))
    burst(queue)
    with pytest.raises(TaskFailed, match="MessagePack cannot carry"):
        handle.result(1)


def test_after_a_fault_at_its_start_nothing_is_late(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection breaks when it begins, and it has a hard timeout: the process, which is ours, must not end by that."""
    handle = queue.enqueue(PyTask("tasks:two", (1,), hard_timeout=60, result_ttl=60))
    worker = Worker(queue, allow=AllowAny(), burst=True)
    seen: list[object] = []
    monkeypatch.setattr(Store, "start_many", break_once(Store.start_many))
    monkeypatch.setattr(worker._parts.fetcher, "connect", remember(worker, seen))
    worker.run()
    assert seen == [(None, None, -1.0, False)] * 2
    assert handle.result(1) == 3


def break_once(method: Callable[..., Any]) -> Callable[..., Any]:
    calls = [0]

    def broken(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise redis.ConnectionError("broken")
        return method(*args, **options)

    return broken


def remember(worker: Worker, seen: list[object]) -> Callable[[], None]:
    connect = worker._parts.fetcher.connect

    def connecting() -> None:
        seen.append(
            (worker.state.deadline, worker.state.running, worker.state.scoreboard.late, worker.state.scoreboard.working)
        )
        connect()

    return connecting
