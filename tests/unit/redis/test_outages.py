"""What is logged of a Redis that is away, and how often."""

import logging

import pytest
import redis

from delayed.redis import outage as module
from delayed.redis.command import ResponseError
from delayed.redis.outage import OutageLog

AWAY = redis.ConnectionError("refused")
REFUSED = ResponseError("WRONGTYPE")


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, "delayed")
    monkeypatch.setattr(module, "_outages", {})
    fake = Clock()
    monkeypatch.setattr(module, "monotonic", fake)
    return fake


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return said


def outage(host: str = "h") -> OutageLog:
    return OutageLog(redis.Redis(host))


def test_a_line_at_once_then_every_ten_seconds_and_one_at_the_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Of all together that use the server."""
    worker, heartbeat = outage(), outage()
    worker.works("worker")
    for _ in range(250):
        worker.failed("worker", AWAY)
        heartbeat.failed("heartbeat", AWAY)
        clock.time += 0.1
    line = "WARNING Redis at redis://h:6379/0: worker: refused; retrying; next message in 10 s"
    assert told(caplog) == [line] * 3
    worker.works("worker")
    worker.works("worker")
    assert not told(caplog)  # the heartbeat has not been heard of
    heartbeat.works("heartbeat")
    assert told(caplog) == ["INFO Redis at redis://h:6379/0 is back, after 25.0 s"]
    worker.failed("worker", AWAY)
    assert told(caplog) == [line]


def test_what_comes_and_goes_fills_no_log(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    one = outage()
    for _ in range(99):
        one.failed("worker", AWAY)
        clock.time += 0.1
        one.works("worker")
    assert [line.split()[0] for line in told(caplog)] == ["WARNING", "INFO"]


def test_what_redis_refuses_hides_nothing_else(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    one, other = outage(), outage("i")
    for _ in range(5):
        one.failed("sweep of a", REFUSED)
        one.failed("sweep of b", REFUSED)
        one.failed("sweep of a", AWAY)
        other.failed("sweep of a", AWAY)
    assert [line.split(": ")[1:3] for line in told(caplog)] == [
        ["sweep of a", "WRONGTYPE; retrying; next message in 10 s"],
        ["sweep of b", "WRONGTYPE; retrying; next message in 10 s"],
        ["sweep of a", "refused; retrying; next message in 10 s"],
        ["sweep of a", "refused; retrying; next message in 10 s"],
    ]
    one.works("sweep of a")
    one.works("sweep of b")
    assert told(caplog) == [
        "INFO Redis at redis://h:6379/0 is back, after 0.0 s",
        "INFO Redis at redis://h:6379/0 lets us do it again: sweep of a, after 0.0 s",
        "INFO Redis at redis://h:6379/0 lets us do it again: sweep of b, after 0.0 s",
    ]


def test_a_forked_process_tells_for_itself(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage().failed("supervisor", AWAY)
    monkeypatch.setattr("os.getpid", lambda: -1)
    outage().failed("worker", AWAY)
    assert len(told(caplog)) == 2
