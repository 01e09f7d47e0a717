"""`delayed worker`: a worker, or a supervisor of workers."""

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..base.later import Later
from ..cron.schedules import register
from ..dead_letters.retention import LOSSES
from ..job.allow import AllowAny, AllowList
from ..logger import logger
from ..queue.queue import Queue
from ..redis.command import RedisError
from ..redis.connect import check_access, connect
from ..system.child import ChildProcess, python
from ..system.children import adopts_orphans
from ..system.exits import end_within
from ..system.kept import Keeper, KeptProcess
from ..worker.deferral import PATIENCE
from ..worker.options import GRACE, KEEP_ALIVE_INTERVAL, WorkerOptions
from ..worker.worker import Worker
from .amounts import WEEK, Count, Number
from .application import app_option, chosen, load_app
from .banner import say_hello, warn_of_missing_sweepers
from .common import check_names, connected, load, log_options, setup_log

if TYPE_CHECKING:
    from ..app import App
    from ..supervisor import supervisor
    from ..worker import application
    from . import reload as reloading
else:
    supervisor, application = Later("delayed.supervisor.supervisor"), Later("delayed.worker.application")
    reloading = Later("delayed.cli.reload")

_NO_INIT = (
    "This worker is process 1 here, which has to reap what its tasks leave behind, and does not: they stay as zombies. Start "
    "the container with an init (docker run --init), or the worker with -c 1"
)


@click.command()
@click.argument("queues", nargs=-1)
@app_option
@click.option("--allow", multiple=True, metavar="PATTERN", help="A function that may run: 'myapp.tasks:*'. Repeatable.")
@click.option("--allow-any", is_flag=True, help="Run any importable function that a task names.")
@click.option("--weights", metavar="3,1", help="Serve the queues in this proportion, instead of in order of priority.")
@click.option("--burst", is_flag=True, help="Exit when all queues are empty.")
@click.option(
    "-c",
    "--concurrency",
    type=Count(most=10_000),
    help="Run this many worker processes under a supervisor. Default: this process is the worker.",
)
@click.option("--async-tasks", type=Count(most=100_000), default=1, help="Coroutines that each process runs at once.")
@click.option("--threads", type=Count(0, 10_000), default=0, help="Threads for plain functions in each process.")
@click.option(
    "--preload",
    multiple=True,
    metavar="MODULE",
    help="Import MODULE before the processes are forked, and register its schedules. Repeatable.",
)
@click.option("--max-tasks", type=Count(), help="Replace a process after this many tasks (without -c: exit).")
@click.option(
    "--max-rss",
    type=Count(),
    metavar="MB",
    help="Replace a process that uses more memory than this (without -c: exit).",
)
@click.option(
    "--limit",
    type=Count(),
    default=LOSSES,
    show_default=True,
    help="With -c: losses after which a task becomes a dead letter.",
)
@click.option(
    "--grace",
    type=Number(most=WEEK),
    default=GRACE,
    show_default=True,
    help="Seconds that a stopped worker has to finish its task.",
)
@click.option(
    "--keep-alive-interval",
    type=Number(above=True, most=WEEK),
    default=KEEP_ALIVE_INTERVAL,
    show_default=True,
    help="Seconds between refreshes of the leases.",
)
@click.option(
    "--keep-alive-timeout",
    type=Number(above=True, most=4 * WEEK),
    show_default="10",
    help="Seconds after which a silent worker counts as dead.",
)
@click.option(
    "--unready-for",
    type=Number(),
    default=PATIENCE,
    show_default=True,
    help="Seconds that a task waits for a worker that knows its function, or may run it, before it is buried.",
)
@click.option(
    "--endings-at-once",
    is_flag=True,
    help="With -c: tell Redis of each task's end at once, so that even the death of a supervisor repeats only what runs.",
)
@click.option("--log-starts", is_flag=True, help="Log a line when a task starts, too, and not only when it ends.")
@click.option(
    "--dequeue-timeout",
    type=Number(above=True, most=WEEK),
    default=2.0,
    show_default=True,
    help="Seconds that an idle worker waits at a time.",
)
@click.option("--with-sweeper", is_flag=True, help="Run a sweeper for these queues beside the worker.")
@click.option(
    "--metrics-port",
    type=Count(most=65_535),
    help="Serve the metrics of these queues to Prometheus on this port, as `delayed exporter` does.",
)
@click.option("--swept", is_flag=True, hidden=True, help="Somebody starts a sweeper: no warning if there is none yet.")
@click.option("--reload", "reloads", is_flag=True, help="For development: restart when a .py file below this folder changes.")
@log_options
@connected
def worker(
    url: str,
    queues: tuple[str, ...],
    app_path: str | None,
    allow: tuple[str, ...],
    allow_any: bool,
    weights: str | None,
    burst: bool,
    concurrency: int | None,
    async_tasks: int,
    threads: int,
    preload: tuple[str, ...],
    max_tasks: int | None,
    max_rss: int | None,
    limit: int,
    grace: float,
    keep_alive_interval: float,
    keep_alive_timeout: float | None,
    unready_for: float,
    endings_at_once: bool,
    log_starts: bool,
    dequeue_timeout: float,
    with_sweeper: bool,
    metrics_port: int | None,
    swept: bool,
    reloads: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Run the tasks of QUEUES; a later queue is served when the earlier ones are empty, unless there are --weights.

    SIGTERM, SIGINT, SIGHUP: finish what runs, give back the rest, exit. The second SIGTERM or SIGINT, or SIGQUIT: now.
    SIGUSR1: log what it is doing.
    """
    _see_what_it_serves(app_path, queues, allow, allow_any=allow_any)
    check_names(queues)
    setup_log(log_level, log_format)
    if reloads:
        sys.exit(reloading.run_again_on_changes([word for word in sys.argv[1:] if word != "--reload"], Path.cwd()))
    numbers: dict[str, Any] = {
        "keep_alive_interval": keep_alive_interval,
        "grace": grace,
        "burst": burst,
        "max_tasks": max_tasks,
        "max_rss": None if max_rss is None else max_rss * 1_000_000,
        "weights": _shares(weights),
        "async_tasks": async_tasks,
        "threads": threads,
        "unready_for": unready_for,
        "endings_at_once": endings_at_once,
        "log_starts": log_starts,
    }
    load(preload)
    app: App | None = None
    if app_path is None:
        conn = connect(url)
        serve = [Queue(name, conn, dequeue_timeout, keep_alive_timeout) for name in queues]
        options = WorkerOptions(queues=serve, allow=AllowAny() if allow_any else AllowList(allow), **numbers)
    else:
        app = load_app(app_path, url)
        serve = chosen(app.queues(), queues)
        for each in serve:
            each.dequeue_timeout, each.keep_alive_timeout = dequeue_timeout, keep_alive_timeout
        options = application.options_of(app, queues=serve, **numbers)
    check_access(options.queues[0].conn)
    if preload or app_path is not None:
        _register(serve)
    say_hello(serve, None if allow_any else allow, app, app_path)
    warn_of_missing_sweepers([] if with_sweeper or swept or burst else serve)
    log = ("--log-level", log_level, "--log-format", log_format)
    beside = [_beside("sweeper", url, app_path, serve, log)] if with_sweeper else []
    if metrics_port is not None:
        beside.append(_beside("exporter", url, app_path, serve, (*log, "--listen", f":{metrics_port}")))
    end_within(grace)
    if concurrency is not None:
        sys.exit(supervisor.Supervisor(options, concurrency, limit=limit, beside=beside).run())
    _run_one(options, beside)


def _see_what_it_serves(app_path: str | None, queues: Sequence[str], allow: Sequence[str], *, allow_any: bool) -> None:
    """Refuse a worker that is not told, once, which queues it serves and which functions may run."""
    if app_path is None and not queues:
        raise click.UsageError("name the queues to serve, or give an application: --app myapp.tasks:app")
    if app_path is None and bool(allow) == allow_any:
        raise click.UsageError(
            "say which functions may run: --allow 'myapp.tasks:*' (repeatable), or --allow-any if whoever can write to the "
            "queue may run any code here; or give an application: --app myapp.tasks:app"
        )
    if app_path is not None and (allow or allow_any):
        raise click.UsageError("an application's workers run exactly its tasks: leave --allow and --allow-any out")


def _run_one(options: WorkerOptions, beside: Sequence[KeptProcess]) -> None:
    """A worker in this process, and what is to run beside it."""
    if adopts_orphans():
        logger.warning("%s", _NO_INIT)
    made = Worker.of(options)
    gc.freeze()  # also the application: to look through all of it for garbage would hold up what waits for 10 ms and more
    try:
        with contextlib.ExitStack() as stack:
            for kept in beside:
                stack.enter_context(Keeper(kept))
            made.run()
    finally:
        end_within(made.grace_left)


def _beside(what: str, url: str, app_path: str | None, queues: list[Queue], options: tuple[str, ...]) -> KeptProcess:
    """A sweeper or an exporter of these queues. It hears of the address of Redis, which may have a password, in its
    environment."""
    environment = dict(os.environ)
    command = python("delayed", what, *options)
    if app_path is None:
        environment["DELAYED_REDIS_URL"] = url
        environment.pop("DELAYED_REDIS_URL_FILE", None)
    else:  # which may name its Redis itself
        command += ["--app", app_path]
        if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
            command += ["--redis", url]
    for variable in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        environment.pop(variable, None)
    command += ["--", *(queue.name for queue in queues)]
    return KeptProcess(what, lambda: ChildProcess(command, environment, sys.stderr.buffer))


def _register(queues: list[Queue]) -> None:
    """Write the schedules of the modules that were imported to Redis; a worker can work if that fails."""
    try:
        register(queues)
    except RedisError as error:
        logger.error(
            "The schedules were not registered (it will be tried again; `delayed cron sync MODULE` does it, too): %s", error
        )


def _shares(weights: str | None) -> list[float] | None:
    """The numbers in `--weights 3,1`."""
    try:
        return None if weights is None else [float(weight) for weight in weights.split(",")]
    except ValueError:
        raise click.UsageError("--weights must be numbers above 0, one for each queue: --weights 3,1") from None
