"""`delayed info`: shows queues, workers and sweepers."""

import json

import click

from ..ops.info import inspect, lines
from ..queue.queue import Queue
from ..redis.connect import connect
from .common import connected, json_option, show
from .doubt import doubt_names


@click.command()
@click.argument("queues", nargs=-1, required=True)
@json_option
@connected
def info(url: str, queues: tuple[str, ...], as_json: bool) -> None:
    """Show the state of QUEUES, and their workers and sweepers."""
    conn = connect(url)
    found = [inspect(Queue(name, conn)) for name in queues]
    if as_json:
        shown = [{**queue._asdict(), "leases": [lease._asdict() for lease in queue.leases]} for queue in found]
        click.echo(json.dumps(shown, indent=2))
        return
    for queue in found:
        show(lines(queue))
    doubt_names(Queue(name, conn) for name in queues)
