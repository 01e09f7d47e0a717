"""`delayed task`: lists, shows, moves, cancels and removes waiting tasks; shows a tracked task and waits for its result."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from ..base.checks import as_time
from ..base.escape import escaped, indented
from ..base.text import clipped, counted
from ..errors import UnknownTask
from ..ops.info import arguments, described, server_time
from ..ops.locate import Located, locate
from ..queue.handle import Handle
from ..queue.queue import Queue
from ..queue.status import Status
from ..queue.waiting import LOOKED_AT, Waiting, Wanted, at, cancel, find, move, remove, search
from .application import app_option, load_app
from .common import Group, as_json_text, connected, json_option, moment_of, show
from .doubt import doubt_names

_ID = re.compile(r"[\w-]{16}", re.ASCII)
_MOST = 2**31  # positions
_LONGEST = 200  # characters of a path, and of arguments, in a list


@click.group(cls=Group)
def task() -> None:
    """List, show, move, cancel or delete waiting tasks; show a tracked task, or wait for its result."""


def _searching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search."""
    for option in (
        click.option("--look-at", default=LOOKED_AT, show_default=True, help="Look at this many waiting tasks at most."),
        click.option("--overdue", is_flag=True, help="Only those in the schedule whose time has come."),
        click.option("--text", help="Only those with this in the function's path or arguments, as they are shown."),
        click.option("--task", "--function", "task", metavar="GLOB", help="Only those of these functions: 'myapp.tasks:*'."),
    ):
        command = option(command)
    return command


def _ids(_context: click.Context, _parameter: click.Parameter, value: Sequence[str]) -> Sequence[str]:
    for each in value:
        if not _ID.fullmatch(each):
            raise click.BadParameter(f"{each!r} is no id of a task: 16 letters, digits, - and _")
    return value


@task.command("list")
@click.argument("queue")
@click.option("--count", "--limit", "count", default=50, show_default=True, help="How many.")
@click.option(
    "--state",
    type=click.Choice(["waiting", "scheduled", "retrying"]),
    help="Only those that wait (not for a time), that are scheduled, or that are after a failed attempt.",
)
@click.option("--where", type=click.Choice(["scheduled", "queue", "group", "key"]), help="Only those that wait there.")
@_searching
@json_option
@connected
def task_list(url: str, queue: str, count: int, look_at: int, as_json: bool, **wanted: Any) -> None:
    """List what waits in QUEUE, in its groups, for keys, and in its schedule (with an id, and when it is due)."""
    place = Queue(queue, url)
    found = list(islice(search(place, Wanted(**wanted), look_at), count))
    if as_json:
        click.echo(json.dumps([_as_dict(each) for each in found], indent=2))
        return
    show(map(_line, found))
    if not found and not any(wanted.values()):
        doubt_names([place])


def _as_dict(each: Waiting) -> dict[str, Any]:
    shown = {**each._asdict(), "data": each.data.hex(), "arguments": arguments(each.data)}
    del shown["member"], shown["key"]
    return shown


def _line(each: Waiting) -> str:
    when = "" if each.due is None else as_time(each.due)
    called = f"{clipped(escaped(each.task), _LONGEST)}({clipped(escaped(arguments(each.data)), _LONGEST)})"
    return f"{each.id or '-':16}  {each.where:9}  {when:25}  {called}"


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
        click.echo(json.dumps(_as_dict(found), indent=2))
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
    type=click.IntRange(1),
    multiple=True,
    help="The task at this position of the queue itself; 1 is taken next. May be repeated.",
)
@click.option("--where", type=click.Choice(["scheduled", "queue", "group", "key"]), help="Only those that wait there.")
@_searching
@connected
def task_delete(url: str, queue: str, ids: tuple[str, ...], positions: tuple[int, ...], look_at: int, **wanted: Any) -> None:
    """Remove waiting tasks of QUEUE: those with these IDs, at these positions, or that fit the filters; with or without an id.

    For those who wait for a tracked task, it was cancelled; its unique key is free. A task that runs is left alone.
    """
    where = Queue(queue, url)
    if _chosen([*ids, *map(str, positions)], wanted):
        found = [_waiting(where, each) for each in (*map(str, positions), *ids)]  # all of them, before positions change
    else:
        found = list(search(where, Wanted(**wanted), look_at))
    gone = [each for each in found if remove(where, each)]
    show(map(_line, gone))
    click.echo(f"{counted(len(gone), 'task')} removed")
    if left := len(found) - len(gone):
        raise click.ClickException(f"{counted(left, 'task')} did not wait there any more")


def _waiting(queue: Queue, which: str) -> Waiting:
    """The task with an id, or at a position."""
    if _ID.fullmatch(which):
        found, says = find(queue, which), f"no waiting task of {queue.name!r} has the id {which}; it may run, or have ended"
    elif which.isdecimal() and which.isascii() and len(which) < len(str(_MOST)) and int(which) > 0:
        found, says = at(queue, int(which)), f"{counted(queue.len(), 'task waits', 'tasks wait')} in {queue.name!r} itself"
    else:
        raise click.UsageError(f"{which!r} is no id of a task (16 letters, digits, - and _), and no position, from 1 on")
    if found is None:
        doubt_names([queue])
        raise click.ClickException(says)
    return found


@task.command("status")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@json_option
@connected
def task_status(url: str, queue: str, task_id: str, as_json: bool) -> None:
    """Show the state of task ID of QUEUE."""
    found = Handle(Queue(queue, url), task_id).status()
    if as_json:
        click.echo(as_json_text(found._asdict()))
        return
    show(_status_lines(found))


def _status_lines(status: Status) -> Iterator[str]:
    for name, value in status._asdict().items():
        if value is not None and value != "":
            is_time = name in ("enqueued", "due", "started")
            yield f"{name + ':':9} {as_time(value) if is_time else value}"


@task.command("show")
@click.argument("task_id", metavar="ID", callback=lambda context, parameter, value: _ids(context, parameter, [value])[0])
@click.argument("queues", nargs=-1)
@app_option
@json_option
@connected
def task_show(url: str, task_id: str, queues: tuple[str, ...], app_path: str | None, as_json: bool) -> None:
    """Show what is known of task ID: its state, where it waits, its dead letter. It is looked for in QUEUES, or in all queues
    of an application.
    """
    if bool(queues) == (app_path is not None):
        raise click.UsageError("name the queues to look into, or give an application: --app myapp.tasks:app")
    places = load_app(app_path, url).all_queues() if app_path is not None else [Queue(name, url) for name in queues]
    found = locate(places, task_id)
    if found is None:
        names = ", ".join(place.name for place in places)
        raise click.ClickException(
            f"nothing is known of task {task_id} in {names}: it runs or has ended, and no state is kept (see track and "
            f"result_ttl), or it was never there"
        )
    if as_json:
        click.echo(as_json_text(_located_as_dict(task_id, found)))
        return
    show([f"id:     {task_id}", f"queue:  {found.queue}"])
    show(_status_lines(found.status) if found.status is not None else ())
    if found.waits is not None:
        due = "" if found.waits.due is None else f", due {as_time(found.waits.due)}"
        show([f"waits:  {_WAITS[found.waits.where]}{due}"])
    show(described(found.data) if found.data is not None else ())
    if found.letter is not None:
        show([f"dead:   {found.letter.id} ({found.letter.reason}, {as_time(found.letter.time)})"])
        click.echo(f"\n{indented(found.letter.detail.rstrip())}")


_WAITS = {
    "queue": "in the queue",
    "group": "in its group",
    "key": "for its unique or concurrency key",
    "scheduled": "in the schedule",
}


def _located_as_dict(identity: str, found: Located) -> dict[str, Any]:
    letter = found.letter
    return {
        "id": identity,
        "queue": found.queue,
        "status": None if found.status is None else found.status._asdict(),
        "waits": None if found.waits is None else _as_dict(found.waits),
        "dead_letter": None if letter is None else {**letter._asdict(), "arguments": arguments(letter.data)},
    }


@task.command("result")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@click.option("--wait", default=0.0, metavar="SECONDS", show_default=True, help="How long to wait for the task's end.")
@connected
def task_result(url: str, queue: str, task_id: str, wait: float) -> None:
    """Print the result of task ID of QUEUE, as JSON. Exit status 1 if it has none yet, or has failed."""
    click.echo(as_json_text(Handle(Queue(queue, url), task_id).result(wait)))


@task.command("cancel")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--hard", is_flag=True, help="If it runs and does not end by itself within seconds, end its process.")
@_searching
@connected
def task_cancel(url: str, queue: str, ids: tuple[str, ...], hard: bool, look_at: int, **wanted: Any) -> None:
    """Cancel tasks of QUEUE: those with these IDs, or those that wait and fit the filters.

    A waiting task is removed; a running one is asked to stop. For each ID its state before is printed. In the schedule
    every task has an id; a task that waits in the queue itself can be cancelled if it has one.
    """
    where = Queue(queue, url)
    if _chosen(ids, wanted):
        show([_cancelled(where, each, hard) for each in ids])
        return
    found = list(search(where, Wanted(**wanted), look_at))
    count = sum(cancel(where, each) for each in found)
    click.echo(f"{counted(count, 'task')} cancelled")
    if left := sum(not each.id and each.where in ("queue", "group") for each in found):
        click.echo(
            f"{counted(left, 'task waits', 'tasks wait')} in the queue without an id, and cannot be cancelled; "
            f"`delayed task delete` removes them",
            err=True,
        )


def _cancelled(queue: Queue, identity: str, hard: bool) -> str:
    """Cancel a task, and return the state in which it was."""
    try:
        return Handle(queue, identity).cancel(hard=hard)
    except UnknownTask:
        waits = find(queue, identity) if _ID.fullmatch(identity) else None
        if waits is None or not cancel(queue, waits):
            raise
        return waits.where


@task.command("move")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=_ids)
@click.option(
    "--after", type=click.FloatRange(0), metavar="SECONDS", help="Start in this many seconds, at the earliest; 0: now."
)
@click.option("--at", metavar="TIME", help="Start at this time, at the earliest: 2030-01-31T08:00 (UTC), or with a zone.")
@_searching
@connected
def task_move(
    url: str, queue: str, ids: tuple[str, ...], after: float | None, at: str | None, look_at: int, **wanted: Any
) -> None:
    """Give tasks in the schedule of QUEUE another time: those with these IDs, or those that fit the filters."""
    if (after is None) == (at is None):
        raise click.UsageError("say --after SECONDS or --at TIME")
    named, where = _chosen(ids, wanted), Queue(queue, url)
    moment = _moment(at) if at is not None else server_time(where) + (after or 0)
    if named:
        found = [waits for each in ids if (waits := find(where, each)) is not None]
    else:
        found = list(search(where, Wanted(**wanted, where="scheduled"), look_at))
    count = sum(move(where, each, moment) for each in found)
    click.echo(f"{counted(count, 'task is', 'tasks are')} due at {as_time(moment)}")
    if named and count < len(ids):
        raise click.ClickException(f"{counted(len(ids) - count, 'task was', 'tasks were')} not in the schedule of {queue}")


def _moment(text: str) -> float:
    try:
        return moment_of(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no time; write it as 2030-01-31T08:00") from None


def _chosen(ids: Sequence[str], wanted: dict[str, Any]) -> bool:
    """Whether tasks are named; else there are filters."""
    filtered = any(value is not None and value is not False for value in wanted.values())
    if bool(ids) == filtered:
        raise click.UsageError("name the ids, or give filters (--task, --text, --overdue)")
    return bool(ids)
