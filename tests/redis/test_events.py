"""The event stream, and callbacks of tasks and of workers."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from delayed import hooks as hooks_module
from delayed.backoff import Constant
from delayed.dead_letters.letter import dead_letters
from delayed.delay import delayed
from delayed.errors import InvalidTask
from delayed.events import ABOUT, BUS, Event, Kind, subscribe, table
from delayed.hooks import Hooks
from delayed.job.observed import Observed
from delayed.queue.async_queue import AsyncQueue
from delayed.queue.queue import Queue
from delayed.sweeper.sweep import sweep
from delayed.sweeper.sweeper import Sweeper
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from delayed.workflow import Flow
from tests import ROOT
from tests.conftest import burst
from tests.support.processes import Fleet
from tests.support.waiting import LONG_AGO

DOCUMENT = ROOT / "docs" / "events.md"
SEEN: list[Event] = []
CLOCK = [100.0]


def note(event: Event) -> None:
    SEEN.append(event)


def fine(value: int) -> int:
    return value + 1


def slow(seconds: float) -> None:
    CLOCK[0] += seconds


def slow_and_bad(seconds: float) -> None:
    slow(seconds)
    raise ValueError("slow")


def bad(value: int) -> None:
    raise ValueError(f"bad {value}")


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []
    unsubscribe = subscribe(events.append)
    yield events
    unsubscribe()
    unsubscribe()


@pytest.fixture(autouse=True)
def _nobody_listens() -> Iterator[None]:
    SEEN.clear()
    yield
    assert not any(BUS.listeners(kind) for kind in Kind)
    for function in (fine, bad):
        vars(function).clear()


def kinds(events: list[Event]) -> list[str]:
    return [str(event.kind) for event in events]


def test_the_document_has_the_table() -> None:
    assert table() in DOCUMENT.read_text()
    assert set(ABOUT) == set(Kind)
    assert all(set(names) <= set(Event._fields) for _, _, names in ABOUT.values())


def test_the_life_of_plain_tasks(queue: Queue, heard: list[Event]) -> None:
    queue.enqueue(PyTask(fine, (1,)))
    queue.enqueue_many([PyTask(bad, (2,), retry=1), PyTask("tasks:nope"), PyTask(fine)])
    burst(queue)
    assert kinds(heard) == [
        *["enqueued"] * 4, "worker_up", "started", "succeeded", "started", "retrying", "buried", "started", "buried",
        "started", "failed", "buried", "worker_down",
    ]  # fmt: skip
    assert [event.task.partition(":")[2] for event in heard[:4]] == ["fine", "bad", "nope", "fine"]
    done, again, nope, misfit, failed = heard[6], heard[8], heard[9], heard[11], heard[13]
    assert (done.value, *done.args, done.queue) == (2, 1, queue.name)
    assert str(again.error) == str(failed.error) == "bad 2"
    assert [event.reason for event in (nope, misfit, failed)] == ["unknown_function", "bad_arguments", "failed"]
    assert "hooks.py" not in failed.detail


@pytest.mark.parametrize("options", [{}, {"result_ttl": 9}])
def test_the_time_that_a_function_took(
    options: dict[str, Any], queue: Queue, heard: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("emitter", "job", "runner"):
        monkeypatch.setattr(f"delayed.job.{module}.monotonic", lambda: CLOCK[0])
    queue.enqueue(PyTask(slow, (2.5,), **options))
    burst(queue)
    (done,) = (event for event in heard if event.kind == "succeeded")
    assert done.seconds == 2.5


def test_the_life_of_tasks_with_headers(queue: Queue, heard: list[Event]) -> None:
    first = queue.enqueue(PyTask(fine, (1,), result_ttl=9))
    queue.enqueue(PyTask(bad, (1,), retry=1, track=True))
    queue.enqueue(PyTask(fine, (3,), track=True)).cancel()
    queue.enqueue(PyTask("tasks:return_itself", (), result_ttl=9))
    queue.enqueue(PyTask(fine, (), expires=LONG_AGO))
    burst(queue)
    found = [event for event in heard if event.worker]
    assert kinds(found) == [
        "worker_up", "started", "succeeded", "started", "retrying", "cancelled", "started", "failed", "buried", "buried",
        "started", "failed", "buried", "worker_down",
    ]  # fmt: skip
    assert (found[2].id, found[2].value) == (first.id, 2)
    assert [found[place].attempt for place in (3, 4, 10, 11)] == [1, 1, 2, 2]
    assert found[9].reason == "expired"


def test_sweepers_and_the_lost(queue: Queue, heard: list[Event]) -> None:
    queue.enqueue_many(PyTask(fine, (number,)) for number in range(2))
    for number in range(3):
        while queue.len():
            lease = queue.keys.lease(f"t{number}", queue.len())
            queue.store.take([lease], "t", 600, waiting=True)
            queue.store.call("UNLINK", lease)
        sweep(queue.store, sweeper="s")
    assert [(str(event.kind), event.tasks) for event in heard[2:]] == [("lost", 2), ("lost", 2), ("buried", 2)]
    sweeper = Sweeper([queue])
    ended = subscribe(lambda _: sweeper.stop(), [Kind.SWEEPER_UP])
    sweeper.run()
    ended()
    assert kinds(heard[-2:]) == ["sweeper_up", "sweeper_down"]


def test_who_cancels_says_so(queue: Queue, heard: list[Event]) -> None:
    for options in ({"after": 60}, {"track": True}):
        handle = queue.enqueue(PyTask(fine, (1,), **{"track": True, **options}))  # type: ignore[arg-type]
        handle.cancel()
        assert (heard[-1].kind, heard[-1].queue, heard[-1].id, heard[-1].worker) == ("cancelled", queue.name, handle.id, "")
    retried = queue.enqueue(PyTask(bad, (1,), retry=1, backoff=Constant(60, jitter=False), track=True))
    burst(queue)
    assert kinds(heard).count("cancelled") == 3  # the worker has found the second
    retried.cancel()
    retried.cancel()
    assert kinds(heard).count("cancelled") == 4
    assert [event.task.partition(":")[2] for event in heard if event.kind is Kind.CANCELLED and event.worker] == ["fine"]


def test_what_a_hard_timeout_ends_is_told(fleet: Fleet, queue: Queue, client: redis.Redis) -> None:
    """The heartbeat ends it, and then the process. The module subscribes when it is imported."""
    worker = fleet.worker("--preload", "listening", queue.name)
    queue.enqueue(PyTask("tasks:note_and_stay", (f"{queue.name}:n",), hard_timeout=0.3, result_ttl=60))
    assert worker.wait() == 3
    told = [entry.decode() for entry in queue.store.call("LRANGE", f"{queue.name}:events", 0, -1)]
    assert [entry for entry in told if entry.split()[0] in ("started", "failed", "buried")] == [
        "started  tasks:note_and_stay", "failed timed_out tasks:note_and_stay", "buried timed_out tasks:note_and_stay"
    ]  # fmt: skip
    client.delete(f"{queue.name}:events", f"{queue.name}:n")


def test_a_superseded_worker_says_so(queue: Queue, heard: list[Event]) -> None:
    worker = Worker(queue, allow=["*:*"], burst=True)
    queue.enqueue(PyTask("tasks:fail", ("no",)))  # so its end is waited for

    def steal(_: Event) -> None:
        queue.store.call("DEL", queue.keys.processing)

    ended = subscribe(steal, ["started"])
    worker.run()
    ended()
    assert "superseded" in kinds(heard)


def test_asynchronous_producers(name: str, redis_url: str, heard: list[Event]) -> None:
    async def produce() -> None:
        client = redis.asyncio.Redis.from_url(redis_url)
        queue = AsyncQueue(name, client)
        await queue.enqueue(PyTask(fine, (1,)))
        tracked = await queue.enqueue(PyTask(fine, (1,), track=True))
        await queue.enqueue_many([PyTask(fine, (1,))])
        assert [event.id for event in heard] == [None, tracked.id, None]
        await client.aclose()

    asyncio.run(produce())


@pytest.mark.parametrize("options", [{}, {"track": True}], ids=["plain", "tracked"])
def test_callbacks_of_a_task(queue: Queue, options: dict[str, Any]) -> None:
    task = delayed(queue)
    names: dict[str, Any] = dict.fromkeys(hooks_module.NAMES, note)
    here = f"{__name__}:note"
    task(fine, **names, **options).delay(1)
    task(bad, retry=1, on_retry=here, on_failure=here, **options).delay(2)
    before = queue.store.call("LRANGE", queue.name, 0, -1)
    if not options:
        assert before[0] == PyTask(fine, (1,)).serialize()  # nothing of it is in the task
    burst(queue)
    assert kinds(SEEN) == ["started", "succeeded", "retrying", "buried"]
    assert [str(event.error) for event in SEEN[2:]] == ["bad 2"] * 2


def test_callbacks_of_a_worker(queue: Queue) -> None:
    queue.enqueue(PyTask(fine, (1,)))
    queue.enqueue(PyTask(bad, (1,)))
    burst(queue, hooks=Hooks(on_success=note, on_failure=note))
    assert kinds(SEEN) == ["succeeded", "buried"]


def test_a_callback_that_raises_changes_nothing(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    def wrong(_: Event) -> None:
        sys.exit("a defect")

    task = delayed(queue)
    task(fine, on_start=wrong, on_success="tasks:no_such_function").delay(1)
    task(bad, on_failure=wrong).delay(1)
    ended = subscribe(wrong)
    with caplog.at_level(logging.ERROR, "delayed"):
        worker = burst(queue)
    ended()
    assert worker.finished == 2
    assert [letter.reason for letter in dead_letters(queue)] == ["failed"]
    assert "A callback for 'started' of" in caplog.text
    assert "cannot be found" in caplog.text


def test_who_listens_later_is_heard_and_nobody_costs_nothing(queue: Queue) -> None:
    worker = Worker(queue, allow=["*:*"], burst=True)
    queue.enqueue(PyTask(fine, (1,)))
    worker.run()
    assert worker._parts.functions[f"{__name__}:fine"] is fine
    ended = subscribe(note, [Kind.SUCCEEDED])
    queue.enqueue(PyTask(fine, (1,)))
    worker.run()
    assert isinstance(worker._parts.functions[f"{__name__}:fine"], Observed)
    assert kinds(SEEN) == ["succeeded"]
    ended()
    queue.enqueue(PyTask(fine, (1,)))
    worker.run()
    assert worker._parts.functions[f"{__name__}:fine"] is fine
    assert len(SEEN) == 1


def test_what_is_no_callback(queue: Queue) -> None:
    with pytest.raises(InvalidTask, match="on_start must be a function"):
        delayed(queue)(fine, on_start=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="nonsense"):
        subscribe(note, ["nonsense"])


def test_each_end_says_how_long_it_ran_and_waited(queue: Queue, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("job.emitter", "job.job", "job.runner", "worker.serial"):
        monkeypatch.setattr(f"delayed.{module}.monotonic", lambda: CLOCK[0])
    queue.enqueue(PyTask(slow_and_bad, (2.5,)))
    queue.enqueue(PyTask(slow_and_bad, (1.5,), retry=1, track=True))
    queue.enqueue(PyTask(fine, (1,), track=True, expires=LONG_AGO))
    queue.enqueue(PyTask("tasks:nope"))
    burst(queue)
    ended = [event for event in heard if event.kind in ("retrying", "failed", "buried")]
    assert sorted((str(event.kind), event.seconds) for event in ended) == [
        *[("buried", 0.0)] * 2,
        ("buried", 1.5),
        ("buried", 2.5),
        ("failed", 1.5),
        ("failed", 2.5),
        ("retrying", 1.5),
    ]
    assert [event.waited is not None for event in ended] == [event.id is not None for event in ended]
    waited = [event.waited for event in heard if event.kind == "started" and event.id]
    assert all(each is not None and each >= 0 for each in waited)


@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"async_tasks": 2}], ids=["serial", "threads", "loop"])
def test_a_plain_failure_says_how_long_it_ran(options: dict[str, Any], queue: Queue, heard: list[Event]) -> None:
    queue.enqueue_many([PyTask(bad, (1,)), PyTask("tasks:nope")])
    burst(queue, **options)
    buried = {event.task: event.seconds for event in heard if event.kind is Kind.BURIED}
    assert buried.pop("tasks:nope") == 0.0
    assert min(buried.values()) > 0.0


def test_callbacks_of_what_expired(queue: Queue) -> None:
    delayed(queue)(fine, on_failure=note, expires=LONG_AGO).delay(1)
    burst(queue)
    assert [(event.kind, event.reason) for event in SEEN] == [("buried", "expired")]
    queue.enqueue(PyTask("tasks:nope", (), expires=LONG_AGO))
    burst(queue)
    assert len(SEEN) == 1


def test_a_defect_of_the_worker_is_told(queue: Queue, heard: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("delayed.worker.completer.Completer._packed", broken)
    handle = queue.enqueue(PyTask(fine, (1,), unique="k"))
    burst(queue)
    buried = [event for event in heard if event.kind is Kind.BURIED]
    assert [(event.id, event.reason) for event in buried] == [(handle.id, "failed")]


def test_events_of_nodes_name_their_workflow(queue: Queue, heard: list[Event]) -> None:
    with Flow(queue, "import") as flow:
        flow.add(PyTask(bad, (1,)), after=flow.add(PyTask(fine, (1,))))
    graph = flow.submit()
    burst(queue)
    about = [(str(event.kind), event.flow) for event in heard if not event.kind.startswith("worker")]
    assert about == [(kind, graph.id) for kind in ("flow_started", "started", "succeeded", "started", "failed", "buried")]
    assert (heard[0].task, heard[0].tasks) == ("import", 2)
