"""The results of many tasks at once."""

from typing import Any

import pytest
import redis

from delayed import results
from delayed.errors import NoResult, NotDone, TaskFailed
from delayed.job.allow import AllowAny
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.worker.worker import Worker
from tests.conftest import burst
from tests.redis.test_costs import monitored


def test_a_hundred_are_read_in_one_round_trip(
    queue: Queue, client: redis.Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = queue.enqueue_all(PyTask("tasks:two", (number,), result_ttl=60) for number in range(250))
    burst(queue)
    trips: list[int] = []
    outcomes = queue.store.outcomes

    def counted(ids: list[str]) -> list[Any]:
        trips.append(len(ids))
        return outcomes(ids)

    monkeypatch.setattr(queue.store, "outcomes", counted)
    with monitored(client, name) as sent:
        assert list(results(handles)) == [number + 2 for number in range(250)]
    assert (trips, sent.count("HMGET")) == ([100, 100, 50], 250)


def test_errors_come_in_their_places_if_they_shall(queue: Queue) -> None:
    other = Queue(f"{queue.name}-b", queue.conn)
    handles: list[Any] = [
        queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60)),
        other.enqueue(PyTask("tasks:fail", ("no",), result_ttl=60)),
        queue.enqueue(PyTask("tasks:noop")),
        other.enqueue(PyTask("tasks:two", (4,), result_ttl=60)),
        queue.enqueue(PyTask("tasks:noop", (), after=600, result_ttl=60)),
    ]
    burst(queue)
    burst(other)
    found = list(results(handles, 0.01, return_exceptions=True))
    assert [found[0], found[3]] == [3, 6]
    assert [type(found[place]) for place in (1, 2, 4)] == [TaskFailed, NoResult, NotDone]
    coming = results(handles)
    assert next(coming) == 3
    with pytest.raises(TaskFailed):
        next(coming)


def test_those_that_have_not_ended_are_waited_for(queue: Queue, threaded: Any) -> None:
    handles = queue.enqueue_all(PyTask("tasks:two", (number,), result_ttl=60) for number in range(20))
    threaded(Worker(queue, allow=AllowAny()))
    assert list(results(handles, 20)) == [number + 2 for number in range(20)]
