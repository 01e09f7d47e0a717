"""`delayed stats`: what workers have counted."""

import json

import click

from ..errors import ConfigurationError
from ..ops.overview import look
from ..ops.register import served
from ..ops.statistics import Row, lines, rows, shown, summary, sums, totals
from ..queue.queue import Queue
from ..redis.command import ResponseError
from ..redis.connect import connect
from .amounts import span
from .common import connected, hint, json_option, show
from .doubt import doubt_names


@click.command()
@click.argument("queue", required=False)
@click.option("--function", metavar="PATH", help="Of this function alone: 'myapp.tasks:send'.")
@click.option("--since", default="24h", show_default=True, callback=span, help="How far back: 30m, 2h, 14d.")
@click.option("--by", type=click.Choice(["minute", "hour", "day"]), default="hour", show_default=True, help="What a row is.")
@json_option
@connected
def stats(url: str, queue: str | None, function: str | None, since: float, by: str, as_json: bool) -> None:
    """Show how the tasks of QUEUE ended, and how long they ran; without QUEUE, the totals of all queues that are served.

    Minutes are kept for two days, hours for two weeks, days for 400 days.
    """
    conn = connect(url)
    if queue is None:
        found = {}
        for name in sorted(served(Queue("default", conn))):
            try:
                found[name] = totals(Queue(name, conn)).all
            except (ConfigurationError, ResponseError) as error:  # another program's; the others are shown
                hint(f"note: {error}")
        if as_json:
            click.echo(json.dumps({name: shown(counted) for name, counted in found.items()}, indent=2))
        else:
            show(summary("queue", found))
        return
    where = Queue(queue, conn)
    some = rows(where, by, since)
    total = totals(where)
    sum_of_all = sums(total, look(where))
    if as_json:
        click.echo(
            json.dumps(
                {"queue": queue, "totals": sum_of_all._asdict(), "rows": [_as_json(row, function) for row in some]}, indent=2
            )
        )
        return
    show(lines(some, function))
    if function is None:
        show(summary("function, in all", total.functions))
        show([", ".join(f"{name} {count:,}" for name, count in sum_of_all._asdict().items())])
    doubt_names([where])


def _as_json(row: Row, function: str | None) -> dict[str, object]:
    chosen = {path: counted for path, counted in row.functions.items() if function in (None, path)}
    functions = {path: shown(counted) for path, counted in chosen.items()}
    return {"start": row.start, **(shown(row.all) if function is None else {}), "functions": functions}
