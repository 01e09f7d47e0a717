"""What `delayed top` shows: one table for each of its panes, read from the view model by a bounded number of commands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..base.checks import as_time
from ..base.clock import now
from ..base.escape import escaped
from ..base.ids import is_id
from ..base.text import clipped
from ..ops.audit import AuditFilter, read
from ..ops.causes import causes
from ..ops.diagnosis import diagnose
from ..ops.doctor import read as read_facts
from ..ops.flows import runs_of_all
from ..ops.history import HistoryFilter, history
from ..ops.job_records import jobs_of_all
from ..ops.overview import QueueView, overview
from ..ops.processes import Process
from ..ops.schedules import schedules_of_all
from ..ops.statistics import sums, totals
from ..ops.tasks import TaskFilter, TaskView, tasks
from ..queue.history import HistoryEvent
from ..queue.queue import Queue
from .info import HEAD, queue_row, span
from .job import progress
from .table import Cell

STATES = ("waiting", "scheduled", "retrying", "running", "dead")
_ROWS = 200
_LONGEST = 300  # characters of a cell
_PINGS = 5  # round trips that are measured


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    key: str  # by which it is found again
    cells: tuple[Cell, ...]
    of: object = None  # what it is about, if that is needed to tell more of it


@dataclass(frozen=True, slots=True)
class Pane:
    """A table, and what is said of it."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    says: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is looked at."""

    queues: tuple[Queue, ...]
    queue: Queue | None = None  # the one that is marked
    state: str = "waiting"  # of tasks
    find: str = ""  # only what has this text


def _row(key: str, *texts: object, of: object = None) -> Row:
    return Row(key, tuple(Cell(clipped(escaped(str(text)), _LONGEST)) for text in texts), of)


def queues(chosen: Chosen) -> Pane:
    """All queues."""
    seen = overview(chosen.queues)
    rows = [Row(each.queue, tuple(cell._replace(text=escaped(cell.text)) for cell in queue_row(each))) for each in seen.queues]
    totals_of_marked = next(
        (_totals(chosen.queue, each) for each in seen.queues if chosen.queue and each.queue == chosen.queue.name), ""
    )
    return Pane(HEAD, tuple(rows), totals_of_marked)


def _totals(queue: Queue, seen: QueueView) -> str:
    return "  ".join(f"{name} {count:,}" for name, count in sums(totals(queue), seen)._asdict().items())


def causes_of(chosen: Chosen) -> Pane:
    """The dead letters of a queue, by cause."""
    if chosen.queue is None:
        return Pane(("cause",), ())
    found = causes(chosen.queue)
    rows = [
        _row(each.id, each.id, f"{each.count:,}", as_time(each.last), each.reason, each.task, each.says, of=each)
        for each in found.causes
    ]
    says = f"looked at {found.looked_at:,} of {found.total:,} dead letters"
    return Pane(("cause", "letters", "last", "reason", "function", "says"), tuple(rows[:_ROWS]), says)


def tasks_of(chosen: Chosen) -> Pane:
    """The tasks of a queue that are in one state."""
    head = ("id", "where", "due or since", "function", "arguments", "attempt", "error")
    if chosen.queue is None:
        return Pane(head, ())
    found = tasks(chosen.queue, TaskFilter(state=chosen.state, text=chosen.find or None), _ROWS)
    says = f"{chosen.state}: {len(found.tasks):,} shown, looked at {found.looked_at:,} of {found.total:,} {found.unit}s"
    return Pane(head, tuple(_task(number, each) for number, each in enumerate(found.tasks)), says)


def _task(number: int, task: TaskView) -> Row:
    moment = task.due if task.due is not None else task.since
    identity = task.letter or task.id
    return _row(
        identity or f"#{number}", identity or "-", task.where or task.state, "" if moment is None else as_time(moment),
        task.task, task.arguments, task.attempt or "", task.error, of=task,
    )  # fmt: skip


def history_of(chosen: Chosen) -> Pane:
    """What has happened to tasks of a queue, the newest first."""
    head = ("time", "what", "id", "function", "attempt", "waited", "ran", "by", "says")
    if chosen.queue is None:
        return Pane(head, ())
    find = chosen.find
    wanted = HistoryFilter(id=find) if is_id(find) else HistoryFilter(function=f"*{find}*") if ":" in find else None
    found = history(chosen.queue, wanted or HistoryFilter(text=find or None), _ROWS)
    return Pane(head, tuple(map(_event, range(_ROWS), found.events)), f"looked at {found.looked_at:,} events")


def _event(number: int, each: HistoryEvent) -> Row:
    waited, ran = ("" if seconds is None else f"{seconds:.3g} s" for seconds in (each.waited, each.seconds))
    return _row(
        f"{each.entry} {each.id} {number}", as_time(each.time), each.outcome, each.id or "-", each.task, each.attempt or "",
        waited, ran, each.by, each.said, of=each,
    )  # fmt: skip


def server(chosen: Chosen) -> Pane:
    """What the doctor says of the server."""
    head = ("level", "about", "says", "to do")
    if not chosen.queues:
        return Pane(head, ())
    first = chosen.queues[0]
    found = diagnose(read_facts(first.conn, first.name, _PINGS))
    return Pane(head, tuple(_row(f"{each.about} {each.says}", *each, of=each) for each in found))


def processes(chosen: Chosen) -> Pane:
    """Workers and sweepers."""
    head = ("process", "kind", "language", "queues", "up", "MB", "runs", "in hand", "ended")
    return Pane(head, tuple(map(_process, overview(chosen.queues).processes)))


def _process(each: Process) -> Row:
    runs = f"{each.running} for {each.running_for or 0:.1f} s" if each.running else "idle"
    ended = ", ".join(f"{count:,} {name}" for name, count in each.ended.items())
    return _row(
        f"{each.kind} {each.place} {each.started}", each.place, each.kind, each.language, ", ".join(each.queues),
        span(now() - (each.started or now())), f"{(each.rss or 0) / 2**20:.0f}", runs, each.in_hand, ended,
    )  # fmt: skip


def flows_of(chosen: Chosen) -> Pane:
    """The workflows of all queues, those that go on first."""
    found = runs_of_all(chosen.queues, None, _ROWS, 10 * _ROWS)
    rows = [
        _row(
            key_of(run.queue.name, run.id), run.id, status.name, run.queue.name, status.state,
            f"{status.total - status.left:,} of {status.total:,}", f"{status.failed:,}", as_time(status.created),
        )
        for run, status in found
    ]  # fmt: skip
    return Pane(("workflow", "name", "queue", "state", "ended", "failed", "created"), tuple(rows))


def schedules_of(chosen: Chosen) -> Pane:
    """The schedules of all queues, by their next occurrence."""
    found = schedules_of_all(chosen.queues)
    rows = [
        _row(
            key_of(queue, each.name), each.name, queue, f"{each.expression} {each.tz}", each.task,
            "paused" if each.next is None else as_time(each.next),
        )
        for queue, each in found.schedules[:_ROWS]
    ]  # fmt: skip
    return Pane(("schedule", "queue", "expression", "function", "next"), tuple(rows))


def key_of(queue: str, name: str) -> str:
    """The key of a row that is about something in a queue."""
    return f"{queue}\0{name}"


def jobs_of(chosen: Chosen) -> Pane:
    """The jobs of all queues, the newest first."""
    found = jobs_of_all(chosen.queues)
    rows = [_row(key_of(job.queue, job.id), as_time(job.created), job.queue, job.act, job.who, progress(job)) for job in found]
    return Pane(("begun", "queue", "act", "by", "state"), tuple(rows[:_ROWS]))


def audit_of(chosen: Chosen) -> Pane:
    """What operators have done."""
    head = ("time", "who", "from", "act", "queue", "what", "count", "result")
    if not chosen.queues:
        return Pane(head, ())
    found = read(chosen.queues[0], AuditFilter(), _ROWS)
    return Pane(
        head,
        tuple(
            _row(e.id, as_time(e.time), e.who, e.origin, e.act, e.queue, e.what, f"{e.count:,}", e.result)
            for e in found.entries
        ),
    )


PANES: dict[str, Callable[[Chosen], Pane]] = {
    "queues": queues,
    "causes": causes_of,
    "tasks": tasks_of,
    "history": history_of,
    "workflows": flows_of,
    "schedules": schedules_of,
    "processes": processes,
    "jobs": jobs_of,
    "audit": audit_of,
    "redis": server,
}
ABOUT_ONE: Sequence[str] = ("queues", "causes", "tasks", "history")  # panes that say something of the queue that is marked
_SEARCH: Sequence[str] = ("tasks", "history")  # those that look for a text themselves, beyond the rows that are shown


def filtered(name: str, chosen: Chosen) -> Pane:
    """A pane, with only those rows that have the text that is looked for."""
    pane = PANES[name](chosen)
    if not chosen.find or name in _SEARCH:
        return pane
    return replace(pane, rows=tuple(row for row in pane.rows if any(chosen.find in cell.text for cell in row.cells)))
