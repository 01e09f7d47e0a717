"""What expires does so by the server's clock, whatever a worker's own says."""

from datetime import UTC, datetime

import pytest

from delayed.queue.queue import Queue
from delayed.redis.server_time import ServerTime
from delayed.task.result import State
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.redis.worker.test_executors import MODES

YEARS = 10 * 365 * 86400.0


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("ahead", [YEARS, -YEARS])
@pytest.mark.parametrize("function", ["tasks:two", "coroutines:add"])
def test_a_worker_whose_clock_is_wrong(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mode: dict[str, int], ahead: float, function: str
) -> None:
    seconds, _ = queue.store.call("TIME")
    args = (1, 2)
    good = queue.enqueue(PyTask(function, args, expires=600, result_ttl=60))
    gone = datetime.fromtimestamp(int(seconds) - 60, UTC)
    late = queue.enqueue(PyTask(function, args, expires=gone, result_ttl=60))
    for module in ("job.job", "redis.server_time"):
        monkeypatch.setattr(f"delayed.{module}.now", lambda: int(seconds) + ahead)
    assert burst(queue, **mode).state.clock.known
    assert (good.status().state, late.status().state) == (State.SUCCEEDED, State.EXPIRED)


def test_it_counts_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr("delayed.redis.server_time.monotonic", lambda: moment[0])
    monkeypatch.setattr("delayed.redis.server_time.now", lambda: 5.0)
    time = ServerTime()
    assert (time.known, time.now(), time.age()) == (False, 5.0, float("inf"))
    time.learn([b"2000", b"500000"], 100.0, 101.0)
    assert time.known
    moment[0] = 103.0
    assert time.now() == 2000.5 + 2.5
    assert time.age() == 2.0
