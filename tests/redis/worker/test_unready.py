"""Tasks that a worker cannot run now wait for one that can, or for its own better days; what can never run does not wait."""

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.errors import TaskFailed
from delayed.job.allow import AllowAny
from delayed.ops.info import inspect
from delayed.queue.queue import Queue
from delayed.redis.places import scheduled
from delayed.task.result import State
from delayed.task.task import GoTask, PyTask
from delayed.worker.deferral import Deferral
from delayed.worker.worker import Worker
from tests.conftest import burst, eventually

from .test_executors import MODES

Start = Callable[[Worker], threading.Thread]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the application, which is not there yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "half_deployed", raising=False)
    return tmp_path / "half_deployed.py"


@pytest.fixture(autouse=True)
def _not_deployed() -> None:
    """No test before this one has imported it."""
    sys.modules.pop("half_deployed", None)


def waiting(queue: Queue) -> list[bytes]:
    return [scheduled(member)[1] for member in queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1)]


def put(queue: Queue, data: bytes) -> None:
    queue.store.call("RPUSH", queue.name, data)
    queue.store.call("RPUSH", queue.keys.noti, "1")


def let_time_pass(queue: Queue) -> None:
    """What waits is due."""
    for member in queue.store.call("ZRANGE", queue.keys.scheduled, 0, -1):
        queue.store.call("ZADD", queue.keys.scheduled, 1, member)


UNREADY: list[tuple[bytes, str]] = [
    (PyTask("half_deployed:f").serialize(), "unknown_function"),
    (PyTask("tasks:not_yet", (1,), group="g").serialize(), "unknown_function"),
    (PyTask("os:getpid").serialize(), "not_allowed"),
    (msgpack.packb(["tasks:noop", [], {}, 0, {"!later": 1}]), "unknown_header"),
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("data", "reason"), UNREADY)
def test_what_another_worker_may_run_waits_as_it_is(queue: Queue, mode: dict[str, int], data: bytes, reason: str) -> None:
    put(queue, data)
    worker = Worker(queue, allow=["tasks:*", "half_deployed:*"], burst=True, **mode)  # type: ignore[arg-type]
    worker.run()
    assert waiting(queue) == [data]
    seen = inspect(queue)
    assert (seen.dead, seen.held, seen.waiting) == (0, 0, 0)
    assert worker.describe()["succeeded"] == 0
    let_time_pass(queue)
    Worker(queue, allow=["tasks:*", "half_deployed:*"], burst=True, unready_for=0).run()
    (letter,) = dead_letters(queue)
    assert (letter.reason, letter.data) == (reason, data)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}], ids=str)
def test_another_worker_runs_it(queue: Queue, mode: dict[str, int], options: dict[str, Any]) -> None:
    handle = queue.enqueue(PyTask("tasks:two", (1,), **options))
    stale = Worker(queue, allow=["other:*"], burst=True, **mode)  # type: ignore[arg-type]
    stale.run()
    if options:
        status = handle.status()
        assert status.state is State.SCHEDULED
        assert "not_allowed" in status.waits
    let_time_pass(queue)
    assert burst(queue, **mode).describe()["succeeded"] == 1
    assert not list(dead_letters(queue))
    if options:
        assert handle.result(1) == 3


def test_when_the_time_is_over_it_is_buried_with_the_cause(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:not_yet", (1,), result_ttl=60))
    for _ in range(2):
        Worker(queue, allow=["tasks:*"], burst=True, unready_for=600).run()
        let_time_pass(queue)
    assert not list(dead_letters(queue))
    (digest,), (note,) = client.hkeys(queue.keys.deferred), client.hvals(queue.keys.deferred)
    first, last, count = (int(part) for part in cast(bytes, note).split(b":"))
    client.hset(queue.keys.deferred, digest, f"{first - 600_000}:{last}:{count}")
    Worker(queue, allow=["tasks:*"], burst=True, unready_for=600).run()
    (letter,) = dead_letters(queue)
    assert letter.reason == "unknown_function"
    assert "has no attribute 'not_yet'" in letter.detail
    assert "waited for 600 s" in letter.detail
    with pytest.raises(TaskFailed, match=r"unknown_function: .*no attribute 'not_yet'"):
        handle.result(1)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("options", [{}, {"result_ttl": 60}], ids=str)
def test_an_import_that_raised_is_retried_and_then_waits(
    queue: Queue, module: Path, mode: dict[str, int], options: dict[str, Any]
) -> None:
    module.write_text("raise ConnectionError('the database is starting up')")
    handle = queue.enqueue(PyTask("half_deployed:f", (), retry=2, **options))
    worker = Worker(queue, allow=AllowAny(), burst=True, **mode)  # type: ignore[arg-type]
    worker.run()
    about = worker.describe()
    assert (about["retried"], about["failed"], about["buried"]) == (2, 0, 0)
    assert len(waiting(queue)) == 1
    let_time_pass(queue)
    module.write_text("def f():\n    return 'ran'\n")
    assert burst(queue, **mode).describe()["succeeded"] == 1
    if options:
        assert handle.result(1) == "ran"


def test_its_dead_letter_has_the_traceback(queue: Queue, module: Path) -> None:
    module.write_text("raise ConnectionError('the database is starting up')")
    queue.enqueue(PyTask("half_deployed:f"))
    burst(queue)
    (letter,) = dead_letters(queue)
    assert letter.reason == "failed"
    assert 'half_deployed.py", line 1' in letter.detail
    assert "ConnectionError: the database is starting up" in letter.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", "undecodable"),
        (GoTask("main.Note", (1,)).serialize(), "wrong_language"),
        (PyTask("tasks:__setattr__", ("LIMIT", 5)).serialize(), "not_allowed"),
    ],
)
def test_what_can_never_run_does_not_wait(queue: Queue, data: bytes, reason: str) -> None:
    put(queue, data)
    Worker(queue, allow=["tasks:*"], burst=True).run()
    (letter,) = dead_letters(queue)
    assert letter.reason == reason


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_stale_worker_says_it_once_and_slows_down(
    queue: Queue, caplog: pytest.LogCaptureFixture, mode: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("delayed.worker.deferral._LONGEST", 0.001)
    rests: list[float] = []
    rest = Deferral.rest

    def noted(patience: Deferral, finished: int) -> float:
        rests.append(rest(patience, finished))
        return rests[-1]

    monkeypatch.setattr(Deferral, "rest", noted)
    queue.enqueue_many(PyTask("tasks:not_yet", (number,)) for number in range(100))
    with caplog.at_level(logging.WARNING, "delayed"):
        Worker(queue, allow=["tasks:*"], burst=True, **mode).run()  # type: ignore[arg-type]
    assert caplog.text.count("cannot be run by this worker now") == 1
    assert len(waiting(queue)) == 100
    assert max(rests) > 0


def test_rests_grow_until_something_runs() -> None:
    patience = Deferral(600)

    finished = [0]

    def meet(unready: int, others: int = 0) -> float:
        finished[0] += unready + others
        patience.count += unready
        return patience.rest(finished[0])

    assert [meet(1) for _ in range(9)] == [0.0] * 9
    assert [meet(1) for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert meet(1, others=1) == 0.0
    assert meet(8) == 0.0
    assert meet(100) == 0.05


def test_lines_are_counted_instead(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [1000.0]
    monkeypatch.setattr("delayed.worker.deferral.monotonic", lambda: moment[0])
    patience = Deferral(600)
    with caplog.at_level(logging.WARNING, "delayed"):
        for step in range(130):
            moment[0] = 1000.0 + step
            patience.put_off("m:f", "unknown_function", "no such thing")
        patience.put_off("m:f", "not_allowed", "no such right")
        patience.put_off("m:g", "unknown_function", "no such thing")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert "59 more" in lines[1]
    assert "59 more" in lines[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"track": True}])
def test_what_runs_elsewhere_makes_no_time_shorter(
    queue: Queue, client: redis.Redis, threaded: Start, mode: dict[str, int], options: dict[str, Any]
) -> None:
    """The tasks of a schedule have the same bytes each time: one that a stale worker meets must not pay for the others."""
    data = PyTask("tasks:noop").serialize()
    put(queue, data)
    Worker(queue, allow=["other:*"], burst=True).run()
    (noted,) = client.hkeys(queue.keys.deferred)
    worker = Worker(queue, 0.05, **cast(Any, {**mode, "allow": ["tasks:*"]}))
    threaded(worker)
    eventually(lambda: worker.state.pools[0].deferred)
    queue.enqueue(PyTask("tasks:noop", **options))
    put(queue, data)
    eventually(lambda: not client.hexists(queue.keys.deferred, noted))
    let_time_pass(queue)
    eventually(lambda: inspect(queue)[1:4] == (0, 0, 0))
