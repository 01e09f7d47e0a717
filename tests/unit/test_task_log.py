"""Which lines the successes of tasks come to."""

import logging

import pytest

from delayed.redis.server_time import ServerTime
from delayed.worker.task_log import MOST, TaskLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> TaskLog:
    caplog.set_level(logging.INFO, "delayed")
    made = TaskLog(ServerTime())
    made.refresh()
    assert made.on
    return made


def succeed(log: TaskLog, path: str, seconds: float, moment: float) -> None:
    """As the loop does."""
    log.totals("mail").succeeded(path, seconds)
    if moment >= log.counting_until:
        log.succeeded("mail", path, seconds, moment)


def test_many_successes_are_one_line_for_each_function_and_second(log: TaskLog, caplog: pytest.LogCaptureFixture) -> None:
    woken: list[float] = []
    log.wake = lambda: woken.append(log.due)
    for number in range(1000):
        succeed(log, "shop:a", 0.5, 10 + number / 2000)
        succeed(log, "shop:b", 0.1, 10 + number / 2000)
    assert len(caplog.records) == MOST
    assert len(woken) == 1
    caplog.clear()
    log.flush()
    counted = 1000 - MOST // 2
    assert [(vars(each)["function"], vars(each)["tasks"], vars(each)["seconds"]) for each in caplog.records] == [
        ("shop:a", counted, pytest.approx(counted * 0.5)),
        ("shop:b", counted, pytest.approx(counted * 0.1)),
    ]
    assert log.due == float("inf")


def test_where_there_were_many_in_the_last_second_all_are_counted(log: TaskLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(MOST + 1):
        succeed(log, "shop:a", 0.0, 10)
    log.flush()
    caplog.clear()
    succeed(log, "shop:a", 0.0, 11.5)
    assert not caplog.records
    log.flush()
    log.flush()
    assert [vars(each)["tasks"] for each in caplog.records] == [1]
    caplog.clear()
    succeed(log, "shop:a", 0.25, 12.6)  # there were few again
    assert caplog.messages == ["Task shop:a succeeded (queue mail, ran 0.250 s)"]


def test_at_debug_each_has_a_line(log: TaskLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "delayed")
    log.refresh()
    for _ in range(2 * MOST):
        succeed(log, "shop:a", 0.0, 10)
    assert len(caplog.records) == 2 * MOST


def test_above_info_nobody_pays(log: TaskLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "delayed")
    log.refresh()
    assert not log.on
