"""All that is known of a row of `delayed top`, in lines of text."""

from collections.abc import Callable, Iterable, Iterator

from ..base.checks import as_time
from ..ops.causes import CauseView
from ..ops.dead_actions import letter_named
from ..ops.diagnosis import Advice, diagnose_queue
from ..ops.diagnosis import lines as advice_lines
from ..ops.doctor import queue_facts
from ..ops.flow_text import lines as flow_lines
from ..ops.flows import single_states, view
from ..ops.fsck import PATIENCE, Checked, examine
from ..ops.fsck import lines as fsck_lines
from ..ops.history import history_of
from ..ops.info import described
from ..ops.job_records import job_of
from ..ops.locate import locate, timeline
from ..ops.statistics import summary, totals
from ..ops.tasks import TaskView
from ..queue.history import HistoryEvent
from ..queue.queue import Queue
from ..workflow.run import Run
from .history import event_line
from .job import lines as job_lines
from .located import located_lines
from .timeline import timeline_lines
from .top_panes import Chosen, Row

_SETS = 200  # of a workflow


def _queue_lines(chosen: Chosen, row: Row) -> Iterable[str]:
    """What was counted of each function."""
    queue = next(each for each in chosen.queues if each.name == row.key)
    found = totals(queue)
    return summary(f"{queue.name}: all that has ended", {"(all)": found.all, **found.functions})


def _cause_lines(chosen: Chosen, row: Row) -> Iterator[str]:
    """Its newest letter."""
    if isinstance(row.of, CauseView) and chosen.queue is not None:
        yield f"cause:  {row.of.id}: {row.of.count:,} dead letters from {as_time(row.of.first)} to {as_time(row.of.last)}"
        yield "the newest of them:"
        yield from _letter_lines(chosen.queue, row.of.letter)


def _letter_lines(queue: Queue, identity: str) -> Iterator[str]:
    letter = letter_named(queue, identity)
    yield f"dead:   {letter.id} ({letter.reason}, {as_time(letter.time)}, by {letter.worker})"
    yield from described(letter.data)
    if letter.task_id is not None:
        yield from timeline_lines(timeline(queue, letter.task_id))
    yield from ("", *letter.detail.rstrip().splitlines())


def _task_lines(chosen: Chosen, row: Row) -> Iterator[str]:
    """A task, with its timeline if it is tracked; a dead letter with its traceback."""
    task = row.of
    if not isinstance(task, TaskView) or chosen.queue is None:
        return
    if task.letter:
        yield from _letter_lines(chosen.queue, task.letter)
    elif (found := locate([chosen.queue], task.id) if task.id else None) is not None:
        yield from located_lines(task.id, found)
    else:
        yield f"{task.state}, and without an id" if not task.id else f"{task.id} was {task.state}, and is not there any more"
        yield from described(task.data)


def _event_lines(chosen: Chosen, row: Row) -> Iterator[str]:
    """An event, and what else is known of the past of its task."""
    event = row.of
    if not isinstance(event, HistoryEvent) or chosen.queue is None:
        return
    yield event_line(event)
    past = history_of([chosen.queue], event.id) if event.id else None
    if past is not None:
        yield from ("", *timeline_lines(past.timeline))
        yield from map(event_line, past.events)


def _flow_lines(chosen: Chosen, row: Row) -> Iterator[str]:
    """A workflow as a tree."""
    queue, identity = _named(chosen, row)
    found = view(run := Run(queue, identity))
    yield from flow_lines(found, single_states(run, found.sets[:_SETS]), _SETS)


def _job_lines(chosen: Chosen, row: Row) -> Iterable[str]:
    return job_lines(job_of(*_named(chosen, row)))


def _advice_lines(_: Chosen, row: Row) -> Iterable[str]:
    return advice_lines([row.of]) if isinstance(row.of, Advice) else ()


def _named(chosen: Chosen, row: Row) -> tuple[Queue, str]:
    name, _, identity = row.key.partition("\0")
    return next(each for each in chosen.queues if each.name == name), identity


def checked_lines(queue: Queue) -> Iterator[str]:
    """What `fsck` and the doctor find in a queue."""
    found = examine(queue, PATIENCE)
    yield from fsck_lines(Checked(queue.name, [], found))
    yield from advice_lines(diagnose_queue(queue_facts(queue, PATIENCE, found)))


DETAILS: dict[str, Callable[[Chosen, Row], Iterable[str]]] = {  # of the rows of which pane there is more to tell
    "queues": _queue_lines,
    "causes": _cause_lines,
    "tasks": _task_lines,
    "history": _event_lines,
    "workflows": _flow_lines,
    "jobs": _job_lines,
    "redis": _advice_lines,
}
