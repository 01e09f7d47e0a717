"""Workflows of Python and Go nodes, put together in one language; the other looks at them, signals, cancels and retries."""

from typing import Any

import pytest

from delayed.errors import TaskCancelled, TaskFailed
from delayed.queue.queue import Queue
from delayed.task.task import GoTask, PyTask
from delayed.workflow import Flow, Run, chain, group, on
from tests import ROOT
from tests.conftest import burst, eventually
from tests.support.processes import Fleet, Process

from .agents import Ask, go_binary, go_program, have_go

pytestmark = pytest.mark.skipif(not have_go(), reason="Go is not installed")
FUNCTIONS = "tests.redis.workflow.functions"


@pytest.fixture
def py(queue: Queue) -> Queue:
    """The queue of the Python nodes; that of the Go nodes is the home of all workflows."""
    return Queue(f"{queue.name}py", queue.conn, dequeue_timeout=0.5)


@pytest.fixture(autouse=True)
def go_worker(fleet: Fleet, queue: Queue) -> Process:
    return fleet.start(go_binary("conformance", ROOT / "interop", "./cmd/conformance"), "work", queue.name).ready()


@pytest.fixture
def ask(redis_url: str, queue: Queue) -> Ask:
    """Asks a Go program to do something with a workflow."""
    return go_program(redis_url, "flow", queue.name)


def finish(run: Run, py: Queue) -> str:
    """Run what is for Python until the workflow has ended."""

    def ended() -> bool:
        burst(py)
        return run.status().ended is not None

    eventually(ended)
    return run.wait(0)


def in_go(queue: Queue, path: str, *args: Any) -> dict[str, Any]:
    return {"path": f"main.{path}", "queue": queue.name, "go": True, "args": list(args)}


def in_python(py: Queue, function: str, *args: Any) -> dict[str, Any]:
    return {"path": f"{FUNCTIONS}:{function}", "queue": py.name, "go": False, "args": list(args)}


def test_go_submits_and_both_run_it(queue: Queue, py: Queue, ask: Ask) -> None:
    members = [in_go(queue, "Add", 1, 2), in_python(py, "same", 4), in_go(queue, "Add", 5, 6)]
    said = ask(steps=[members, [in_python(py, "see")], [in_go(queue, "Collect")]])
    run = Run(queue, said["id"])
    assert finish(run, py) == "succeeded"
    assert [node.state for node in run.nodes()] == ["succeeded"] * 5
    assert run.value(f"{FUNCTIONS}:see") == [3, 4, 11]
    assert run.value("main.Collect") == [[3, 4, 11]]
    status = run.status()
    assert (status.name, status.total, status.succeeded) == ("from Go", 5, 5)


def test_python_submits_and_go_looks_at_it(queue: Queue, py: Queue, ask: Ask) -> None:
    flow = Flow(queue, "from Python", on_failure="continue")
    sums = flow.map(GoTask("main.Add", (10,)), over=flow.add(on(py.name, PyTask(f"{FUNCTIONS}:numbers", (3,)))))
    bad = flow.add(GoTask("main.Fail"), after=sums)
    flow.add(GoTask("main.Collect"), after=[sums, bad], name="all")
    run = flow.submit()
    finish(run, py)
    said = ask(id=run.id, do="wait", node="all")
    assert (said["state"], said["value"], said["error"]) == ("failed", [10, 11, 12, None], "")
    nodes = ask(id=run.id, do="nodes")["nodes"]
    assert nodes == [f"{node.queue} {node.label} {node.state}" for node in run.nodes()]
    assert f"{queue.name} main.Fail failed" in nodes


def test_go_signals_what_python_waits_for_and_python_what_go_does(queue: Queue, py: Queue, ask: Ask) -> None:
    flow = Flow(queue)
    flow.add(on(py.name, PyTask(f"{FUNCTIONS}:see")), after=flow.wait("ok"))
    run = flow.submit()
    assert [ask(id=run.id, do="signal", signal="ok", payload={"by": "ada"})["count"] for _ in range(2)] == [1, 0]
    assert not run.signal("ok")
    assert finish(run, py) == "succeeded"
    assert run.result(0) == {"by": "ada"}

    run = Run(queue, ask(steps=[[], [in_go(queue, "Collect")]], signal="ok")["id"])
    assert run.signal("ok", [1])
    assert finish(run, py) == "succeeded"
    assert run.value("main.Collect") == [1]


def test_each_cancels_what_the_other_has_submitted(queue: Queue, py: Queue, ask: Ask) -> None:
    run = chain(GoTask("main.UntilCancelled"), on(py.name, PyTask(f"{FUNCTIONS}:see"))).submit(queue)
    eventually(lambda: queue.len() == 0)
    assert ask(id=run.id, do="cancel")["error"] == ""
    assert finish(run, py) == "cancelled"
    with pytest.raises(TaskCancelled):
        run.result(0)
    run = Run(queue, ask(steps=[[in_python(py, "see")], [in_go(queue, "Collect")]])["id"])
    run.cancel()
    assert ask(id=run.id, do="wait")["state"] == "cancelled"
    assert [node.state for node in run.nodes()] == ["cancelled", "cancelled"]


def test_each_retries_what_the_other_has_submitted(queue: Queue, py: Queue, ask: Ask) -> None:
    key = f"{queue.name}:there"
    members = group(GoTask("main.Unless", key), on(py.name, PyTask(f"{FUNCTIONS}:fail_unless", (key,))))
    run = members.then(GoTask("main.Collect")).submit(queue)
    assert finish(run, py) == "failed"
    with pytest.raises(TaskFailed, match="2 nodes have failed"):
        run.result(0)
    queue.store.call("SET", key, "yes")
    assert ask(id=run.id, do="failed_only")["count"] == 3
    assert finish(run, py) == "succeeded"
    assert run.result(0) == ["yes", key]
    assert ask(id=run.id, do="failed_only")["error"].startswith("delayed: invalid task")
    queue.store.call("DEL", key)
    assert ask(id=run.id, do="all")["count"] == 3
    assert finish(run, py) == "failed"

    run = Run(queue, ask(steps=[[in_go(queue, "Unless", key)], [in_python(py, "see")]])["id"])
    assert finish(run, py) == "failed"
    queue.store.call("SET", key, "yes")
    assert run.retry() == 2
    assert finish(run, py) == "succeeded"
    assert ask(id=run.id, do="wait", node=f"{FUNCTIONS}:see")["value"] == ["yes"]


def test_a_go_node_adds_to_a_workflow_of_python(queue: Queue, py: Queue) -> None:
    first, last = PyTask(f"{FUNCTIONS}:same", (1,)), PyTask(f"{FUNCTIONS}:see")
    run = chain(on(py.name, first), GoTask("main.Grow", 5), on(py.name, last)).submit(queue)
    assert finish(run, py) == "succeeded"
    assert run.status().total == 8
    assert run.result(0) == 5
