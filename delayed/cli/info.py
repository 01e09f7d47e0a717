"""`delayed info`: shows queues, workers and sweepers."""

import json
import time
from collections.abc import Iterator, Sequence

import click

from ..base.clock import now
from ..base.escape import escaped
from ..base.text import counted
from ..ops.info import LeaseInfo, inspect
from ..ops.overview import Overview, QueueView, known, overview
from ..ops.processes import Process
from ..queue.queue import Queue
from ..redis.command import Client, RedisError
from ..redis.connect import connect
from .amounts import WEEK, Number
from .common import connected, hint, json_option
from .doubt import doubt_names
from .table import Cell, has_colours, table

HEAD = ("queue", "waiting", "groups", "for keys", "scheduled", "retrying", "running", "dead", "oldest", "rate", "workers")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_CLEAR = "\x1b[H\x1b[2J"


@click.command()
@click.argument("queues", nargs=-1)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", default=2.0, show_default=True, type=Number(0.1, most=WEEK), help="Seconds between two looks.")
@click.option("--like", metavar="QUEUE", default="default", help="Without QUEUES, on Redis Cluster: those with its {tag}.")
@json_option
@connected
def info(url: str, queues: tuple[str, ...], watch: bool, interval: float, like: str, as_json: bool) -> None:
    """Show the state of QUEUES, and their workers and sweepers; without QUEUES, of all that were served in the last 90 days.

    With QUEUES also the tasks that workers hold. `--json` without QUEUES prints an object (`queues`, `processes`), with QUEUES
    a list of queues; with `--watch` one line for each look.
    """
    conn = connect(url)
    if watch:
        _watch(conn, queues, like, interval, as_json)
        return
    if as_json:
        click.echo(json.dumps(_json(conn, queues, like), indent=2))
        return
    for line in _lines(conn, queues, like):
        click.echo(line)
    doubt_names(Queue(name, conn) for name in queues)


def _watch(conn: Client, queues: Sequence[str], like: str, interval: float, as_json: bool) -> None:
    clears = has_colours() and not as_json
    try:
        while True:
            try:
                lines = [json.dumps(_json(conn, queues, like))] if as_json else [*_lines(conn, queues, like), ""]
            except RedisError as error:  # it may come back
                hint(f"Error: {error}")
            else:
                click.echo((_CLEAR if clears else "") + "\n".join(lines))
            time.sleep(interval)
    except KeyboardInterrupt:
        return


def _queues(conn: Client, queues: Sequence[str], like: str) -> list[Queue]:
    return [Queue(name, conn) for name in queues or known(Queue(like, conn))]


def _json(conn: Client, queues: Sequence[str], like: str) -> object:
    if not queues:
        return overview(_queues(conn, queues, like)).as_dict()
    found = [inspect(Queue(name, conn)) for name in queues]
    return [{**queue._asdict(), "leases": [lease._asdict() for lease in queue.leases]} for queue in found]


def _lines(conn: Client, queues: Sequence[str], like: str) -> list[str]:
    """All that is shown; nothing is printed before all of it has been read."""
    seen = overview(_queues(conn, queues, like), most=max(len(queues), 200))
    leases = [lease for name in queues for lease in inspect(Queue(name, conn)).leases]
    colours = has_colours()
    if not seen.queues:
        return ["no worker or sweeper has served a queue yet; name the queues: delayed info QUEUE"]
    lines = [*table(HEAD, map(queue_row, seen.queues), colours=colours), *map(escaped, _notes(seen))]
    return [*lines, *map(escaped, map(_process_line, seen.processes)), *map(escaped, map(_lease_line, leases))]


def queue_row(queue: QueueView) -> list[Cell]:
    """A queue in a table with the columns `HEAD`."""

    def number(name: str) -> str:
        count = f"{getattr(queue, name):,}"
        return f"{count}+" if name in queue.at_least else count

    def of(name: str, tasks: str) -> str:
        return f"{number(name)} ({number(tasks)})" if getattr(queue, name) else "0"

    stands = queue.pending > 0 and not queue.workers
    return [
        Cell(f"{queue.queue} (paused)", "yellow") if queue.limits.paused else Cell(queue.queue),
        Cell(number("waiting")),
        Cell(of("groups", "grouped")),
        Cell(of("keys", "for_keys")),
        Cell(
            number("scheduled") + (f" ({queue.overdue:,} overdue)" if queue.overdue else ""),
            "yellow" if queue.overdue else None,
        ),
        Cell(number("retrying"), "yellow" if queue.retrying else None),
        Cell(number("running")),
        Cell(number("dead"), "red" if queue.dead else None),
        Cell(_oldest(queue)),
        Cell(f"{queue.rate:,.1f}/s" if queue.rate else "-"),
        Cell(number("workers"), "red" if stands else None),
    ]


def _oldest(queue: QueueView) -> str:
    if queue.oldest is not None:
        return span(queue.oldest)
    return "?" if queue.waiting or queue.grouped else "-"


def span(seconds: float) -> str:
    """A length of time, short."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"


def _notes(seen: Overview) -> Iterator[str]:
    for queue in seen.queues:
        if queue.limits.paused:
            yield f"{queue.queue} is paused"
        if not queue.workers:
            yield f"{queue.queue}: no worker is running"
        if not queue.sweepers:
            yield f"{queue.queue}: no sweeper is running"
        if queue.recovered or queue.buried:
            yield f"{queue.queue}: {counted(queue.recovered, 'lost task')} recovered and {queue.buried} buried by sweepers"
    if seen.left_out:
        yield f"{counted(seen.left_out, 'more queue is', 'more queues are')} known: name those to be shown"


def _process_line(process: Process) -> str:
    parts = [
        f"{process.kind} {process.place} ({process.language}) serves {', '.join(process.queues)}",
        f"up {span(now() - (process.started or now()))}",
        f"{(process.rss or 0) / 2**20:.0f} MB",
    ]
    if process.running:
        parts.append(f"runs {process.running} for {process.running_for or 0:.1f} s, {process.in_hand} in hand")
    elif process.kind == "worker":
        parts.append("idle")
    return ", ".join([*parts, *(f"{count} {name}" for name, count in process.ended.items())])


def _lease_line(lease: LeaseInfo) -> str:
    ends = "dead" if not lease.alive else f"expires in {lease.expires_in or 0:.1f} s"
    beat = "" if lease.beat_ago is None else f", beat {lease.beat_ago:.1f} s ago"
    return f"lease {lease.lease}: {lease.task} by {lease.held_by or 'nobody'}, {ends}{beat}"
