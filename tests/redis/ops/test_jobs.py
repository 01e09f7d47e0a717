"""Acts on many tasks are jobs: each page is done once, by whoever works on it, and an operator can stop them."""

import json
import threading
from collections.abc import Callable

import pytest
import redis

from delayed.dead_letters.search import Search
from delayed.errors import InvalidAct
from delayed.ops import job_records, jobs
from delayed.ops.audit import Actor, AuditFilter, read
from delayed.ops.causes import causes
from delayed.ops.job_records import Job, job_of, open_ids, unpacked
from delayed.ops.jobs import Runner, begin, stop_job
from delayed.queue.handle import Handle
from delayed.queue.queue import Queue
from delayed.queue.waiting import Wanted, search
from delayed.redis.command import ConnectionError as Outage
from delayed.task.codec import loads
from delayed.task.task import PyTask
from tests.conftest import burst
from tests.redis.ops.test_waiting import HOUR, fill
from tests.support.command import run
from tests.support.letters import bury_many

ADA = Actor("ada", "test here")


@pytest.fixture(autouse=True)
def _url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("DELAYED_REDIS_URL", redis_url)


def buried(queue: Queue, count: int, says: str = "ValueError: no", first: int = 0) -> None:
    bury_many(queue, (PyTask("m:f", (number,)) for number in range(first, first + count)), says)


def numbers(queue: Queue) -> list[int]:
    """The arguments of the tasks that wait."""
    return [loads(data)[1][0] for data in queue.store.call("LRANGE", queue.name, 0, -1)]


def worked(queue: Queue, job: Job) -> Job:
    runner = Runner(lambda: [queue])
    assert runner.step()
    assert not runner.step()
    return job_of(queue, job.id)


def ended(queue: Queue) -> tuple[int, str]:
    entry = read(queue, AuditFilter(queue=queue.name)).entries[0]
    assert (entry.who, entry.origin) == ADA
    return entry.count, entry.result


def test_all_that_fit_are_retried_and_the_others_stay(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 1200)
    buried(queue, 300, "KeyError: 1", 1200)
    cause = next(each for each in causes(queue).causes if each.count == 1200)
    job = begin(queue, ADA, "dead.retry", Search(cause=cause.id))
    buried(queue, 10)  # after it has begun
    done = worked(queue, job)
    assert (done.state, done.done, done.left, done.looked, done.total) == ("done", 1200, 0, 1500, 1500)
    assert numbers(queue) == list(range(1200))
    assert client.xlen(queue.keys.dead) == 310
    assert ended(queue) == (1200, "done")
    assert not open_ids(queue)


def test_those_whose_unique_key_is_taken_are_left(queue: Queue, client: redis.Redis) -> None:
    for _ in range(2):
        queue.enqueue(PyTask("m:f", unique="k", unique_for=60))
        burst(queue)  # nobody knows m:f
    queue.enqueue(PyTask("m:f", unique="k", unique_for=60))
    done = worked(queue, begin(queue, ADA, "dead.retry"))
    assert (done.done, done.left) == (0, 2)
    assert ended(queue) == (0, "done, 2 were left")


def test_letters_are_removed(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 700)
    job = begin(queue, ADA, "dead.delete", Search(text="m:f"))
    assert worked(queue, job).done == 700
    assert client.xlen(queue.keys.dead) == 0
    assert worked(queue, begin(queue, ADA, "dead.delete")).done == 0


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", range(1, 14))
def test_a_killed_runner_loses_nothing_and_doubles_nothing(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    buried(queue, 1100)
    job = begin(queue, ADA, "dead.retry")
    left = [at]

    def mortal(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*words: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                if at % 2:
                    call(*words, **more)  # it reached Redis
                raise Killed
            return call(*words, **more)

        return instead

    with monkeypatch.context() as patched:
        patched.setattr(queue.store, "dead_retry", mortal(queue.store.dead_retry), raising=False)
        patched.setattr(queue.store, "job_step", mortal(queue.store.job_step), raising=False)
        with pytest.raises(Killed):
            Runner(lambda: [queue]).step()
    assert not Runner(lambda: [queue]).step()  # it has the lease still
    client.delete(queue.keys.job_lease(job.id))
    done = worked(queue, job)
    assert (done.state, done.done, done.left) == ("done", 1100, 0)
    assert sorted(numbers(queue)) == list(range(1100))
    assert client.xlen(queue.keys.dead) == 0
    assert ended(queue) == (1100, "done")


def test_two_runners_do_one_job(queue: Queue, client: redis.Redis, redis_url: str) -> None:
    buried(queue, 5000)
    job = begin(queue, ADA, "dead.retry")
    others = [Runner(lambda: [Queue(queue.name, redis_url)]) for _ in range(4)]
    threads = [threading.Thread(target=each.step) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert job_of(queue, job.id).done == 5000
    assert sorted(numbers(queue)) == list(range(5000))


def test_a_superseded_runner_writes_nothing(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    buried(queue, 1100)
    job = begin(queue, ADA, "dead.retry")
    step, others = queue.store.job_step, Queue(queue.name, client)

    def paused(*words: object) -> int:
        monkeypatch.setattr(queue.store, "job_step", step)
        client.delete(queue.keys.job_lease(job.id))
        assert Runner(lambda: [others]).step()
        return step(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(queue.store, "job_step", paused)
    assert Runner(lambda: [queue]).step()
    assert job_of(queue, job.id).done == 1100
    assert sorted(numbers(queue)) == list(range(1100))


def test_it_stops_after_the_page_at_hand(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    buried(queue, 1700)
    job = begin(queue, ADA, "dead.retry")
    act = queue.store.dead_retry

    def stopping(ids: list[str]) -> int:
        monkeypatch.setattr(queue.store, "dead_retry", act)
        assert stop_job(queue, Actor("grace", "there"), job.id).state == "open"
        return act(ids)

    monkeypatch.setattr(queue.store, "dead_retry", stopping)
    done = worked(queue, job)
    assert (done.state, done.done) == ("stopped", 500)
    assert numbers(queue) == list(range(500))
    assert ended(queue) == (500, "stopped")
    with pytest.raises(InvalidAct, match="has ended: it is stopped"):
        stop_job(queue, ADA, job.id)


def test_one_on_which_nobody_works_is_stopped_at_once(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 3)
    job = begin(queue, ADA, "dead.retry")
    assert stop_job(queue, ADA, job.id).state == "stopped"
    assert not Runner(lambda: [queue]).step()
    assert client.xlen(queue.keys.dead) == 3
    with pytest.raises(InvalidAct, match="has no job 'x'"):
        stop_job(queue, ADA, "x")


def test_a_runner_that_has_enough_gives_it_back(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 1200)
    job = begin(queue, ADA, "dead.retry")
    asked = iter([False, False, True])
    assert Runner(lambda: [queue], lambda: next(asked)).step()
    assert job_of(queue, job.id).state == "open"
    assert len(numbers(queue)) == 500
    assert worked(queue, job).done == 1200
    assert len(numbers(queue)) == 1200


def test_what_cannot_be_done_fails_and_says_why(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 3)
    job = begin(queue, ADA, "dead.retry")
    client.set(queue.keys.noti, "x")
    done = worked(queue, job)
    client.delete(queue.keys.noti)
    assert done.state == "failed"
    assert "is a string and not a list" in done.says
    assert client.xlen(queue.keys.dead) == 3


def test_an_outage_leaves_it_open(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    buried(queue, 3)
    job = begin(queue, ADA, "dead.retry")

    def away(_ids: list[str]) -> int:
        raise Outage("away")

    with monkeypatch.context() as patched:
        patched.setattr(queue.store, "dead_retry", away)
        with pytest.raises(Outage):
            Runner(lambda: [queue]).step()
    client.delete(queue.keys.job_lease(job.id))
    assert worked(queue, job).done == 3


def test_waiting_tasks_are_removed_wherever_they_are(queue: Queue) -> None:
    later = fill(queue)
    queue.enqueue_many(PyTask("m:other", (number,)) for number in range(130))
    queue.enqueue_many(PyTask("m:plain", (number,)) for number in range(130))
    assert worked(queue, begin(queue, ADA, "task.delete", Wanted(task="m:plain"))).done == 131
    assert {each.task for each in search(queue)} == {"m:tracked", "m:grouped", "m:later", "main.Later", "m:other"}
    done = worked(queue, begin(queue, ADA, "queue.purge"))
    assert (done.done, done.total) == (130 + 1 + 20 + 3, 130 + 1 + 20 + 3)
    assert not list(search(queue))
    assert Handle(queue, later).status().state == "cancelled"


def test_tasks_are_cancelled_and_those_without_an_id_are_left(queue: Queue) -> None:
    later = fill(queue)
    done = worked(queue, begin(queue, ADA, "task.cancel"))
    assert (done.done, done.left, done.looked) == (4, 21, 25)
    assert Handle(queue, later).status().state == "cancelled"
    assert done.unsure == 0


def test_the_schedule_runs_now_or_at_another_time(queue: Queue, client: redis.Redis) -> None:
    queue.enqueue_many(PyTask("m:later", (number,), after=HOUR) for number in range(160))
    for number in range(20):  # at one moment
        client.zadd(queue.keys.scheduled, {b"%016d" % number + PyTask("m:same", (number,)).serialize(): 4e12})
    moment = 4_100_000_000.0
    done = worked(queue, begin(queue, ADA, "task.move", Wanted(task="m:same"), moment))
    assert (done.done, done.looked >= 180) == (20, True)
    assert client.zcount(queue.keys.scheduled, 4.1e12, 4.1e12) == 20
    assert worked(queue, begin(queue, ADA, "task.run")).done == 180
    due = client.zcount(queue.keys.scheduled, "-inf", int(client.time()[0]) * 1000 + 1000)
    assert due == 180
    assert worked(queue, begin(queue, ADA, "task.run", Wanted(overdue=True))).done == 0  # they are due already


def test_what_a_killed_runner_did_to_waiting_tasks_is_said_to_be_unknown(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.enqueue_many(PyTask("m:f", (number,)) for number in range(120))
    job = begin(queue, ADA, "task.delete")
    remove, calls = queue.store.remove, [0]

    def killed(*words: object) -> int:
        calls[0] += 1
        if calls[0] == 2:
            raise Killed
        return remove(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(queue.store, "remove", killed)
        with pytest.raises(Killed):
            Runner(lambda: [queue]).step()
    client.delete(queue.keys.job_lease(job.id))
    done = worked(queue, job)
    assert queue.len() == 0
    assert (done.done, done.unsure) == (120 - 50 + 50, 50)
    assert "of 50 it is not known" in ended(queue)[1]


def test_what_makes_no_sense_is_refused(queue: Queue) -> None:
    asked: list[Callable[[], object]] = [
        lambda: begin(queue, ADA, "queue.pause"),
        lambda: begin(queue, ADA, "dead.retry", Wanted()),
        lambda: begin(queue, ADA, "task.delete", Search()),
        lambda: begin(queue, ADA, "task.move"),
        lambda: begin(queue, ADA, "task.move", moment=-1),
        lambda: begin(queue, ADA, "task.run", moment=5),
        lambda: begin(queue, ADA, "queue.purge", Wanted(task="m:f")),
    ]
    for refused in asked:
        with pytest.raises(InvalidAct):
            refused()
    assert not job_records.jobs(queue)


def test_so_many_are_kept(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_records, "KEPT", 3)
    for _ in range(6):
        worked(queue, begin(queue, ADA, "dead.retry"))
    still = begin(queue, ADA, "dead.retry")
    assert len(job_records.jobs(queue)) == 3
    assert still.id in {each.id for each in job_records.jobs(queue)}
    assert unpacked(b"\x81\xa1x\x01") is None
    assert unpacked(b"\xc1") is None


def test_the_commands(queue: Queue, client: redis.Redis) -> None:
    buried(queue, 5)
    said = run("dead", "retry", queue.name, "--error", "ValueError", "--background").output
    (job,) = job_records.jobs(queue)
    assert said.startswith(f"job {job.id} of {queue.name}: dead.retry\n")
    assert "open: 0 done, looked at 0 of 5" in run("job", "list", queue.name).output
    assert run("job", "run", queue.name).output == ""
    assert "state:   done: 5 done, looked at 5 of 5" in run("job", "show", queue.name, job.id).output
    assert json.loads(run("job", "show", queue.name, job.id, "--json").output)["wanted"]["error"] == "ValueError"
    assert json.loads(run("job", "list", queue.name, "--json").output)[0]["done"] == 5
    for words in (
        ("purge", "--all"),
        ("delete", "--task", "m:*"),
        ("cancel", "--text", "x"),
        ("move", "--overdue", "--after", "0"),
    ):
        run("dead" if words[0] == "purge" else "task", words[0], queue.name, *words[1:], "--background")
    newest = job_records.jobs(queue)[0]
    assert run("job", "stop", queue.name, newest.id).output.startswith(f"{newest.id}: stopped: 0 done")
    run("job", "run", queue.name)
    assert [each.state for each in job_records.jobs(queue)] == ["stopped", "done", "done", "done", "done"]
    assert queue.len() == 0
    for words in (("purge", "1-1"), ("retry", "1-1"), ("retry", "1-1", "--args", "[]")):
        run("dead", words[0], queue.name, *words[1:], "--background", status=2)
    run("task", "cancel", queue.name, "0123456789abcdef", "--background", status=2)
    assert "has no job" in run("job", "stop", queue.name, "x", status=1).output


def test_its_lease_is_short_enough_for_pages(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LEASE", 0.5)
    monkeypatch.setattr(jobs, "monotonic", iter(range(1_000_000)).__next__)  # each step takes long
    buried(queue, 120)
    assert worked(queue, begin(queue, ADA, "dead.retry")).done == 120
    assert numbers(queue) == list(range(120))
