"""Nothing that a task's objects do when they are asked, and nothing in our own code, ends a worker, or goes round for ever."""

import asyncio
import hashlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskFailed
from delayed.events import BUS, Event
from delayed.hooks import Hooks
from delayed.job.allow import AllowAny
from delayed.job.runner import Runner
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.sweeper.sweep import sweep
from delayed.task.result import State
from delayed.task.task import PyTask
from delayed.worker.completer import Completer
from delayed.worker.execution import Execution
from delayed.worker.fetcher import Fetcher
from delayed.worker.heartbeat import Heartbeat
from delayed.worker.worker import Worker
from tests.app import odd as names
from tests.conftest import burst, eventually
from tests.redis.worker.test_executors import MODES

Start = Callable[[Worker], threading.Thread]


@pytest.fixture(autouse=True)
def _tasks_find_redis(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("function", ["fail", "afail"])
def test_whatever_a_tasks_exception_raises_when_it_is_asked(queue: Queue, mode: dict[str, int], function: str) -> None:
    handles = [queue.enqueue(PyTask(f"odd:{function}", (kind,), result_ttl=60)) for kind in names.ERRORS]
    queue.enqueue_many(PyTask(f"odd:{function}", (kind,)) for kind in names.ERRORS)
    queue.enqueue_many(PyTask(f"odd:{function}", (kind,), retry=1, retry_on="KeyError") for kind in names.ERRORS)
    last = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    worker = burst(queue, **mode)
    assert last.result(1) == 3
    assert worker.finished == 1 + 3 * len(names.ERRORS)
    letters = list(dead_letters(queue))
    assert len(letters) == 3 * len(names.ERRORS)
    assert {letter.reason for letter in letters} == {"failed"}
    assert all("odd.py" in letter.detail for letter in letters)  # where it was raised is known in any case
    for handle in handles:
        assert handle.status().state is State.FAILED


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("function", ["give", "agive"])
def test_whatever_a_tasks_value_raises_when_it_is_packed(queue: Queue, mode: dict[str, int], function: str) -> None:
    handles = [queue.enqueue(PyTask(f"odd:{function}", (kind,), result_ttl=60)) for kind in names.VALUES]
    queue.enqueue_many(PyTask(f"odd:{function}", (kind,)) for kind in names.VALUES)
    last = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    worker = burst(queue, **mode)
    assert last.result(1) == 3
    assert worker.finished == 1 + 2 * len(names.VALUES)
    for handle in handles:
        with pytest.raises(TaskFailed, match="MessagePack cannot carry"):
            handle.result(1)


def shouts(_event: Event) -> None:
    raise names.Own


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_whatever_listeners_and_hooks_raise(queue: Queue, mode: dict[str, int]) -> None:
    hooks = Hooks(shouts, shouts, shouts, shouts)
    end = BUS.subscribe(shouts)
    try:
        handles = [queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)) for _ in range(3)]
        queue.enqueue_many([PyTask("tasks:two", (1,)), PyTask("tasks:fail", ("no",), retry=1)])
        worker = burst(queue, hooks=hooks, **mode)
    finally:
        end()
    assert worker.finished == 6
    assert [handle.result(1) for handle in handles] == [3, 3, 3]


# Our own code


def raising(method: Callable[..., Any], times: int, error: BaseException, after: bool = False) -> Callable[..., Any]:
    """`method`, which raises so often, before or after it does what it does."""
    left = [times]

    def broken(*args: Any, **options: Any) -> Any:
        if left[0] and not after:
            left[0] -= 1
            raise error
        found = method(*args, **options)
        if left[0]:
            left[0] -= 1
            raise error
        return found

    return broken


PLACES: list[tuple[type, str, dict[str, Any]]] = [
    (Completer, "succeed", {}),
    (Completer, "fail", {"fails": True}),
    (Completer, "end", {"result_ttl": 60}),
    (Completer, "_posted", {"result_ttl": 60}),
    (Runner, "begin", {"result_ttl": 60, "unique": "k"}),
    (Completer, "_packed", {"result_ttl": 60, "unique": "k"}),
    (Runner, "end", {"fails": True, "result_ttl": 60}),
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("error", [TypeError("a defect"), SystemExit(5), names.Own()], ids=repr)
@pytest.mark.parametrize(("kind", "method", "options"), PLACES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_defect_costs_the_task_and_not_the_worker(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int], error: BaseException, kind: type, method: str,
    options: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(kind, method, raising(getattr(kind, method), 1, error))
    asked = {name: value for name, value in options.items() if name != "fails"}
    path, args = ("tasks:fail", ("no",)) if "fails" in options else ("tasks:two", (1,))
    first = queue.enqueue(PyTask(path, args, **asked))
    last = queue.enqueue(PyTask("tasks:two", (2,), result_ttl=60))
    worker = burst(queue, **mode)
    assert worker.finished == 2
    assert last.result(1) == 4
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert letter.detail.startswith("not the task's own code")
    assert type(error).__name__ in letter.detail
    if asked:
        with pytest.raises(TaskFailed, match=type(error).__name__):
            first.result(1)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_after_its_ending_a_defect_changes_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int]
) -> None:
    monkeypatch.setattr(Completer, "succeed", raising(Completer.succeed, 1, TypeError("a defect"), after=True))
    queue.enqueue_many(PyTask("tasks:noop") for _ in range(3))
    assert burst(queue, **mode).finished == 3
    assert not list(dead_letters(queue))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_task_of_which_not_even_a_dead_letter_can_be_made_is_lost(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int]
) -> None:
    """So the third time makes it one, and no crash loop is endless."""
    queue.enqueue(PyTask("tasks:noop"))
    monkeypatch.setattr(Completer, "succeed", raising(Completer.succeed, 9, TypeError("a defect")))
    monkeypatch.setattr(Completer, "_bury_broken", raising(Completer._bury_broken, 9, TypeError("another")))
    for losses in range(1, 4):
        worker = Worker(queue, allow=AllowAny(), burst=True, **mode)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="another"):
            worker.run()
        assert not worker.state.scoreboard.left
        (lease,) = queue.store.call("HKEYS", queue.keys.processing)
        assert not queue.store.call("EXISTS", lease)
        sweep(queue.store)
        assert queue.len() == (losses < 3)
    (letter,) = dead_letters(queue)
    assert letter.reason == "lost"


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("after", [False, True])
def test_what_is_raised_between_tasks_is_survived(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int], after: bool
) -> None:
    """With the connection amid a reply, or with tasks that have been taken and are not in hand yet."""
    monkeypatch.setattr(Fetcher, "take", raising(Fetcher.take, 3, names.Own(), after))
    handles = [queue.enqueue(PyTask("tasks:two", (number,), result_ttl=60)) for number in range(5)]
    assert burst(queue, **mode).finished == 5
    assert [handle.result(1) for handle in handles] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_but_not_without_end(queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int]) -> None:
    monkeypatch.setattr("delayed.worker.recovery._LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(Fetcher, "take", raising(Fetcher.take, 1000, names.Own()))
    queue.enqueue(PyTask("tasks:noop"))
    with pytest.raises(names.Own):
        burst(queue, **mode)
    assert queue.len() == 1


def test_a_timer_that_a_task_has_left_rings_while_the_worker_waits(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the main thread; it rings amid a blocking command, whose reply comes later."""
    rang = threading.Event()

    def ring(_signum: int, _frame: FrameType | None) -> None:
        rang.set()
        raise names.Own

    before = signal.signal(signal.SIGALRM, ring)
    worker = Worker(queue, allow=AllowAny())
    handles: list[Handle[Any]] = []

    def later() -> None:
        eventually(lambda: worker.state.rounds > 0)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        rang.wait(20)
        handles.extend(queue.enqueue(PyTask("tasks:two", (number,), result_ttl=60)) for number in range(3))
        try:
            for handle in handles:
                handle.result(20)
        finally:
            worker.stop()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        worker.run()
    finally:
        thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rang.is_set()
    assert [handle.result(1) for handle in handles] == [2, 3, 4]
    assert not queue.store.call("HLEN", queue.keys.workers)  # it has said goodbye


@pytest.mark.parametrize("method", ["_beat", "_feed_watchdog", "_hear", "_return_unstarted"])
def test_the_heart_outlives_what_is_raised_in_it(
    queue: Queue, threaded: Start, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(Heartbeat, method, raising(getattr(Heartbeat, method), 3, SystemExit(1)))
    worker = Worker(queue, 0.1, allow=AllowAny())
    thread = threaded(worker)
    key = f"{queue.name}:h"
    queue.enqueue_many(PyTask("tasks:hold", (key, number)) for number in range(2))
    assert queue.store.call("BLPOP", f"{key}:began", 20)
    heart = worker._heartbeat
    seen = worker.state.fresh_at
    eventually(lambda: heart.is_alive() and worker.state.fresh_at > seen)
    assert thread.is_alive()
    queue.store.call("RPUSH", f"{key}:go", 1, 1)
    eventually(lambda: worker.finished == 2)
    for word in ("began", "ended", "go"):
        queue.store.call("DEL", f"{key}:{word}")


def test_a_loss_that_another_program_wrote_ends_no_worker(queue: Queue) -> None:
    task = PyTask("tasks:two", (1,), result_ttl=60)
    handle = queue.enqueue(task)
    digest = hashlib.sha1(queue.store.call("LINDEX", queue.name, 0), usedforsecurity=False).hexdigest()
    queue.store.call("HSET", queue.keys.lost, digest, "many:too")
    assert burst(queue, threads=1).finished == 1
    assert handle.result(1) == 3


@pytest.mark.parametrize("mode", [mode for mode in MODES if "async_tasks" in mode], ids=str)
def test_what_is_handed_to_the_loop_is_answered(queue: Queue, mode: dict[str, int], client: redis.Redis) -> None:
    key = f"{queue.name}:n"
    queue.enqueue(PyTask("odd:set_factory", (key,)))
    queue.enqueue_many(PyTask("coroutines:anote", (key, number)) for number in range(20))
    assert burst(queue, **mode).finished == 21
    assert client.llen(key) == 21
    assert not list(dead_letters(queue))


@pytest.mark.parametrize("broken", ["run_async", "call_soon_threadsafe"])
def test_what_cannot_begin_in_the_loop_fails(queue: Queue, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "run_async":
        monkeypatch.setattr(Execution, broken, raising(Execution.run_async, 1, TypeError("no task")))
    else:
        loop = asyncio.new_event_loop()
        monkeypatch.setattr("delayed.worker.executors.asyncio.new_event_loop", lambda: loop)
        monkeypatch.setattr(loop, broken, raising(getattr(loop, broken), 1, RuntimeError("no loop")))
    handles = [queue.enqueue(PyTask("coroutines:add", (1, number), result_ttl=60)) for number in range(2)]
    assert burst(queue, async_tasks=4).finished == 2
    with pytest.raises(TaskFailed, match=r"no (task|loop)"):
        handles[0].result(1)
    assert handles[1].result(1) == 2
