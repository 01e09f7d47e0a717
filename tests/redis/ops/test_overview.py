"""The view of queues, tasks, processes, dead letters and schedules is right, and costs few and bounded commands."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import redis
from click.testing import CliRunner

from delayed.backoff import Constant
from delayed.cli.main import main
from delayed.cli.top_panes import PANES, Chosen
from delayed.cron.schedules import Schedules
from delayed.dead_letters.search import Search
from delayed.ops.causes import causes
from delayed.ops.health import Wanted, health
from delayed.ops.locate import locate
from delayed.ops.overview import look, overview
from delayed.ops.processes import Process, entries, merged
from delayed.ops.statistics import sums_of
from delayed.ops.tasks import STATES, TaskFilter, tasks, upcoming
from delayed.queue.queue import Queue
from delayed.redis.keys import REGISTER
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.redis.web.browsing import browser
from tests.support.command import run

HOUR = 3600.0
MANY = 3000
# What takes as long as a key is large, whatever its arguments are,
FORBIDDEN = {
    "KEYS",
    "SMEMBERS",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "SORT",
    "SUNION",
    "SINTER",
    "LPOS",
    "HRANDFIELD",
    "ZUNION",
    "MEMORY",
}
_LONGEST = 1000  # elements that a command may ask for


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


@contextmanager
def spied(client: redis.Redis, name: str) -> Iterator[list[list[str]]]:
    """The commands that clients send meanwhile, with their arguments. None may be unbounded."""
    sent: list[list[str]] = []
    inside: list[list[str]] = []
    with client.monitor() as monitor:
        yield sent
        marker = f"{name} ends"
        client.echo(marker)
        for entry in monitor.listen():
            if marker in entry["command"]:
                break
            (inside if entry["client_type"] == "lua" else sent).append(entry["command"].split(" "))
    for command in sent:
        assert command[0].upper() == "EVALSHA" or is_bounded(command), command
    for command in inside:  # a script is as bounded as what it sends; `page` and `publish` know that a hash is small
        assert command[0].upper() in ("HKEYS", "HGETALL") or is_bounded(command), command


def is_bounded(command: list[str]) -> bool:
    """Whether Redis does a bounded amount of work for it, however large the keys are."""
    word, *arguments = command[0].upper(), *command[1:]
    if word in FORBIDDEN:
        return word == "HGETALL" and "_stats_" in arguments[0]  # at most 200 functions, or 60 rows
    if word in ("LRANGE", "ZRANGE", "ZREVRANGE"):
        first, last = int(arguments[1]), int(arguments[2])
        return 0 <= last - first < (_LONGEST if arguments[0] != REGISTER else 10_000) and first >= 0
    if word in ("XRANGE", "XREVRANGE"):
        return "COUNT" in arguments or arguments[1] == arguments[2]
    if word in ("SCAN", "HSCAN", "SSCAN", "ZSCAN"):
        return "COUNT" in arguments
    if word in ("ZRANGEBYSCORE", "ZREVRANGEBYSCORE"):
        return "LIMIT" in arguments
    return len(arguments) <= _LONGEST


@pytest.mark.parametrize(
    ("command", "bounded"),
    [
        ("KEYS a*", False), ("LRANGE q 0 -1", False), ("LRANGE q 0 49", True), ("HGETALL q", False), ("SMEMBERS q", False),
        ("ZRANGE q 0 -1 WITHSCORES", False), ("ZRANGE q 0 99 WITHSCORES", True), ("XREVRANGE q + -", False),
        ("XREVRANGE q + - COUNT 100", True), ("ZRANGEBYSCORE q -inf 5", False), ("SCAN 0", False), ("LLEN q", True),
    ],
)  # fmt: skip
def test_the_spy_knows_what_is_unbounded(command: str, bounded: bool) -> None:
    assert is_bounded(command.split()) is bounded


@pytest.fixture
def large(queue: Queue, client: redis.Redis) -> Queue:
    """Thousands of tasks in every state, in hundreds of groups, with hundreds of entries in the register."""
    keys, data = queue.keys, PyTask("m:f", ("x",)).serialize()
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(MANY))
    queue.enqueue_many(PyTask("m:t", (number,), track=True) for number in range(200))
    soon = round(time.time() * 1000) + 3_600_000
    again = msgpack.packb(["m:again", [], {}, 1, {"attempt": 2, "error": "ConnectionError: no"}])
    with client.pipeline() as pipeline:
        for number in range(MANY):
            identity = f"{number:016}".encode()
            pipeline.zadd(keys.scheduled, {identity + (again if number % 2 else data): soon + number})
            said = f"E: {number % 3} of {number + 10_000}"
            letter: dict[Any, Any] = {"task": data, "reason": "failed", "detail": said, "worker": "h:1"}
            pipeline.xadd(keys.dead, letter)
            lease = keys.lease(f"dead{number}")
            pipeline.hset(keys.workers, lease, msgpack.packb({"kind": "worker", "place": f"h:{number}"}))
        for number in range(300):
            group = f"{number:040}"
            pipeline.rpush(keys.group(group), data)
            pipeline.rpush(keys.groups, group)
        pipeline.execute()
    return queue


def by_state(state: str, text: str | None, count: int, look_at: int) -> Callable[[Queue], object]:
    return lambda queue: tasks(queue, TaskFilter(state, text=text), count, look_at)


LOOKS: dict[str, tuple[int, Callable[[Queue], object]]] = {
    "queue": (30, look),
    "totals": (31, lambda queue: list(sums_of([queue]))),
    "overview": (220, lambda queue: overview([queue])),
    "processes": (220, entries),
    "causes": (102, causes),
    "some causes": (12, lambda queue: causes(queue, look_at=900)),
    "schedules": (4, lambda queue: Schedules(queue).list()),
    "upcoming": (3, lambda queue: upcoming(queue, 50)),
    "health": (230, lambda queue: health([queue], Wanted(ready=True, max_age=1, max_dead=1), lambda: queue.call("PING"))),
    "show": (600, lambda queue: locate([queue], "x" * 16)),
    **{f"{state} tasks": (500, by_state(state, "no such", 50, 10_000)) for state in STATES},
    **{f"few {state} tasks": (27, by_state(state, None, 10, 10)) for state in STATES if state != "running"},
}


COMMANDS: dict[str, int] = {
    "info": 320, "info Q": 320, "queue show Q": 320, "queue peek Q": 20, "queue list": 20, "task list Q": 520,
    "task list Q --overdue": 520, "task list Q --state dead --search nothing": 520, "task show 0123456789abcdef": 620,
    "task history 0123456789abcdef": 120, "history Q": 120, "dead list Q": 120, "dead causes Q": 120, "stats Q": 120,
    "stats": 120, "cron list Q": 20, "job list Q": 20, "flow list Q": 60, "audit Q": 120, "health --max-age 5 Q": 320,
    "interest list": 20,
}  # fmt: skip


@pytest.mark.breaks_invariants("a register and groups of another making")
def test_each_command_that_looks_and_each_tab_of_top_is_bounded(large: Queue, client: redis.Redis) -> None:
    wrong = []
    for words, most in COMMANDS.items():
        with spied(client, large.name) as sent:
            CliRunner().invoke(main, [large.name if word == "Q" else word for word in words.split()])
        print(f"{len(sent):4} commands: delayed {words}")
        wrong += [f"{len(sent)} commands: delayed {words}"] if not 0 < len(sent) <= most else []
    for name, pane in PANES.items():
        with spied(client, large.name) as sent:
            pane(Chosen((large,), large))
        print(f"{len(sent):4} commands: the tab {name}")
        wrong += [f"{len(sent)} commands: the tab {name}"] if not 0 < len(sent) <= 320 else []
    assert not wrong, "\n".join(wrong)
    client.delete(*client.keys(f"{large.name}*"))


@pytest.mark.slow
@pytest.mark.breaks_invariants("a register and groups of another making")
def test_each_look_costs_a_bounded_number_of_bounded_commands(large: Queue, client: redis.Redis) -> None:
    for name, (most, action) in LOOKS.items():
        with spied(client, large.name) as sent:
            action(large)
        assert len(sent) <= most, (name, len(sent))
    client.delete(*client.keys(f"{large.name}*"))


def test_a_task_due_in_an_hour_does_not_look_like_an_empty_queue(queue: Queue) -> None:
    burst(queue)  # the queue is known from then on
    queue.enqueue(PyTask("m:later", after=HOUR))
    for words in ([], [queue.name]):
        (line,) = [each for each in run("info", *words).output.splitlines() if each.startswith(f"{queue.name} ")]
        assert line.split() == [queue.name, "0", "0", "0", "1", "0", "0", "0", "-", "-", "0"]
    (shown,) = [each for each in json.loads(run("info", "--json").output)["queues"] if each["queue"] == queue.name]
    assert (shown["scheduled"], shown["overdue"], shown["limits"]["paused"], shown["at_least"]) == (1, 0, False, [])
    queue.store.call("UNLINK", queue.keys.scheduled, queue.keys.wake)


@pytest.mark.breaks_invariants("a schedule and groups of another making")
def test_an_overview_says_what_it_counted_only_a_part_of(large: Queue, client: redis.Redis) -> None:
    view = look(large)
    assert (view.waiting, view.scheduled, view.groups, view.dead) == (MANY + 200, MANY, 300, MANY)
    assert view.at_least == ("grouped", "retrying", "oldest")
    assert (view.grouped, view.retrying) == (10, 50)
    row = next(each for each in run("info", large.name).output.splitlines() if each.startswith(large.name))
    assert "300 (10+)" in row
    assert " 50+ " in row
    large.pause()
    assert f"{large.name} is paused" in run("info", large.name).output
    client.delete(*client.keys(f"{large.name}*"))


def test_each_process_is_shown_once(queue: Queue) -> None:
    about = {"kind": "worker", "language": "go", "place": "h:7", "started": 5.5, "succeeded": 3, "rss": 1 << 20}
    sweeper = {"kind": "sweeper", "language": "python", "place": "h:8", "started": 6.0}
    found = merged([("a", about), ("a", sweeper), ("b", {**about, "running": "m:f", "running_for": 1.5, "in_hand": 2})])
    assert found == [
        Process("worker", "go", "h", 7, ("a", "b"), 5.5, "m:f", 1.5, 2, 1 << 20, {"succeeded": 3}),
        Process("sweeper", "python", "h", 8, ("a",), 6.0, None, None, 0, None, {}),
    ]
    odd = {"kind": 5, "place": "nowhere", "started": "x", "rss": float("inf"), "succeeded": True, "running": b"x"}
    assert merged([("a", odd)]) == [Process("", "", "nowhere", None, ("a",), None, None, None, 0, None, {})]
    for name, each in (("a", about), ("b", sweeper)):
        queue.store.beat(name, 10, msgpack.packb({**each, "queues": [queue.name]}))
    text = run("info", queue.name).output
    assert text.count("worker h:7 (go) serves") == 1
    assert "3 succeeded" in text


def test_what_is_tracked_is_looked_for_once_and_said_so(queue: Queue, client: redis.Redis, redis_url: str) -> None:
    other = Queue(f"{queue.name}b", client)
    queue.enqueue_all([PyTask("tasks:noop", track=True) for _ in range(5)])
    burst(queue)
    queue.enqueue(PyTask("tasks:noop", after=HOUR, track=True))
    other.enqueue(PyTask("tasks:noop", after=HOUR, track=True))
    keys = client.dbsize()
    page = tasks(queue, TaskFilter("tracked"), 2)
    assert (len(page.tasks), page.looked_at, page.total, page.unit, page.more) == (2, keys, keys, "key", True)
    assert not tasks(queue, TaskFilter("tracked"), 6).more
    command = ["task", "list", queue.name, other.name, "--state", "tracked", "--redis", redis_url]
    text = run(*command, "--count", "2").output
    assert text.count(f"looked at {keys:,} of {keys:,} keys: --look-at and --count go further\n") == 1
    text = run(*command, "--function", "tasks:*").output
    assert text.count("  tasks:noop()") == 2
    assert "5 tracked tasks have been left out: of what has ended, or waits in its queue, no function is kept" in text
    assert f"none: looked at {keys} keys in 2 queues\n" in run(*command, "--search", "nothing").output
    assert "5 tracked tasks are left out" in browser(queue).get("/tasks?q=state:tracked+fn:tasks:*").text


def test_tasks_are_listed_by_state(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:plain", ("bob",)))  # nobody knows this function
    ended = queue.enqueue(PyTask("tasks:noop", track=True)).id
    queue.enqueue(PyTask("tasks:fail", ("alice is away",)))
    queue.enqueue(PyTask("tasks:fail", ("busy",), retry=1, backoff=Constant(60, jitter=False), track=True))
    burst(queue)
    queue.enqueue(PyTask("m:waits", ("bob",)))
    later = queue.enqueue(PyTask("m:later", ("carol",), after=HOUR, track=True)).id
    client.hset(queue.keys.processing, queue.keys.lease("t", 0), PyTask("m:runs", ("dora",)).serialize())
    client.set(queue.keys.lease("t", 0), "t", px=60_000)
    client.hset(queue.keys.workers, queue.keys.lease("t"), msgpack.packb({"kind": "worker", "place": "h:9"}))
    client.set(queue.keys.lease("t"), "", px=60_000)

    def paths(state: str, **wanted: Any) -> list[str]:
        return [each.task for each in tasks(queue, TaskFilter(state, **wanted)).tasks]

    assert paths("waiting") == ["m:waits"]
    assert paths("scheduled") == ["m:later"]
    assert paths("retrying") == ["tasks:fail"]
    assert paths("dead", text="alice") == ["tasks:fail"]
    assert paths("dead", function="m:*") == ["m:plain"]
    assert {each.id: each.state for each in tasks(queue, TaskFilter("tracked")).tasks}[str(ended)] == "succeeded"
    assert tasks(queue, TaskFilter("tracked", text=str(later))).tasks[0].task == "m:later"
    (runs,) = tasks(queue, TaskFilter("running")).tasks
    assert (runs.task, runs.worker, runs.arguments, runs.lease) == ("m:runs", "h:9", "'dora'", queue.keys.lease("t", 0))
    text = run("task", "list", queue.name, "--state", "running", "--function", "m:*", "--search", "dora").output
    assert re.fullmatch(r"- +running +m:runs\('dora'\)  by h:9\n", text)
    assert "ValueError: alice is away" in run("task", "list", queue.name, "--state", "dead").output
    (shown,) = json.loads(run("task", "list", queue.name, "--state", "retrying", "--json").output)
    assert (shown["attempt"], shown["error"], shown["queue"]) == (1, "ValueError: busy", queue.name)


def test_a_list_of_nothing_says_what_was_looked_at(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f", after=3600))
    assert "none: looked at 1 task in 1 queue" in run("task", "list", queue.name, "--overdue").output
    assert run("task", "list", queue.name, "--overdue", "--json").stdout == "[]\n"


def test_a_search_says_how_far_it_looked(queue: Queue, client: redis.Redis) -> None:
    burst(queue)
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(300))
    found = tasks(queue, TaskFilter(text="[250]"), look_at=100)
    assert (found.tasks, found.looked_at, found.total, found.more) == ((), 100, 300, True)
    found = tasks(queue, TaskFilter(text="[250]"))
    assert (len(found.tasks), found.looked_at, found.more) == (1, 300, False)
    listed = run("task", "list", queue.name, "--search", "[250]", "--look-at", "100")
    assert listed.stdout == ""
    assert listed.stderr == f"{queue.name}: looked at 100 of 300 tasks: --look-at and --count go further\n"
    client.zadd(REGISTER, {f"{queue.name}-other": time.time()})
    assert f"{queue.name}  -  " in run("task", "list", "--search", "[250]").stdout
    client.zrem(REGISTER, f"{queue.name}-other")
    queue.store.call("UNLINK", queue.keys.queue, queue.keys.noti)


def test_a_task_is_found_without_a_queue(queue: Queue, client: redis.Redis) -> None:
    handle = queue.enqueue(PyTask("tasks:fail", ("boom",), track=True))
    queue.store.serve()  # a worker that ends so soon may not have said so
    burst(queue)
    text = run("task", "show", str(handle.id)).output
    for part in (
        f"queue:  {queue.name}",
        "state:    failed",
        "attempt:  1",
        "args:   'boom'",
        "(failed, 20",
        "ValueError: boom",
    ):
        assert part in text
    task = PyTask("m:runs", (1,), track=True)
    held = str(queue.enqueue(task).id)
    queue.store.take([queue.keys.lease("t", 0)], "t", 60, waiting=True)
    assert f"runs:   t (lease {queue.keys.lease('t', 0)})" in run("task", "show", held).output
    assert json.loads(run("task", "show", held, "--json").output)["runs"]["task"] == "m:runs"
    assert "nothing is known" in run("task", "show", "0" * 16, status=1).output
    client.delete(REGISTER)
    assert "name a queue" in run("task", "show", "0" * 16, status=2).output


def test_a_look_at_what_is_taken_next_takes_nothing(queue: Queue) -> None:
    assert "nothing waits" in run("queue", "peek", queue.name).output
    queue.enqueue(PyTask("m:first", (1,)))
    queue.enqueue_many(PyTask("m:grouped", (number,), group="g") for number in range(30))
    lines = run("queue", "peek", queue.name, "--count", "100").output.splitlines()
    assert re.fullmatch(r" +1  - +queue  m:first\(1\)", lines[0])
    assert " group  m:grouped(" in lines[-1]
    shown = json.loads(run("queue", "peek", queue.name, "--count", "2", "--json").output)
    assert [each["task"] for each in shown] == ["m:first", "m:grouped"]
    assert queue.len() > 0


@pytest.mark.breaks_invariants("a register and groups of another making")
def test_dead_letters_are_counted_by_cause_and_retried(large: Queue, client: redis.Redis) -> None:
    found = causes(large)
    assert sorted(each.count for each in found.causes) == [1000, 1000, 1000]
    assert (found.looked_at, found.total) == (MANY, MANY)
    assert re.fullmatch(r"E: \d of 1\d{4}", found.causes[0].says)
    few = run("dead", "causes", large.name, "--look-at", "100")
    assert few.stderr == f"looked at 100 of {MANY:,} dead letters\n"
    cause = found.causes[0].id
    assert re.search(rf"^{cause}    1,000  .*failed +m:f  E: ", run("dead", "causes", large.name).output, re.MULTILINE)
    assert json.loads(run("dead", "causes", large.name, "--json", "--task", "x:*").output)["causes"] == []
    assert run("dead", "retry", large.name, "--cause", cause).output == "1000 tasks wait again\n"
    assert causes(large, Search(cause=cause)).causes == ()
    client.delete(*client.keys(f"{large.name}*"))
