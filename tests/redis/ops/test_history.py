"""Reading the history of a queue, and watching it."""

import json

import msgpack
import pytest
import redis

from delayed.errors import ConfigurationError
from delayed.ops.history import HistoryFilter, history, history_of
from delayed.ops.watch import Watch
from delayed.queue.history import HistoryBound, HistoryEvent, event, keep, packed, unpacked
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from tests.conftest import burst, eventually
from tests.support.command import run

ID = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def write(queue: Queue, client: redis.Redis, number: int, *, of: str = "shop:pay", outcome: str = "failed") -> None:
    """An entry with one event, `number` seconds after 1970, and two successes."""
    events = [
        event(number, outcome, of, ID if number == 3 else None, attempt=2, waited=0.5, seconds=0.25, said=f"no {number}")
    ]
    batch = packed("h:1", {"shop:ship": [1000, 2000]}, events, 1.0)
    client.xadd(queue.keys.history, {"batch": batch}, id=f"{number * 1000}-1")


def test_an_entry_is_read_as_it_was_written() -> None:
    batch = packed("h:1", {"m:f": [1500]}, [event(1.5, "failed", "m:g", ID, attempt=2, waited=0.5, said="no")], 0.1)
    assert list(unpacked("2000-0", batch)) == [
        HistoryEvent(1.5, "failed", "m:g", ID, 2, 0.5, None, "no", "h:1", 1.0, "2000-0"),
        HistoryEvent(2.0, "succeeded", "m:f", seconds=0.0015, by="h:1", share=0.1, entry="2000-0"),
    ]
    for odd in (b"", b"\xc1", msgpack.packb(1), msgpack.packb(["h", 1, 2]), msgpack.packb(["h", {}, [[1]]])):
        assert not list(unpacked("1-0", odd))


def test_pages_go_on_where_the_last_ended(queue: Queue, client: redis.Redis) -> None:
    for number in range(1, 8):
        write(queue, client, number)
    first = history(queue, HistoryFilter(outcome="failed"), count=3)
    assert [each.time for each in first.events] == [7, 6, 5]
    second = history(queue, HistoryFilter(outcome="failed"), count=3, cursor=first.cursor)
    assert [each.time for each in second.events] == [4, 3, 2]
    third = history(queue, HistoryFilter(outcome="failed"), count=3, cursor=second.cursor)
    assert [each.time for each in third.events] == [1]
    assert third.cursor == ""


def test_filters_and_the_budget(queue: Queue, client: redis.Redis) -> None:
    for number in range(1, 8):
        write(queue, client, number, of="shop:pay" if number % 2 else "mail:send")
    pays = history(queue, HistoryFilter(function="shop:p*"))
    assert [each.said for each in pays.events] == ["no 7", "no 5", "no 3", "no 1"]
    assert [each.time for each in history(queue, HistoryFilter(since=3, until=5, outcome="failed")).events] == [4, 3]
    assert [each.time for each in history(queue, HistoryFilter(text="NO 4")).events] == [4]
    assert len(history(queue, HistoryFilter(outcome="succeeded")).events) == 14
    bounded = history(queue, HistoryFilter(text="no 1"), look_at=6)
    assert (bounded.events, bounded.looked_at) == ((), 6)
    assert history(queue, HistoryFilter(text="no 1"), cursor=bounded.cursor).events


def test_the_past_of_a_task(queue: Queue, client: redis.Redis) -> None:
    write(queue, client, 3)
    untracked = history_of([queue], ID)
    assert untracked is not None
    assert untracked.timeline == ()
    assert [each.said for each in untracked.events] == ["no 3"]
    tracked = queue.enqueue(PyTask("tasks:fail", ("no",), track=True))
    burst(queue)
    both = history_of([queue], tracked.id or "")
    assert both is not None
    assert [each.event for each in both.timeline] == ["enqueued", "started", "failed"]
    assert [each.outcome for each in both.events] == ["failed"]
    assert history_of([queue], "x" * 16) is None


def test_the_commands(queue: Queue, client: redis.Redis) -> None:
    write(queue, client, 3)
    assert (
        "failed      0123456789abcdef  shop:pay  attempt 2  waited 500 ms  ran 250 ms  by h:1  no 3"
        in run("history", queue.name, "--outcome", "failed").output
    )
    found = json.loads(run("history", queue.name, "--function", "shop:*", "--json").output)
    assert [each["outcome"] for each in found["events"]] == ["succeeded", "succeeded", "failed"]
    assert "nothing that fits" in run("history", queue.name, "--since", "2h").output
    assert "no 3" in run("task", "history", ID, queue.name).output
    assert json.loads(run("task", "history", ID, queue.name, "--json").output)["events"][0]["said"] == "no 3"
    assert "nothing is known of the past" in run("task", "history", "x" * 16, queue.name, status=1).output
    assert "what does not succeed, for 30 days, at most about 64 MB" in run("queue", "history", queue.name).output
    said = run("queue", "history", queue.name, "--keep", "0.1", "--days", "7", "--megabytes", "2").output
    assert "what does not succeed, and 0.1 of the successes, for 7 days, at most about 2 MB" in said
    assert "all, for 7 days" in run("queue", "history", queue.name, "--keep", "all").output
    assert ": nothing\n" in run("queue", "history", queue.name, "--keep", "off").output
    assert "share of the successes" in run("queue", "history", queue.name, "--keep", "most", status=1).output


def test_nonsense_is_refused(queue: Queue) -> None:
    for nonsense in ({"record": 0}, {"record": 2.0}, {"record": "x"}, {"days": 0}, {"size": 0}):
        with pytest.raises(ConfigurationError):
            keep(queue, **nonsense)


def test_sweepers_keep_it_within_its_bounds(queue: Queue, client: redis.Redis) -> None:
    keep(queue, size=100_000)
    for _ in range(3000):
        client.xadd(queue.keys.history, {"batch": packed("h:1", {}, [event(1, "failed", "m:f", said="x" * 50)], 0.0)})
    bound = HistoryBound(queue.store)
    assert bound.keep() == 0  # not at once
    bound.look_at = 0.0
    assert bound.keep() > 1000
    assert client.memory_usage(queue.keys.history) < 200_000  # type: ignore[operator]
    bound.look_at = 0.0
    keep(queue, days=1e-9)
    assert bound.keep() > 0
    assert bound.keep() == 0


def test_watching_tells_what_happens_and_who_comes(queue: Queue) -> None:
    watching = Watch([queue])
    queue.enqueue(PyTask("tasks:fail", ("no",)))
    queue.store.beat("t", 60, msgpack.packb({"kind": "worker", "place": "h:7"}))
    burst(queue)
    found = []

    def told() -> bool:
        found.extend(watching.read(0.1))
        return {"task", "came"} <= {each.kind for each in found}

    eventually(told)
    (task,) = [each for each in found if each.kind == "task"]
    assert task.event is not None
    assert (task.event.outcome, task.event.task) == ("failed", "tasks:fail")
    assert [each.place for each in found if each.kind == "came"] == ["h:7"]
    queue.store.call("DEL", queue.keys.lease("t"))  # it was killed
    found.clear()

    def more() -> bool:
        found.extend(each for each in watching.read(0.1) if each.kind != "stats")
        return bool(found)

    eventually(more)
    assert [(each.kind, each.place) for each in found] == [("lost", "h:7")]


def test_watching_tells_a_gap(queue: Queue, client: redis.Redis) -> None:
    write(queue, client, 1)
    watching = Watch([queue])
    write(queue, client, 2)
    write(queue, client, 3)
    assert [each.kind for each in watching.read()].count("gap") == 0
    for number in (4, 5, 6):
        write(queue, client, number)
    client.xtrim(queue.keys.history, maxlen=1, approximate=False)
    assert [each.kind for each in watching.read()] == ["gap", "task", "task", "task"]


@pytest.mark.parametrize("trimmed", [True, False], ids=["emptied", "none yet"])
def test_watching_an_empty_history_tells_a_gap_only_if_there_is_one(queue: Queue, client: redis.Redis, trimmed: bool) -> None:
    if trimmed:
        write(queue, client, 1)
        client.xtrim(queue.keys.history, maxlen=0)
    watching, other = Watch([queue]), Watch([queue])
    write(queue, client, 2)
    assert [each.kind for each in watching.read()] == ["task"] * 3
    client.xtrim(queue.keys.history, maxlen=0)
    write(queue, client, 3)
    assert [each.kind for each in other.read()] == ["gap", "task", "task", "task"]
