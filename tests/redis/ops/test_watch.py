"""What is told of a queue's totals, and what that costs."""

import json

import pytest
import redis

from delayed.ops import watch as watching
from delayed.ops.statistics import sums_of
from delayed.ops.watch import KINDS, Watch, Watched
from delayed.queue.history import event, packed
from delayed.queue.queue import Queue
from delayed.redis.command import ResponseError
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.support.command import run


@pytest.fixture(autouse=True)
def _at_each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks whenever it reads, and not once a second."""
    monkeypatch.setattr(watching, "_LOOK", 0.0)


def stats(watch: Watch) -> list[Watched]:
    """The totals that a read tells."""
    return [each for each in watch.read(0.001) if each.kind == "stats"]


def test_enqueues_and_successes_show_in_the_totals(queue: Queue) -> None:
    watch = Watch([queue])
    queue.enqueue(PyTask("tasks:two", (1,)))
    (told,) = stats(watch)
    assert told.stats is not None
    assert (told.queue, told.stats.enqueued, told.stats.waiting, told.stats.completed) == (queue.name, 1, 1, 0)
    assert told.as_dict()["stats"] == told.stats._asdict()
    assert told.kind in KINDS
    assert stats(watch) == []  # nothing has changed
    burst(queue)
    seen: list[Watched] = []

    def completed() -> bool:
        seen.extend(stats(watch))
        return any(each.stats is not None and each.stats.completed == 1 for each in seen)

    eventually(completed)
    assert watch.stats == seen[-1:]
    watch.drop(queue)
    assert (stats(watch), watch.stats) == ([], [])


def test_of_many_queues_each_has_its_turn(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AT_ONCE", 2)
    queues = [queue, *(Queue(f"{queue.name}-{number}", queue.conn) for number in range(2))]
    watch = Watch(queues)
    told = [[each.queue for each in stats(watch)] for _ in range(3)]
    assert told == [[queues[0].name, queues[1].name], [queues[2].name], []]


@pytest.mark.breaks_invariants("another program's key")
def test_a_queue_that_cannot_be_read_is_left_out(queue: Queue, client: redis.Redis) -> None:
    queues = [Queue(f"{queue.name}-{number}", queue.conn) for number in range(5)]
    client.set(queues[2].keys.stats_total, "another program's")
    client.set(queues[3].keys.processing, "another program's")
    assert [each.name for each, _ in sums_of(queues)] == [queues[0].name, queues[1].name, queues[4].name]
    client.delete(queues[2].keys.stats_total, queues[3].keys.processing)


@pytest.mark.breaks_invariants("another program's key")
def test_what_was_read_is_told_though_the_look_fails(queue: Queue, client: redis.Redis) -> None:
    watch = Watch([queue])
    client.set(queue.keys.workers, "another program's")
    client.xadd(queue.keys.history, {"batch": packed("h:1", {}, [event(1.0, "failed", "m:f", said="no")], 1.0)})
    assert [each.kind for each in watch.read(0.001)] == ["task"]
    with pytest.raises(ResponseError):
        watch.read(0.001)
    client.delete(queue.keys.workers)


def test_the_command_prints_totals(queue: Queue, redis_url: str) -> None:
    queue.enqueue(PyTask("tasks:two", (1,)))
    words = ("watch", queue.name, "--redis", redis_url, "--for", "1")
    assert run(*words).output.count("  stats       enqueued 1  started 0  ") == 1
    (line,) = run(*words, "--json").output.splitlines()
    assert json.loads(line)["stats"]["waiting"] == 1
