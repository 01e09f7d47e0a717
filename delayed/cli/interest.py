"""`delayed interest`: which queues get a copy of what is published."""

import json
from dataclasses import asdict

import click

from ..ops.actions import remove_interest, set_interest
from ..queue.queue import Queue
from .acting import operator, tell
from .amounts import Count
from .common import Group, connected, hint, json_option
from .common import show as show_lines
from .doubt import doubt_names


@click.group(cls=Group)
def interest() -> None:
    """List, add and remove interests: each queue gets a copy of what is published (`Queue.publish`) and fits its interest."""


@interest.command("list")
@click.option("--like", metavar="QUEUE", default="default", help="On Redis Cluster: those with its {tag}.")
@json_option
@connected
def list_interests(url: str, like: str, as_json: bool) -> None:
    """List the interests, in the order in which the queues had their first."""
    table = Queue(like, url).interests()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in table.interests], indent=2))
        return
    for each in table.interests:
        retry = f", {each.retry} retries" if each.retry else ""
        show_lines([f"{each.queue}  {each.function}{retry}", *(f"  {key}  {value}" for key, value in each.match)])
    for why in table.faults.values():
        hint(f"unreadable: {why}")


@interest.command()
@click.argument("queue")
@click.argument("function")
@click.option(
    "--match",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="KEY VALUE",
    help="Patterns for the key and the value of an entry; several times: one has to fit. By default all that has an entry.",
)
@click.option("--retry", type=Count(-1), default=0, show_default=True, help="How often a failed call is repeated.")
@connected
def add(url: str, queue: str, function: str, pairs: tuple[tuple[str, str], ...], retry: int) -> None:
    """Let QUEUE get a copy of what is published and fits, as a call of FUNCTION. It replaces the interest that QUEUE had.

    A pattern is a glob such as 'order.*'; exact:TEXT; or regex:EXPRESSION, which is searched, in the syntax that RE2 and
    JavaScript share.
    """
    where = Queue(queue, url)
    tell(set_interest(where, operator(), pairs or "*", function, retry))
    doubt_names([where])


@interest.command()
@click.argument("queue")
@connected
def remove(url: str, queue: str) -> None:
    """Let QUEUE get no copies any more, at once. Those that wait stay."""
    tell(remove_interest(Queue(queue, url), operator()))
