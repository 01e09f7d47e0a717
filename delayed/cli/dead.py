"""`delayed dead`: lists, shows, retries and removes dead letters."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click

from ..base.checks import as_time
from ..base.clock import now
from ..base.escape import escaped, indented
from ..base.text import clipped, counted, summary
from ..dead_letters.letter import DeadLetter, dead_letter
from ..dead_letters.retry import purge, retry, retry_all, retry_ids
from ..dead_letters.search import Search, search
from ..errors import Reason
from ..ops.info import arguments, described
from ..queue.queue import Queue
from ..task.decode import headers_of
from ..task.decode import show as content_of
from .common import Group, connected, json_option, moment_of, show
from .doubt import doubt_names

_ID = re.compile(r"\d{1,19}(-\d{1,19})?")
_TASK_ID = re.compile(r"[\w-]{16}", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEAST = 40  # characters of what a letter says, in a list, however narrow the terminal is
_IN_A_PIPE = 300  # characters that such a line has where there is no terminal
_LONGEST_PATH = 200  # characters of a function's path, likewise


def _since(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """'90m' is as long ago; else an ISO date or time, in UTC if it names no zone: as times are shown."""
    if value is None:
        return None
    if match := re.fullmatch(r"([\d.]+)([smhd])", value):
        return now() - float(match[1]) * _UNITS[match[2]]
    try:
        return moment_of(value)
    except ValueError:
        raise click.BadParameter("write it as 90m, 12h, 7d or 2026-01-31T12:00") from None


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
        if not _ID.fullmatch(each) and not _TASK_ID.fullmatch(each):
            raise click.BadParameter(
                f"{each!r} is no id of a dead letter (`delayed dead list QUEUE` shows them: 1767225600000-0), nor of a task"
            )
    return value


def searching(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a search."""
    for option in (
        click.option(
            "--since", callback=_since, metavar="TIME", help="Only later ones: 90m, 12h, 7d ago, or 2026-01-31T12:00 (UTC)."
        ),
        click.option("--until", callback=_since, metavar="TIME", help="Only those before: likewise."),
        click.option("--text", help="Only those with this in the function's path or arguments, as they are shown."),
        click.option("--error", help="Only those with this in the error or its traceback."),
        click.option("--task", metavar="GLOB", help="Only those of these functions: 'myapp.tasks:*'."),
        click.option("--reason", type=click.Choice([str(reason) for reason in Reason]), help="Only those with this reason."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def dead() -> None:
    """List the dead letters of a queue, show, retry or remove them."""


@dead.command("list")
@click.argument("queue")
@click.option("--count", default=50, show_default=True, help="How many, newest first.")
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


@dead.command("show")
@click.argument("queue")
@click.argument("entry_id", metavar="ID", callback=_ids)
@json_option
@connected
def dead_show(url: str, queue: str, entry_id: str, as_json: bool) -> None:
    """Show one dead letter of QUEUE: arguments, cause, attempts, the last worker."""
    where = Queue(queue, url)
    letter = _letter(where, *_entries(where, [entry_id]))
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
    click.echo(f"\n{indented(letter.detail.rstrip())}")


@dead.command("retry")
@click.argument("queue")
@click.argument("ids", nargs=-1, callback=_ids)
@click.option("--all", "every", is_flag=True, help="All of them, oldest first.")
@click.option("--args", "new_args", callback=_json_value, metavar="JSON", help="One letter, with other arguments: '[1, 2]'.")
@click.option("--kwargs", "new_kwargs", callback=_json_value, metavar="JSON", help="""Likewise: '{"name": 1}'.""")
@searching
@connected
def dead_retry(url: str, queue: str, ids: Sequence[str], every: bool, new_args: Any, new_kwargs: Any, **wanted: Any) -> None:
    """Put dead letters back at the end of QUEUE: those named, all, or those that fit the filters."""
    where, chosen = Queue(queue, url), _chosen(ids, every, wanted)
    ids = _entries(where, ids)
    if new_args is None and new_kwargs is None:
        missing = _missing(where, ids)
        count = retry_all(where, chosen) if chosen else retry_ids(where, [each for each in ids if each not in missing])
        if missing:
            click.echo(counted(count, "task waits again", "tasks wait again"))
            raise click.ClickException(_gone(where, missing))
    elif len(ids) != 1:
        raise click.UsageError("--args and --kwargs are for one letter: name its id")
    else:
        count = int(retry(where, _letter(where, ids[0]), new_args, new_kwargs))
    click.echo(counted(count, "task waits again", "tasks wait again"))


@dead.command("purge")
@click.argument("queue")
@click.argument("ids", nargs=-1, callback=_ids)
@click.option("--all", "every", is_flag=True, help="All of them.")
@searching
@connected
def dead_purge(url: str, queue: str, ids: Sequence[str], every: bool, **wanted: Any) -> None:
    """Remove dead letters of QUEUE for good: those named, all, or those that fit the filters."""
    where, chosen = Queue(queue, url), _chosen(ids, every, wanted)
    ids = _entries(where, ids)
    missing = _missing(where, ids)
    count = purge(where, chosen) if chosen else _removed(where, [each for each in ids if each not in missing])
    click.echo(f"{counted(count, 'dead letter')} removed")
    if missing:
        raise click.ClickException(_gone(where, missing))


def _removed(queue: Queue, ids: Sequence[str]) -> int:
    return int(queue.store.call("XDEL", queue.keys.dead, *ids)) if ids else 0


def _chosen(ids: Sequence[str], every: bool, wanted: dict[str, Any]) -> Search | None:
    filtered = any(value is not None for value in wanted.values())
    if bool(ids) + every + filtered != 1:
        raise click.UsageError(
            "name the ids, or give filters (--task, --error, --text, --reason, --since, --until), or say --all"
        )
    return None if ids else Search(**wanted)


def _entries(queue: Queue, ids: Sequence[str]) -> list[str]:
    """The ids of dead letters; what is that of a task stands for its newest letter."""
    sought = {each for each in ids if not _ID.fullmatch(each)}
    found: dict[str, str] = {}
    for letter in search(queue) if sought else ():
        headers = headers_of(letter.data)
        for each in sought.intersection(map(str, (headers.get("id"), headers.get("uid")))) - found.keys():
            found[each] = letter.id
        if len(found) == len(sought):
            break
    return [found.get(each, each) for each in ids]


def _letter(queue: Queue, entry_id: str) -> DeadLetter:
    letter = _present(queue, entry_id)
    if letter is None:
        raise click.ClickException(_gone(queue, [entry_id]))
    return letter


def _missing(queue: Queue, ids: Sequence[str]) -> list[str]:
    """Those of the ids that no dead letter has."""
    return [each for each in ids if _present(queue, each) is None]


def _present(queue: Queue, entry_id: str) -> DeadLetter | None:
    return dead_letter(queue, entry_id) if _ID.fullmatch(entry_id) else None


def _gone(queue: Queue, ids: Sequence[str]) -> str:
    return f"{queue.name} has no dead letter {', '.join(ids)}; `delayed dead list {queue.name}` shows what it has"


def _line(letter: DeadLetter) -> str:
    """One letter of a list: what it says goes to the edge of the terminal, or, in a pipe, a little further than most."""
    path, reason = clipped(escaped(letter.task), _LONGEST_PATH), clipped(escaped(letter.reason), _LONGEST_PATH)
    start = f"{letter.id}  {as_time(letter.time)}  {reason:16}  {path}  "
    width = shutil.get_terminal_size((0, 0)).columns or _IN_A_PIPE
    return start + clipped(escaped(summary(letter.detail)), max(_LEAST, width - len(start)))


def _as_dict(letter: DeadLetter) -> dict[str, Any]:
    more: dict[str, Any] = {"data": letter.data.hex(), "task_id": letter.task_id, "attempts": letter.attempts}
    more["arguments"] = arguments(letter.data)
    return {**letter._asdict(), **more}
