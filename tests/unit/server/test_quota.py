"""So many requests in some time, over so many connections."""

from collections.abc import Callable

import pytest

from delayed.server import quota
from delayed.server.access import Grant
from delayed.server.quota import Quotas


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set."""
    time = [100.0]
    monkeypatch.setattr(quota, "monotonic", lambda: time[0])
    return time


def test_requests_come_back_with_time(clock: list[float]) -> None:
    quotas = Quotas()
    assert quotas.admit("a", (10, 60.0), 4)[0] == 4
    assert quotas.admit("a", (10, 60.0), 10) == (6, 6.0)
    assert quotas.admit("a", (10, 60.0)) == (0, 6.0)
    assert quotas.admit("b", (10, 60.0))[0] == 1  # another token
    clock[0] += 12
    assert quotas.admit("a", (10, 60.0), 5)[0] == 2
    clock[0] += 3600
    assert quotas.admit("a", (10, 60.0), 100)[0] == 10  # no more than that at once


class Connection:
    def __init__(self) -> None:
        self.tell: Callable[[], object] | None = None

    def when_lost(self, tell: Callable[[], object]) -> None:
        self.tell = tell


def test_connections_end() -> None:
    quotas, (one, two, three) = Quotas(), (Connection(), Connection(), Connection())
    assert [quotas.enter("a", 2, each) for each in (one, two, one, three)] == [True, True, True, False]
    assert quotas.enter("b", 2, three)
    assert one.tell is not None
    one.tell()
    assert quotas.enter("a", 2, three)
    assert not quotas.enter("a", 2, one)


def test_limits_stand_in_redis_if_there_are_some() -> None:
    limited = Grant("a", rate=(100, 1.0), connections=50)
    assert Grant.of(limited.packed()) == limited
    assert b"connections" not in Grant("a").packed()  # an older server can read it
    assert Grant.of(Grant("a").packed()) == Grant("a")
