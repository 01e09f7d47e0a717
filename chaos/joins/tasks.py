"""What the nodes of the storm's workflows do: note their begin and their end, and look at what they find of those before."""

import time

from delayed.job.job import current_task
from delayed.task.task import PyTask
from delayed.workflow import chain, group
from delayed.workflow.inputs import Input

from ..notes import BEGUN, ENDED, note
from .graphs import ADD, FAIL, LIST, OK, RETRY
from .kinds import FAILED, WRONG


def node(number: int, act: str, value: int, microseconds: int, found: int, good: int, added: int) -> object:  # noqa: PLR0917
    """Finds `found` nodes before it; if `good` is not negative, all have succeeded, and so many have returned something."""
    task = current_task()
    if act == RETRY and task.attempt == 1:
        raise RuntimeError("not yet")
    note(BEGUN, number)
    if found >= 0:
        _look(number, list(task.inputs), found, good)
    if act == ADD:
        call = [PyTask("chaos.joins.tasks:node", (added + each, OK, each, 0, -1, -1, -1)) for each in range(3)]
        assert task.workflow is not None
        task.workflow.add(chain(group(call[0], call[1]), call[2]), name="more")
    if microseconds:
        time.sleep(microseconds / 1e6)
    if act == FAIL:
        note(FAILED, number)
        raise RuntimeError("as was to be")
    note(ENDED, number)
    return list(range(int(act.removeprefix(LIST)))) if act.startswith(LIST) else value


def _look(number: int, inputs: list[Input], found: int, good: int) -> None:
    """Note it if something is not there that must be."""
    complete = all(each.state == "succeeded" for each in inputs) and sum(each.value is not None for each in inputs) >= good
    if len(inputs) != found or (good >= 0 and not complete):
        note(WRONG, number)


def mapped(element: int, first: int) -> int:
    """A node of a map."""
    note(BEGUN, first + element)
    note(ENDED, first + element)
    return element
