"""`delayed exporter`: metrics for Prometheus over HTTP."""

import os

import click

from ..logger import logger
from ..ops.exporter import Exporter
from ..redis.connect import check_access, connect
from ..system.http import PageServer
from ..system.signals import SignalPipe
from .application import app_option, load_app
from .common import check_names, connected, log_options, setup_log


@click.command()
@click.argument("queues", nargs=-1)
@app_option
@click.option("--listen", default="127.0.0.1:9191", show_default=True, metavar="HOST:PORT", help="Where to be scraped.")
@click.option("--like", metavar="QUEUE", default="default", help="Without QUEUES, on Redis Cluster: those with its {tag}.")
@log_options
@connected
def exporter(
    url: str, queues: tuple[str, ...], app_path: str | None, listen: str, like: str, log_level: str, log_format: str
) -> None:
    """Serve the metrics of QUEUES (without names: of all that are served) to Prometheus, at /metrics.

    All of them are read from Redis: one exporter is enough, and several say the same.
    """
    check_names(queues)
    setup_log(log_level, log_format)
    if app_path is None:
        conn = connect(url)
        made = Exporter(conn, queues, like=like)
    else:
        known = load_app(app_path, url).all_queues()
        conn = known[0].conn
        made = Exporter(conn, queues or [each.name for each in known])
    check_access(conn)
    server = PageServer(listen, made.page)
    try:
        with SignalPipe() as signals:
            logger.info("Exporter %d serves metrics on port %d", os.getpid(), server.port)
            server.serve(signals.fileno())
    finally:
        server.close()
