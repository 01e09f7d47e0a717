"""`delayed top`: the application of `top_app`, if its extra is installed."""

import sys
from importlib import import_module

import click

from ..queue.queue import Queue
from ..redis.connect import connect
from .acting import operator
from .amounts import WEEK, Number
from .common import connected
from .places import places


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--interval", default=2.0, show_default=True, type=Number(0.2, most=WEEK), help="Seconds between two looks.")
@click.option("--readonly", is_flag=True, help="Show, and change nothing.")
@connected
def top(url: str, queues: tuple[str, ...], interval: float, readonly: bool) -> None:
    """Show QUEUES, or all known queues, in this terminal, and act on them: pause, retry, cancel, remove.

    The keys are shown at the bottom. Needs the extra `top`.
    """
    try:
        app = import_module(".top_app", __package__).Top
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed: pip install 'delayedq[top]'") from None
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.ClickException("this needs a terminal; `delayed info --watch` needs none")
    conn = connect(url)
    chosen = [Queue(name, conn) for name in queues]
    places(url, queues, None)  # says what is wrong before the screen is taken
    app(lambda: chosen or places(url, (), None), operator(), interval, readonly=readonly).run()
