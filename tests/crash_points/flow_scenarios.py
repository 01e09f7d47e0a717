"""Operations on workflows, to be cut at each of their commands."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import delayed.workflow.pages
from delayed.dead_letters.letter import dead_letters
from delayed.dead_letters.retry import retry
from delayed.task.task import PyTask
from delayed.workflow import Flow, Run, chain, group, runs
from delayed.workflow.again import RetryMode
from delayed.workflow.tend import tend
from tests.conftest import burst
from tests.redis.workflow.hands import Hands

from .crash_points import Counter
from .crash_scenarios import BURST, Operation, Scenario, Stage, _fresh, _nothing
from .crash_tasks import RETURNED, note

FEW, MANY = 3, 8  # nodes of a group: as many as one step deals with, and more


def _ran(*numbers: int, times: int = 1) -> dict[int, int]:
    return dict.fromkeys(numbers, times)


def _tasks(stage: Stage, numbers: range, **options: Any) -> list[PyTask]:
    return [stage.task(number, **options) for number in numbers]


def _submit(stage: Stage, count: int, **options: Any) -> Run:
    """A group, and a task after it."""
    return chain(group(_tasks(stage, range(count))), stage.task(count)).submit(stage.queue, **options)


def _told(operate: Callable[[Stage], Any]) -> Operation:
    """An operation of a caller who remembers that it has returned."""

    def operation(stage: Stage, counter: Counter) -> None:
        stage.queue = _fresh(stage)
        operate(stage)
        note(str(stage.path), RETURNED, 0)

    return operation


def _submit_pages(stage: Stage) -> None:
    delayed.workflow.pages._NODES = 3
    _submit(stage, MANY)


def _the_run(stage: Stage) -> Run:
    (run,) = runs(stage.queue)
    return run


def _joins(stage: Stage) -> None:
    """All succeed; there are callbacks."""
    after: Any = {"then_success": [stage.task(4)], "then_complete": [stage.task(5)], "then_failure": [stage.task(6)]}
    _submit(stage, FEW, **after)


def _failure(stage: Stage) -> None:
    """One fails, what comes after it is skipped, and there are callbacks."""
    after: Any = {"then_success": [stage.task(4)], "then_complete": [stage.task(5)], "then_failure": [stage.task(6)]}
    members = [stage.task(0), stage.task(1, "fail"), stage.task(2)]
    chain(group(members), stage.task(3)).submit(stage.queue, **after)


def _pages(stage: Stage) -> None:
    members = group(_tasks(stage, range(1, 1 + MANY)))
    chain(stage.task(0), members, stage.task(1 + MANY)).submit(stage.queue)


def _keys(stage: Stage) -> None:
    """Two with the same key, of which the second is refused, and one of a group, among others."""
    members = [stage.task(1, unique="u"), stage.task(2, unique="u"), stage.task(3, group="a"), stage.task(4)]
    chain(stage.task(0), group(members), stage.task(5)).submit(stage.queue, on_failure="continue")


def _map(stage: Stage) -> None:
    flow = Flow(stage.queue)
    functions = "tests.crash_points.crash_tasks"
    given = flow.add(PyTask(f"{functions}:give", (str(stage.path), 0, MANY)))
    flow.add(stage.task(1 + MANY), after=flow.map(PyTask(f"{functions}:each", (str(stage.path),)), over=given))
    flow.submit()


def _growing(stage: Stage) -> None:
    grow = PyTask("tests.crash_points.crash_tasks:grow", (str(stage.path), 0, FEW))
    chain(grow, stage.task(1 + FEW)).submit(stage.queue)


def _waiting(stage: Stage) -> None:
    flow = Flow(stage.queue)
    flow.add(stage.task(0), after=flow.wait("go"))
    flow.submit()


def _failed(stage: Stage) -> None:
    """One has succeeded, one has failed, and what comes after both has run."""
    flow = Flow(stage.queue, on_failure="continue")
    both = [flow.add(stage.task(0)), flow.add(stage.task(1, "fail_once"))]
    flow.add(stage.task(2), after=both)
    flow.submit()
    burst(stage.queue)


def _skipped(stage: Stage) -> None:
    """One has failed, so that the next was skipped."""
    chain(stage.task(0, "fail_once"), stage.task(1)).submit(stage.queue)
    burst(stage.queue)


def _ended(stage: Stage) -> None:
    chain(stage.task(0), stage.task(1)).submit(stage.queue, unique="u")
    burst(stage.queue)


def _forget(stage: Stage) -> None:
    for run in list(runs(stage.queue)):
        run.forget()


def _retry_letter(stage: Stage) -> None:
    for letter in list(dead_letters(stage.queue)):
        retry(stage.queue, letter)


def _neglected(stage: Stage) -> None:
    """Workflows that have been left alone: members have ended and nobody has carried it on; a time is over; one is to be
    forgotten; one has never been whole."""
    keys = stage.queue.keys
    chain(PyTask("tasks:noop")).submit(stage.queue)
    burst(stage.queue)
    _is_over(stage, keys.flow_ids)
    _build_half(stage)
    flow = Flow(stage.queue)
    flow.add(stage.task(0), after=flow.wait(timeout=1000))
    flow.submit()
    _is_over(stage, keys.flow_due)
    chain(group(PyTask("tasks:noop") for _ in range(FEW)), group(_tasks(stage, range(1, 1 + MANY)))).submit(stage.queue)
    for held in Hands(stage.queue).take_all():
        assert held.begin()
        assert held.succeed()


def _is_over(stage: Stage, key: str) -> None:
    for member in stage.queue.store.call("ZRANGE", key, 0, -1):
        stage.queue.store.call("ZADD", key, 1, member)


def _build_half(stage: Stage) -> None:
    """Die after the first page."""

    def first(*arguments: Any) -> None:
        add(*arguments)
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(InterruptedError):
        add = stage.queue.store.add
        patch.setattr(stage.queue.store, "add", first)
        group(_tasks(stage, range(MANY))).submit(stage.queue)


def _retries(mode: RetryMode, *counts: int) -> Scenario:
    def again(stage: Stage) -> None:
        _the_run(stage).retry(mode)

    return Scenario(
        f"retry a workflow: {mode.replace('_', ' ')}", _failed, _told(again), {}, dead=frozenset({1}), repeat=again,
        ends={"failed": _ran(0, 1, 2), "succeeded": dict(enumerate(counts))},
        expects=("UNLINK", "XDEL", "EVALSHA flow_again", "EVALSHA flow_join"),
    )  # fmt: skip


FLOW_SCENARIOS = [
    Scenario(
        "create a workflow", _nothing, _told(lambda s: _submit(s, FEW)), {}, ends={"": {}, "succeeded": _ran(*range(4))},
        expects=("EVAL flow_build", "EVAL flow_join"),
    ),
    Scenario(
        "create a workflow in pages", _nothing, _told(_submit_pages), {},
        ends={"": {}, "succeeded": _ran(*range(MANY + 1))}, expects=("EVALSHA flow_build", "EVALSHA flow_step"),
    ),
    Scenario(
        "end members, join, call back", _joins, BURST, {}, ends={"succeeded": _ran(*range(6)) | {6: 0}},
        expects=("EVALSHA start_many", "EVALSHA finish", "EVALSHA flow_join"),
    ),
    Scenario(
        "a member fails, what follows is skipped", _failure, BURST, {}, dead=frozenset({1}),
        ends={"failed": {0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 5: 1, 6: 1}}, expects=("EVALSHA flow_join",),
    ),
    Scenario(
        "release a group in pages", _pages, BURST, {}, ends={"succeeded": _ran(*range(2 + MANY))},
        expects=("EVALSHA flow_step",),
    ),
    Scenario(
        "release members that have keys, one by one", _keys, BURST, {},
        ends={"failed": {0: 1, 1: 1, 2: 0, 3: 1, 4: 1, 5: 1}}, expects=("EVALSHA submit", "EVALSHA turn", "EVALSHA flow_step"),
    ),
    Scenario(
        "make the members of a map, in pages", _map, BURST, {}, ends={"succeeded": _ran(*range(2 + MANY))},
        expects=("HINCRBY", "EVALSHA flow_step"),
    ),
    Scenario(
        "a member adds others", _growing, BURST, {}, ends={"succeeded": _ran(*range(2 + FEW))},
        expects=("HINCRBY", "EVALSHA flow_add"),
    ),
    Scenario(
        "cancel a workflow, in pages", lambda s: _submit(s, MANY), _told(lambda s: _the_run(s).cancel()), {},
        ends={"succeeded": _ran(*range(MANY + 1)), "cancelled": {}},
        expects=("EVALSHA flow_tell", "EVALSHA flow_cancel", "EVALSHA flow_step"),
    ),
    Scenario(
        "send a signal", _waiting, _told(lambda s: _the_run(s).signal("go")), {},
        repeat=lambda s: _the_run(s).signal("go"),
        ends={"running": {}, "succeeded": _ran(0)}, expects=("EVAL flow_tell", "EVAL flow_join"),
    ),
    _retries("failed_only", 1, 2, 1),
    _retries("failed_and_downstream", 1, 2, 2),
    _retries("all", 2, 2, 2),
    Scenario(
        "retry a dead letter of a workflow", _skipped, _told(_retry_letter), {}, dead=frozenset({0}), repeat=_retry_letter,
        ends={"failed": _ran(0), "succeeded": {0: 2, 1: 1}}, expects=("EVAL revive",),
    ),
    Scenario(
        "forget a workflow that has ended", _ended, _told(_forget), {}, repeat=_forget,
        ends={"succeeded": _ran(0, 1), "": _ran(0, 1)}, expects=("EVAL flow_join", "EVAL flow_remove"),
    ),
    Scenario(
        "tend workflows that were left alone", _neglected, _told(lambda s: tend(s.queue.store)), {},
        ends={"succeeded succeeded": _ran(*range(1 + MANY))},
        expects=("EVALSHA flow_look", "EVALSHA flow_join", "EVALSHA flow_step", "EVALSHA flow_remove"),
    ),
]  # fmt: skip
