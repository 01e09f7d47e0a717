"""Tasks of the tests of workflows."""

import time
from collections.abc import Iterable
from typing import Any

from delayed.job.job import current_task

SEEN: list[Any] = []


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def numbers(count: int) -> list[int]:
    return list(range(count))


def same(value: Any, *others: Any) -> Any:
    """Its first argument."""
    return value


def see(label: str = "") -> Any:
    """Keep and return what comes before it."""
    found = current_task().previous
    SEEN.append(list(found) if isinstance(found, Iterable) and not isinstance(found, str | list | dict) else found)
    return label or SEEN[-1]


def outcomes() -> list[tuple[str, Any]]:
    """How those before it have ended."""
    return [(each.state, each.value) for each in current_task().inputs]


def grow(count: int, name: str | None = None) -> int:
    """Add nodes beside itself, twice."""
    from delayed.task.task import PyTask
    from delayed.workflow import group

    workflow = current_task().workflow
    assert workflow is not None
    added = [workflow.add(group(PyTask(same, (number,)) for number in range(count)), name=name or "more") for _ in range(2)]
    return sum(added)


def grow_twice() -> list[bool]:
    """Add two nodes beside itself, each as the first thing that one does with its workflow."""
    from delayed.task.task import PyTask

    added = []
    for label in ("one", "two"):
        workflow = current_task().workflow
        assert workflow is not None
        added.append(workflow.add(PyTask(same, (label,))))
    return added


def grow_badly() -> bool:
    """Add a chain of which the first step fails."""
    from delayed.task.task import PyTask
    from delayed.workflow import chain

    workflow = current_task().workflow
    assert workflow is not None
    return workflow.add(chain(PyTask("tasks:fail", ("no",)), PyTask(same, ("late",))))


def grow_for(number: int) -> int:
    """As `grow_twice`, for an element of a map, if that is not 0."""
    if number:
        grow_twice()
    return number


def fail_unless(key: str) -> str:
    """Fail until the queue has a list of this name."""
    queue = current_task().queue
    if not queue.store.call("EXISTS", key):
        raise ValueError(key)
    return key
