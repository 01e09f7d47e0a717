"""The commands that look at queues, and put right what is in them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from .command_line import connected, json_option
from .connection import connect
from .info import dead_letter, dead_letters, inspect, lines, show
from .queue import Queue

_IDS_PER_CALL = 100


@click.command()
@click.argument("queues", nargs=-1, required=True)
@json_option
@connected
def info(url: str, queues: tuple[str, ...], as_json: bool) -> None:
    """Show what is in QUEUES and who works on them."""
    conn = connect(url)
    found = [inspect(Queue(name, conn)) for name in queues]
    if as_json:
        shown = [{**queue._asdict(), "leases": [lease._asdict() for lease in queue.leases]} for queue in found]
        click.echo(json.dumps(shown, indent=2))
        return
    for queue in found:
        click.echo("\n".join(lines(queue)))


@click.group()
def dead() -> None:
    """Look at the dead letters of a queue, retry or remove them."""


@dead.command("list")
@click.argument("queue")
@click.option("--count", default=50, show_default=True, help="How many, newest first.")
@click.option("--reason", help="Only those with this reason, for example 'failed'.")
@json_option
@connected
def dead_list(url: str, queue: str, count: int, reason: str | None, as_json: bool) -> None:
    """List the dead letters of QUEUE, newest first."""
    letters = list(dead_letters(Queue(queue, url), count, reason))
    if as_json:
        click.echo(json.dumps([{**letter._asdict(), "data": letter.data.hex()} for letter in letters], indent=2))
        return
    for letter in letters:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.time))
        lines = letter.detail.strip().splitlines() or [""]
        click.echo(f"{letter.id}  {when}  {letter.reason:16}  {letter.task}  {lines[-1]}")


@dead.command("show")
@click.argument("queue")
@click.argument("entry_id", metavar="ID")
@json_option
@connected
def dead_show(url: str, queue: str, entry_id: str, as_json: bool) -> None:
    """Show one dead letter of QUEUE with its arguments and its traceback."""
    letter = dead_letter(Queue(queue, url), entry_id)
    if letter is None:
        raise click.ClickException(f"{queue} has no dead letter {entry_id}; `delayed dead list {queue}` shows what it has")
    if as_json:
        click.echo(json.dumps({**letter._asdict(), "data": letter.data.hex(), "content": show(letter.data)}, indent=2))
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.time))
    click.echo(f"{letter.id}\ntime:   {when}\ntask:   {show(letter.data)}\nreason: {letter.reason}\nby:     {letter.worker}\n")
    click.echo(letter.detail)


@contextmanager
def _chosen(url: str, queue: str, ids: tuple[str, ...], every: bool) -> Iterator[tuple[Queue, Iterator[list[str]]]]:
    if bool(ids) == every:
        raise click.UsageError("name the ids, or say --all")
    where = Queue(queue, url)
    chosen = [letter.id for letter in dead_letters(where)][::-1] if every else list(ids)
    yield where, (chosen[start : start + _IDS_PER_CALL] for start in range(0, len(chosen), _IDS_PER_CALL))


@dead.command("retry")
@click.argument("queue")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them, oldest first.")
@connected
def dead_retry(url: str, queue: str, ids: tuple[str, ...], every: bool) -> None:
    """Put dead letters back at the end of QUEUE, as they came."""
    with _chosen(url, queue, ids, every) as (where, chunks):
        click.echo(f"{sum(where.dead_retry(chunk) for chunk in chunks)} tasks wait again")


@dead.command("purge")
@click.argument("queue")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@connected
def dead_purge(url: str, queue: str, ids: tuple[str, ...], every: bool) -> None:
    """Remove dead letters of QUEUE for good."""
    with _chosen(url, queue, ids, every) as (where, chunks):
        click.echo(f"{sum(where.call('XDEL', where.keys.dead, *chunk) for chunk in chunks)} dead letters removed")
