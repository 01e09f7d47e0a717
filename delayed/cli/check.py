"""`delayed fsck` and `delayed doctor`: check a queue's keys and a server's settings."""

import json
import sys

import click

from ..ops.audit import write
from ..ops.diagnosis import diagnose, diagnose_queue
from ..ops.diagnosis import lines as advice_lines
from ..ops.doctor import queue_facts, read
from ..ops.fsck import PATIENCE, check
from ..ops.fsck import lines as fsck_lines
from ..ops.jobs import REPAIR, begin
from ..queue.queue import Queue
from ..redis.connect import connect
from .acting import background_option, operator, tell_of_job
from .amounts import WEEK, Number
from .common import connected, json_option, show
from .doubt import doubt_names

_wait_option = click.option(
    "--wait",
    type=Number(most=WEEK),
    default=PATIENCE,
    show_default=True,
    help="Report only problems that last this many seconds (longer than the sweepers' interval).",
)


@click.command()
@click.argument("queues", nargs=-1, required=True)
@click.option("--repair", is_flag=True, help="Fix what is safe to fix while processes run. Removes no task.")
@background_option
@click.option("--at-rest", is_flag=True, help="No process uses QUEUES now: also check that no task is held.")
@_wait_option
@json_option
@connected
def fsck(url: str, queues: tuple[str, ...], repair: bool, background: bool, at_rest: bool, wait: float, as_json: bool) -> None:
    """Check the keys of QUEUES for inconsistencies, while workers run.

    Exit status 1 if something is left wrong.
    """
    conn = connect(url)
    if background:
        if not repair or at_rest:
            raise click.UsageError("--background is for --repair, while processes run")
        for name in queues:
            tell_of_job(begin(Queue(name, conn), operator(), REPAIR))
        return
    found = [check(Queue(name, conn), wait, repair=repair, at_rest=at_rest) for name in queues]
    for each in found if repair else ():
        left = f"{len(each.wrong)} wrong" if each.wrong else "done"
        write(Queue(each.queue, conn), operator(), "fsck.repair", "", count=len(each.repaired), result=left)
    if as_json:
        named = [
            {"queue": each.queue, **{word: [one._asdict() for one in getattr(each, word)] for word in ("repaired", "left")}}
            for each in found
        ]
        click.echo(json.dumps(named, indent=2))
    else:
        show(line for each in found for line in fsck_lines(each))
        doubt_names(Queue(name, conn) for name in queues)
    if any(each.wrong for each in found):
        sys.exit(1)


@click.command()
@click.argument("queues", nargs=-1)
@_wait_option
@json_option
@connected
def doctor(url: str, queues: tuple[str, ...], wait: float, as_json: bool) -> None:
    """Check Redis settings and queue health, and suggest fixes.

    Exit status 1 if tasks can be lost, or stay held, and nobody is told.
    """
    conn = connect(url)
    advice = diagnose(read(conn, queues[0] if queues else ""))
    for name in queues:
        advice += diagnose_queue(queue_facts(Queue(name, conn), wait))
    if as_json:
        click.echo(json.dumps([each._asdict() for each in advice], indent=2))
    else:
        show(advice_lines(advice))
    if any(each.level == "problem" for each in advice):
        sys.exit(1)
