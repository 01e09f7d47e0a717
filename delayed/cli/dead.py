"""`delayed dead`: lists, shows, retries and removes dead letters."""

import json
import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click

from ..base.checks import as_time
from ..base.escape import escaped, indented
from ..base.text import clipped, summary
from ..dead_letters.letter import DeadLetter
from ..dead_letters.search import Search, search
from ..errors import InvalidAct, Reason
from ..ops.causes import LOOKED_AT, causes
from ..ops.dead_actions import (
    checked_letter,
    delete_letters,
    delete_matching,
    letter_named,
    retry_edited,
    retry_letters,
    retry_matching,
)
from ..ops.info import arguments, described, hexed
from ..ops.jobs import begin
from ..queue.queue import Queue
from ..task.decode import show as content_of
from .acting import background_option, operator, tell_of_job
from .amounts import Count, since
from .common import Group, connected, json_option, show
from .doubt import doubt_names, tell_of

_LEAST = 40  # characters of what a letter says, in a list, however narrow the terminal is
_IN_A_PIPE = 300  # characters that such a line has where there is no terminal
_LONGEST_PATH = 200  # characters of a function's path, likewise


def _json_value(_context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    try:
        found = None if value is None else json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}") from None
    if parameter.name == "new_kwargs" and found is not None and not isinstance(found, dict):
        raise click.BadParameter("""write it as a JSON object: '{"name": 1}'""")
    return found


def _ids(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    """Turn Redis's error for a malformed id into one that says what to do."""
    for each in (value,) if isinstance(value, str) else value:
        try:
            checked_letter(each)
        except InvalidAct as error:
            raise click.BadParameter(str(error)) from None
    return value


since_option = click.option(
    "--since", callback=since, metavar="TIME", help="Only later ones: 90m, 12h, 7d ago, or 2026-01-31T12:00 (UTC)."
)


def searching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search."""
    for option in (
        since_option,
        click.option("--until", callback=since, metavar="TIME", help="Only those before: likewise."),
        click.option("--text", help="Only those with this in the function's path or arguments, as they are shown."),
        click.option("--error", help="Only those with this in the error or its traceback."),
        click.option("--task", "--function", "task", metavar="GLOB", help="Only those of these functions: 'myapp.tasks:*'."),
        click.option("--worker", metavar="GLOB", help="Only those that this worker buried: 'web1:*', or its host alone."),
        click.option("--group", metavar="GLOB", help="Only those of these groups: 'tenant-*'."),
        click.option("--cause", metavar="ID", help="Only those with this cause; `delayed dead causes` shows them."),
        click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), help="Only those with this reason."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def dead() -> None:
    """List the dead letters of a queue, count them by cause, show, retry or remove them."""


@dead.command("list")
@click.argument("queue")
@click.option("--count", type=Count(), default=50, show_default=True, help="How many, newest first.")
@searching
@json_option
@connected
def dead_list(url: str, queue: str, count: int, as_json: bool, **wanted: Any) -> None:
    """List the dead letters of QUEUE, newest first."""
    where = Queue(queue, url)
    letters = list(islice(search(where, Search(**wanted)), count))
    if as_json:
        click.echo(json.dumps([_as_dict(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        click.echo(_line(letter))
    total = where.store.call("XLEN", where.keys.dead)
    if not total:
        doubt_names([where])
    elif total > len(letters) == count:
        click.echo(f"the newest {count} are shown, and the queue has {total:,} dead letters: --count shows more", err=True)


@dead.command("causes")
@click.argument("queue")
@click.option("--count", type=Count(), default=20, show_default=True, help="How many causes, the most frequent first.")
@click.option(
    "--look-at",
    type=Count(),
    default=LOOKED_AT,
    show_default=True,
    help="Look at this many dead letters at most, newest first.",
)
@searching
@json_option
@connected
def dead_causes(url: str, queue: str, count: int, look_at: int, as_json: bool, **wanted: Any) -> None:
    """Count the dead letters of QUEUE by cause: function, reason, and what the error says, but for long numbers.

    `delayed dead retry QUEUE --cause ID` retries those with one cause.
    """
    where = Queue(queue, url)
    found = causes(where, Search(**wanted), look_at)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    for each in found.causes[:count]:
        path, reason = clipped(escaped(each.task), _LONGEST_PATH), clipped(escaped(each.reason), _LONGEST_PATH)
        click.echo(_to_the_edge(f"{each.id}  {each.count:>7,}  {as_time(each.last)}  {reason:16}  {path}  ", each.says))
    if found.looked_at < found.total:
        click.echo(f"looked at {found.looked_at:,} of {found.total:,} dead letters", err=True)
    if not found.total:
        doubt_names([where])


@dead.command("show")
@click.argument("queue")
@click.argument("entry_id", metavar="ID", callback=_ids)
@json_option
@connected
def dead_show(url: str, queue: str, entry_id: str, as_json: bool) -> None:
    """Show one dead letter of QUEUE: arguments, cause, attempts, the last worker."""
    where = Queue(queue, url)
    letter = letter_named(where, entry_id)
    if as_json:
        click.echo(json.dumps({**_as_dict(letter), "content": content_of(letter.data)}, indent=2))
        return
    last = where.store.call("HGET", where.keys.task(letter.tracked_id), "worker") if letter.tracked_id else None
    show([letter.id, f"time:   {as_time(letter.time)}", *described(letter.data)])
    show([f"reason: {letter.reason}", f"by:     {letter.worker}"])
    if last:
        show([f"worker: {last.decode(errors='replace')}"])
    if letter.attempts is not None:
        show([f"tried:  {letter.attempts}"])
    click.echo(f"\n{indented(letter.said.rstrip())}")


@dead.command("retry")
@click.argument("queue")
@click.argument("ids", nargs=-1, callback=_ids)
@click.option("--all", "every", is_flag=True, help="All of them, oldest first.")
@click.option("--args", "new_args", callback=_json_value, metavar="JSON", help="One letter, with other arguments: '[1, 2]'.")
@click.option("--kwargs", "new_kwargs", callback=_json_value, metavar="JSON", help="""Likewise: '{"name": 1}'.""")
@searching
@background_option
@connected
def dead_retry(
    url: str, queue: str, ids: Sequence[str], every: bool, new_args: Any, new_kwargs: Any, background: bool, **wanted: Any
) -> None:
    """Put dead letters back at the end of QUEUE: those named, all, or those that fit the filters."""
    where, chosen, by = Queue(queue, url), _chosen(ids, every, wanted), operator()
    if background and (chosen is None or new_args is not None or new_kwargs is not None):
        raise click.UsageError("--background is for filters, or --all")
    if background:
        tell_of_job(begin(where, by, "dead.retry", chosen))
    elif new_args is None and new_kwargs is None:
        tell_of(where, retry_matching(where, by, chosen) if chosen else retry_letters(where, by, ids))
    elif len(ids) != 1:
        raise click.UsageError("--args and --kwargs are for one letter: name its id")
    else:
        tell_of(where, retry_edited(where, by, ids[0], new_args, new_kwargs))


@dead.command("purge")
@click.argument("queue")
@click.argument("ids", nargs=-1, callback=_ids)
@click.option("--all", "every", is_flag=True, help="All of them.")
@searching
@background_option
@connected
def dead_purge(url: str, queue: str, ids: Sequence[str], every: bool, background: bool, **wanted: Any) -> None:
    """Remove dead letters of QUEUE for good: those named, all, or those that fit the filters."""
    where, chosen, by = Queue(queue, url), _chosen(ids, every, wanted), operator()
    if background and chosen is None:
        raise click.UsageError("--background is for filters, or --all")
    if background:
        tell_of_job(begin(where, by, "dead.delete", chosen))
        return
    tell_of(where, delete_matching(where, by, chosen) if chosen else delete_letters(where, by, ids))


def _chosen(ids: Sequence[str], every: bool, wanted: dict[str, Any]) -> Search | None:
    filtered = any(value is not None for value in wanted.values())
    if bool(ids) + every + filtered != 1:
        raise click.UsageError(
            "name the ids, or give filters (--task, --error, --text, --reason, --cause, --worker, --group, "
            "--since, --until), or say --all"
        )
    return None if ids else Search(**wanted)


def _line(letter: DeadLetter) -> str:
    """One letter of a list: what it says goes to the edge of the terminal, or, in a pipe, a little further than most."""
    path, reason = clipped(escaped(letter.task), _LONGEST_PATH), clipped(escaped(letter.reason), _LONGEST_PATH)
    start = f"{letter.id}  {as_time(letter.time)}  {reason:16}  {path}  "
    return _to_the_edge(start, summary(letter.said))


def _to_the_edge(start: str, says: str) -> str:
    width = shutil.get_terminal_size((0, 0)).columns or _IN_A_PIPE
    return start + clipped(escaped(says), max(_LEAST, width - len(start)))


def _as_dict(letter: DeadLetter) -> dict[str, Any]:
    more: dict[str, Any] = {
        "data": hexed(letter.data),
        "task_id": letter.task_id,
        "attempts": letter.attempts,
        "detail": letter.said,
    }
    more["arguments"] = arguments(letter.data)
    return {**letter._asdict(), **more}
