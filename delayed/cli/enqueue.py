"""`delayed enqueue`: enqueues one task. It imports little, because scripts call it once for each task."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

import click

from ..backoff import KINDS, Backoff
from ..errors import InvalidTask
from ..queue.queue import Queue
from ..redis.direct import client_for_a_moment
from ..redis.durability import MEMORY, TIMEOUT
from ..task.options import UNIQUE_MODES
from ..task.task import GoTask, PyTask
from .amounts import Count, Number
from .common import as_json_text, connected, show

_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_WORD = re.compile(r"--?[A-Za-z]")  # what an argument does not begin with
_LONGEST = 3600.0  # seconds of a pause, if nothing else is said
_KEPT_FOR = 3600.0  # seconds that a result is kept that somebody waits for, if nothing else is said
Command = Callable[..., None]


def _argument(text: str) -> Any:
    """A JSON value; what is not JSON is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | float | None:
    """A number of seconds, or a time in ISO 8601."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time; write it as 2030-01-31T08:00:00+00:00") from error
    if found.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; write for example {found.isoformat()}+00:00")
    return found


def _backoff(_context: click.Context, _option: click.Parameter, text: str | None) -> Backoff | None:
    """kind:base or kind:base:cap."""
    if text is None:
        return None
    try:
        kind, base, *rest = text.split(":")
        (cap,) = rest or (_LONGEST,)
        return KINDS[kind](float(base), float(cap))
    except (KeyError, ValueError, InvalidTask) as error:
        raise click.BadParameter(f"write it as exponential:1:600, and not {text!r}: kind, seconds, cap") from error


def _metadata(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    pairs = [each.partition("=") for each in given]
    if any(not name or not equals for name, equals, _ in pairs):
        raise click.BadParameter("write it as NAME=TEXT")
    return {name: text for name, _, text in pairs} or None


_OPTIONS = (
    click.option("--after", type=Number(), metavar="SECONDS", help="Start after this many seconds."),
    click.option("--at", callback=_moment, metavar="TIME", help="Start at this time (ISO 8601 with zone), at the earliest."),
    click.option(
        "--expires", callback=_moment, metavar="SECONDS|TIME", help="Do not start after this many seconds, or this time."
    ),
    click.option(
        "--backoff", callback=_backoff, metavar="KIND:BASE[:CAP]", help="Pauses between attempts: exponential:1:600."
    ),
    click.option("--retry-on", multiple=True, metavar="TYPE", help="Retry only these failures, module.Name or Name."),
    click.option("--give-up-on", multiple=True, metavar="TYPE", help="Never retry these failures."),
    click.option(
        "--timeout",
        type=Number(above=True),
        metavar="SECONDS",
        help="Raise TimedOut in the task after this many seconds.",
    ),
    click.option(
        "--hard-timeout",
        type=Number(above=True),
        metavar="SECONDS",
        help="Kill the task's process after this many seconds.",
    ),
    click.option(
        "--result-ttl",
        type=Number(above=True),
        metavar="SECONDS",
        help="Keep the result for this many seconds.",
    ),
    click.option("--track", is_flag=True, help="Keep the state: see `delayed task`."),
    click.option("--unique", metavar="KEY", help="Refuse the task while another one with this key is pending."),
    click.option("--unique-mode", type=click.Choice(UNIQUE_MODES), help="What counts as pending."),
    click.option(
        "--unique-for",
        type=Number(above=True),
        metavar="SECONDS",
        help="The key is free after that in any case.",
    ),
    click.option("--join", is_flag=True, help="Do not refuse it: print the id of the other task."),
    click.option("--group", metavar="NAME", help="Whose task it is."),
    click.option("--concurrency-key", metavar="KEY", help="No more tasks with this key run at once than --concurrency."),
    click.option("--concurrency", type=Count(), metavar="N", help="1, if nothing else is said."),
    click.option("--rate-key", metavar="KEY", help="Of the tasks with this key, --rate begin in a second."),
    click.option("--rate", type=Number(above=True), metavar="N", help="See --rate-key."),
    click.option(
        "--metadata", multiple=True, callback=_metadata, metavar="NAME=TEXT", help="What is known of it. Repeatable."
    ),
)


def _asking(command: Command) -> Command:
    """Give a command the options of a task."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class _Strict(click.Command):
    """Lets arguments begin with a minus if they are numbers, or follow `--`; click knows all or nothing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        verbatim = len(args) - args.index("--") - 1 if "--" in args else 0
        rest = super().parse_args(ctx, args)
        given: tuple[str, ...] = ctx.params.get("arguments", ())
        for text in given[: max(0, len(given) - verbatim)]:
            if text.startswith("-") and _WORD.match(text):
                raise click.UsageError(self._unknown(ctx, text.partition("=")[0]), ctx)
        return rest

    def _unknown(self, ctx: click.Context, name: str) -> str:
        known = [option for parameter in self.get_params(ctx) for option in parameter.opts if option.startswith("-")]
        alike = [option for option in known if option[:4] == name[:4]]  # of those that begin alike first: --r…
        close = get_close_matches(name, alike, 1) or get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"No such option {name!r}.{hint} (Put -- before arguments that begin with a minus.)"


@click.command(cls=_Strict, context_settings={"ignore_unknown_options": True})
@click.argument("queue")
@click.argument("function")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--retry", type=Count(-1), default=0, help="Retries after a failure; -1: until it succeeds.")
@click.option("--go", is_flag=True, help="FUNCTION is a Go function: package/path.Function.")
@_asking
@click.option("--wait", type=Number(), metavar="SECONDS", help="Wait for the task's end, and print its result as JSON.")
@click.option(
    "--durability",
    default=MEMORY,
    show_default=True,
    envvar="DELAYED_DURABILITY",
    metavar="memory|aof|replicas:N",
    help="What to wait for: nothing, the disk of the primary, N replicas.",
)
@click.option(
    "--durability-timeout", type=Number(above=True), default=TIMEOUT, show_default=True, help="Seconds to wait for it."
)
@connected
def enqueue(
    url: str,
    queue: str,
    function: str,
    arguments: tuple[str, ...],
    retry: int,
    go: bool,
    wait: float | None,
    durability: str,
    durability_timeout: float,
    **asked: Any,
) -> None:
    """Enqueue a call of FUNCTION (module.path:function) in QUEUE.

    ARGUMENTS are JSON values, or strings where they are not JSON; name=value is a keyword argument. The id of a task that has
    one is printed; see `delayed task`.

        delayed enqueue default myapp.tasks:resize '"a.png"' 200 keep=true
    """
    options = {name: value for name, value in asked.items() if value is not None and value is not False and value != ()}
    if wait is not None:
        options.setdefault("result_ttl", _KEPT_FOR)
    task = _task(function, arguments, retry, go, options)
    made = partial(Queue, queue, durability=durability, durability_timeout=durability_timeout)
    if wait is not None:
        click.echo(as_json_text(made(conn=url).enqueue(task).result(wait)))
        return
    with client_for_a_moment(url) as client:
        identity = made(conn=client).enqueue(task).id
    if identity is not None:
        show([identity])


def _task(function: str, arguments: tuple[str, ...], retry: int, go: bool, options: dict[str, Any]) -> PyTask | GoTask:
    if go:
        values = [_argument(text) for text in arguments]
        return GoTask(function, values if len(values) > 1 else values[0] if values else None, retry, **options)
    named = {match[1]: _argument(match[2]) for text in arguments if (match := _KEYWORD.fullmatch(text))}
    return PyTask(function, [_argument(text) for text in arguments if not _KEYWORD.fullmatch(text)], named, retry, **options)
