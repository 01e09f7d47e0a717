"""`delayed watch`: follows what happens to tasks, their totals, and who comes and goes."""

import json
import math
from collections.abc import Iterator

import click

from ..base.checks import as_time
from ..base.clock import monotonic
from ..ops.statistics import sums_line
from ..ops.watch import Watch, Watched
from .amounts import Number
from .application import app_option
from .common import connected, json_option, show
from .doubt import doubt_names
from .history import event_line
from .places import places


@click.command()
@click.argument("queues", nargs=-1)
@click.option("--for", "seconds", type=Number(), metavar="SECONDS", help="End after so long.")
@app_option
@json_option
@connected
def watch(url: str, queues: tuple[str, ...], app_path: str | None, seconds: float | None, as_json: bool) -> None:
    """Follow what happens to tasks of QUEUES, or of all known queues, and the workers and sweepers that come and go.

    Tasks are told of as the history of their queue keeps them: see `delayed queue history`. Each second there is a line with
    the totals of each queue in which something has changed, also by enqueues and by successes that no history keeps. With
    --json each line is an object.
    """
    some = places(url, queues, app_path)
    if not as_json and queues:
        doubt_names(some)
    several = len(some) > 1
    for each in _until(Watch(some), math.inf if seconds is None else monotonic() + seconds):
        if as_json:
            click.echo(json.dumps(each.as_dict()))
        else:
            show([(f"{each.queue}  " if several else "") + _line(each)])


def _until(watching: Watch, end: float) -> Iterator[Watched]:
    while (left := end - monotonic()) > 0:
        yield from watching.read(left)


def _line(each: Watched) -> str:
    if each.kind == "task" and each.event is not None:
        return event_line(each.event)
    if each.stats is not None:
        return f"{as_time(each.time):25}  {each.kind:10}  {sums_line(each.stats)}"
    if each.kind == "gap":
        return f"{as_time(each.time):25}  gap         events may be missing here: they were removed before they were read"
    cause = f": {each.event.said}" if each.event is not None and each.event.said else ""
    return f"{as_time(each.time):25}  {each.kind:10}  {each.process or 'process'} {each.place}{cause}"
