"""The probe says what is not well, by its exit status."""

import json
import socket

import msgpack
import pytest
import redis

from delayed.ops.overview import look, server_time
from delayed.queue.queue import Queue
from delayed.redis.statistics import packed
from delayed.task.task import PyTask
from tests.support.command import run
from tests.support.letters import bury

NOWHERE = ("--redis", "redis://localhost:1")


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def beat(queue: Queue, kind: str, host: str) -> None:
    queue.store.beat(f"{kind}-{host}", 60, msgpack.packb({"kind": kind, "place": f"{host}:7", "queues": [queue.name]}))


def test_redis_answers_or_not() -> None:
    assert run("health").output == "ok      redis: answers\n"
    assert "failed  redis: cannot be asked" in run("health", *NOWHERE, status=1).output


def test_a_process_of_this_host_serves_the_queue(queue: Queue) -> None:
    name = queue.name
    for probe in ("--live", "--ready"):
        assert f"no process of {socket.gethostname()} serves it" in run("health", probe, name, status=1).output
    beat(queue, "sweeper", socket.gethostname())
    beat(queue, "worker", "elsewhere")
    for probe in ("--live", "--ready"):
        assert f"{name}: {socket.gethostname()}:7 serves it" in run("health", probe, name).output
        run("health", probe, name, "--kind", "worker", status=1)
        run("health", probe, name, "--kind", "worker", "--host", "elsewhere")
    run("health", "--workers", "1", name)
    assert "1 worker serves it (at least 2)" in run("health", "--workers", "2", name, status=1).output


def test_a_worker_is_not_restarted_because_redis_is_away(queue: Queue) -> None:
    assert "no reason to restart" in run("health", "--live", queue.name, *NOWHERE).output
    assert "cannot be asked" in run("health", "--ready", queue.name, *NOWHERE, status=1).output
    assert "cannot be asked" in run("health", "--max-age", "5", queue.name, *NOWHERE, status=1).output


def test_a_refusal_is_an_error_and_no_excuse(queue: Queue, client: redis.Redis, redis_url: str) -> None:
    client.execute_command("ACL", "SETUSER", f"probe-{queue.name}", "on", ">secret", "+ping")
    url = redis_url.replace("unix://", f"unix://probe-{queue.name}:secret@")
    assert "Error: " in run("health", "--live", queue.name, "--redis", url, status=1).output
    wrong = url.replace(":secret@", ":wrong@")
    assert "invalid username-password pair" in run("health", "--live", queue.name, "--redis", wrong, status=1).output


def test_the_age_and_the_dead_letters_of_a_queue_have_a_bound(queue: Queue, client: redis.Redis) -> None:
    name = queue.name
    assert "no task waits (at most 5 s)" in run("health", "--max-age", "5", name).output
    overdue = {b"x" * 16 + PyTask("m:f").serialize(): round(server_time(queue) * 1000) - 60_000}
    client.zadd(queue.keys.scheduled, overdue)
    bury(queue, PyTask("m:f"))
    assert "(at most 5 s)" in run("health", "--max-age", "5", name, status=1).output
    run("health", "--max-age", "3600", "--max-dead", "1", name)
    shown = json.loads(run("health", "--max-age", "3600", "--max-dead", "0", name, "--json", status=1).output)
    assert (shown["healthy"], [each["ok"] for each in shown["checks"]]) == (False, [True, True, False])
    assert shown["checks"][2] == {"about": name, "ok": False, "says": "1 dead letter (at most 0)"}


def count_ends(queue: Queue, ends: int) -> None:
    """In this minute so many attempts have succeeded."""
    queue.store.count(server_time(queue), 1, [("", packed({1: ends}))])


@pytest.mark.parametrize("group", [None, "g"])
def test_tasks_that_have_no_age_are_not_young(queue: Queue, client: redis.Redis, group: str | None) -> None:
    """A probe that cannot know how long plain tasks have waited says so, and goes by how quickly tasks end."""
    queue.enqueue_many(PyTask("m:f", (number,), group=group) for number in range(100))
    if group is not None:  # only in the group
        client.delete(queue.keys.queue, queue.keys.noti)
    says = run("health", "--max-age", "3600", queue.name, status=1).output
    assert "the first does not say since when: no attempt has ended" in says
    assert "`delayed info`" in says
    count_ends(queue, 1200)  # ten a second, or more
    assert "at the present rate they take" in run("health", "--max-age", "3600", queue.name).output
    run("health", "--max-age", "0.01", queue.name, status=1)


def test_a_worker_that_has_nothing_in_hand_takes_at_once_what_waits(queue: Queue) -> None:
    """Of a queue that has a task now and then, no attempt has ended in the last minutes, and all is well."""
    about = {"kind": "worker", "place": "web1:4711", "queues": [queue.name], "started": server_time(queue), "ttl": 60}
    queue.store.beat("probed", 60, msgpack.packb(about))
    queue.enqueue(PyTask("m:f"))
    assert "a worker has nothing in hand" in run("health", "--max-age", "60", queue.name).output
    queue.pause()
    assert "no attempt has ended" in run("health", "--max-age", "60", queue.name, status=1).output
    queue.resume()
    queue.call("HDEL", queue.keys.workers, queue.keys.lease("probed"))
    queue.call("UNLINK", queue.keys.lease("probed"))


def test_an_overdue_task_does_not_hide_that_others_have_no_age(queue: Queue, client: redis.Redis) -> None:
    client.zadd(queue.keys.scheduled, {b"x" * 16 + PyTask("m:f").serialize(): round(server_time(queue) * 1000) - 1000})
    run("health", "--max-age", "3600", queue.name)
    queue.enqueue(PyTask("m:f"))
    assert "the oldest task that says so" in run("health", "--max-age", "3600", queue.name, status=1).output
    client.delete(queue.keys.scheduled)


def test_tracked_tasks_have_an_age(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f", track=True))
    queue.enqueue(PyTask("m:f"))  # which is younger
    assert "the oldest task that says so" in run("health", "--max-age", "3600", queue.name).output
    assert look(queue).at_least == ()


def test_wrong_usage_is_told() -> None:
    for words in (["q"], ["--live"], ["--kind", "worker"], ["--max-age", "5"], ["--max-dead", "0", "q", "--host", "h"]):
        assert "Usage" in run("health", *words, status=2).output
