"""What workflows do, run by workers in the test's own process."""

import json
from typing import Any

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.errors import Duplicate, InvalidTask, NotDone, NotEncodable, TaskCancelled, TaskFailed, UnknownTask
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow, chain, group, linked, on, quorum, runs
from delayed.workflow.adding import Membership, Superseded
from delayed.workflow.tend import tend
from tests.conftest import burst

from . import functions
from .functions import fail_unless, grow, grow_twice, outcomes, same, see
from .hands import Hands, carry, home, say, states


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    functions.SEEN.clear()


def task(function: Any, *arguments: Any, **options: Any) -> PyTask:
    return PyTask(function, arguments, **options)


def finish(queue: Queue) -> None:
    """Run what waits and what follows from it."""
    burst(queue)
    tend(queue.store)
    burst(queue)


def test_a_chain_hands_on_results(queue: Queue) -> None:
    run = chain(task(same, 7), task(see), task(see)).submit(queue)
    finish(queue)
    assert functions.SEEN == [7, 7]
    assert (run.result(0), run.status().state, run.status().succeeded) == (7, "succeeded", 3)
    assert [node.state for node in run.nodes()] == ["succeeded"] * 3
    assert run.value(0) == 7
    assert run.node(1).label.endswith(":see")


def test_what_comes_after_a_group_finds_all_results_in_their_order(queue: Queue) -> None:
    run = group(task(same, number) for number in range(30)).then(task(see)).submit(queue)
    finish(queue)
    assert [list(range(30))] == functions.SEEN
    assert run.result(0) == list(range(30))


def test_a_chord_of_two_queues(queue: Queue, client: redis.Redis) -> None:
    other = home(queue, f"{queue.name}b")
    run = chain(group(task(same, 1), on(other.name, task(same, 2))), task(see)).submit(queue)
    for each in (queue, other, queue):
        finish(each)
    assert run.result(0) == [1, 2]
    assert {node.queue for node in run.nodes()} == {queue.name, other.name}


def test_continue_sees_outcomes(queue: Queue) -> None:
    flow = Flow(queue, on_failure="continue")
    flow.add(task(outcomes), after=[flow.add(task(same, 5)), flow.add(PyTask("tasks:fail", ("no",)))])
    run = flow.submit()
    finish(queue)
    assert run.value(2) == [["succeeded", 5], ["failed", None]]
    assert run.wait(0) == "failed"
    with pytest.raises(TaskFailed, match="1 node has failed"):
        run.result(0)


@pytest.mark.parametrize(("values", "expected"), [([3, 4], [3, 4]), ([], []), (list(range(1200)), list(range(1200)))])
def test_a_map_over_a_list(queue: Queue, values: list[int], expected: list[int]) -> None:
    flow = Flow(queue)
    source = flow.add(task(same, values))
    mapped = flow.map(task(same, "more"), over=source)
    flow.add(task(see), after=mapped)
    run = flow.submit()
    finish(queue)
    assert [expected] == functions.SEEN
    assert run.status().total == 2 + len(values)
    assert run.wait(0) == "succeeded"


def test_a_map_over_a_group_and_over_a_map(queue: Queue) -> None:
    flow = Flow(queue)
    first = flow.add(group(task(same, number) for number in range(5)))
    flow.add(task(see), after=flow.map(task(same), over=flow.map(task(same), over=first)))
    run = flow.submit()
    finish(queue)
    assert [list(range(5))] == functions.SEEN
    assert run.status().total == 16


@pytest.mark.parametrize("value", [5, None, "text", {"a": 1}])
def test_a_map_over_what_is_no_list_fails(queue: Queue, value: object) -> None:
    flow = Flow(queue)
    mapped = flow.map(task(same), over=flow.add(task(same, value)))
    flow.add(task(see), after=mapped)
    run = flow.submit()
    finish(queue)
    assert [node.state for node in run.nodes()] == ["succeeded", "failed", "skipped"]
    assert run.wait(0) == "failed"
    with pytest.raises(TaskFailed, match="no list"):
        run.value(1)


def test_an_empty_group_has_ended(queue: Queue) -> None:
    run = group([]).then(task(see)).submit(queue)
    finish(queue)
    assert functions.SEEN == [[]]
    assert run.wait(0) == "succeeded"
    assert group([]).submit(queue).wait(0) == "succeeded"


def test_a_large_group_is_stored_and_released_in_pages(queue: Queue) -> None:
    run = group(task(same, number) for number in range(2500)).then(task(see)).submit(queue)
    assert (queue.len(), run.status().left) == (2500, 2501)
    finish(queue)
    assert [list(range(2500))] == functions.SEEN
    assert run.wait(0) == "succeeded"


@pytest.mark.slow
def test_a_chain_of_ten_thousand_has_messages_of_one_size(queue: Queue) -> None:
    run = chain(*(task(same, 1) for _ in range(10_000))).submit(queue)
    hands = Hands(queue)
    sizes = set()
    for _ in range(10_000):
        (held,) = hands.take_all()
        sizes.add(len(held.data) - (held.member.set > 127) - (held.member.set > 255))
        assert held.begin()
        assert held.succeed()
        carry(run)
    assert len(sizes) == 1
    assert run.wait(0) == "succeeded"


def nested(depth: int) -> Any:
    part: Any = task(same, 1)
    for level in range(depth):
        part = chain(part, task(same, 1)) if level % 2 else group(part, task(same, 2))
    return part


def test_nested_to_a_depth_of_16(queue: Queue) -> None:
    run = nested(16).submit(queue)
    finish(queue)
    assert run.wait(0) == "succeeded"
    with pytest.raises(InvalidTask, match="16"):
        nested(17).submit(queue)
    assert [each.id for each in runs(queue)] == [run.id]


def test_linked_tasks(queue: Queue) -> None:
    parts = [linked(task(same, 1), on_success=[task(same, "ok")], on_error=[task(same, "error")])]
    parts.append(linked(PyTask("tasks:fail", ("no",)), on_success=[task(same, "ok")], on_error=[task(same, "error")]))
    found = []
    for part in parts:
        run = part.submit(queue)
        finish(queue)
        found.append(([node.state for node in run.nodes()], run.wait(0)))
    assert found == [
        (["succeeded", "succeeded", "skipped"], "succeeded"),
        (["failed", "skipped", "succeeded"], "succeeded"),
    ]


def test_a_quorum(queue: Queue) -> None:
    flow = Flow(queue)
    votes = [flow.add(PyTask("tasks:fail", ("no",)) if number < 2 else task(same, number)) for number in range(5)]
    flow.add(task(see), after=votes, when=quorum(3), name="enough")
    flow.add(task(see), after=votes, when=quorum(4), name="too many")
    run = flow.submit()
    finish(queue)
    assert (states(run)["enough"], states(run)["too many"], run.wait(0)) == ("succeeded", "skipped", "failed")


# Signals and time


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_may_come_early_and_counts_once(queue: Queue, early: bool) -> None:
    flow = Flow(queue)
    waits = flow.wait("approved", after=flow.add(task(same, 1)))
    flow.add(task(see), after=waits)
    run = flow.submit()
    if not early:
        finish(queue)
        with pytest.raises(NotDone):
            run.wait(0)
    assert run.signal("approved", "by me")
    assert not run.signal("approved", "by another")
    finish(queue)
    assert functions.SEEN == ["by me"]
    assert run.wait(0) == "succeeded"


def test_a_wait_ends_when_its_time_is_over(queue: Queue) -> None:
    flow = Flow(queue)
    late = flow.wait("never", timeout=0.001)
    timer = flow.wait(timeout=0.001)
    flow.add(task(see), after=late, name="skipped")
    flow.add(task(see), after=timer, name="goes on")
    run = flow.submit()
    while queue.store.call("ZCARD", queue.keys.flow_due):
        tend(queue.store)
    finish(queue)
    assert (states(run)["skipped"], states(run)["goes on"], run.wait(0)) == ("skipped", "succeeded", "failed")
    with pytest.raises(TaskFailed, match="no signal never in time"):
        run.value("wait for never")


def test_a_cancel_reaches_waits_and_timers(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(task(see), after=flow.wait("x", timeout=1000))
    run = flow.submit()
    run.cancel()
    assert run.wait(0) == "cancelled"
    assert set(states(run).values()) == {"cancelled"} or set(states(run).values()) == {"cancelled", "skipped"}
    assert not run.signal("x") or run.wait(0) == "cancelled"


# Cancel and retry


def test_a_cancel_reaches_everything(queue: Queue) -> None:
    run = chain(group(task(same, number) for number in range(1500)), task(see)).submit(queue)
    hands = Hands(queue)
    running = hands.take()
    assert running is not None
    assert running.begin()
    run.cancel()
    assert queue.store.call("HGET", queue.keys.task(running.holds.id or ""), "cancelled") == b"1"
    assert running.cancel()
    tend(queue.store)
    assert run.wait(0) == "cancelled"
    assert not {"waiting", "released", "succeeded"} & set(states(run).values())
    with pytest.raises(TaskCancelled):
        run.result(0)
    finish(queue)
    assert not functions.SEEN


def test_a_retry_after_a_cancel_runs_nothing_twice(queue: Queue) -> None:
    run = chain(group(task(same, number) for number in range(5)), task(see)).submit(queue)
    run.cancel()
    assert run.wait(0) == "cancelled"
    run.retry()
    assert Hands(queue).finish() == [0, 1, 2, 3, 4, None]
    assert run.wait(0) == "succeeded"


def test_a_dead_letter_that_is_retried_reopens_its_workflow(queue: Queue, client: redis.Redis) -> None:
    key = f"{queue.name}b"
    run = chain(task(fail_unless, key), task(see)).submit(queue)
    finish(queue)
    assert run.wait(0) == "failed"
    client.rpush(key, 1)
    (letter,) = dead_letters(queue)
    assert retry(queue, letter)
    tend(queue.store)
    assert run.status().state == "running"
    finish(queue)
    assert (run.result(0), functions.SEEN) == (key, [key])
    client.delete(key)


@pytest.mark.parametrize(("mode", "seen"), [("failed_only", 1), ("failed_and_downstream", 2), ("all", 3)])
def test_retries_in_three_modes(queue: Queue, client: redis.Redis, mode: Any, seen: int) -> None:
    """One that succeeds, beside one that fails; and one after both that runs nevertheless."""
    key = f"{queue.name}b"
    flow = Flow(queue, on_failure="continue")
    both = [flow.add(task(see, "first")), flow.add(task(fail_unless, key))]
    flow.add(task(see, "after"), after=both)
    run = flow.submit()
    finish(queue)
    assert (run.wait(0), len(functions.SEEN)) == ("failed", 2)
    functions.SEEN.clear()
    client.rpush(key, 1)
    assert run.retry(mode) == seen
    assert not list(dead_letters(queue))
    finish(queue)
    assert (run.wait(0), len(functions.SEEN)) == ("succeeded", seen - 1)
    client.delete(key)
    with pytest.raises(InvalidTask, match="nothing in"):
        run.retry("failed_only")


def test_a_workflow_that_goes_on_cannot_be_retried(queue: Queue) -> None:
    run = chain(task(see)).submit(queue)
    with pytest.raises(InvalidTask, match="has not ended"):
        run.retry()
    with pytest.raises(InvalidTask, match="mode is one of"):
        run.retry("some")  # type: ignore[arg-type]


# Adding


def test_a_member_adds_others_once(queue: Queue) -> None:
    run = chain(task(grow, 3), task(see)).submit(queue)
    finish(queue)
    assert (run.value(0), run.status().total, run.wait(0)) == (1, 5, "succeeded")
    assert len(functions.SEEN) == 1


def test_each_addition_of_a_member_counts_however_it_asks_for_its_workflow(queue: Queue) -> None:
    run = chain(task(grow_twice), task(see)).submit(queue)
    finish(queue)
    assert (run.value(0), run.status().total, run.wait(0)) == ([True, True], 4, "succeeded")


def test_what_a_lost_member_has_added_is_not_added_again(queue: Queue) -> None:
    run = chain(task(grow, 3), task(see)).submit(queue)
    hands = Hands(queue)
    held = hands.take()
    assert held is not None
    assert held.begin()
    member = Membership(queue, queue.name, held.member, held.lease)
    assert member.add(group(task(same, number) for number in range(3)), name="more")
    hands.lose(held, limit=5)
    with pytest.raises(Superseded):
        member.add(task(same, 1), name="later")
    finish(queue)
    assert (run.value(0), run.status().total, run.wait(0)) == (0, 5, "succeeded")


def test_nothing_is_added_to_what_is_being_stopped(queue: Queue) -> None:
    run = chain(task(same, 1), task(see)).submit(queue)
    held = Hands(queue).take()
    assert held is not None
    assert held.begin()
    run.cancel()
    with pytest.raises(Superseded):
        Membership(queue, queue.name, held.member, held.lease).add(task(same, 1))
    assert held.cancel()
    carry(run)
    assert run.wait(0) == "cancelled"


# Created once, and forgotten


def test_created_once(queue: Queue) -> None:
    first = chain(task(same, 1)).submit(queue, unique="import 5")
    with pytest.raises(Duplicate):
        chain(task(same, 1)).submit(queue, unique="import 5")
    assert chain(task(same, 1)).submit(queue, unique="import 5", join=True).id == first.id
    assert queue.len() == 1
    finish(queue)
    assert first.wait(0) == "succeeded"


def test_a_builder_that_is_killed_leaves_nothing(queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(client.keys(f"{queue.name}*"))
    pages = 0
    add = queue.store.add

    def kill(script: str, *arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            raise KeyboardInterrupt
        return add(script, *arguments)

    monkeypatch.setattr(queue.store, "add", kill)
    with pytest.raises(KeyboardInterrupt):
        group(task(same, number) for number in range(3500)).then(task(see)).submit(queue)
    monkeypatch.undo()
    (run,) = runs(queue)
    assert (run.status().state, queue.len()) == ("building", 0)
    assert tend(queue.store) is not None
    client.zadd(queue.keys.flow_due, {f"{run.flow} B": 1}, xx=True)
    tend(queue.store)
    assert set(client.keys(f"{queue.name}*")) == before
    with pytest.raises(UnknownTask):
        run.status()


def test_it_is_forgotten_when_its_time_is_over(queue: Queue, client: redis.Redis) -> None:
    run = group(task(same, number) for number in range(1200)).submit(queue, keep=3600)
    finish(queue)
    assert 3500 < client.ttl(queue.keys.task(run.id)) <= 3600
    client.zadd(queue.keys.flow_ids, {run.flow: 1}, xx=True)
    tend(queue.store)
    assert not client.keys(f"{queue.name}_flow*")


# Faults


JUNK: list[str | bytes] = [
    "",
    "z",
    "9",
    "e",
    "e9 9 s",
    "e0 9 s",
    "e0 0 z",
    "e0 x s",
    "e0 99999999999999999999 s",
    "o",
    "o0",
    "o0 x",
    "o9 1",
]
JUNK += [
    "i",
    "i99",
    "k",
    "k99",
    "j",
    "j99",
    "T",
    "T0",
    "T99",
    "G",
    "Gx",
    "R",
    "Rx",
    "R99 0",
    "R0",
    "R0 x",
    "M",
    "M0 0 5",
    "Mx y",
]
JUNK += ["C", "C x", "C9", b"\xff\xfe"]


@pytest.mark.parametrize("entry", JUNK)
def test_junk_in_its_joins_stops_no_workflow(queue: Queue, entry: str | bytes) -> None:
    run = chain(task(same, 7), task(see)).submit(queue)
    say(run, entry, entry)
    tend(queue.store)
    finish(queue)
    assert run.result(0) == 7
    assert run.status()[4:] == (2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "entry", ["", "x", "0123456789", "@", "@\xc1", b"\xff" * 10, b"@\x93\xa1q\xa1x\xa1y", b"@\x93\x01\x02\x03", b"@\x90"]
)
def test_junk_in_the_outbox_stops_nobody(queue: Queue, entry: str | bytes) -> None:
    queue.store.call("RPUSH", queue.keys.flow_outbox, entry)
    run = chain(task(same, 7), task(see)).submit(queue)
    tend(queue.store)
    finish(queue)
    assert run.result(0) == 7
    assert not queue.store.call("LLEN", queue.keys.flow_outbox)


FLOWS = [
    5,
    None,
    [],
    ["q"],
    ["q", "x"],
    ["q", -1],
    ["", 0],
    ["q_noti", 0],
    ["nobodys", 0],
    ["nobodys", 2**60],
    [5, 5],
    {"a": 1},
]


@pytest.mark.parametrize("header", FLOWS, ids=json.dumps)
def test_a_task_with_nonsense_about_its_workflow_runs_and_ends(queue: Queue, client: redis.Redis, header: object) -> None:
    from delayed.task.codec import dumps

    data = dumps([f"{same.__module__}:same", [1], {}, 0, {"id": "0123456789abcdef", "flow": header}])
    queue.store.call("RPUSH", queue.name, data)
    queue.store.call("RPUSH", queue.keys.noti, 1)
    worker = burst(queue)
    assert worker.finished == 1
    assert not list(dead_letters(queue))
    tend(home(queue, "nobodys").store)
    client.delete(*client.keys("nobodys*"), queue.keys.task("0123456789abcdef"), "x")


def test_of_a_workflow_that_cannot_be_sent_nothing_is_left(queue: Queue, client: redis.Redis) -> None:
    for _ in range(2):  # its key is free again
        flow = Flow(queue, unique="large")
        flow.add(group(task(same, number) for number in range(3000)))
        flow.add(task(same, object()))
        with pytest.raises(NotEncodable):
            flow.submit()
        assert client.keys(f"{queue.name}*") == []
