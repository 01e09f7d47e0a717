"""`delayed cron`: lists, pauses, resumes, runs, removes and registers schedules."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from ..base.checks import as_time
from ..base.text import counted
from ..cron.definition import recorded
from ..cron.schedules import Listed, Schedules, register
from ..ops.actions import pause_schedule, remove_schedule, resume_schedule, run_schedule
from ..queue.queue import Queue
from ..redis.connect import connect
from .acting import operator, tell
from .application import app_option, load_app
from .common import Group, connected, hint, json_option, load, show
from .doubt import doubt_names


@click.group(cls=Group)
def cron() -> None:
    """List the schedules of a queue; pause, resume, run or remove one; register those of a module."""


def _line(listed: Listed) -> str:
    when = "paused" if listed.next is None else f"{as_time(listed.next)}{_there(listed.next, listed.tz)}"
    lasts = "" if listed.expires is None else f"  expires after {listed.expires:g} s"
    return f"{listed.name}  {listed.expression}  {listed.tz}  {listed.catch_up}  {listed.task}  {when}{lasts}"


def _there(moment: float, zone: str) -> str:
    """What the clock shows that the schedule goes by, if it is another than ours."""
    try:
        there = datetime.fromtimestamp(moment, ZoneInfo(zone))
        return "" if zone == "UTC" else f" ({there:%a} {there.isoformat('T', 'seconds').partition('T')[2]} there)"
    except (OverflowError, ValueError, OSError):  # another program's number
        return ""


@cron.command("list")
@click.argument("queue")
@json_option
@connected
def cron_list(url: str, queue: str, as_json: bool) -> None:
    """List the schedules of QUEUE, the next one first."""
    where = Queue(queue, url)
    found = Schedules(where).list()
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found], indent=2))
        return
    show(map(_line, found))
    if not found:
        hint(f"{queue} has no schedules; `delayed cron sync MODULE` registers those of a module")
        doubt_names([where])


@cron.command("pause")
@click.argument("queue")
@click.argument("name")
@connected
def cron_pause(url: str, queue: str, name: str) -> None:
    """Pause schedule NAME of QUEUE."""
    tell(pause_schedule(Queue(queue, url), operator(), name))


@cron.command("resume")
@click.argument("queue")
@click.argument("name")
@connected
def cron_resume(url: str, queue: str, name: str) -> None:
    """Resume schedule NAME of QUEUE, from now on."""
    tell(resume_schedule(Queue(queue, url), operator(), name))


@cron.command("run")
@click.argument("queue")
@click.argument("name")
@connected
def cron_run(url: str, queue: str, name: str) -> None:
    """Run schedule NAME of QUEUE now, in addition to its times."""
    tell(run_schedule(Queue(queue, url), operator(), name))


@cron.command("remove")
@click.argument("queue")
@click.argument("name")
@connected
def cron_remove(url: str, queue: str, name: str) -> None:
    """Remove schedule NAME from QUEUE. A worker that imports its definition registers it again."""
    tell(remove_schedule(Queue(queue, url), operator(), name))


@cron.command("sync")
@click.argument("modules", nargs=-1)
@app_option
@connected
def cron_sync(url: str, modules: tuple[str, ...], app_path: str | None) -> None:
    """Import MODULES, or the application, and register the schedules that they define."""
    if not modules and app_path is None:
        raise click.UsageError("name the modules that define schedules, or give an application: --app myapp.tasks:app")
    load(modules)
    conn = connect(url) if app_path is None else load_app(app_path, url).redis
    queues = [Queue(name, conn) for name in sorted({each.queue for each in recorded()})]
    click.echo(f"{counted(len(recorded()), 'schedule')}, {register(queues)} of them new or changed")
