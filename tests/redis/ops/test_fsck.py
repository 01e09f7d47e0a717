"""Each invariant is broken on a real Redis, seen, and repaired where that may be done."""

import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha1
from unittest import mock

import pytest
import redis
from click.testing import CliRunner

from delayed.base.ids import node_id
from delayed.cli.main import main
from delayed.dead_letters.letter import dead_letters
from delayed.errors import InvalidAct
from delayed.ops.audit import Actor, AuditFilter, read
from delayed.ops.fsck import LOOKED_AT, STEPS, Checked, check, examine, lines, look, mend
from delayed.ops.invariants import INVARIANTS, MOST_LOSSES
from delayed.ops.job_records import Job, create, job_of, jobs
from delayed.ops.jobs import REPAIR, Runner, begin, stop_job
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted
from delayed.redis.command import ConnectionError as Outage
from delayed.redis.store import Store
from delayed.sweeper.sweep import sweep
from delayed.task.task import PyTask
from delayed.workflow.compose import Flow
from delayed.workflow.graph import Ref
from tests.conftest import eventually
from tests.redis.test_costs import monitored

pytestmark = pytest.mark.breaks_invariants("each test here breaks them, and checks them itself")
TASK = PyTask("m:f", (1,)).serialize()
DIGEST = "0" * 40
NOISE, ONE = b"\xc1", b"\x01"


def lease(queue: Queue, number: int = 0) -> str:
    return queue.keys.lease("t", number)


def hold(queue: Queue, data: bytes = TASK, ttl: int = 60_000) -> None:
    """Under a lease that lives for so many milliseconds; 0: that is dead; -1: that lives for ever."""
    queue.store.call("HSET", queue.keys.processing, lease(queue), data)
    if ttl:
        queue.store.call("SET", lease(queue), "t", *(("PX", ttl) if ttl > 0 else ()))


def wrong(queue: Queue, at_rest: bool = False) -> list[tuple[str, str]]:
    """What is wrong, with `Q` for the queue's name."""
    found = examine(queue, 0.02, at_rest=at_rest)
    return [(finding.invariant, finding.subject.replace(queue.name, "Q")) for finding in found]


def dumps(queue: Queue, client: redis.Redis) -> dict[bytes, object]:
    return {key: client.dump(key) for key in client.scan_iter(f"{queue.name}*")}


SLOTS = f"Q_slots_{sha1(b'a').hexdigest()}"
FLOW = "flowOFfsck"
LINE = SLOTS.replace("slots", "waits")
Break = Callable[[Queue], object]
BROKEN: dict[str, tuple[Break, list[tuple[str, str]]]] = {
    "a list that is a hash": (lambda q: q.store.call("HSET", q.keys.noti, "a", 1), [("types", "Q_noti")]),
    "a stream that is a string": (lambda q: q.store.call("SET", q.keys.dead, 1), [("types", "Q_dead")]),
    "a hash that is a list": (lambda q: q.store.call("RPUSH", q.keys.processing, 1), [("types", "Q_processing")]),
    "a register that is a list": (lambda q: q.store.call("RPUSH", q.keys.workers, 1), [("types", "Q_workers")]),
    "a stranger": (lambda q: q.store.call("SET", f"{q.name}_thing", 1), [("known-keys", "Q_thing")]),
    "a schedule that is a list": (lambda q: q.store.call("RPUSH", q.keys.scheduled, 1), [("types", "Q_scheduled")]),
    "no task in the schedule": (
        lambda q: q.store.call("ZADD", q.keys.scheduled, 1, b"0123456789abcdef" + NOISE),
        [("schedule", "Q_scheduled b'0123456789abcdef'")],
    ),
    "no statistics": (lambda q: q.store.call("HSET", q.keys.stats_total, "a", ""), [("statistics", "Q_stats_total a")]),
    "endless statistics": (
        lambda q: q.store.call("HSET", q.keys.stats_of("days", 7), "1", ""),
        [("statistics-ttl", "Q_stats_days_7")],
    ),
    "no schedule": (lambda q: q.store.call("HSET", q.keys.cron, "a", ONE), [("cron", "Q_cron a")]),
    "schedules that are a list": (lambda q: q.store.call("RPUSH", q.keys.cron, 1), [("types", "Q_cron")]),
    "a name without a schedule": (lambda q: q.store.call("ZADD", q.keys.cron_due, 1, "a"), [("cron-due", "Q_cron_due a")]),
    "no digest of a definition": (
        lambda q: q.store.call("HSET", q.keys.cron_defined, "a", "x"),
        [("cron-defined", "Q_cron_defined a")],
    ),
    "an endless state": (
        lambda q: q.store.call("HSET", q.keys.task("0123456789abcdef"), "state", "failed"),
        [("kept-ttl", "Q_task_0123456789abcdef")],
    ),
    "notifications lack": (lambda q: q.store.call("RPUSH", q.name, *[TASK] * 5000), [("notifications", "Q_noti")]),
    "too many notifications": (lambda q: q.store.call("RPUSH", q.keys.noti, *[1] * 5000), [("notifications", "Q_noti")]),
    "a dead lease": (lambda q: hold(q, ttl=0), [("held-live", "Q_lease_t_0")]),
    "not MessagePack": (lambda q: hold(q, NOISE), [("held-tasks", f"Q_lease_t_0 {sha1(NOISE).hexdigest()}")]),
    "no task": (lambda q: hold(q, ONE), [("held-tasks", f"Q_lease_t_0 {sha1(ONE).hexdigest()}")]),
    "an endless lease": (lambda q: hold(q, ttl=-1), [("lease-ttl", "Q_lease_t_0")]),
    "an unreadable interest": (
        lambda q: q.store.call("HSET", q.store.interests, q.name, "x"),
        [("interest", "delayed:interests Q")],
    ),
    "no digest": (lambda q: _lose(q, "x", "1:p"), [("losses", "Q_lost x")]),
    "no loss": (lambda q: _lose(q, DIGEST, "one"), [("losses", f"Q_lost {DIGEST}")]),
    "too many losses": (
        lambda q: _lose(q, *[part for n in range(MOST_LOSSES + 1) for part in (f"{n:040}", "1:p")]),
        [("losses-few", "Q_lost")],
    ),
    "endless losses": (lambda q: q.store.call("HSET", q.keys.lost, DIGEST, "1:p"), [("losses-ttl", "Q_lost")]),
    "a dead letter that lacks a field": (
        lambda q: q.store.call("XADD", q.keys.dead, "5-1", "task", TASK, "reason", "failed", "worker", "w"),
        [("dead-letters", "Q_dead 5-1")],
    ),
    "a process that says nonsense": (
        lambda q: (q.store.call("SET", lease(q), "t", "PX", 60_000), q.store.call("HSET", q.keys.workers, lease(q), "x")),
        [("register", "Q_workers Q_lease_t_0")],
    ),
    "a dead process": (lambda q: q.store.call("HSET", q.keys.workers, lease(q), b"\x80"), [("register-live", "Q_lease_t_0")]),
    "a count that is none": (lambda q: q.store.call("HSET", q.keys.stats, "buried", "x"), [("stats", "Q_stats buried")]),
    "an unknown limit": (lambda q: q.store.call("HSET", q.keys.control, "speed", "1"), [("control", "Q_control speed")]),
    "a limit that is none": (
        lambda q: q.store.call("HSET", q.keys.control, "rate", "x", "burst", ""),
        [("control", "Q_control rate")],
    ),
    "a group that nobody serves": (
        lambda q: q.store.call("RPUSH", q.keys.group(DIGEST), TASK),
        [("groups", f"Q_group_{DIGEST}")],
    ),
    "a group without tasks": (lambda q: q.store.call("RPUSH", q.keys.groups, DIGEST), [("groups", f"Q_groups {DIGEST}")]),
    "a group of noise": (
        lambda q: (q.store.call("RPUSH", q.keys.groups, DIGEST), q.store.call("RPUSH", q.keys.group(DIGEST), NOISE)),
        [("groups", f"Q_group_{DIGEST}")],
    ),
    "a group that is a string": (
        lambda q: (q.store.call("RPUSH", q.keys.groups, DIGEST), q.store.call("SET", q.keys.group(DIGEST), "x")),
        [("groups", f"Q_group_{DIGEST}")],
    ),
    "no task that waits": (lambda q: _wait(q, NOISE), [("waits", f"{LINE} b'0123456789abcdef'")]),
    "tasks that wait for what nobody knows": (lambda q: _wait(q, TASK, None), [("waits", LINE)]),
    "nonsense that is waited for": (lambda q: q.store.call("HSET", q.keys.waited, "x", "y"), [("waits", "Q_waited x")]),
    "tasks that wait in a list": (lambda q: q.store.call("RPUSH", q.keys.waits(q.keys.slots("a")), TASK), [("waits", LINE)]),
    "tasks that nobody wakes": (
        lambda q: (q.store.call("DEL", q.name, q.keys.noti), _wait(q, TASK)),
        [("waits-woken", LINE)],
    ),
    "a unique key of what has ended": (
        lambda q: (
            q.store.call("SET", q.keys.unique("a"), "0123456789abcdef", "PX", 60_000),
            q.store.call("HSET", q.keys.task("0123456789abcdef"), "state", "cancelled"),
            q.store.call("PEXPIRE", q.keys.task("0123456789abcdef"), 60_000),
        ),
        [("unique-owners", SLOTS.replace("slots", "unique"))],
    ),
    "no note of what cannot run yet": (
        lambda q: (q.store.call("HSET", q.keys.deferred, DIGEST, "x"), q.store.call("EXPIRE", q.keys.deferred, 60)),
        [("deferred", f"Q_deferred {DIGEST}")],
    ),
    "endless notes": (lambda q: q.store.call("HSET", q.keys.deferred, DIGEST, "1:2:3"), [("deferred-ttl", "Q_deferred")]),
    "endless slots": (lambda q: q.store.call("HSET", q.keys.slots("a"), "a", "b"), [("kept-ttl", SLOTS)]),
    "a workflow of which nothing is left": (
        lambda q: q.store.call("ZADD", q.keys.flow_ids, 5, FLOW),
        [("flow-ids", f"Q_flow_ids {FLOW}")],
    ),
    "a workflow that nobody forgets": (
        lambda q: q.store.call("HSET", q.keys.flow(FLOW), "state", "building"),
        [("flow-ids", f"Q_flow_{FLOW}")],
    ),
    "a part of a workflow that is gone": (
        lambda q: q.store.call("RPUSH", q.keys.bodies(FLOW, 3), TASK),
        [("flow-parts", f"Q_flow_bodies_3_{FLOW}")],
    ),
    "marks that are a list": (lambda q: _spoil(q, "marks"), [("flow-parts", f"Q_flow_marks_{FLOW}")]),
    "what nobody carries on": (lambda q: _flow(q, "joins"), [("flow-outbox", f"Q_flow_joins_{FLOW}")]),
    "counts that do not follow": (lambda q: _flow(q, "counts"), [("flow-counts", f"Q_flow_{FLOW}")]),
    "a gate that nobody has decided": (lambda q: _flow(q, "gate"), [("flow-gates", f"Q_flow_{FLOW} g0")]),
    "an end that a workflow has not heard": (
        lambda q: _flow(q, "state"),
        [("flow-heard", f"Q_task_{node_id(FLOW, 0)} 0")],
    ),
    "nothing whose time is over": (lambda q: q.store.call("ZADD", q.keys.flow_due, 5, "x"), [("flow-due", "Q_flow_due 'x'")]),
    "no job": (lambda q: q.store.call("HSET", q.keys.bulk_jobs, "x", "1"), [("bulk-jobs", "Q_bulk_jobs x")]),
    "no job that is open": (
        lambda q: q.store.call("HSET", q.keys.bulk_jobs, "open:x", "go"),
        [("bulk-jobs", "Q_bulk_jobs open:x")],
    ),
    "an entry of another program's": (
        lambda q: q.store.call("XADD", q.keys.history, "5-1", "batch", "x"),
        [("history", "Q_history 5-1")],
    ),
    "an unknown count": (lambda q: q.store.call("HSET", q.keys.stats, "x", "1"), [("stats", "Q_stats x")]),
}
NAMES = {invariant for _, found in BROKEN.values() for invariant, _ in found}
RELEASES = (
    "what nobody carries on",
    "a gate that nobody has decided",
    "an end that a workflow has not heard",
)  # a node after it
MENDED = {each.name for each in INVARIANTS if each.mend}


def _flow(queue: Queue, wrong: str) -> None:
    """A chain of two, the first of which is released, but for what is wrong."""
    own, call = queue.keys, queue.store.call
    flow = Flow(queue)
    flow.add(PyTask("m:f"), name="a")
    flow.add(PyTask("m:f"), name="b", after=Ref((flow.graph.blocks[0],)))
    with mock.patch("delayed.workflow.compose.token", return_value=FLOW):
        flow.submit()
    if wrong == "joins":
        call("RPUSH", own.joins(FLOW), "e0 0 s")
    elif wrong == "counts":
        call("HSET", own.flow(FLOW), "left", 1)
    elif wrong == "gate":
        call("SETRANGE", own.marks(FLOW), 0, "s")
        call("HSET", own.flow(FLOW), "left", 1, "o0", 1)
    elif wrong == "state":
        call("HSET", own.task(node_id(FLOW, 0)), "state", "succeeded")
        call("PEXPIRE", own.task(node_id(FLOW, 0)), 60_000)


def _spoil(queue: Queue, part: str) -> None:
    queue.store.call("RPUSH", queue.keys.marks(FLOW), part)


def _wait(queue: Queue, data: bytes, limit: int | None = 1) -> object:
    """For a slot."""
    digest = LINE[-40:]
    queue.store.call("ZADD", queue.keys.waits(queue.keys.slots("a")), 1, b"0123456789abcdef" + data)
    if limit is not None:
        queue.store.call("HSET", queue.keys.waited, digest, f"slots:{digest}:{limit}")
    return None


def _lose(queue: Queue, *fields: str) -> None:
    queue.store.call("HSET", queue.keys.lost, *fields)
    queue.store.call("EXPIRE", queue.keys.lost, 60)


def test_each_invariant_is_broken_here() -> None:
    assert {each.name for each in INVARIANTS} - NAMES == {"rest", "held-slot"}  # see also tests/process/redis/test_cluster.py


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_repaired_or_left_alone(what: str, queue: Queue, client: redis.Redis) -> None:
    queue.enqueue(PyTask("m:f", (2,)))
    if what in ("a list that is a hash", "notifications lack"):
        client.delete(queue.keys.noti)
    breaking, expected = BROKEN[what]
    breaking(queue)
    assert wrong(queue) == expected
    before, tasks = dumps(queue, client), queue.len() + held(queue) + (what == "tasks that nobody wakes")
    checked = check(queue, 0.02, repair=True)
    mended = expected[0][0] in MENDED and what != "an unknown count"
    assert [bool(checked.repaired), bool(checked.left)] == [mended, not mended]
    assert queue.len() + held(queue) == tasks + (what in RELEASES)
    if mended:
        assert not wrong(queue)
        assert not list(dead_letters(queue))
    else:
        assert dumps(queue, client) == before


def held(queue: Queue) -> int:
    return (
        int(queue.store.call("HLEN", queue.keys.processing))
        if queue.store.call("TYPE", queue.keys.processing) == b"hash"
        else 0
    )


def test_an_empty_queue_and_a_busy_one_are_well(queue: Queue) -> None:
    assert not wrong(queue, at_rest=True)
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(3))
    assert not wrong(queue, at_rest=True)
    queue.store.take([lease(queue)], "t", 60)
    assert not wrong(queue)
    assert wrong(queue, at_rest=True) == [("rest", "Q_processing"), ("rest", "Q_lease_t_0")]


def test_other_queues_keys_are_theirs(name: str, client: redis.Redis) -> None:
    """Queues whose names begin alike, or hold what a pattern would read as its own signs."""
    queue = Queue(f"{name}[*]", client)
    for other in (f"{name}[*]_more", f"{name}x_y"):
        neighbour = Queue(other, client)
        neighbour.enqueue(PyTask("m:f"))
        neighbour.store.take([neighbour.keys.lease("t", 0)], "t", 60)
        neighbour.enqueue(PyTask("m:f"))
        client.persist(neighbour.keys.lease("t", 0))
    queue.enqueue(PyTask("m:f"))
    assert not wrong(queue)
    client.set(f"{name}[*]_strange", 1)
    client.set(f"{name}x_strange", 1)
    assert wrong(queue) == [("known-keys", "Q_strange")]


def test_what_belongs_to_tasks_of_another_queue_is_that_queue_s(queue: Queue, client: redis.Redis) -> None:
    other = Queue(f"{queue.name}_bulk", client)
    for number in range(10):
        options = {"result_ttl": 60, "unique": str(number), "group": "g"}
        other.enqueue(PyTask("m:f", (number,), **options))  # type: ignore[arg-type]
    client.hset(other.keys.slots("k"), "lease", "digest")
    client.hset(other.keys.task("x" * 16), "state", "failed")
    assert not wrong(queue)
    for key in client.scan_iter(f"{other.name}*"):
        client.delete(key)


def test_many_findings_of_one_kind_are_counted_after_the_first_few(queue: Queue, client: redis.Redis) -> None:
    for number in range(200):
        client.set(f"{queue.name}_strange{number}", 1)
    client.set(queue.keys.lease("x"), 1)
    checked = check(queue, 0.02)
    text = list(lines(checked))
    assert len([line for line in text if "known-keys" in line]) == 6
    assert "  note      known-keys     … and 195 more (--json has all)" in text
    assert len([line for line in text if "lease-ttl" in line]) == 1
    assert len(checked.left) == 201


def test_a_race_is_no_fault(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong at the first look and right at a later one is not reported, however many looks that takes."""
    hold(queue, ttl=0)
    pauses: list[float] = []

    def another_process(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            sweep(queue.store)

    monkeypatch.setattr("delayed.ops.fsck.time.sleep", another_process)
    assert not examine(queue)
    assert pauses == [0.1, 0.2, 0.4]


def test_a_lease_that_ends_while_we_ask_is_not_dead(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(queue)
    alive = Store.alive

    def end_first(asked: Store, leases: list[str]) -> int:
        queue.store.call("HDEL", queue.keys.processing, *leases)
        queue.store.call("UNLINK", *leases)
        return alive(asked, leases)

    monkeypatch.setattr(Store, "alive", end_first)
    assert not look(queue, [each for each in INVARIANTS if each.name == "held-live"])


def test_what_always_holds_needs_no_patience(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.store.call("SET", queue.keys.dead, 1)
    pauses: list[float] = []
    monkeypatch.setattr("delayed.ops.fsck.time.sleep", pauses.append)
    assert [finding.invariant for finding in examine(queue)] == ["types"]
    assert len(pauses) == 1
    queue.store.call("DEL", queue.keys.dead)
    assert not examine(queue)
    assert len(pauses) == 1


def test_repairs_check_again(queue: Queue, client: redis.Redis) -> None:
    """Between the last look and the repair a worker may have come back."""
    hold(queue, ttl=0)
    client.hset(queue.keys.workers, queue.keys.lease("w"), b"\x80")
    client.set(lease(queue, 1), "t")
    found = look(queue, INVARIANTS[:-1]).values()
    assert {finding.invariant for finding in found} == {"held-live", "register-live", "lease-ttl"}
    for name, ttl in ((lease(queue), 50_000), (queue.keys.lease("w"), 50_000), (lease(queue, 1), 200_000)):
        client.set(name, "t", px=ttl)
    mend(queue, found)
    assert client.hkeys(queue.keys.processing) == [lease(queue).encode()]
    assert client.hkeys(queue.keys.workers) == [queue.keys.lease("w").encode()]
    assert client.pttl(lease(queue, 1)) > 100_000
    assert queue.len() == 0


def test_a_repair_counts_a_loss_and_buries_nothing(queue: Queue) -> None:
    """How many losses bury a task is what the sweepers have been told, and they are not here."""
    for loss in range(1, 6):
        hold(queue, ttl=0)
        mend(queue, look(queue, INVARIANTS).values())
        (count,) = queue.store.call("HVALS", queue.keys.lost)
        assert count.startswith(b"%d:" % loss)
        assert queue.store.call("LRANGE", queue.name, 0, -1) == [TASK]
        queue.store.call("DEL", queue.name, queue.keys.noti)
    assert not list(dead_letters(queue))


def test_a_count_that_is_none_stops_no_sweep_and_begins_anew(queue: Queue, client: redis.Redis) -> None:
    client.hset(queue.keys.stats, mapping={"recovered": "x", "buried": 7})
    for number in range(3):
        client.hset(queue.keys.processing, lease(queue, number), TASK)
    checked = check(queue, 0.02, repair=True)
    assert not checked.left
    assert queue.len() == 3
    assert client.hget(queue.keys.stats, "buried") == b"7"
    assert client.hget(queue.keys.stats, "recovered") != b"x"


def test_a_repair_that_fails_is_left_and_said(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hold(queue, ttl=0)

    def refuse(*_: object) -> None:
        raise redis.ResponseError("OOM")

    monkeypatch.setattr(Store, "sweep", refuse)
    checked = check(queue, 0.02, repair=True)
    assert (checked.repaired, [finding.invariant for finding in checked.left]) == ([], ["held-live"])
    assert "the repair of 'held-live' failed: OOM" in caplog.text


def test_large_queues_are_read_in_pages(queue: Queue, client: redis.Redis, name: str) -> None:
    fields = [part for number in range(1000) for part in (lease(queue, number), TASK)]
    queue.store.call("HSET", queue.keys.processing, *fields)
    for number in range(1000):
        client.set(lease(queue, number), "t", px=60_000)
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(1000))
    for _ in range(1005):
        client.xadd(queue.keys.dead, {"task": TASK, "reason": "failed", "detail": "", "worker": ""})
    with monitored(client, name) as sent:
        assert not look(queue, INVARIANTS[:-1])
    assert set(sent) <= {"HELLO", "CLIENT", "TYPE", "SCAN", "EVALSHA", "EVAL", "EXISTS", "HMGET", "XREVRANGE", "HLEN", "ZSCAN",
                         "LRANGE", "ZREVRANGE"}  # fmt: skip
    assert sent.count("HMGET") >= 100
    assert sent.count("XREVRANGE") == 101  # of the history one page


ADA = Actor("ada", "here")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs take what stays wrong for a moment for wrong."""
    monkeypatch.setattr("delayed.ops.repair.check", partial(check, patience=0.02))


def worked(queue: Queue, job: Job) -> Job:
    assert Runner(lambda: [queue]).step()
    return job_of(queue, job.id)


@pytest.mark.usefixtures("hasty")
def test_a_repair_is_a_job_with_its_result_in_the_audit(queue: Queue, client: redis.Redis) -> None:
    hold(queue, ttl=0)
    client.zadd(queue.keys.scheduled, {b"no task": 1e15})
    job = worked(queue, begin(queue, ADA, REPAIR))
    assert (job.state, job.done, job.left, job.looked) == ("done", 1, 1, STEPS)
    assert queue.len() == 1
    entry = read(queue, AuditFilter(queue=queue.name)).entries[0]
    assert (entry.who, entry.act, entry.count, entry.result) == ("ada", "fsck.repair", 1, "done, 1 were left")
    client.zrem(queue.keys.scheduled, b"no task")
    job = worked(queue, begin(queue, ADA, REPAIR))
    assert (job.state, job.done, job.left, job.looked, job.total) == ("done", 0, 0, LOOKED_AT, LOOKED_AT)


@pytest.mark.usefixtures("hasty")
def test_a_repair_in_the_background_is_begun_by_a_command(
    queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)
    hold(queue, ttl=0)
    found = CliRunner().invoke(main, ["fsck", queue.name, "--repair", "--background"])
    assert found.exit_code == 0
    assert "fsck.repair" in found.output
    assert not queue.len()
    assert worked(queue, jobs(queue)[0]).done == queue.len() == 1
    for options in (["--background"], ["--background", "--repair", "--at-rest"]):
        assert "--background is for --repair" in CliRunner().invoke(main, ["fsck", queue.name, *options]).output


def test_a_repair_goes_on_between_beats_and_stops(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, its lease is kept; whoever stops it ends it between two steps; what it has done counts."""
    hold(queue, ttl=0)
    ended = threading.Event()

    def endless(queue: Queue, *, repair: bool, step: Callable[[int], None]) -> Checked:
        def patient(count: int) -> None:
            step(count)
            while queue.len():  # the repair is done
                step(1)
                time.sleep(0.001)

        try:
            return check(queue, 0.02, repair=repair, step=patient)
        finally:
            ended.set()

    monkeypatch.setattr("delayed.ops.repair.check", endless)
    monkeypatch.setattr("delayed.ops.jobs._BEAT", 0.01)
    job = begin(queue, ADA, REPAIR)
    runner = threading.Thread(target=Runner(lambda: [queue]).step)
    runner.start()
    eventually(lambda: job_of(queue, job.id).looked > STEPS)
    stop_job(queue, ADA, job.id)
    runner.join(60)
    job = job_of(queue, job.id)
    assert (job.state, job.done, job.left) == ("stopped", 1, 0)
    assert ended.wait(60)

    job, given = begin(queue, ADA, REPAIR), iter([False, False, True])
    assert Runner(lambda: [queue], lambda: next(given)).step()  # a process that ends gives it back
    assert job_of(queue, job.id).state == "open"
    assert not queue.store.call("EXISTS", queue.keys.job_lease(job.id))
    stop_job(queue, ADA, job.id)


def test_a_repair_without_redis_is_left_to_others(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Outage("gone")

    monkeypatch.setattr("delayed.ops.repair.check", away)
    job = begin(queue, ADA, REPAIR)
    with pytest.raises(Outage):
        Runner(lambda: [queue]).step()
    assert job_of(queue, job.id).state == "open"
    queue.store.call("DEL", queue.keys.job_lease(job.id))
    stop_job(queue, ADA, job.id)


def test_a_job_of_another_version_fails_and_does_nothing(queue: Queue) -> None:
    queue.enqueue(PyTask("m:f", after=3600))
    job = worked(queue, create(queue, ADA, "task.odd", {}, total=1, newest="", moment=None))
    assert (job.state, job.done) == ("failed", 0)
    assert "this version has no act" in job.says
    with pytest.raises(InvalidAct, match="no filter"):
        begin(queue, ADA, REPAIR, Wanted())
