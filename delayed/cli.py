"""The command `delayed`.

Exit status: 0 done; 1 it failed, and the message says why; 2 wrong usage; 3 a worker that had to leave a task unfinished, and
gave it back.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from . import __version__
from .allow import AllowAny, AllowList
from .connection import RedisError, connect
from .demo import run_demo
from .errors import DelayedError
from .info import dead_letter, dead_letters, inspect, lines, show
from .logger import setup_logger
from .queue import Queue
from .settings import GRACE, KEEP_ALIVE_INTERVAL
from .sweeper import INTERVAL, LOSSES, Sweeper
from .task import GoTask, PyTask
from .up import run_up
from .worker import Worker

DEFAULT_URL = "redis://localhost:6379/0"
_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_IDS_PER_CALL = 100
P = ParamSpec("P")


def _url() -> str:
    """DELAYED_REDIS_URL_FILE, else DELAYED_REDIS_URL, else REDIS_URL, else localhost."""
    secret = os.environ.get("DELAYED_REDIS_URL_FILE")
    if secret:
        try:
            return Path(secret).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise click.ClickException(f"DELAYED_REDIS_URL_FILE: {error}") from error
    return os.environ.get("DELAYED_REDIS_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL


def _explained(command: Callable[P, None]) -> Callable[P, None]:
    """Turn expected errors into one line and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (DelayedError, RedisError, OSError, UnicodeError) as error:
            notes = "".join(f"\n  ({note})" for note in getattr(error, "__notes__", ()))
            raise click.ClickException(f"{error}{notes}") from error

    return run


def _common(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option(
        "--redis",
        "url",
        metavar="URL",
        default=_url,
        show_default="DELAYED_REDIS_URL, else REDIS_URL",
        help="Where Redis is: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://.",
    )
    return option(_explained(command))


_log_level = click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="DEBUG logs each task's start and end.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="delayed")
def main() -> None:
    """A task queue on Redis for Python and Go."""


@main.command()
@click.argument("queues", nargs=-1, required=True)
@click.option("--allow", multiple=True, metavar="PATTERN", help="A function that may run: 'myapp.tasks:*'. Repeatable.")
@click.option("--allow-any", is_flag=True, help="Run any importable function that a task names.")
@click.option("--burst", is_flag=True, help="Exit when the queues are empty.")
@click.option("--grace", default=GRACE, show_default=True, help="Seconds that a stopped worker has to finish its task.")
@click.option("--keep-alive-interval", default=KEEP_ALIVE_INTERVAL, show_default=True, help="Seconds between two beats.")
@click.option("--keep-alive-timeout", type=float, show_default="10", help="Seconds after which a silent worker is dead.")
@click.option("--dequeue-timeout", default=2.0, show_default=True, help="Seconds that an idle worker waits at a time.")
@_log_level
@_common
def worker(
    url: str,
    queues: tuple[str, ...],
    allow: tuple[str, ...],
    allow_any: bool,
    burst: bool,
    grace: float,
    keep_alive_interval: float,
    keep_alive_timeout: float | None,
    dequeue_timeout: float,
    log_level: str,
) -> None:
    """Run the tasks of QUEUES; a later queue is served when the earlier ones are empty.

    SIGTERM, SIGINT, SIGHUP: finish what runs, give back the rest, exit. The second SIGTERM or SIGINT, or SIGQUIT: now.
    SIGUSR1: log what it is doing.
    """
    if bool(allow) == allow_any:
        raise click.UsageError(
            "say which functions may run: --allow 'myapp.tasks:*' (repeatable), or --allow-any if whoever can write to the "
            "queue may run any code here"
        )
    setup_logger(log_level=log_level.upper())
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` would: tasks live in the application's own folder
    conn = connect(url)
    serve = [Queue(name, conn, dequeue_timeout, keep_alive_timeout) for name in queues]
    allowed = AllowAny() if allow_any else AllowList(allow)
    Worker(serve, keep_alive_interval, allow=allowed, grace=grace, burst=burst).run()


@main.command()
@click.argument("queues", nargs=-1, required=True)
@click.option("--interval", default=INTERVAL, show_default=True, help="Seconds from one sweep to the next, at most.")
@click.option("--limit", default=LOSSES, show_default=True, help="Losses that bury a task.")
@_log_level
@_common
def sweeper(url: str, queues: tuple[str, ...], interval: float, limit: int, log_level: str) -> None:
    """Bring back what killed workers left in QUEUES. Run at least one; any number may run."""
    setup_logger(log_level=log_level.upper())
    conn = connect(url)
    Sweeper([Queue(name, conn) for name in queues], interval, limit=limit).run()


def _argument(text: str) -> Any:
    """A JSON value; what is not JSON is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("queue")
@click.argument("function")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--retry", default=0, help="How often a failed task is repeated; -1: until it succeeds.")
@click.option("--go", is_flag=True, help="FUNCTION is a Go function: package/path.Function.")
@_common
def enqueue(url: str, queue: str, function: str, arguments: tuple[str, ...], retry: int, go: bool) -> None:
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
    Queue(queue, url).enqueue(task)


@main.command()
@click.argument("queues", nargs=-1, required=True)
@_as_json
@_common
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


@main.group()
def dead() -> None:
    """Look at the dead letters of a queue, retry or remove them."""


@dead.command("list")
@click.argument("queue")
@click.option("--count", default=50, show_default=True, help="How many, newest first.")
@click.option("--reason", help="Only those with this reason, for example 'failed'.")
@_as_json
@_common
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
@_as_json
@_common
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
@_common
def dead_retry(url: str, queue: str, ids: tuple[str, ...], every: bool) -> None:
    """Put dead letters back at the end of QUEUE, as they came."""
    with _chosen(url, queue, ids, every) as (where, chunks):
        click.echo(f"{sum(where.dead_retry(chunk) for chunk in chunks)} tasks wait again")


@dead.command("purge")
@click.argument("queue")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@_common
def dead_purge(url: str, queue: str, ids: tuple[str, ...], every: bool) -> None:
    """Remove dead letters of QUEUE for good."""
    with _chosen(url, queue, ids, every) as (where, chunks):
        click.echo(f"{sum(where.call('XDEL', where.keys.dead, *chunk) for chunk in chunks)} dead letters removed")


@main.command()
@click.argument("queues", nargs=-1)
@click.option("--allow", multiple=True, metavar="PATTERN", help="As for `delayed worker`; any function by default.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".delayed"), show_default=True, help="Redis's data.")
@click.option("--port", default=6379, show_default=True, help="Redis's port on the loopback interface.")
@_explained
def up(queues: tuple[str, ...], allow: tuple[str, ...], folder: Path, port: int) -> None:
    """For development: Redis with its data in a folder, a worker and a sweeper, until Ctrl-C."""
    run_up(list(queues or ("default",)), list(allow), folder, port)


@main.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Files to hash; by default the Python standard library.",
)
@click.option("--workers", default=2, show_default=True, help="Worker processes.")
@click.option("--kills", default=3, show_default=True, help="Workers to kill in mid-task.")
@click.option(
    "--go-worker",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Go module's delayed-worker, to hash every other file.",
)
@_explained
def demo(folder: Path | None, workers: int, kills: int, go_worker: Path | None) -> None:
    """Hash every file of a folder on an embedded Redis, kill workers meanwhile, and check that nothing is lost."""
    if workers < 1 or kills < 0:
        raise click.UsageError("--workers is at least 1, and --kills not below 0")
    if not run_demo(folder, workers, kills, go_worker):
        sys.exit(1)
