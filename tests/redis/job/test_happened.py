"""Success only if something has run: what functions return is awaited, or is a failure that says so."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.delay import delayed
from delayed.errors import ConfigurationError, InvalidTask, TaskFailed
from delayed.events import BUS, Event, Kind
from delayed.hooks import Hooks
from delayed.job.job import Job
from delayed.job.middleware import Step
from delayed.job.outcome import Outcome
from delayed.queue.queue import Queue
from delayed.redis.embedded import EmbeddedRedis
from delayed.task.task import PyTask
from delayed.testing.drain import drain
from delayed.testing.fake import fake_queue
from delayed.worker.worker import Worker
from tests.app import odd as names
from tests.conftest import burst
from tests.redis.worker.test_executors import MODES


@pytest.fixture(autouse=True)
def _tasks_find_redis(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", server.url)


LISTENING: list[Hooks | None] = [None, Hooks(on_success=lambda _event: None)]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("hooks", LISTENING, ids=["unheard", "heard"])
def test_what_can_be_awaited_is(queue: Queue, client: redis.Redis, mode: dict[str, int], hooks: Hooks | None) -> None:
    key = f"{queue.name}:r"
    for name in names.AWAITED:
        queue.enqueue(PyTask(f"odd:{name}", (key, name)))
        queue.enqueue(PyTask(f"odd:{name}", (key, name), retry=3, timeout=60))
    handles = [queue.enqueue(PyTask(f"odd:{name}", (key, name), result_ttl=60)) for name in names.AWAITED]
    assert burst(queue, **({"hooks": hooks} if hooks else {}), **mode).finished == 3 * len(names.AWAITED)
    assert not list(dead_letters(queue))
    assert sorted(client.lrange(key, 0, -1)) == sorted(name.encode() for name in names.AWAITED * 3)
    assert [handle.result(1) for handle in handles] == names.AWAITED
    client.delete(key)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("hooks", LISTENING, ids=["unheard", "heard"])
def test_generators_are_failures(queue: Queue, client: redis.Redis, mode: dict[str, int], hooks: Hooks | None) -> None:
    key = f"{queue.name}:r"
    queue.enqueue_many(PyTask(f"odd:{name}", (key, name)) for name in names.GENERATORS)
    handles = [queue.enqueue(PyTask(f"odd:{name}", (key, name), result_ttl=60)) for name in names.GENERATORS]
    worker = burst(queue, **({"hooks": hooks} if hooks else {}), **mode)
    assert worker.describe()["succeeded"] == 0
    letters = list(dead_letters(queue))
    assert [letter.reason for letter in letters] == ["failed"] * 2 * len(names.GENERATORS)
    assert all("generator, so that nothing of it has run" in letter.detail for letter in letters)
    for handle in handles:
        with pytest.raises(TaskFailed, match="nothing of it has run"):
            handle.result(1)
    assert not client.exists(key)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", ["forever", "sleep_on"])
def test_it_has_the_time_of_its_task(queue: Queue, mode: dict[str, int], name: str) -> None:
    handle = queue.enqueue(PyTask(f"odd:{name}", (), timeout=0.2, result_ttl=60))
    burst(queue, **mode)
    with pytest.raises(TaskFailed, match=r"exceeded its timeout of 0\.2 s"):
        handle.result(1)


def test_drain_awaits_too() -> None:
    queue = fake_queue("q")
    handle = queue.enqueue(PyTask("delayed.base.clock:now", (), result_ttl=60))  # one that does not
    for name in names.GENERATORS:
        queue.enqueue(PyTask(f"odd:{name}", ("k", "v")))
        with pytest.raises(InvalidTask, match="nothing of it has run"):
            drain(queue)
    assert isinstance(handle.result(), float)
    last = queue.enqueue(PyTask(f"{__name__}:later", (5,), result_ttl=60))
    drain(queue)
    assert last.result() == 6


@names.plainly
async def later(number: int) -> int:
    return number + 1


# Refused where they are defined


def generates() -> Iterator[int]:
    yield 1


async def generates_later() -> AsyncIterator[int]:
    yield 1


async def waits(_event: Any) -> None: ...


@pytest.mark.parametrize("function", [generates, generates_later])
def test_generator_functions_are_no_tasks(function: Callable[..., Any]) -> None:
    queue = fake_queue("q")
    with pytest.raises(InvalidTask, match="is a generator function"):
        PyTask(function)
    with pytest.raises(InvalidTask, match="is a generator function"):
        delayed(queue)(function)
    with pytest.raises(InvalidTask, match="is a generator function"):
        delayed(queue).cron("* * * * *")(function)


@pytest.mark.parametrize("function", [generates, generates_later, waits])
def test_nobody_waits_for_hooks_and_listeners(function: Callable[..., Any]) -> None:
    with pytest.raises(InvalidTask, match="plain function"):
        Hooks(on_success=function)
    with pytest.raises(ConfigurationError, match="plain function"):
        BUS.subscribe(function)


def test_what_a_listener_returns_is_looked_at(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    end = BUS.subscribe(names.plainly(waits), [Kind.ENQUEUED])
    try:
        queue.enqueue(PyTask("tasks:noop"))
    finally:
        end()
    assert "it returned coroutine, so nothing of it has run" in caplog.text


@pytest.mark.parametrize("function", [generates, generates_later, 5])
def test_middlewares_are_functions(queue: Queue, function: Any) -> None:
    with pytest.raises(ConfigurationError, match="a middleware is a function"):
        Worker(queue, allow=["tasks:*"], middlewares=[function])


@names.plainly
async def hidden(job: Job, call_next: Step) -> Outcome:
    return call_next(job)


def test_a_middleware_that_only_seems_to_be_plain_fails_the_task(queue: Queue) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    burst(queue, middlewares=[hidden])
    with pytest.raises(TaskFailed, match="a middleware returned coroutine"):
        handle.result(1)


def heard(event: Event) -> None: ...


def test_plain_hooks_are_taken() -> None:
    assert Hooks(on_success=heard).on_success is heard
