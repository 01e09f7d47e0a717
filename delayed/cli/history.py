"""`delayed history`, `delayed task history`, `delayed queue history`: what has happened to tasks, and what is kept of it."""

import json
from typing import Any

import click

from ..base.checks import as_time
from ..base.escape import escaped, listed
from ..base.ids import ID_FORM, is_entry, is_id
from ..base.text import clipped
from ..ops.history import LOOKED_AT, HistoryFilter, event_as_dict, history_of
from ..ops.history import history as read_history
from ..queue.history import OUTCOMES, HistoryEvent, Keeping, keep, keeping
from ..queue.queue import Queue
from .amounts import Count, Number, since
from .application import app_option
from .common import connected, hint, json_option, show
from .doubt import doubt_names
from .places import places
from .timeline import timeline_as_dicts, timeline_lines

_LONGEST = 200  # characters of a path, and of what is said of a task
_MEGABYTE = 1 << 20


def event_line(event: HistoryEvent) -> str:
    """An event in a list."""
    parts = [f"{as_time(event.time):25}  {event.outcome:10}  {event.id or '-':16}", clipped(event.task, _LONGEST) or "?"]
    if event.attempt is not None and event.outcome == "unwritten":
        parts.append(f"{event.attempt} of them")
    elif event.attempt is not None:
        parts.append(f"lost {event.attempt} times" if event.outcome in ("lost", "buried") else f"attempt {event.attempt}")
    parts += [f"waited {_span(event.waited)}"] if event.waited is not None else []
    parts += [f"ran {_span(event.seconds)}"] if event.seconds is not None else []
    parts += [f"by {event.by}"] if event.by else []
    parts += [clipped(event.said, _LONGEST)] if event.said else []
    return "  ".join(parts)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _cursor(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value and not is_entry(value):
        raise click.BadParameter(f"{value!r:.60} is none: it stands below a list that goes on, as 1767225600000-0")
    return value


@click.command()
@click.argument("queue")
@click.option("--function", "--task", "function", metavar="GLOB", help="Only of these functions: 'myapp.tasks:*'.")
@click.option("--outcome", type=click.Choice(list(OUTCOMES)), help="Only what came to that.")
@click.option("--error", "text", help="Only with this in what is said of it.")
@click.option("--id", "task_id", metavar="ID", help="Only of the task with this id.")
@click.option("--since", callback=since, metavar="AGE|TIME", help="Not before: 90m, 12h, 7d or 2026-01-31T12:00 (UTC).")
@click.option("--until", callback=since, metavar="AGE|TIME", help="Only before.")
@click.option("--count", "--limit", "count", default=50, show_default=True, type=Count(), help="About how many.")
@click.option("--look-at", default=LOOKED_AT, show_default=True, type=Count(), help="Look at about so many events.")
@click.option("--cursor", default="", metavar="CURSOR", callback=_cursor, help="Go on behind what was listed last.")
@json_option
@connected
def history(
    url: str, queue: str, task_id: str | None, count: int, look_at: int, cursor: str, as_json: bool, **wanted: Any
) -> None:
    """List what has happened to tasks of QUEUE, newest first.

    By default a history keeps what does not succeed: see `delayed queue history`.
    """
    where = Queue(queue, url)
    page = read_history(where, HistoryFilter(id=task_id, **wanted), count, look_at, cursor)
    if as_json:
        click.echo(json.dumps(page.as_dict(), indent=2))
        return
    show(map(event_line, page.events))
    if page.cursor:
        hint(f"looked at {page.looked_at:,} events: --cursor {page.cursor} goes on")
    elif not page.events:
        hint(f"nothing that fits is in the history; it keeps: {_kept(keeping(where))}")
        doubt_names([where])


@click.command("history")
@click.argument("task_id", metavar="ID")
@click.argument("queues", nargs=-1)
@click.option("--look-at", type=Count(), default=LOOKED_AT, show_default=True, help="In each queue so many events at most.")
@app_option
@json_option
@connected
def task_history(url: str, task_id: str, queues: tuple[str, ...], app_path: str | None, look_at: int, as_json: bool) -> None:
    """Tell what has happened to task ID: by its state if it is tracked, and by the history of its queue.

    It is looked for in QUEUES, in all queues of an application, or else in all that were served in the last 90 days.
    """
    if not is_id(task_id):
        raise click.BadParameter(f"{task_id!r} is no id of a task: {ID_FORM}")
    some = places(url, queues, app_path)
    found = history_of(some, task_id, look_at)
    if found is None:
        names = listed([place.name for place in some])
        raise click.ClickException(
            f"nothing is known of the past of task {task_id} in {names}: no state is kept (see track and result_ttl), and "
            f"no history tells of it (see `delayed queue history`)"
        )
    if as_json:
        told = [event_as_dict(each) for each in found.events]
        about = {"id": task_id, "queue": found.queue, "timeline": timeline_as_dicts(found.timeline), "events": told}
        click.echo(json.dumps(about, indent=2))
        return
    show([f"id:     {task_id}", f"queue:  {found.queue}", *timeline_lines(found.timeline)])
    if found.events:
        click.echo("in the history of the queue:")
        show(map(event_line, found.events))


@click.command("history")
@click.argument("queue")
@click.option(
    "--keep", "record", metavar="WHAT", help="off, failures (what does not succeed), all, or a share of the successes: 0.1."
)
@click.option("--days", type=Number(above=True, most=1e5), help="For so long.")
@click.option("--megabytes", type=Count(), help="At most so many megabytes of Redis's memory, about.")
@json_option
@connected
def queue_history(url: str, queue: str, record: str | None, days: float | None, megabytes: int | None, as_json: bool) -> None:
    """Say how much of what happens to tasks of QUEUE is kept, or show it. Workers hear of it within three seconds."""
    where = Queue(queue, url)
    size = None if megabytes is None else megabytes * _MEGABYTE
    kept = keep(where, _share(record), days=days, size=size)
    if as_json:
        click.echo(json.dumps({"queue": queue, "keep": kept.record, "days": kept.days, "bytes": kept.size}))
        return
    click.echo(f"{escaped(queue)}: {_kept(kept)}")
    doubt_names([where])


def _share(record: str | None) -> str | float | None:
    try:
        return None if record is None else float(record)
    except ValueError:
        return record


def _kept(kept: Keeping) -> str:
    words = {"off": "nothing", "failures": "what does not succeed", "all": "all"}
    what = words.get(kept.record, f"what does not succeed, and {kept.share:.3g} of the successes")
    return what if not kept.on else f"{what}, for {kept.days:g} days, at most about {kept.size / _MEGABYTE:.3g} MB"
