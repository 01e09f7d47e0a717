"""Each act of the web UI's forms does what its command does, and refuses what makes no sense."""

import pytest
import redis

from delayed.cron.definition import Entry
from delayed.cron.expression import Cron
from delayed.cron.schedules import Schedules
from delayed.errors import DelayedError, InvalidAct
from delayed.ops.acts import ACTS, ROLES, Form, editable, may
from delayed.ops.audit import Actor, AuditFilter, Done, read
from delayed.ops.job_records import Job, job_of
from delayed.ops.jobs import Runner
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, search
from delayed.task.task import GoTask, PyTask
from delayed.workflow import Flow
from tests.redis.ops.test_audit import letters
from tests.redis.ops.test_waiting import fill

ADA = Actor("ada", "ui 10.0.0.7")


def act(queue: Queue, name: str, /, **fields: str | list[str]) -> Done | Job:
    form = Form({field: [value] if isinstance(value, str) else value for field, value in fields.items()})
    asks = ACTS[name].asks
    if asks is not None:
        assert asks(queue, form).endswith("?")
    return ACTS[name].do(queue, ADA, form)


def said(queue: Queue, name: str, /, **fields: str | list[str]) -> str:
    done = act(queue, name, **fields)
    assert isinstance(done, Done)
    return done.says


def test_queues(queue: Queue) -> None:
    assert said(queue, "queue.pause") == f"{queue.name}: paused"
    assert said(queue, "queue.resume") == f"{queue.name}: goes on"
    assert said(queue, "queue.limit", concurrency="3", rate="1.5") == (
        f"{queue.name}: at most 3 tasks at once, 1.5 tasks a second, 2 at once after a pause"
    )
    assert said(queue, "queue.limit", lift="1") == f"{queue.name}: not limited"
    fill(queue)
    assert isinstance(act(queue, "queue.purge"), Job)
    assert Runner(lambda: [queue]).step()
    assert not list(search(queue))


def test_dead_letters(queue: Queue, client: redis.Redis) -> None:
    ids = letters(queue, 10)
    assert said(queue, "dead.retry", id=ids[:2]) == "2 tasks wait again"
    assert said(queue, "dead.edit", id=ids[2], args="[9]", kwargs='{"a": 1}') == "1 task waits again"
    assert client.lindex(queue.name, -1) == PyTask("m:fails", (9,), {"a": 1}).serialize()
    assert said(queue, "dead.delete", id=ids[3]) == "1 dead letter removed"
    job = act(queue, "dead.retry", matching="1", task="m:*", error="valueerror", reason="failed", text="m:f")
    assert isinstance(job, Job)
    assert Runner(lambda: [queue]).step()
    assert job_of(queue, job.id).done == 6
    assert isinstance(act(queue, "dead.delete", matching="1"), Job)


def test_tasks(queue: Queue) -> None:
    later = fill(queue)
    assert said(queue, "task.move", id=later, moment="1900000000").startswith("1 task is due at 2030-03-17")
    assert said(queue, "task.run", id=later).startswith("1 task is due at 20")
    assert said(queue, "task.cancel", id=later) == "scheduled"
    other = next(each.id for each in search(queue, Wanted(where="scheduled")))
    assert said(queue, "task.delete", id=other) == "1 task removed"
    for name, fields in (
        ("task.cancel", {"hard": ""}),
        ("task.run", {}),
        ("task.move", {"moment": "2e9"}),
        ("task.delete", {}),
    ):
        assert isinstance(act(queue, name, matching="1", task="m:*", **fields), Job)
    runner = Runner(lambda: [queue])
    while runner.step():
        pass
    assert {each.task for each in search(queue)} == {"main.Later"}


def test_workflows(queue: Queue) -> None:
    flow = Flow(queue)
    flow.wait("go")
    run = flow.submit()
    assert said(queue, "flow.signal", id=run.id, name="go", payload='{"a": 1}') == f"{run.id}: has the signal 'go'"
    again = Flow(queue)
    again.wait("go")
    other = again.submit()
    assert said(queue, "flow.cancel", id=other.id) == f"{other.id}: cancelled"
    assert said(queue, "flow.retry", id=other.id, mode="all") == f"{other.id}: 1 node to run"


def test_schedules(queue: Queue) -> None:
    Schedules(queue).put("nightly", Entry(Cron("0 3 * * *"), PyTask("m:f").serialize()))
    assert said(queue, "cron.pause", name="nightly") == "nightly is paused"
    assert said(queue, "cron.resume", name="nightly") == "nightly goes on"
    assert said(queue, "cron.run", name="nightly") == "nightly is enqueued"
    assert said(queue, "cron.remove", name="nightly") == "nightly is removed"
    assert queue.len() == 1


def test_a_job_is_stopped(queue: Queue) -> None:
    job = act(queue, "dead.retry", matching="1")
    assert isinstance(job, Job)
    stopped = act(queue, "job.stop", id=job.id)
    assert isinstance(stopped, Job)
    assert stopped.state == "stopped"


@pytest.mark.parametrize(
    ("called", "fields"),
    [
        ("queue.limit", {}),
        ("queue.limit", {"concurrency": "-1"}),
        ("queue.limit", {"concurrency": "1.5"}),
        ("queue.limit", {"concurrency": "0"}),
        ("queue.limit", {"rate": "nan"}),
        ("queue.limit", {"rate": "x"}),
        ("dead.retry", {}),
        ("dead.retry", {"id": "x"}),
        ("dead.retry", {"matching": "1", "reason": "x"}),
        ("dead.edit", {"id": "1-1", "args": "[1]"}),
        ("task.cancel", {"id": "x"}),
        ("task.cancel", {"matching": "1", "where": "x"}),
        ("task.cancel", {"matching": "1", "state": "running"}),
        ("task.move", {"id": "0123456789abcdef"}),
        ("task.move", {"id": "0123456789abcdef", "moment": "-5"}),
        ("task.move", {"id": "0123456789abcdef", "after": "-1e12"}),
        ("task.move", {"id": "0123456789abcdef", "after": "soon"}),
        ("flow.cancel", {"id": "0123456789abcdef"}),
        ("flow.signal", {"id": "0123456789abcdef", "name": "a b"}),
        ("flow.retry", {"id": "0123456789abcdef", "mode": "x"}),
        ("cron.run", {"name": "x"}),
        ("job.stop", {"id": "x"}),
    ],
)
def test_what_makes_no_sense_is_refused(queue: Queue, called: str, fields: dict[str, str]) -> None:
    with pytest.raises(DelayedError):
        act(queue, called, **fields)


def test_a_letter_needs_arguments_that_can_be_edited(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (identity,) = letters(queue, 1)
    for args in ("", "[1", "[" * 100_000):
        with pytest.raises(InvalidAct):
            act(queue, "dead.edit", id=identity, args=args)
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", "m:*")
    with pytest.raises(InvalidAct, match="hidden"):
        act(queue, "dead.edit", id=identity, args="[1]")
    assert client.xlen(queue.keys.dead) == 1


def test_so_many_can_be_named(queue: Queue) -> None:
    with pytest.raises(InvalidAct, match="all that match"):
        act(queue, "dead.retry", id=["1-1"] * 1001)


def test_roles() -> None:
    assert [[may(role, needed) for needed in ROLES] for role in (*ROLES, "other", "")] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [False, False, False],
        [False, False, False],
    ]
    assert {each.role for each in ACTS.values()} == {"operate", "admin"}
    assert {name for name, each in ACTS.items() if each.role == "admin"} == {
        "queue.purge", "dead.delete", "task.delete", "cron.remove", "interest.remove", "fsck.repair",
    }  # fmt: skip


def test_each_is_in_the_audit_with_who_and_from_where(queue: Queue) -> None:
    act(queue, "queue.pause")
    (entry,) = read(queue, AuditFilter(queue=queue.name)).entries
    assert (entry.who, entry.origin, entry.act) == ("ada", "ui 10.0.0.7", "queue.pause")


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        (PyTask("m:f"), {"args": "[]", "kwargs": "{}"}),
        (PyTask("m:f", (1, "ä"), {"b": {"x": [None]}}, retry=3), {"args": '[1, "ä"]', "kwargs": '{"b": {"x": [null]}}'}),
        (PyTask("m:f", (2**63,), track=True), {"args": "[9223372036854775808]", "kwargs": "{}"}),
        (GoTask("main.F", [1, "a"]), {"args": '[1, "a"]'}),
        (PyTask("m:f", (b"x",)), None),
        (PyTask("m:f", ({1: 2},)), None),
        (PyTask("hidden:f"), None),
    ],
)
def test_arguments_are_edited_in_json_if_that_means_the_same(
    task: PyTask | GoTask, shown: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYED_HIDE_ARGUMENTS", "hidden:*")
    assert editable(task.serialize()) == shown
    assert editable(task.serialize()[:-1]) is None
    assert editable(b"\x05") is None
