"""`delayed sweeper`: recovers tasks, and starts those that are due."""

import click

from ..dead_letters.retention import DAYS, LETTERS, LOSSES
from ..queue.queue import Queue
from ..redis.connect import check_access, connect
from ..sweeper.sweeper import INTERVAL, Sweeper
from .amounts import WEEK, Count, Number
from .application import app_option, chosen, load_app
from .common import check_names, connected, log_options, setup_log


@click.command()
@click.argument("queues", nargs=-1)
@app_option
@click.option(
    "--interval",
    type=Number(above=True, most=WEEK),
    default=INTERVAL,
    show_default=True,
    help="Seconds from one sweep to the next, at most.",
)
@click.option("--limit", type=Count(), default=LOSSES, show_default=True, help="Losses that bury a task.")
@click.option(
    "--dead-max",
    type=Count(0),
    default=LETTERS,
    show_default=True,
    help="Keep about this many dead letters per queue; 0: all.",
)
@click.option(
    "--dead-days",
    type=Number(most=1e5),
    default=DAYS,
    show_default=True,
    help="Keep dead letters for about this many days; 0: for ever.",
)
@log_options
@connected
def sweeper(
    url: str,
    queues: tuple[str, ...],
    app_path: str | None,
    interval: float,
    limit: int,
    dead_max: int,
    dead_days: float,
    log_level: str,
    log_format: str,
) -> None:
    """Recover the tasks of crashed workers in QUEUES, and start scheduled ones. Run at least one."""
    check_names(queues)
    setup_log(log_level, log_format)
    if app_path is not None:
        serve = chosen(load_app(app_path, url).all_queues(), queues)
    elif queues:
        conn = connect(url)
        serve = [Queue(name, conn) for name in queues]
    else:
        raise click.UsageError("name the queues to sweep, or give an application: --app myapp.tasks:app")
    served = Sweeper(serve, interval, limit=limit, dead_max=dead_max or None, dead_days=dead_days or None)
    check_access(serve[0].conn)
    served.run()
