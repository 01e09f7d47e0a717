"""`delayed health`: a probe for Docker, Kubernetes and systemd."""

import json
import sys

import click

from ..ops.health import Wanted
from ..ops.health import health as check_health
from ..queue.queue import Queue
from ..redis.connect import connect
from .amounts import Count, Number
from .common import connected, json_option, show
from .doubt import doubt_names


@click.command()
@click.argument("queues", nargs=-1)
@click.option("--live", is_flag=True, help="A process of this host serves each of QUEUES; passes while Redis is away.")
@click.option("--ready", is_flag=True, help="A process of this host serves each of QUEUES, and Redis answers.")
@click.option("--kind", type=click.Choice(["worker", "sweeper"]), help="With --live or --ready: only such processes count.")
@click.option("--host", metavar="NAME", default="", show_default="this one", help="With --live or --ready: which host.")
@click.option("--workers", type=Count(), metavar="N", help="N workers, on any host, serve each of QUEUES.")
@click.option("--max-age", type=Number(), metavar="SECONDS", help="No task of QUEUES has waited longer.")
@click.option("--max-dead", type=Count(0), metavar="N", help="None of QUEUES has more dead letters.")
@json_option
@connected
def health(
    url: str, queues: tuple[str, ...], live: bool, ready: bool, kind: str | None, host: str, workers: int | None,
    max_age: float | None, max_dead: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Check that Redis answers, and what else is asked for. Exit status 0: all is well; 1: something is not.

    The age of a task is known if it is tracked or overdue; see `delayed info`.
    """
    asks = live or ready or workers is not None or max_age is not None or max_dead is not None
    if asks != bool(queues):
        raise click.UsageError("name the queues, and say what to check: --live, --ready, --workers, --max-age, --max-dead")
    if (kind or host) and not (live or ready):
        raise click.UsageError("--kind and --host are for --live and --ready")
    conn = connect(url)
    wanted = Wanted(live, ready, kind, workers or 0, max_age, max_dead, host)
    places = [Queue(name, conn) for name in queues]
    found = check_health(places, wanted, lambda: (*places, Queue("default", conn))[0].call("PING"))
    well = all(each.ok for each in found)
    if as_json:
        click.echo(json.dumps({"healthy": well, "checks": [each.as_dict() for each in found]}, indent=2))
    else:
        if len(found) > 1:  # else Redis cannot be asked
            doubt_names(places)
        show(f"{'ok' if each.ok else 'failed':6}  {each.about}: {each.says}" for each in found)
    if not well:
        sys.exit(1)
