"""Which callbacks run, and what is found after added nodes: tables of docs/workflows.md that these tests see."""

from collections.abc import Callable
from typing import Any

import pytest

from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, group, quorum
from tests import ROOT
from tests.conftest import burst

from .functions import outcomes, see
from .hands import Hands

PAGE = (ROOT / "docs" / "workflows.md").read_text()
THEN = ("then_success", "then_complete", "then_failure")
ON = ("on_success", "on_error")


def table(name: str) -> list[str]:
    """The lines of a table, without its head."""
    return PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- end of {name} -->")[0].splitlines()[2:]


def call(label: str, **options: Any) -> PyTask:
    return PyTask("tasks:noop", (label,), **options)


def play(queue: Queue, *, fails: str = "", cancels: Run | None = None) -> list[str]:
    """Execute what waits; those that are called so fail, and after them the whole is cancelled. Returns what ran."""
    hands, ran = Hands(queue), list[str]()
    while (held := hands.take()) is not None:
        if not held.begin():
            assert held.cancel()
        elif held.label == "late":
            assert held.expire()
        else:
            ran.append(held.label)
            assert held.fail() if held.label in fails.split() else held.succeed()
            if cancels is not None and held.label in fails.split():
                hands.carry()
                cancels.cancel()
        hands.carry()
    return ran


def plain(flow: Flow) -> None:
    flow.add(call("b"), after=flow.add(call("a")))


def handled(flow: Flow) -> None:
    flow.add(call("a"), on_error=[call("sorry")])


def enough(flow: Flow) -> None:
    flow.add(call("c"), after=[flow.add(call("a")), flow.add(call("b"))], when=quorum(1))


def beside(flow: Flow) -> None:
    flow.add(call("a"))
    flow.wait("never")


def late(flow: Flow) -> None:
    flow.add(call("late"))


WHOLES: dict[str, tuple[Callable[[Flow], None], str, str]] = {  # what it is, what fails, and what else is done
    "all of it succeeds": (plain, "", ""),
    "a node fails for good": (plain, "a", ""),
    "a node expires": (late, "", ""),
    "a node fails, and `on_error` provides for that": (handled, "a", ""),
    "a node fails, and a quorum after it is reached": (enough, "a", ""),
    "it is cancelled": (beside, "", "cancel"),
    "a node fails, and then it is cancelled": (beside, "a", "cancel"),
    "a node fails; it is retried, and succeeds": (plain, "a", "retry"),
}


@pytest.mark.parametrize("text", WHOLES)
def test_callbacks_of_a_workflow_are_as_the_document_says(queue: Queue, text: str) -> None:
    make, fails, then = WHOLES[text]
    callbacks: Any = {name: [call(name)] for name in THEN}
    flow = Flow(queue, **callbacks)
    make(flow)
    run = flow.submit()
    ran = play(queue, fails=fails, cancels=run if fails and then == "cancel" else None)
    if then == "cancel":
        run.cancel()
    elif then == "retry":
        run.retry()
    ran += play(queue)
    Hands(queue).carry()
    ran += play(queue)
    assert all(ran.count(name) <= 1 for name in THEN)
    line = f"| {text} | {run.wait(0)} | {' | '.join('yes' if name in ran else 'no' for name in THEN)} |"
    assert line in table("callbacks"), line


NODES: dict[str, tuple[str, str]] = {  # of a node: what it is called, and what fails
    "succeeds": ("node", ""),
    "fails for good": ("node", "node"),
    "expires": ("late", ""),
    "is skipped": ("node", "first"),
}


@pytest.mark.parametrize("text", NODES)
def test_callbacks_of_a_node_are_as_the_document_says(queue: Queue, text: str) -> None:
    label, fails = NODES[text]
    callbacks: Any = {name: [call(name)] for name in ON}
    flow = Flow(queue)
    flow.add(call(label), after=flow.add(call("first")), **callbacks)
    run = flow.submit()
    ran = play(queue, fails=fails)
    assert run.status().left == 0
    line = f"| {text} | {' | '.join('yes' if name in ran else 'no' for name in ON)} |"
    assert line in table("callbacks of nodes"), line


def test_the_document_has_these_callbacks_and_no_others() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in table("callbacks")] == list(WHOLES)
    assert [line.split(" | ")[0].removeprefix("| ") for line in table("callbacks of nodes")] == list(NODES)


GROW = PyTask("tests.redis.workflow.functions:grow_twice")
AFTER: dict[str, Callable[[Flow], Any]] = {  # what comes before
    "one node that has added some": lambda flow: flow.add(GROW),
    "a group, of which one has added some": lambda flow: flow.add(group(GROW, PyTask("builtins:len", ("own",)))),
    "several nodes": lambda flow: [flow.add(GROW), flow.add(PyTask("builtins:len", ("own",)))],
    "a map, of which one has added some": lambda flow: flow.map(
        PyTask("tests.redis.workflow.functions:grow_for"), over=flow.add(PyTask("builtins:list", ([1, 0],)))
    ),
}


def said(found: Any, own: list[Any]) -> str:
    its = "its result" if len(own) == 1 else "their results"
    words = {repr(own[0]): "what that one has returned", repr([*own, "one", "two"]): f"{its}, then those of the added ones"}
    return words[repr(found)]


@pytest.mark.parametrize("text", AFTER)
def test_what_comes_after_added_nodes_finds_what_the_document_says(queue: Queue, text: str) -> None:
    flow = Flow(queue)
    before = AFTER[text](flow)
    seen, inputs = flow.add(PyTask(see), after=before), flow.add(PyTask(outcomes), after=before)
    run = flow.submit()
    for _ in range(6):
        burst(queue)
        Hands(queue).carry()
    own: list[Any] = (
        [1, 0] if "map" in text else [[True, True], 3] if text != "one node that has added some" else [[True, True]]
    )
    found = said(run.value(seen), own), said([value for _, value in run.value(inputs)], own)
    line = f"| {text} | {' | '.join(found)} |"
    assert line in table("added"), line


def test_the_document_has_these_additions_and_no_others() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in table("added")] == list(AFTER)
