"""`delayed audit`: lists what operators have done."""

import json

import click

from ..base.checks import as_time
from ..base.escape import escaped
from ..base.text import clipped
from ..errors import ConfigurationError
from ..ops.audit import KINDS, LOOKED_AT, AuditEntry, AuditFilter, read
from ..queue.queue import Queue
from .amounts import Count
from .common import connected, json_option, show
from .dead import since_option

_LONGEST = 200  # characters


def _act(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        AuditFilter(act=value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command()
@click.argument("queue", required=False)
@click.option("--count", "--limit", "count", type=Count(), default=50, show_default=True, help="How many, newest first.")
@click.option("--who", help="Only acts of this operator.")
@click.option(
    "--act", callback=_act, metavar="ACT", help=f"Only these acts: dead.retry, or all of a kind: {', '.join(KINDS)}."
)
@click.option("--text", help="Only those with this in what they were done to, or in the result.")
@since_option
@click.option("--like", metavar="QUEUE", default="default", help="Without QUEUE, on Redis Cluster: of queues with its {tag}.")
@click.option("--look-at", type=Count(), default=LOOKED_AT, show_default=True, help="Look at this many entries at most.")
@json_option
@connected
def audit(
    url: str, queue: str | None, count: int, who: str | None, act: str | None, text: str | None, since: float | None,
    like: str, look_at: int, as_json: bool,
) -> None:  # fmt: skip
    """List what operators have done to QUEUE, or to all queues: who, when, from where, what, to how many, and the result.

    The last ten thousand acts are kept. What programs do through the API is not among them.
    """
    wanted = AuditFilter(queue=queue, who=who, act=act, text=text, since=since)
    found = read(Queue(queue or like, url), wanted, count, look_at=look_at)
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in found.entries], indent=2))
        return
    show(map(_line, found.entries))
    if found.more and len(found.entries) < count:
        click.echo(f"looked at {found.looked_at:,} entries: --look-at goes further", err=True)


def _line(entry: AuditEntry) -> str:
    what = clipped(escaped(entry.what), _LONGEST)
    result = clipped(escaped(entry.result), _LONGEST)
    return f"{as_time(entry.time)}  {entry.who}  {entry.origin}  {entry.act}  {entry.queue}  {what}: {entry.count:,}, {result}"
