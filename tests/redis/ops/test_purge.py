"""Waiting tasks are removed, one by one or all, and a queue on which nobody works gets another name."""

import json

import pytest
import redis

from delayed import on
from delayed.errors import ConfigurationError, Duplicate, TaskCancelled
from delayed.events import Event, Kind, subscribe
from delayed.ops.purge import purge
from delayed.ops.rename import rename
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, at, find, remove, search
from delayed.task.task import PyTask
from delayed.workflow import Flow
from tests.conftest import burst
from tests.redis.ops.test_waiting import HOUR, fill
from tests.support.command import run


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def left(queue: Queue, client: redis.Redis) -> set[str]:
    return {key.decode().removeprefix(f"{queue.name}_").split("_")[0] for key in client.scan_iter(f"{queue.name}*")}


def test_a_purge_removes_all_that_waits_and_frees_what_it_held(queue: Queue, client: redis.Redis) -> None:
    later = fill(queue)
    tracked = next(each.id for each in search(queue, Wanted(where="queue")) if each.tracked)
    with pytest.raises(Duplicate):
        queue.enqueue(PyTask("m:f", unique="k", unique_for=60))
    assert "25 waiting tasks removed" in run("queue", "purge", queue.name, "--yes").output
    assert not list(search(queue))
    for identity in (later, tracked):
        assert Handle(queue, identity).status().state == "cancelled"
        with pytest.raises(TaskCancelled):
            Handle(queue, identity).result()
    assert left(queue, client) <= {"task", "result", "wake", "history"}
    assert client.llen(queue.keys.noti) == 0
    queue.enqueue(PyTask("m:f", unique="k", unique_for=60))
    assert purge(queue) == 1


def test_a_purge_asks_before_it_removes(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f"))
    assert "for good?" in run("queue", "purge", queue.name, status=1).output
    assert queue.len() == 1


def test_a_purge_takes_several_steps_and_leaves_what_runs(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(130))
    lease = queue.keys.lease("t", 0)
    queue.store.take([lease], "me", 60)
    assert purge(queue) == 129
    assert client.hlen(queue.keys.processing) == 1
    assert client.llen(queue.keys.noti) == 0


def test_large_tasks_go_in_several_steps(queue: Queue) -> None:
    queue.enqueue_many(PyTask("m:f", ("x" * 400_000, number)) for number in range(7))
    assert purge(queue) == 7


def test_what_waits_for_a_key_is_purged_and_nobody_is_woken_for_it(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.keys.unique("k"), "x" * 16, px=60_000)  # another task with this key runs
    for track in (False, True):
        queue.enqueue(PyTask("m:busy", (track,), unique="k", unique_mode="while_running", track=track))
    burst(queue)
    assert client.hlen(queue.keys.waited) == 1
    assert purge(queue) == 2
    assert client.hlen(queue.keys.waited) == 0
    client.delete(queue.keys.unique("k"))


def test_those_who_listen_hear_of_purged_tasks(queue: Queue) -> None:
    heard: list[Event] = []
    identity = queue.enqueue(PyTask("m:f", track=True)).id
    unsubscribe = subscribe(heard.append)
    purge(queue)
    unsubscribe()
    assert [(each.kind, each.id) for each in heard] == [(Kind.CANCELLED, identity)]


def test_a_task_is_found_by_the_id_of_one_that_is_not_tracked(queue: Queue, client: redis.Redis) -> None:
    identity = "u" * 16
    plain = bytes.fromhex("95") + b"\xa3m:f\x90\x80\x00" + b"\x81\xa3uid\xb0" + identity.encode()
    queue.store.enqueue([plain])
    client.zadd(queue.keys.scheduled, {b"r" * 16 + plain.replace(b"u" * 16, b"v" * 16): 1})
    for wanted, where in ((identity, "queue"), ("v" * 16, "scheduled")):
        found = find(queue, wanted)
        assert found is not None
        assert (found.where, found.tracked, found.id) == (where, False, wanted)
        assert remove(queue, found)
        assert not remove(queue, found)
    assert not list(search(queue))


def test_tasks_are_peeked_at_and_deleted_by_id_and_position(queue: Queue, client: redis.Redis) -> None:
    later = fill(queue)
    assert "m:plain" in run("task", "peek", queue.name).output
    assert json.loads(run("task", "peek", queue.name, "1", "--json").output)["task"] == "m:plain"
    shown = run("task", "peek", queue.name, later).output
    assert "where:  scheduled" in shown
    assert "args:   'carol'" in shown
    assert "m:plain('alice')" in run("task", "delete", queue.name, "--position", "1", later).output
    first = at(queue, 1)
    assert first is not None
    assert first.task == "m:tracked"
    assert run("task", "delete", queue.name, "--function", "m:grouped", "--where", "group").output.endswith("removed\n")
    assert "1 task removed" in run("task", "delete", queue.name, first.id).output
    assert Handle(queue, first.id).status().state == "cancelled"
    assert "no waiting task" in run("task", "delete", queue.name, later, status=1).output
    assert "wait in" in run("task", "peek", queue.name, "999", status=1).output
    assert "no position" in run("task", "peek", queue.name, "0", status=2).output
    assert client.llen(queue.keys.noti) == queue.len()


def test_waiting_tasks_are_listed_by_state(queue: Queue, client: redis.Redis) -> None:
    fill(queue)
    failed = bytes.fromhex("95") + b"\xa3m:r\x90\x80\x00" + b"\x81\xa7attempt\x01"
    client.zadd(queue.keys.scheduled, {b"r" * 16 + failed: 2_000_000_000_000})
    counts = {
        state: run("task", "list", queue.name, "--state", state, "--limit", "99").output.count("\n")
        for state in ("waiting", "scheduled", "retrying")
    }
    assert counts == {"waiting": 22, "scheduled": 3, "retrying": 1}


def test_a_queue_on_which_nobody_works_is_renamed(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:plain"))
    queue.enqueue_many(PyTask("m:grouped", (number,), group="g") for number in range(20))
    queue.enqueue(PyTask("m:later", after=HOUR))
    queue.limit(rate=5)
    new = Queue(f"{queue.name}-new", client)
    run("queue", "rename", queue.name, new.name)
    assert not list(client.scan_iter(f"{queue.name}_*"))
    assert len(list(search(new))) == 22
    assert new.limits().rate == 5
    assert new.len() == client.llen(new.keys.noti)
    assert "there is no queue" in run("queue", "rename", queue.name, "other", status=1).output
    assert purge(new) == 22
    client.delete(*client.keys(f"{new.name}*"))


def test_a_rename_is_refused_where_it_is_not_safe(queue: Queue, client: redis.Redis) -> None:
    new = Queue(f"{queue.name}-new", client)
    queue.enqueue_many([PyTask("m:f"), PyTask("m:f")])

    def refused(why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            rename(queue, new)
        assert queue.len() > 0

    new.enqueue(PyTask("m:f"))
    refused("there are keys of")
    purge(new)
    client.set(queue.keys.lease("t"), "t", px=60_000)
    refused("stop them first")
    client.delete(queue.keys.lease("t"))
    client.hset(queue.keys.processing, "17", b"\x91\xa3m:f")  # a worker of the older packages
    refused("tasks are held")
    client.delete(queue.keys.processing)
    handle = queue.enqueue(PyTask("m:f", track=True))
    refused("handles know the old name")
    handle.cancel()
    purge(queue)
    client.delete(queue.keys.task(str(handle.id)))
    home = Queue(f"{queue.name}-home", client)
    flow = Flow(home)
    flow.add(on(queue.name, PyTask("m:f")))
    flow.submit()
    refused("tasks of workflows wait in it")
    purge(queue)
    client.delete(*client.keys(f"{home.name}*"))
    queue.enqueue(PyTask("m:f"))
    queue.store.submit_many({"g": [b"\x91\xa3m:f"]}, [])
    assert queue.store.rename(new.keys, []) == 3
    assert not client.exists(new.name)
