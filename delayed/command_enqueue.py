"""`delayed enqueue`. It imports little: scripts call it once for each task."""

import json
import re
from typing import Any

import click

from .command_line import connected
from .durability import MEMORY, TIMEOUT
from .queue import Queue
from .task import GoTask, PyTask

_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def _argument(text: str) -> Any:
    """A JSON value; what is not JSON is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("queue")
@click.argument("function")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--retry", default=0, help="How often a failed task is repeated; -1: until it succeeds.")
@click.option("--go", is_flag=True, help="FUNCTION is a Go function: package/path.Function.")
@click.option(
    "--durability",
    default=MEMORY,
    show_default=True,
    envvar="DELAYED_DURABILITY",
    metavar="memory|aof|replicas:N",
    help="What to wait for: nothing, the disk of the primary, N replicas.",
)
@click.option("--durability-timeout", default=TIMEOUT, show_default=True, help="Seconds to wait for it.")
@connected
def enqueue(
    url: str,
    queue: str,
    function: str,
    arguments: tuple[str, ...],
    retry: int,
    go: bool,
    durability: str,
    durability_timeout: float,
) -> None:
    """Enqueue a call of FUNCTION (module.path:function) in QUEUE.

    ARGUMENTS are JSON values, or strings where they are not JSON; name=value is a keyword argument.

        delayed enqueue default myapp.tasks:resize '"a.png"' 200 keep=true
    """
    task: PyTask | GoTask
    if go:
        if retry:
            raise click.UsageError("--retry is for Python tasks")
        values = [_argument(text) for text in arguments]
        task = GoTask(function, values if len(values) > 1 else values[0] if values else None)
    else:
        named = {match[1]: _argument(match[2]) for text in arguments if (match := _KEYWORD.fullmatch(text))}
        task = PyTask(function, [_argument(text) for text in arguments if not _KEYWORD.fullmatch(text)], named, retry)
    Queue(queue, url, durability=durability, durability_timeout=durability_timeout).enqueue(task)
