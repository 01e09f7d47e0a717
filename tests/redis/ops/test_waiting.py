"""What waits is counted, listed, found, cancelled and moved, whether it is tracked or not."""

import json
import re

import msgpack
import pytest
import redis

from delayed.ops.info import inspect
from delayed.ops.overview import server_time
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, cancel, find, move, search
from delayed.task.task import GoTask, PyTask
from tests.conftest import burst
from tests.redis.test_costs import monitored
from tests.support.command import run

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def fill(queue: Queue) -> str:
    """Two in the queue, two in a group, three in the schedule. The id of the tracked one there."""
    queue.enqueue(PyTask("m:plain", ("alice",)))
    queue.enqueue(PyTask("m:tracked", ("bob",), track=True))
    queue.enqueue_many(PyTask("m:grouped", (number,), group="g") for number in range(20))
    queue.enqueue(PyTask("m:later", ("alice",), {"n": 1}, after=HOUR))
    queue.enqueue(GoTask("main.Later", ["alice"], after=2 * HOUR))
    return str(queue.enqueue(PyTask("m:later", ("carol",), after=3 * HOUR, track=True, unique="k", unique_for=60)).id)


def test_the_counts_of_a_queue_have_all_that_waits(queue: Queue, client: redis.Redis) -> None:
    empty = inspect(queue)
    assert (empty.scheduled, empty.overdue, empty.groups, empty.oldest) == (0, 0, 0, None)
    fill(queue)
    client.zadd(queue.keys.scheduled, {b"x" * 16 + PyTask("m:due").serialize(): round(server_time(queue) * 1000) - 5000})
    seen = inspect(queue)
    assert (seen.scheduled, seen.overdue, seen.groups) == (4, 1, 1)
    assert seen.oldest is not None
    assert 4.999 <= seen.oldest < 60
    assert re.search(r" 1 \(\d+\) +0 +4 \(1 overdue\) +0 +0 +0 +\d+\.\d s +- +0\n", run("info", queue.name).output)
    (shown,) = json.loads(run("info", queue.name, "--json").output)
    assert (shown["scheduled"], shown["overdue"], shown["groups"]) == (4, 1, 1)
    assert "4 scheduled (1 overdue)" in run("doctor", queue.name, "--wait", "0.01", status=1).output


def test_the_age_of_a_task_that_was_scheduled_counts_from_when_it_was_due(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("m:f", track=True))
    (data,) = client.lrange(queue.name, 0, -1)
    aged = round(server_time(queue) * 1000) - 50_000
    call, (path, *rest) = msgpack.packb, msgpack.unpackb(data)
    rest[-1]["enqueued"] = aged
    client.lset(queue.name, 0, call([path, *rest]))
    assert 49.9 < (inspect(queue).oldest or 0) < 100  # Redis has microseconds, the task milliseconds
    client.hset(queue.keys.task(str(handle.id)), "due", aged + 40_000)
    assert 9.9 < (inspect(queue).oldest or 0) < 49.9
    for odd in (True, -1, 2**70 % 2**64, "x"):
        rest[-1]["enqueued"] = odd
        client.lset(queue.name, 0, call([path, *rest]))
        assert inspect(queue).oldest is None


def test_a_look_costs_a_bounded_number_of_commands(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(5000))
    with monitored(client, queue.name) as commands:
        inspect(queue)
    assert len(commands) < 30


def test_what_waits_is_found_by_place_path_and_arguments(queue: Queue) -> None:
    later = fill(queue)
    assert [each.where for each in search(queue)].count("group") >= 4
    assert len(list(search(queue))) == 25
    assert {each.task for each in search(queue, Wanted(where="scheduled"))} == {"m:later", "main.Later"}
    assert [each.id for each in search(queue, Wanted(task="m:l*", text="carol"))] == [later]
    assert [each.task for each in search(queue, Wanted(text="alice"))] == ["m:plain", "m:later", "main.Later"]
    assert not list(search(queue, Wanted(overdue=True)))
    assert len(list(search(queue, most=3))) == 3
    found = find(queue, later)
    assert found is not None
    assert (found.tracked, found.task, round(found.due or 0) > server_time(queue)) == (True, "m:later", True)
    assert find(queue, "0" * 16) is None


def test_what_waits_for_a_key_is_listed_and_cancelled(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.keys.unique("k"), "x" * 16, px=60_000)  # another task with this key runs
    for track in (False, True):
        queue.enqueue(PyTask("m:busy", (track,), unique="k", unique_mode="while_running", track=track))
    burst(queue)
    assert inspect(queue).awaited == 1
    assert re.search(r" 1 \(2\) +0 ", run("info", queue.name).output)
    found = list(search(queue, Wanted(where="key")))
    assert [(each.task, each.due, each.where) for each in found] == [("m:busy", None, "key")] * 2
    assert run("task", "list", queue.name, "--where", "key").output.count("m:busy") == 2
    assert not move(queue, found[0], 1)
    assert [cancel(queue, each) for each in found] == [True, True]
    assert not list(search(queue))
    client.delete(queue.keys.waited, queue.keys.unique("k"))


def test_a_task_in_the_schedule_is_moved(queue: Queue, client: redis.Redis) -> None:
    later = fill(queue)
    found = find(queue, later)
    assert found is not None
    client.delete(queue.keys.wake)
    moment = server_time(queue) + 10 * HOUR
    assert move(queue, found, moment)
    assert abs((Handle(queue, later).status().due or 0) - moment) < 1
    assert client.pttl(queue.keys.unique("k")) > 9 * HOUR * 1000  # it has its key until then
    assert not client.exists(queue.keys.wake)
    assert move(queue, found, 1)
    assert client.llen(queue.keys.wake) == 1
    assert [each.id for each in search(queue, Wanted(overdue=True))] == [later]
    assert cancel(queue, found)
    assert not move(queue, found, moment)


def test_moving_makes_no_state_of_a_task_that_has_none(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f", after=HOUR))
    (waits,) = search(queue)
    assert move(queue, waits, 1)
    assert set(client.scan_iter(f"{queue.name}*")) == {queue.keys.scheduled.encode(), queue.keys.wake.encode()}


def test_the_command_lists_moves_and_cancels(queue: Queue, client: redis.Redis) -> None:
    later = fill(queue)
    plain, go, tracked = run("task", "list", queue.name, "--where", "scheduled").output.splitlines()
    assert re.fullmatch(rf"{later}  scheduled  \S+ \S+\+00:00  m:later\('carol'\)", tracked)
    assert go.endswith("main.Later('alice')")
    assert plain.endswith("m:later('alice', n=1)")
    assert run("task", "list", queue.name).output.count("\n") == 25
    listed = run("task", "list", queue.name, "--count", "3")
    assert listed.stdout.count("\n") == 3
    assert "looked at 3 of 25 tasks" in listed.stderr
    shown = json.loads(run("task", "list", queue.name, "--json", "--text", "alice").output)
    assert [(each["where"], each["arguments"]) for each in shown] == [
        ("queue", "'alice'"), ("scheduled", "'alice', n=1"), ("scheduled", "'alice'"),
    ]  # fmt: skip
    moved = run("task", "move", queue.name, plain[:16], later, "--at", "2030-01-31T08:00").output
    assert moved == "2 tasks are due at 2030-01-31 08:00:00+00:00\n"
    assert "1 task is due" in run("task", "move", queue.name, "--task", "main.*", "--after", "0").output
    assert "main.Later" in run("task", "list", queue.name, "--overdue").output
    assert run("task", "cancel", queue.name, plain[:16]).output == "scheduled\n"
    assert run("task", "cancel", queue.name, plain[:16], status=1).output.splitlines()[-1].startswith("Error: ")
    assert run("task", "cancel", queue.name, later).output == "scheduled\n"
    assert "cancelled" in run("task", "status", queue.name, later).output
    text = run("task", "cancel", queue.name, "--task", "m*").output
    assert "2 tasks cancelled" in text
    assert "21 tasks wait in the queue without an id, and cannot be cancelled" in text
    assert not list(search(queue, Wanted(where="scheduled")))
    assert "1 task was not in the schedule" in run("task", "move", queue.name, later, "--after", "1", status=1).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cancel", "q"], "name the ids"),
        (["cancel", "q", "x" * 16, "--task", "m:*"], "name the ids"),
        (["move", "q", "x" * 16], "--after SECONDS or --at TIME"),
        (["move", "q", "nonsense", "--after", "1"], "no id of a task"),
        (["move", "q", "--overdue", "--at", "soon"], "is no time"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], says: str) -> None:
    assert says in run("task", *arguments, status=2).output


@pytest.mark.breaks_invariants("all of them")
def test_text_from_redis_reaches_no_terminal_as_anything_else(queue: Queue, client: redis.Redis) -> None:
    evil = "mod:\x1b]0;owned\x07\x9b2J\nFORGED\u202e"
    task = PyTask("m:f", ("x",), {"k": evil}, track=True, after=HOUR)
    identity = str(queue.enqueue(task).id)
    letter = queue.store.call("XADD", queue.keys.dead, "*", "task", msgpack.packb([evil, [evil]]), "reason", evil, "detail",
                        f"{evil}\n{evil}", "worker", evil).decode()  # fmt: skip
    lease = queue.keys.lease("x")
    client.set(lease, evil, px=60_000)
    about = {"kind": "worker", "place": evil, "language": evil, "queues": [evil], "running": evil, "started": 1.0}
    client.hset(queue.keys.workers, lease, msgpack.packb(about))
    client.hset(queue.keys.processing, queue.keys.lease("y"), msgpack.packb([evil]))
    client.hset(queue.keys.cron, evil, msgpack.packb({"expression": evil, "tz": evil, "catch_up": evil, "task": b""}))
    client.hset(queue.keys.task(identity), mapping={"error": evil, "worker": evil, "waits": evil})
    client.rpush(queue.keys.groups, evil)
    client.zadd(queue.keys.scheduled, {b"\x1b" * 16 + msgpack.packb([evil]): 1})
    told = msgpack.packb(["failed", evil, evil, evil])
    client.hset(queue.keys.task("r" * 16), mapping={"state": "failed", "result": told})
    for status, *command in (
        (0, "dead", "list", queue.name), (0, "dead", "show", queue.name, letter), (0, "info", queue.name),
        (0, "task", "list", queue.name), (0, "task", "status", queue.name, identity), (0, "cron", "list", queue.name),
        (1, "task", "result", queue.name, "r" * 16), (0, "queue", "show", queue.name),
        (1, "fsck", queue.name, "--wait", "0.01"), (1, "doctor", queue.name, "--wait", "0.01"),
        (1, "enqueue", evil, "m:f", "--redis", f"unix:///no{evil}"),
    ):  # fmt: skip
        text = run(*command, status=status).output
        assert text.replace("\n", "").isprintable(), command
        assert not [line for line in text.splitlines() if line.startswith("FORGED")], command
    client.delete(*client.keys(f"{queue.name}*"))
