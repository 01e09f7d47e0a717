"""`any` and `quorum(k)`, of edges and of whole workflows: how many successes are enough, and what fails the workflow."""

from typing import Any

import pytest

from delayed.errors import InvalidTask
from delayed.ops.flows import after_text, view
from delayed.ops.fsck import check
from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow, chain, group, linked, quorum
from delayed.workflow.run import Run
from tests.conftest import burst

from .hands import Hands, say, states

CALLED: Any = {f"then_{name}": [PyTask("tasks:noop", (f"on {name}",))] for name in ("success", "complete", "failure")}


def task(label: str, **options: Any) -> PyTask:
    return PyTask("tasks:noop", (label,), **options)


def play(hands: Hands, fails: str = "", returns: dict[str, Any] | None = None) -> list[str]:
    """Run what waits and what follows from it; those that are called so fail. Returns what ran, in its order."""
    ran = []
    while (held := hands.take()) is not None:
        if not held.begin():
            assert held.cancel()
            hands.carry()
            continue
        ran.append(held.label)
        assert held.fail() if held.label in fails.split() else held.succeed((returns or {}).get(held.label))
        hands.carry()
    return ran


def sound(run: Run) -> None:
    assert check(run.queue, 0).left == []


@pytest.mark.parametrize(
    ("policy", "fails", "state"),
    [
        ("any", "", "succeeded"),
        ("any", "a b", "succeeded"),
        ("any", "a b c", "failed"),
        (quorum(2), "a", "succeeded"),
        (quorum(2), "a b", "failed"),
        (quorum(7), "", "succeeded"),
        (quorum(7), "a", "failed"),
    ],
)
def test_the_whole_succeeds_if_enough_of_its_last_nodes_do(queue: Queue, policy: Any, fails: str, state: str) -> None:
    run = group(task("a"), task("b"), task("c")).submit(queue, on_failure=policy, **CALLED)
    ran = play(Hands(queue), fails)
    assert (run.wait(0), "on success" in ran, "on failure" in ran) == (state, state == "succeeded", state == "failed")
    assert ran.count("on complete") == 1
    sound(run)


@pytest.mark.parametrize(("fails", "after", "state"), [("a", "succeeded", "succeeded"), ("a b", "skipped", "failed")])
def test_each_edge_has_the_policy_of_the_whole(queue: Queue, fails: str, after: str, state: str) -> None:
    run = group(task("a"), task("b"), task("c")).then(task("d")).then(task("e")).submit(queue, on_failure=quorum(2))
    play(Hands(queue), fails)
    assert (states(run)["tasks:noop"], run.node(4).state, run.wait(0)) == (after, after, state)
    if state == "failed":
        assert b"1 node has failed" in queue.store.call("HGET", queue.keys.task(run.id), "error")
    sound(run)


def test_what_was_skipped_has_not_failed(queue: Queue) -> None:
    """A handler that has nothing to do is skipped, and so is what comes after it: by `any` as by `stop`."""
    for when in ("stop", "any", quorum(1)):
        flow = Flow(queue)
        handler = flow.add(task("handler"), after=flow.add(task("a")), when="failure")
        flow.add(task("late"), after=handler, when=when, name="late")
        run = flow.submit()
        assert play(Hands(queue)) == ["a"]
        assert (states(run)["late"], run.wait(0)) == ("skipped", "succeeded")
        sound(run)


@pytest.mark.parametrize("stop", [False, True])
def test_a_quorum_waits_for_the_nodes_of_a_map(queue: Queue, stop: bool) -> None:
    """As long as these are not made it is not known that it cannot be reached, so that has not failed the workflow."""
    flow = Flow(queue, on_failure="stop_now" if stop else "stop", **CALLED)
    rows = flow.map(PyTask("tasks:noop"), over=flow.add(task("list")))
    flow.add(task("after"), after=[flow.add(task("a"), name="a"), rows], when=quorum(3), name="after")
    run = flow.submit()
    hands = Hands(queue)
    first, second = hands.take_all()
    for held in sorted((first, second), key=lambda held: held.label):  # a, and then the list
        assert held.begin()
        assert held.succeed([1, 2, 3]) if held.label == "list" else held.fail()
        hands.carry()
    ran = play(hands)
    assert {"after", "on success"} <= set(ran)
    assert "on failure" not in ran
    assert (states(run)["after"], run.wait(0)) == ("succeeded", "succeeded")
    sound(run)


@pytest.mark.parametrize(
    ("count", "fails", "state"), [(0, "", "succeeded"), (1, "", "succeeded"), (1, "1", "failed"), (3, "1", "succeeded")]
)
def test_of_a_map_with_fewer_nodes_all_will_do(queue: Queue, count: int, fails: str, state: str) -> None:
    flow = Flow(queue, on_failure=quorum(2))
    rows = flow.map(PyTask("tasks:noop"), over=flow.add(task("list")))
    flow.add(task("after"), after=rows, name="after")
    run = flow.submit()
    play(Hands(queue), fails, {"list": [str(number + 1) for number in range(count)]})
    assert (states(run)["after"], run.wait(0)) == ("succeeded" if state == "succeeded" else "skipped", state)
    sound(run)


@pytest.mark.parametrize("size", [0, 2])
def test_a_map_may_be_the_last(queue: Queue, size: int) -> None:
    flow = Flow(queue, on_failure="any")
    flow.map(PyTask("tasks:noop"), over=flow.add(task("list")))
    run = flow.submit()
    play(Hands(queue), "1", {"list": ["1", "2"][:size]})
    assert run.wait(0) == "succeeded"
    sound(run)


@pytest.mark.parametrize(("fails", "state"), [("a", "succeeded"), ("a b", "succeeded"), ("b", "succeeded")])
def test_a_failure_that_is_handled_is_none_of_the_whole(queue: Queue, fails: str, state: str) -> None:
    run = group(linked(task("a"), on_error=[task("sorry")]), task("b")).submit(queue, on_failure="any")
    assert ("sorry" in play(Hands(queue), fails), run.wait(0)) == ("a" in fails, state)
    alone = linked(task("a"), on_error=[task("sorry")]).submit(queue, on_failure="any")
    play(Hands(queue), fails)
    assert alone.wait(0) == "succeeded"
    sound(run)


def test_what_handles_a_failure_may_fail_itself(queue: Queue) -> None:
    run = group(linked(task("a"), on_error=[task("sorry")]), task("b")).submit(queue, on_failure=quorum(2), **CALLED)
    assert "on failure" in play(Hands(queue), "a sorry")
    assert run.wait(0) == "failed"
    sound(run)


@pytest.mark.parametrize(
    ("fails", "state"), [("b", "succeeded"), ("b d", "succeeded"), ("a c e", "failed"), ("a c f", "failed")]
)
def test_only_the_last_nodes_decide_of_the_whole(queue: Queue, fails: str, state: str) -> None:
    """What fails in a chain, or before an `on_success`, only keeps its own end from succeeding."""
    third = linked(task("e"), on_success=[task("f")])
    run = group(chain(task("a"), task("b")), chain(task("c"), task("d")), third).submit(queue, on_failure="any", **CALLED)
    ran = play(Hands(queue), fails)
    assert (run.wait(0), "on failure" in ran, "on success" in ran) == (state, state == "failed", state == "succeeded")
    sound(run)


def test_a_quorum_is_judged_when_it_is_known_how_many_nodes_a_map_has(queue: Queue) -> None:
    flow = Flow(queue, **CALLED)
    rows = flow.map(PyTask("tasks:noop"), over=flow.add(task("list")))
    flow.add(task("after"), after=[flow.add(task("a"), name="a"), rows], when=quorum(3), name="after")
    run = flow.submit()
    hands = Hands(queue)
    for held in sorted(hands.take_all(), key=lambda held: held.label):  # a, and then the list
        assert held.begin()
        assert held.succeed(["1", "2"]) if held.label == "list" else held.fail()
        hands.carry()
    assert states(run)["after"] == "skipped", "before the nodes of the map run"
    sound(run)
    assert "on failure" in play(hands)
    assert run.wait(0) == "failed"


@pytest.mark.parametrize("more", [False, True])
def test_it_can_be_submitted_again(queue: Queue, more: bool) -> None:
    flow = Flow(queue, on_failure="any")
    flow.add(PyTask("builtins:int", ("7",)))
    assert flow.submit().status().total == 1
    if more:
        flow.add(task("b"))
        flow.add(task("c"))
    run = flow.submit()
    burst(queue)
    Hands(queue).carry()
    assert (run.result(0), run.wait(0)) == (None if more else 7, "succeeded")
    sound(run)


def test_an_edge_that_stops_the_whole_has_failed_it(queue: Queue) -> None:
    for policy in ("any", "stop"):
        flow = Flow(queue, on_failure=policy, **CALLED)
        other, first = flow.add(task("d")), flow.add(task("a"))
        flow.add(task("b"), after=first, when="stop_now")
        flow.add(task("c"), after=[first, other], when="any")
        flow.add(task("e"), after=flow.wait("never"), when="any")
        run = flow.submit()
        ran = play(Hands(queue), "a")
        assert (run.wait(0), "on failure" in ran, "on success" in ran) == ("failed", True, False)
        sound(run)


def test_people_read_what_it_comes_to(queue: Queue) -> None:
    run = group(task("a"), task("b"), task("c")).then(task("d")).then(task("e")).submit(queue, on_failure=quorum(2))
    sets = {each.number: each for each in view(run).sets}
    assert [after_text(each, sets) for each in sets.values()] == ["", "after 2 of 3 of [0] tasks:noop", "after [1] tasks:noop"]
    assert view(run).policy == "quorum:2"
    play(Hands(queue))


@pytest.mark.parametrize(("policy", "state"), [("any", "succeeded"), ("stop", "failed"), ("continue", "failed")])
def test_what_a_node_adds_has_the_policy_of_the_whole(queue: Queue, policy: Any, state: str) -> None:
    run = group(PyTask("tests.redis.workflow.functions:grow_badly"), task("b")).submit(queue, on_failure=policy)
    for _ in range(3):
        burst(queue)
        Hands(queue).carry()
    found = run.nodes()
    assert run.wait(0) == state
    assert [each.state for each in found][2:] == ["failed", "succeeded" if policy == "continue" else "skipped"]
    sound(run)


@pytest.mark.parametrize("mode", ["all", "failed_only", "failed_and_downstream"])
def test_one_that_has_missed_its_quorum_can_be_retried(queue: Queue, mode: Any) -> None:
    run = group(task("a"), task("b"), task("c")).then(task("d")).submit(queue, on_failure=quorum(2), **CALLED)
    hands = Hands(queue)
    play(hands, "a b")
    assert run.wait(0) == "failed"
    run.retry(mode)
    hands.carry()
    assert "on success" in play(hands, "a")
    assert (run.wait(0), run.node(3).state) == ("succeeded", "succeeded")
    sound(run)


def test_a_dead_letter_that_is_retried_lets_the_quorum_be_reached(queue: Queue) -> None:
    run = group(task("a"), task("b")).then(task("c")).submit(queue, on_failure=quorum(2))
    hands = Hands(queue)
    play(hands, "a")
    assert (run.wait(0), run.node(2).state) == ("failed", "skipped")
    found = run.node(0)
    say(run, f"o0 {found.number}")
    hands.carry()
    assert run.status().state == "running"
    say(run, "e0 0 s")
    hands.carry()
    assert play(hands) == ["c"]
    assert run.wait(0) == "succeeded"
    sound(run)


def test_what_a_node_adds_counts_among_those(queue: Queue) -> None:
    run = group(PyTask("tests.redis.workflow.functions:grow_twice"), task("b")).submit(queue, on_failure=quorum(3))

    burst(queue)
    Hands(queue).carry()
    burst(queue)
    assert run.wait(0) == "succeeded"
    sound(run)


@pytest.mark.parametrize("policy", ["failure", "some", 2, None])
def test_no_other_word_is_a_policy_of_a_workflow(queue: Queue, policy: Any) -> None:
    with pytest.raises(InvalidTask, match=r"on_failure is one of stop, stop_now, continue, any, or quorum\(k\), not"):
        chain(task("a")).submit(queue, on_failure=policy)
