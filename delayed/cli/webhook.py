"""`delayed webhook`: a worker that posts tasks to an endpoint."""

import asyncio
import os

import click

from ..server.webhooks import Endpoint, WebhookWorker
from .amounts import WEEK, Count, Number
from .common import check_names, connected, log_options, setup_log

_SECRET = "DELAYED_WEBHOOK_SECRET"  # noqa: S105  # where it is


@click.command()
@click.argument("queue")
@click.argument("endpoint", metavar="URL")
@click.option("-c", "--concurrency", type=Count(most=1000), default=10, show_default=True, help="Requests at once.")
@click.option("--timeout", type=Number(0.1, most=WEEK), default=60.0, show_default=True, help="Seconds for one request.")
@log_options
@connected
def webhook(url: str, queue: str, endpoint: str, concurrency: int, timeout: float, log_level: str, log_format: str) -> None:
    """Post the tasks of QUEUE to URL: a worker for languages without a library.

    2xx ends a task, with the JSON of the answer as its result. 408, 425, 429, 5xx, or no answer: it runs again as often as
    it says itself, after Retry-After if there is one. Any other status makes it a dead letter. Bodies are signed as
    Standard Webhooks says, if DELAYED_WEBHOOK_SECRET is set.
    """
    check_names([queue])
    setup_log(log_level, log_format)
    to = Endpoint(endpoint, os.environ.get(_SECRET))
    asyncio.run(WebhookWorker(url, queue, to, concurrency=concurrency, seconds=timeout).run())
