"""`delayed fsck` and `delayed doctor`: check a queue's keys and a server's settings."""

import json
import sys

import click

from ..ops.diagnosis import diagnose, diagnose_queue
from ..ops.diagnosis import lines as advice_lines
from ..ops.doctor import queue_facts, read
from ..ops.fsck import PATIENCE, check
from ..ops.fsck import lines as fsck_lines
from ..queue.queue import Queue
from ..redis.connect import connect
from .common import connected, json_option, show

_wait_option = click.option(
    "--wait",
    default=PATIENCE,
    show_default=True,
    help="Report only problems that last this many seconds (longer than the sweepers' interval).",
)


@click.command()
@click.argument("queues", nargs=-1, required=True)
@click.option("--repair", is_flag=True, help="Fix what is safe to fix while processes run. Removes no task.")
@click.option("--at-rest", is_flag=True, help="No process uses QUEUES now: also check that no task is held.")
@_wait_option
@json_option
@connected
def fsck(url: str, queues: tuple[str, ...], repair: bool, at_rest: bool, wait: float, as_json: bool) -> None:
    """Check the keys of QUEUES for inconsistencies, while workers run.

    Exit status 1 if something is left wrong.
    """
    conn = connect(url)
    found = [check(Queue(name, conn), wait, repair=repair, at_rest=at_rest) for name in queues]
    if as_json:
        named = [
            {"queue": each.queue, **{word: [one._asdict() for one in getattr(each, word)] for word in ("repaired", "left")}}
            for each in found
        ]
        click.echo(json.dumps(named, indent=2))
    else:
        show(line for each in found for line in fsck_lines(each))
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
