"""Workflows that are made again or run again, and edges to groups without members, to handlers and to callbacks."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import redis

from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.errors import Duplicate, InvalidTask
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.testing import drain, travel
from delayed.workflow import Flow, Run, chain, group, linked, on
from delayed.workflow.tend import tend

from .functions import outcomes, same, see, sleep
from .hands import Hands, Held, carry, home, states


def one(label: Any, **options: Any) -> PyTask:
    return PyTask(same, (label,), **options)


def end_one(hands: Hands, end: Callable[[Held], bool]) -> None:
    """One task waits, and no other: it begins, and ends so."""
    (held,) = hands.take_all()
    assert held.begin()
    assert end(held)
    hands.carry()


def forget(run: Run) -> None:
    """What it is kept for is over."""
    run.queue.store.call("ZADD", run.queue.keys.flow_ids, 1, run.flow)
    tend(run.queue.store)
    assert not run.queue.store.call("EXISTS", run.queue.keys.flow(run.flow))


# Made again


@pytest.mark.parametrize("options", [{}, {"unique": "u"}, {"group": "g"}], ids=str)
def test_a_workflow_of_a_key_that_is_free_again_runs(queue: Queue, options: dict[str, Any]) -> None:
    """What is still known of its first one's nodes is not taken for that of the second one's."""
    hands = Hands(queue)
    runs = []
    for _ in range(2):
        runs.append(chain(one(1, **options), one(2)).submit(queue, unique="daily"))
        hands.carry()
        assert hands.finish() == [1, 2]
        assert runs[-1].status().state == "succeeded"
        forget(runs[-1])
    assert runs[0].id != runs[1].id


def test_one_that_was_cancelled_leaves_nothing_to_the_next_of_its_key(queue: Queue) -> None:
    first = chain(one(1), one(2)).submit(queue, unique="daily")
    first.cancel()
    forget(first)
    second = chain(one(3), one(4)).submit(queue, unique="daily")
    assert Hands(queue).finish() == [3, 4]
    assert second.status().state == "succeeded"


def test_one_key_may_be_had_by_one_workflow_in_each_home_and_by_tasks(queue: Queue) -> None:
    other = home(queue, f"{queue.name}other")
    runs = [one_of(place).submit() for place in (queue, other)]
    assert runs[0].id != runs[1].id
    queue.enqueue(one(1, unique="key"))
    with pytest.raises(Duplicate) as raised:
        one_of(other).submit()
    assert raised.value.id == runs[1].id
    assert one_of(other, join=True).submit().id == runs[1].id
    for run in runs:
        Hands(run.queue).finish()


def one_of(place: Queue, **options: Any) -> Flow:
    flow = Flow(place, unique="key", **options)
    flow.add(one(1))
    return flow


def test_a_key_that_only_a_lost_workflow_had_is_free(queue: Queue, client: redis.Redis) -> None:
    """Nobody swept for a week, and what was kept of it has run out."""
    run = one_of(queue).submit()
    Hands(queue).finish()
    client.delete(queue.keys.flow(run.flow), queue.keys.marks(run.flow))
    client.zrem(queue.keys.flow_ids, run.flow)
    assert one_of(queue).submit().id != run.id
    Hands(queue).finish()


# Run again


def test_a_node_that_was_cancelled_and_waits_anew_runs(queue: Queue) -> None:
    run = chain(one(1), one(2), one(3)).submit(queue)
    hands = Hands(queue)
    held = hands.take()
    assert held is not None
    assert held.begin()
    assert held.succeed()
    hands.carry()
    run.cancel()
    hands.carry()
    run.retry("all")
    assert hands.finish() == [1, 2, 3]
    assert run.status().state == "succeeded"


def test_what_runs_after_a_retry_finds_nothing_of_before(queue: Queue, client: redis.Redis) -> None:
    flow = Flow(queue)
    first = flow.add(one("first"))
    old = flow.add(one("old"), after=first)
    flow.add(one("last"), after=old, when="continue")
    run = flow.submit()
    hands = Hands(queue)
    while (held := hands.take()) is not None:
        assert held.begin()
        assert held.succeed(held.label)
        hands.carry()
    assert run.value(1) == "old"
    run.retry("all")
    held = hands.take()
    assert held is not None
    assert not client.exists(queue.keys.task(run.node(1).id))
    assert held.begin()
    assert held.fail()
    hands.carry()
    assert client.hget(queue.keys.flow(run.flow), "r1") is None
    hands.finish()


def test_a_signal_of_before_ends_no_wait_whose_turn_has_not_come(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(one("publish"), after=flow.wait("approved", after=flow.add(one("draft"))))
    run = flow.submit()
    hands = Hands(queue)
    assert hands.finish() == ["draft"]
    run.cancel()
    hands.carry()
    run.retry("all")
    held = hands.take()
    assert held is not None
    run.signal("approved")
    hands.carry()
    assert [node.state for node in run.nodes()] == ["released", "waiting", "waiting"]
    assert held.begin()
    assert held.succeed()
    hands.carry()
    assert hands.finish() == ["publish"]


def test_a_callback_that_is_retried_does_not_open_its_workflow(queue: Queue) -> None:
    flow = Flow(queue, then_complete=[one("complete")], then_failure=[one("failure")])
    flow.add(one("node"))
    run = flow.submit()
    run.cancel()
    hands = Hands(queue)
    hands.carry()
    for held in hands.take_all():
        assert held.label == "node" or (held.begin() and held.fail())
        if held.label == "node":
            held.cancel()
    hands.carry()
    for held in hands.take_all():
        assert held.begin()
        assert held.fail()
    ended = run.status()
    (letter,) = dead_letters(queue)
    retry(queue, letter)
    hands.carry()
    assert run.status() == ended
    assert hands.finish() == ["complete"]


# Groups without members


def test_what_follows_a_group_without_members_waits_for_what_is_before_that(queue: Queue) -> None:
    run = chain(one("slow"), group(), PyTask(see)).submit(queue)
    hands = Hands(queue)
    end_one(hands, Held.succeed)
    end_one(hands, Held.succeed)
    assert run.status().state == "succeeded"


def test_what_follows_it_is_skipped_behind_a_failure(queue: Queue) -> None:
    run = chain(one("bad"), group(), group(), one("last")).submit(queue)
    hands = Hands(queue)
    end_one(hands, Held.fail)
    assert hands.take() is None
    assert run.status()[-4:] == (1, 0, 0, 1)


def test_after_one_alone_it_finds_nothing(queue: Queue) -> None:
    run = chain(group(), PyTask(see)).submit(queue)
    drain(queue)
    assert run.result() == []


def test_a_map_over_nothing_that_runs_again_hides_nothing(queue: Queue) -> None:
    flow = Flow(queue)
    rows = flow.map(PyTask(same), over=flow.add(one([])))
    flow.add(one("last"), after=rows)
    run = flow.submit()
    drain(queue)
    assert run.status().state == "succeeded"
    run.retry("all")
    (held,) = Hands(queue).take_all()
    assert held.label == []
    assert held.begin()
    assert held.succeed([])
    Hands(queue).carry()
    assert Hands(queue).finish() == ["last"]
    assert run.status().state == "succeeded"


# Handlers


def test_a_handler_is_no_end(queue: Queue) -> None:
    run = chain(one(1), linked(one(5), on_error=[chain(one("handler"), one("after it"))])).submit(queue)
    drain(queue)
    assert (run.result(), run.status().skipped) == (5, 2)


def test_a_node_that_adds_one_with_a_handler_lets_what_waits_go_on(queue: Queue) -> None:
    run = chain(PyTask(add_with_handler), PyTask(outcomes)).submit(queue)
    drain(queue)
    assert run.result() == [["succeeded", None], ["succeeded", 7], ["succeeded", 7]]


def add_with_handler() -> None:
    from delayed.job.job import current_task

    workflow = current_task().workflow
    assert workflow is not None
    assert workflow.add(linked(one(7), on_error=[one("handler")]))
    assert workflow.add(one(7), name="1"), "a name is no number of a call"
    assert not workflow.add(one(7), name="1")


def test_a_handler_does_not_run_for_what_was_skipped(queue: Queue) -> None:
    run = chain(one("bad"), linked(one("charge"), on_error=[one("refund")])).submit(queue)
    hands = Hands(queue)
    end_one(hands, Held.fail)
    assert hands.take() is None
    assert states(run) == {"tests.redis.workflow.functions:same": "skipped"}
    assert run.status()[-4:] == (1, 0, 0, 2)
    run.retry()
    assert hands.finish() == ["bad", "charge"]
    assert run.status()[-4:] == (0, 0, 0, 1)


# Edges


def test_an_edge_may_stop_all(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(one("after"), after=flow.wait("never"), name="beside")
    flow.add(one("next"), after=flow.add(one("bad")), when="stop_now", name="behind")
    run = flow.submit()
    hands = Hands(queue)
    end_one(hands, Held.fail)
    assert (run.status().state, run.node("beside").state, run.node("behind").state) == ("failed", "cancelled", "skipped")


def test_a_cancelled_node_frees_its_unique_key(queue: Queue) -> None:
    run = chain(one(1), one(2, unique="u")).submit(queue)
    hands = Hands(queue)
    end_one(hands, Held.succeed)
    run.cancel()
    hands.carry()
    queue.enqueue(one(3, unique="u"))
    assert hands.finish() == [3]
    assert run.status().state == "cancelled"


def test_time_passes_for_waits(queue: Queue) -> None:
    flow = Flow(queue)
    flow.add(one("late"), after=flow.wait(timeout=100))
    run = flow.submit()
    drain(queue)
    assert run.status().state == "running"
    travel(queue, 200)
    drain(queue)
    assert run.status().state == "succeeded"


# What is refused


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda flow: flow.add(one(1), after="x"), "flow.add, flow.map and flow.wait"),
        (lambda flow: flow.add(one(1), after=[None]), "flow.add, flow.map and flow.wait"),
        (lambda flow: flow.map(PyTask(same), over=[flow.add(one(1))]), "flow.add, flow.map and flow.wait"),
        (lambda flow: flow.add(one(1), after=Flow(flow.home).add(one(2))), "another workflow"),
        (lambda flow: flow.add(one(1), when="bogus"), "when= is one of"),
        (lambda flow: flow.add(one(1), on_error=one(2)), "on_error is a list"),
        (lambda flow: Flow(flow.home, then_success=cast("Any", one(2))).submit(), "then_success is a list"),
    ],
)
def test_what_cannot_be_is_refused(queue: Queue, wrong: Any, says: str) -> None:
    with pytest.raises(InvalidTask, match=says):
        wrong(Flow(queue))


def test_of_two_queues_the_nearer_one_counts(queue: Queue) -> None:
    other = home(queue, f"{queue.name}other")
    run = chain(on(queue.name, on(other.name, chain(one(1), one(2))))).submit(queue)
    assert [node.queue for node in run.nodes()] == [other.name] * 2
    assert Hands(other, queue).finish() == [1, 2]
    carry(run)


def test_a_group_after_many(queue: Queue) -> None:
    """What stands in the place of a group without members stands there once."""
    flow = Flow(queue)
    first = flow.add(one(1))
    nothing = flow.add(group(), after=first)
    flow.add(PyTask(sleep, (0,)), after=[first, nothing])
    run = flow.submit()
    drain(queue)
    assert run.status().state == "succeeded"


@pytest.mark.parametrize("shape", ["chain", "nodes", "group"])
@pytest.mark.parametrize("count", [1000, 1001])
def test_a_thousand_nodes_are_created_by_one_call(queue: Queue, shape: str, count: int) -> None:
    own, calls = Queue(queue.name, queue.conn), list[str]()
    add = own.store.add

    def adding(script: str, *arguments: Any) -> Any:
        calls.append(script)
        return add(script, *arguments)

    own.store.add = adding  # type: ignore[method-assign,assignment]
    flow, tasks = Flow(own), [PyTask(same, (number,)) for number in range(count)]
    for part in tasks if shape == "nodes" else [chain(*tasks) if shape == "chain" else group(tasks)]:
        flow.add(part)
    assert flow.submit().status().total == count
    assert (calls.count("flow_build") == 1) == (count == 1000)
