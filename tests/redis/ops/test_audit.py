"""What operators do is in the audit, and what they may not see is shown nowhere."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from delayed.dead_letters.search import Search
from delayed.errors import ConfigurationError, InvalidAct, UnknownSchedule
from delayed.ops import actions, audit, dead_actions, task_actions
from delayed.ops.acts import ACTS
from delayed.ops.audit import KINDS, NAMES, Actor, AuditFilter, read
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted
from delayed.redis.keys import AUDIT, audit_of
from delayed.task.task import GoTask, PyTask
from tests.redis.ops.test_waiting import fill
from tests.support.command import run
from tests.support.letters import bury, bury_many
from tests.support.secrets import CALLED, tell

ADA = Actor("ada", "test here")


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    monkeypatch.setenv("DELAYED_OPERATOR", "grace")


def noted(queue: Queue) -> list[tuple[str, str, int, str]]:
    """The acts on a queue, the oldest first."""
    found = read(queue, AuditFilter(queue=queue.name))
    return [(each.act, each.what, each.count, each.result) for each in reversed(found.entries)]


def letters(queue: Queue, count: int, task: str = "m:fails") -> list[str]:
    return bury_many(queue, (PyTask(task, (number,)) for number in range(count)))


def test_each_act_of_a_command_is_written(queue: Queue, client: redis.Redis) -> None:
    first, *_ = letters(queue, 5)
    run("queue", "pause", queue.name)
    run("queue", "limit", queue.name, "--concurrency", "3")
    run("dead", "retry", queue.name, first)
    run("dead", "retry", queue.name, first, status=1)
    run("dead", "purge", queue.name, "--task", "m:*")
    later = fill(queue)
    run("task", "move", queue.name, later, "--after", "0")
    run("task", "cancel", queue.name, later)
    run("queue", "purge", queue.name, "--yes")
    run("cron", "run", queue.name, "nightly", status=1)
    run("fsck", "--repair", "--wait", "0", queue.name)
    found = noted(queue)
    assert found[:3] == [
        ("queue.pause", "", 1, "done"),
        ("queue.limit", "concurrency=3", 1, "done"),
        ("dead.retry", first, 1, "done"),
    ]
    assert found[3][2] == 0
    assert "has no dead letter" in found[3][3]
    assert found[4] == ("dead.delete", "task=m:*", 4, "done")
    assert [act for act, *_ in found[5:]] == ["task.run", "task.cancel", "queue.purge", "cron.run", "fsck.repair"]
    assert found[-2][3].startswith("refused: ")
    entry = read(queue, AuditFilter(queue=queue.name)).entries[0]
    assert entry.who == "grace"
    assert entry.origin.startswith("cli ")


def test_the_audit_is_listed_and_filtered(queue: Queue) -> None:
    actions.pause_queue(queue, ADA)
    run("queue", "resume", queue.name)
    shown = run("audit", queue.name).output.splitlines()
    assert [" ada " in line for line in shown] == [False, True]
    (only,) = json.loads(run("audit", queue.name, "--who", "ada", "--act", "queue", "--json").output)
    assert (only["act"], only["who"], only["origin"], only["queue"]) == ("queue.pause", "ada", "test here", queue.name)
    assert run("audit", queue.name, "--act", "dead").output == ""
    assert run("audit", queue.name, "--since", "2030-01-01").output == ""
    assert queue.name in run("audit", "--text", "done").output
    page = read(queue, AuditFilter(queue=queue.name), 1)
    assert [each.act for each in page.entries] == ["queue.resume"]
    rest = read(queue, AuditFilter(queue=queue.name), 1, page.more)
    assert [each.act for each in rest.entries] == ["queue.pause"]
    assert not read(queue, AuditFilter(queue="other"), look_at=0).entries


def test_it_is_bounded_and_its_values_too(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "KEPT", 100)
    for _ in range(500):
        audit.write(queue, ADA, "queue.pause", "x" * 10_000, result="done")
    assert client.xlen(AUDIT) < 300
    assert len(read(queue).entries[0].what) == 500


def test_an_audit_that_is_forbidden_undoes_nothing(queue: Queue, server: object, client: redis.Redis) -> None:
    rules = f"ACL SETUSER limited-{queue.name} on nopass ~{queue.name}* +@all"
    client.execute_command(*rules.split())
    url = str(server.url).replace("unix://", f"unix://limited-{queue.name}:x@")  # type: ignore[attr-defined]
    other = Queue(queue.name, url)
    assert actions.pause_queue(other, ADA).says == f"{queue.name}: paused"
    assert queue.limits().paused
    assert not noted(queue)


@pytest.mark.parametrize(
    ("called", "cluster", "key"),
    [("mail", False, "delayed:audit"), ("{app}mail", True, "delayed:audit:{app}"), ("mail", True, "delayed:audit:{mail}")],
)
def test_its_key(called: str, cluster: bool, key: str) -> None:
    assert audit_of(called, cluster) == key


@pytest.mark.parametrize("called", ["delayed:audit", "delayed:audit:{x}"])
def test_no_queue_has_its_name(called: str, client: redis.Redis) -> None:
    with pytest.raises(ConfigurationError, match="the audit"):
        Queue(called, client)


def test_what_makes_no_sense_is_refused_and_nothing_happens(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f"))
    letters(queue, 1)
    asked: list[Callable[[], object]] = [
        lambda: actions.limit_queue(queue, ADA),
        lambda: actions.limit_queue(queue, ADA, rate=1, lift=True),
        lambda: dead_actions.retry_letters(queue, ADA, []),
        lambda: dead_actions.retry_letters(queue, ADA, ["1; x"]),
        lambda: dead_actions.retry_edited(queue, ADA, "1-1"),
        lambda: dead_actions.retry_edited(queue, ADA, "1-1", kwargs={1: 2}),  # type: ignore[dict-item]
        lambda: task_actions.move_tasks(queue, ADA, []),
        lambda: task_actions.move_tasks(queue, ADA, ["short"]),
        lambda: task_actions.move_matching(queue, ADA, Wanted(), float("nan")),
        lambda: task_actions.delete_tasks(queue, ADA, ["0"]),
        lambda: task_actions.delete_tasks(queue, ADA, ["7"]),
    ]
    for refused in asked:
        with pytest.raises(InvalidAct):
            refused()
    with pytest.raises(UnknownSchedule):
        actions.pause_schedule(queue, ADA, "nightly")
    assert queue.len() == 1
    assert client.xlen(queue.keys.dead) == 1


def test_one_letter_is_retried_with_other_arguments(queue: Queue, client: redis.Redis) -> None:
    (identity,) = letters(queue, 1)
    assert dead_actions.retry_edited(queue, ADA, identity, [7], {"a": 1}).count == 1
    assert noted(queue) == [("dead.edit", f"{identity} m:fails: args=[7], kwargs={{'a': 1}}", 1, "done")]
    (data,) = client.lrange(queue.name, 0, -1)
    assert data == PyTask("m:fails", (7,), {"a": 1}).serialize()


def test_the_time_of_a_filter_is_a_time(queue: Queue) -> None:
    dead_actions.retry_matching(queue, ADA, Search(since=1767225600.25, task="m:*"))
    assert noted(queue) == [("dead.retry", "task=m:*, since=2026-01-01 00:00:00+00:00", 0, "done")]


def test_all_acts_are_known_by_their_names() -> None:
    """Those by which the audit is searched."""
    named = re.compile(rf'"((?:{"|".join(KINDS)})\.[a-z]+)"')
    code = (Path(__file__).parents[3] / "delayed" / "ops").glob("*.py")
    written = {name for path in code for name in named.findall(path.read_text())}
    assert written == set(NAMES)
    assert set(ACTS) <= set(NAMES)


def test_hidden_arguments_are_nowhere(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", "other:* m:pay main.Pay*")
    queue.store.serve()  # or its name would be doubted
    card = "canary4000"
    (tracked,) = queue.enqueue_all([PyTask("m:pay", (card,), {"cvc": card}, track=True)])
    queue.enqueue(PyTask("m:pay", (card,), after=3600))
    queue.enqueue(GoTask("main.Pay", card))
    (identity,) = bury(queue, PyTask("m:pay", (card,)))
    listings = (
        "task list;task list --json;task list --state dead --json;queue peek;queue peek --json;task peek;task peek --json;"
    )
    listings += "dead list;dead list --json;dead causes;task list --state tracked --look-at 1000000"
    words = [each.split(" ") for each in listings.split(";")]
    said = [run(*each[:2], queue.name, *each[2:]).output for each in words]
    said += [run("dead", "show", queue.name, identity, *more).output for more in ((), ("--json",))]
    said += [run("task", "show", tracked.id or "", queue.name, *more).output for more in ((), ("--json",))]
    said.append(run("dead", "retry", queue.name, identity, "--args", f'["{card}"]').output)
    said.append(run("audit", queue.name, "--json").output)
    for text in said:
        assert card not in text
        assert card.encode().hex() not in text
    assert any("(hidden)" in text for text in said)
    assert run("task", "list", queue.name, "--text", card).output.startswith("none: looked at ")
    assert run("dead", "list", queue.name, "--text", card).output == ""


def test_errors_of_hidden_functions_are_nowhere(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.store.serve()
    told, secret, name = tell(queue, client, "canary4000"), "canary4000", queue.name
    words = [["dead", "list"], ["dead", "causes"], ["history"], ["task", "list", "--state", "dead"]]
    words += [["task", "list"], ["task", "list", "--state", "tracked", "--look-at", "1000000"]]
    calls = [(*each, name) for each in words] + [("dead", "show", name, told.letter)]
    calls += [(*each, identity, name) for each in (("task", "show"), ("task", "history")) for identity in told[1:4]]
    calls += [("task", "status", name, each) for each in told[1:4]] + [("task", "history", "0" * 16, name)]
    calls += [("flow", "show", told.flow, "--queue", name, *more) for more in ((), ("--nodes",))]
    calls += [("task", "peek", name, told.retrying)]
    calls += [(*each, "--json") for each in calls]
    assert sum(secret in run(*each).output for each in calls) > 30
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", CALLED)
    for each in calls:
        text = run(*each).output
        assert secret not in text, each
        assert secret.encode().hex() not in text, each
    for each in (("dead", "list", name, "--error", secret), ("task", "list", name, "--error", secret)):
        assert told.letter not in run(*each).output
        assert CALLED not in run(*each).output
    assert CALLED not in run("history", name, "--error", secret).output
    assert CALLED in run("dead", "list", name, "--error", "valueERROR").output
