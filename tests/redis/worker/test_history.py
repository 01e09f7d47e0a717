"""What workers, sweepers and operators add to the history of a queue."""

from collections import Counter
from typing import Any

import pytest
import redis

from delayed.ops.purge import purge
from delayed.queue.history import HistoryEvent, Keeping, keep, keeping, unpacked
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.worker.recorder import Recorder
from tests.conftest import burst


def told(queue: Queue) -> list[HistoryEvent]:
    entries: list[Any] = queue.store.call("XRANGE", queue.keys.history, "-", "+")
    return [each for entry, (_, batch) in entries for each in unpacked(entry.decode(), batch)]


def outcomes(queue: Queue) -> Counter[str]:
    return Counter(each.outcome for each in told(queue))


def fill(queue: Queue) -> None:
    for _ in range(100):
        queue.enqueue(PyTask("tasks:noop"))
    queue.enqueue(PyTask("tasks:fail", ("no",)))
    queue.enqueue(PyTask("tasks:fail", ("no",), retry=1, track=True))
    queue.enqueue(PyTask("tasks:two", (1,), result_ttl=60))
    queue.enqueue(PyTask("no.such:thing"))


def test_by_default_it_tells_what_does_not_succeed(queue: Queue) -> None:
    assert keeping(queue).record == "failures"
    fill(queue)
    burst(queue, unready_for=0)
    assert outcomes(queue) == {"failed": 2, "retried": 1, "buried": 1}
    (failed,) = [each for each in told(queue) if each.outcome == "failed" and not each.id]
    assert (failed.task, failed.attempt, failed.waited) == ("tasks:fail", None, None)
    assert failed.said == "ValueError: no"
    assert failed.seconds is not None
    assert ":" in failed.by


@pytest.mark.parametrize("options", [{}, {"threads": 4}])
def test_all_is_told_once(queue: Queue, options: dict[str, Any]) -> None:
    keep(queue, "all")
    fill(queue)
    burst(queue, unready_for=0, **options)
    assert outcomes(queue) == {"succeeded": 101, "failed": 2, "retried": 1, "buried": 1}
    (tracked,) = [each for each in told(queue) if each.task == "tasks:two"]
    assert len(tracked.id) == 16
    assert tracked.waited is not None
    assert tracked.attempt == 1
    entries = queue.store.call("XLEN", queue.keys.history)
    assert entries < 20


def test_the_loop_never_sees_half_of_what_the_heartbeat_learns() -> None:
    seen: list[object] = []

    class Watched(Recorder):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "success":
                seen.append(value)
            super().__setattr__(name, value)

    recorder = Watched("q_history", "h:1")
    for share in (1.0, 1.0, 0.5, 0.5):
        seen.clear()
        recorder.learn(Keeping(share=share))
        assert len(seen) == 1
        assert callable(seen[0])
    recorder.learn(Keeping(on=False))
    assert recorder.success is None


def test_nothing_is_told_if_it_is_off(queue: Queue, client: redis.Redis) -> None:
    keep(queue, "off")
    fill(queue)
    handle = queue.enqueue(PyTask("tasks:noop", track=True, after=60))
    handle.cancel()
    burst(queue, unready_for=0)
    assert not client.exists(queue.keys.history)


def test_a_share_of_the_successes(queue: Queue) -> None:
    keep(queue, 0.25)
    for _ in range(2000):
        queue.enqueue(PyTask("tasks:noop"))
    burst(queue)
    found = told(queue)
    assert 300 < len(found) < 700
    assert {each.share for each in found} == {0.25}


def test_losses_cancels_and_removals_are_told_with_them(queue: Queue) -> None:
    queue.enqueue(PyTask("tasks:noop", track=True))
    lease = queue.keys.lease("t", 0)
    for limit in (2, 2):
        queue.store.take([lease], "t", 60, waiting=True)
        queue.store.call("DEL", lease)
        queue.store.sweep([lease], limit, f"p{limit}{len(told(queue))}", "host:7", "killed by SIGKILL")
    lost, buried = told(queue)
    assert (lost.outcome, buried.outcome, buried.task, buried.by) == ("lost", "buried", "tasks:noop", "host:7")
    assert lost.id == buried.id != ""
    assert "SIGKILL" in lost.said
    handle = queue.enqueue(PyTask("tasks:noop", track=True, after=60))
    handle.cancel()
    assert (told(queue)[-1].outcome, told(queue)[-1].id, told(queue)[-1].task) == ("cancelled", handle.id, "tasks:noop")
    queue.enqueue(PyTask("tasks:two", (1,)))
    later = queue.enqueue(PyTask("tasks:two", (1,), after=60))
    purge(queue)
    removed = [each for each in told(queue) if each.outcome == "removed"]
    assert [each.task for each in removed] == ["tasks:two", "tasks:two"]
    assert later is not None


@pytest.mark.breaks_invariants("foreign types")
def test_a_key_of_another_program_keeps_no_task_from_ending(queue: Queue, client: redis.Redis) -> None:
    client.set(queue.keys.history, "x")
    keep(queue, "all")
    fill(queue)
    worker = burst(queue, unready_for=0)
    assert worker.finished >= 104
    assert queue.len() == 0
    client.delete(queue.keys.history)
