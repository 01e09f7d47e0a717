"""What each mode of `run.retry` runs again: the table of docs/workflows.md is what this test sees."""

from typing import Any, get_args

import pytest

from delayed.queue.queue import Queue
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run
from delayed.workflow.again import RetryMode
from tests import ROOT

from .hands import Hands

PAGE = (ROOT / "docs" / "workflows.md").read_text()
TABLE = PAGE.partition("<!-- retries -->\n")[2].partition("\n<!-- end of retries -->")[0].splitlines()
MODES: tuple[RetryMode, ...] = get_args(RetryMode)
ROWS = {  # what a task is called by its first argument → what the document calls it
    "good": "has succeeded",
    "bad": "has failed",
    "gone": "was cancelled",
    "skipped": "was skipped after the failure",
    "nevertheless": "came after the failure, and ran (`continue`)",
    "sorry": "is its `on_error`",
    "element 1": "of a map, has succeeded",
    "element 2": "of a map, has failed",
    "collected": "came after that map, and ran",
    "behind": "of a map over what had failed",
    "callback": "is a callback of the workflow (`then_complete`)",
}


def call(label: str) -> PyTask:
    return PyTask("tasks:noop", (label,))


def submit(queue: Queue) -> Run:
    flow = Flow(queue, on_failure="continue", then_complete=[call("callback")])
    flow.add(call("good"))
    flow.add(call("gone"))
    bad = flow.add(call("bad"), on_error=[call("sorry")])
    flow.add(call("skipped"), after=bad, when="stop")
    flow.add(call("nevertheless"), after=bad)
    flow.map(PyTask("tasks:noop"), over=bad, when="stop")
    flow.add(call("collected"), after=flow.map(PyTask("tasks:noop"), over=flow.add(call("list"))))
    return flow.submit()


def work(queue: Queue, *, fails: bool) -> list[Any]:
    """Execute what waits. Returns what that was, by first arguments."""
    values = {"list": ["element 1", "element 2"], "bad": ["behind"]}
    ran, hands = list[Any](), Hands(queue)
    while (held := hands.take()) is not None:
        ran.append(held.label)
        assert held.begin()
        if fails and held.label in ("bad", "element 2"):
            assert held.fail()
        elif fails and held.label == "gone":
            assert held.cancel()
        else:
            assert held.succeed(values.get(held.label))
        hands.carry()
    return ran


def test_each_mode_runs_again_what_the_document_says(queue: Queue) -> None:
    before, again = list[Any](), dict[str, list[Any]]()
    for mode in MODES:
        run = submit(queue)
        before = work(queue, fails=True)
        assert run.status().ended is not None
        run.retry(mode)
        again[mode] = work(queue, fails=False)
        status = run.status()
        assert (status.left, status.failed, status.cancelled) == (0, 0, 0)
        queue.store.call("DEL", queue.keys.dead)
    assert all(ran.count(label) <= 1 for ran in (before, *again.values()) for label in ROWS)
    cells = {label: ["yes" if label in ran else "no" for ran in (before, *again.values())] for label in ROWS}
    lines = [f"| {text} | {' | '.join(cells[label])} |" for label, text in ROWS.items()]
    assert TABLE[2:] == lines, "\n".join(lines)


def test_the_table_has_these_columns() -> None:
    assert TABLE[:2] == [f"| a node that | ran before | {' | '.join(f'`{mode}`' for mode in MODES)} |", "| --- " * 5 + "|"]


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_said_in_words(mode: str) -> None:
    assert f'| `"{mode}"`' in PAGE
