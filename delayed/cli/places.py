"""The queues into which a command looks that need not be told where something is."""

from collections.abc import Sequence

import click

from ..errors import ConfigurationError
from ..ops.register import served
from ..queue.queue import Queue
from ..redis.connect import connect
from .application import load_app, takes_app


def places(url: str, names: Sequence[str], app_path: str | None) -> list[Queue]:
    """The queues that are named, else those of the application, else all that workers or sweepers have served."""
    if names and app_path is not None:
        raise click.UsageError("name the queues, or give an application, not both")
    if app_path is not None:
        return load_app(app_path, url).all_queues()
    conn = connect(url)
    if names:
        return [Queue(name, conn) for name in names]
    found = []
    for name in served(Queue("default", conn)):
        try:
            found.append(Queue(name, conn))
        except ConfigurationError:  # another program wrote it
            continue
    if not found:
        others = ", or an application (--app myapp.tasks:app)" if takes_app() else ""
        raise click.UsageError(f"no worker or sweeper has said yet which queue it serves: name a queue{others}")
    return found
