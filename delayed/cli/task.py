"""`delayed task`: lists, shows, moves, cancels and removes waiting tasks; shows a tracked task and waits for its result."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import click

from ..base.checks import as_time
from ..base.escape import escaped, indented, listed
from ..base.ids import ID_FORM, is_id
from ..base.moments import moment_of
from ..base.text import clipped, counted
from ..errors import InvalidAct
from ..ops.info import described
from ..ops.jobs import begin
from ..ops.locate import locate
from ..ops.overview import server_time
from ..ops.shown import status_shown
from ..ops.task_actions import (
    cancel_matching,
    cancel_tasks,
    delete_matching,
    delete_tasks,
    is_position,
    move_matching,
    move_tasks,
    waiting_task,
)
from ..ops.tasks import STATES, TaskFilter, TaskList, TaskView, find_tracked, tasks
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..queue.waiting import LOOKED_AT, Waiting, Wanted
from .acting import background_option, operator, tell_of_job
from .amounts import Count, Number
from .application import app_option
from .common import Group, as_json_text, connected, hint, json_option, show
from .doubt import doubt_names, tell_of
from .history import task_history
from .located import located_as_dict, located_lines, status_lines, waiting_as_dict
from .places import places

T = TypeVar("T")
_LONGEST = 200  # characters of a path, and of arguments, in a list


@click.group(cls=Group)
def task() -> None:
    """List tasks by state; show one; move, cancel or delete waiting ones; wait for the result of a tracked one."""


task.add_command(task_history)


def _searching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search."""
    for option in (
        click.option(
            "--look-at", type=Count(), default=LOOKED_AT, show_default=True, help="Look at this many waiting tasks at most."
        ),
        click.option("--overdue", is_flag=True, help="Only those in the schedule whose time has come."),
        click.option(
            "--text", "--search", "text", help="Only those with this in the function's path or arguments, as they are shown."
        ),
        click.option("--group", metavar="GLOB", help="Only those of these groups: 'tenant-*'."),
        click.option("--error", help="Only those with this in what their last attempt said, in upper or lower case."),
        click.option("--task", "--function", "task", metavar="GLOB", help="Only those of these functions: 'myapp.tasks:*'."),
    ):
        command = option(command)
    return command


def _ids(_context: click.Context, _parameter: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    for each in value:
        if not is_id(each):
            raise click.BadParameter(f"{each!r} is no id of a task: {ID_FORM}")
    return value


@task.command("list")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--count", "--limit", "count", type=Count(), default=50, show_default=True, help="How many.")
@click.option(
    "--state",
    type=click.Choice(STATES),
    help="Only those that wait (not for a time), are scheduled, are after a failed attempt, wait for a key, run, are dead "
    "letters, or of which a state is kept (tracked). By default all that wait.",
)
@click.option("--where", type=click.Choice(["scheduled", "queue", "group", "key"]), help="Only those that wait there.")
@click.option("--worker", metavar="GLOB", help="Only those of this worker: 'web1:*', or its host alone. By default what runs.")
@_searching
@json_option
@connected
def task_list(
    url: str, queues: tuple[str, ...], count: int, look_at: int, as_json: bool, task: str | None, **wanted: Any
) -> None:
    """List tasks of QUEUES, or of all known queues: what waits in them, in their groups, for keys, and in the schedule; or
    those in another state.

    What was not looked at is said on standard error.
    """
    some = places(url, queues, None)
    pages = list(_pages(some, TaskFilter(function=task, **wanted), count, look_at))
    found = [each for page in pages for each in page.tasks]
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in found], indent=2))
        return
    several = len(some) > 1
    show((f"{each.queue}  " if several else "") + _line(each) for each in found)
    if not found and not task and not any(wanted.values()):
        doubt_names(some)
    elif not found and not any(page.more for page in pages):
        unit, looked_at = pages[0].unit, sum(page.looked_at for page in pages)
        hint(f"none: looked at {counted(looked_at, unit)} in {counted(len(some), 'queue')}")


def _pages(some: Sequence[Queue], wanted: TaskFilter, count: int, look_at: int) -> Iterator[TaskList]:
    """The tasks of each queue, or, if they are looked for among the keys of the server, of all. Says what was left out."""
    if wanted.state == "tracked":
        page = find_tracked(some, wanted, count, look_at)
        _say_what_was_left("", page)
        yield page
        return
    for place in some:
        page = tasks(place, wanted, count, look_at)
        count, look_at = count - len(page.tasks), max(0, look_at - page.looked_at)
        _say_what_was_left(f"{place.name}: ", page)
        yield page


def _say_what_was_left(where: str, page: TaskList) -> None:
    if page.more:
        looked = f"looked at {page.looked_at:,} of {page.total:,} {page.unit}s"
        hint(f"{where}{looked}: --look-at and --count go further")
    if page.nameless:
        left = counted(page.nameless, "tracked task has", "tracked tasks have")
        hint(f"{where}{left} been left out: of what has ended, or waits in its queue, no function is kept beside its state")


def _line(each: TaskView) -> str:
    """A task in a list: its id (of a dead letter: that of the letter), where it is, when it is due or since when it is so."""
    moment = each.due if each.where else each.since
    when = "" if moment is None or each.where not in ("", "scheduled") else as_time(moment)
    called = f"{clipped(escaped(each.task), _LONGEST)}({clipped(escaped(each.arguments), _LONGEST)})" if each.task else "?"
    more = [f"by {each.worker}"] if each.worker and each.state == "running" else []
    more += [f"{each.reason}: {clipped(escaped(each.error), _LONGEST)}"] if each.reason else []
    more += [clipped(escaped(each.error), _LONGEST)] if each.error and not each.reason else []
    return "  ".join([f"{each.letter or each.id or '-':16}  {each.where or each.state:9}  {when:25}  {called}", *more])


@task.command("peek")
@click.argument("queue")
@click.argument("which", metavar="[ID|POSITION]", default="1")
@json_option
@connected
def task_peek(url: str, queue: str, which: str, as_json: bool) -> None:
    """Show a waiting task of QUEUE and take nothing: the one with this ID, or at this position of the queue itself.

    The task that is taken next has position 1, which is the default.
    """
    where = Queue(queue, url)
    found = _waiting(where, which)
    if as_json:
        click.echo(json.dumps(waiting_as_dict(found), indent=2))
        return
    show([f"id:     {found.id or '(none)'}", f"where:  {found.where}"])
    show(["due:    " + as_time(found.due)] if found.due is not None else [])
    show(described(found.data))


@task.command("delete")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=_ids)
@click.option(
    "--position",
    "positions",
    type=Count(),
    multiple=True,
    help="The task at this position of the queue itself; 1 is taken next. May be repeated.",
)
@click.option("--where", type=click.Choice(["scheduled", "queue", "group", "key"]), help="Only those that wait there.")
@_searching
@background_option
@connected
def task_delete(
    url: str, queue: str, ids: tuple[str, ...], positions: tuple[int, ...], look_at: int, background: bool, **wanted: Any
) -> None:
    """Remove waiting tasks of QUEUE: those with these IDs, at these positions, or that fit the filters; with or without an id.

    For those who wait for a tracked task, it was cancelled; its unique key is free. A task that runs is left alone.
    """
    where, by, which = Queue(queue, url), operator(), [*map(str, positions), *ids]
    named = _chosen(which, wanted)
    if background:
        tell_of_job(begin(where, by, "task.delete", _for_job(named, wanted)))
        return
    if named:
        done = _found(where, partial(delete_tasks, where, by, which))
    else:
        done = delete_matching(where, by, Wanted(**wanted), look_at)
    show(map(_line, done.tasks))
    tell_of(where, done)


def _waiting(queue: Queue, which: str) -> Waiting:
    """The task with an id, or at a position."""
    if not is_id(which) and not is_position(which):
        raise click.UsageError(f"{which!r} is no id of a task ({ID_FORM}), and no position, from 1 on")
    return _found(queue, partial(waiting_task, queue, which))


def _found(queue: Queue, look: Callable[[], T]) -> T:
    """What is looked for; if it is not there, the queue's name may be wrong."""
    try:
        return look()
    except InvalidAct:
        doubt_names([queue])
        raise


@task.command("status")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@json_option
@connected
def task_status(url: str, queue: str, task_id: str, as_json: bool) -> None:
    """Show the state of task ID of QUEUE."""
    found = status_shown(Handle(Queue(queue, url), task_id).status())
    if as_json:
        click.echo(as_json_text(found._asdict()))
        return
    show(status_lines(found))


@task.command("show")
@click.argument("task_id", metavar="ID", callback=lambda context, parameter, value: _ids(context, parameter, [value])[0])
@click.argument("queues", nargs=-1)
@click.option(
    "--look-at",
    type=Count(),
    default=LOOKED_AT,
    show_default=True,
    help="Of each kind, and in each queue, so many tasks at most.",
)
@app_option
@json_option
@connected
def task_show(url: str, task_id: str, queues: tuple[str, ...], app_path: str | None, look_at: int, as_json: bool) -> None:
    """Show what is known of task ID: its state, where it waits, who runs it, its dead letter, and its place in a workflow.

    It is looked for in QUEUES, in all queues of an application, or else in all that were served in the last 90 days.
    """
    some = places(url, queues, app_path)
    found = locate(some, task_id, look_at)
    if found is None:
        names = listed([place.name for place in some])
        raise click.ClickException(
            f"nothing is known of task {task_id} in {names}: it has ended, and no state is kept (see track and "
            f"result_ttl), or it was never there; or it is not among the first {look_at:,} (--look-at)"
        )
    if as_json:
        click.echo(as_json_text(located_as_dict(task_id, found)))
        return
    show(located_lines(task_id, found))
    if found.letter is not None:
        click.echo(f"\n{indented(found.letter.said.rstrip())}")


@task.command("result")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@click.option(
    "--wait", type=Number(), default=0.0, metavar="SECONDS", show_default=True, help="How long to wait for the task's end."
)
@connected
def task_result(url: str, queue: str, task_id: str, wait: float) -> None:
    """Print the result of task ID of QUEUE, as JSON. Exit status 1 if it has none yet, or has failed."""
    click.echo(as_json_text(Handle(Queue(queue, url), task_id).result(wait)))


@task.command("cancel")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--hard", is_flag=True, help="If it runs and does not end by itself within seconds, end its process.")
@_searching
@background_option
@connected
def task_cancel(url: str, queue: str, ids: tuple[str, ...], hard: bool, look_at: int, background: bool, **wanted: Any) -> None:
    """Cancel tasks of QUEUE: those with these IDs, or those that wait and fit the filters.

    A waiting task is removed; a running one is asked to stop. For each ID its state before is printed. In the schedule
    every task has an id; a task that waits in the queue itself can be cancelled if it has one.
    """
    where, by = Queue(queue, url), operator()
    named = _chosen(ids, wanted)
    if background:
        tell_of_job(begin(where, by, "task.cancel", _for_job(named or hard, wanted)))
    elif named:
        tell_of(where, cancel_tasks(where, by, ids, hard=hard))
    else:
        tell_of(where, cancel_matching(where, by, Wanted(**wanted), look_at))


@task.command("move")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=_ids)
@click.option("--after", type=Number(), metavar="SECONDS", help="Start in this many seconds, at the earliest; 0: now.")
@click.option("--at", metavar="TIME", help="Start at this time, at the earliest: 2030-01-31T08:00 (UTC), or with a zone.")
@_searching
@background_option
@connected
def task_move(
    url: str,
    queue: str,
    ids: tuple[str, ...],
    after: float | None,
    at: str | None,
    look_at: int,
    background: bool,
    **wanted: Any,
) -> None:
    """Give tasks in the schedule of QUEUE another time: those with these IDs, or those that fit the filters."""
    if (after is None) == (at is None):
        raise click.UsageError("say --after SECONDS or --at TIME")
    named, where, by = _chosen(ids, wanted), Queue(queue, url), operator()
    moment = _moment(at) if at is not None else server_time(where) + after if after else None
    if background:
        tell_of_job(begin(where, by, "task.run" if moment is None else "task.move", _for_job(named, wanted), moment))
    elif named:
        tell_of(where, move_tasks(where, by, ids, moment))
    else:
        tell_of(where, move_matching(where, by, Wanted(**wanted, where="scheduled"), moment, look_at))


def _for_job(named: bool, wanted: dict[str, Any]) -> Wanted:
    """The filter of a job."""
    if named:
        raise click.UsageError("--background is for filters, which cancel waiting tasks: name no ids, and say no --hard")
    return Wanted(**wanted)


def _moment(text: str) -> float:
    try:
        return moment_of(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no time; write it as 2030-01-31T08:00") from None


def _chosen(ids: Sequence[str], wanted: dict[str, Any]) -> bool:
    """Whether tasks are named; else there are filters."""
    filtered = any(value is not None and value is not False for value in wanted.values())
    if bool(ids) == filtered:
        raise click.UsageError("name the ids, or give filters (--task, --text, --error, --group, --overdue)")
    return bool(ids)
