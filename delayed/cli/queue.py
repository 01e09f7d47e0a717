"""`delayed queue`: pauses, limits, empties and renames queues, and shows them."""

import json
from dataclasses import asdict, dataclass

import click

from ..base.checks import as_time
from ..base.text import counted
from ..ops.purge import purge as purge_queue
from ..ops.register import served
from ..ops.rename import rename as rename_queue
from ..queue.limits import Limits
from ..queue.queue import Queue
from ..redis.connect import connect
from .common import Group, check_names, connected, json_option
from .common import show as show_lines
from .doubt import doubt_names

_GROUPS = 100  # shown


@click.group(cls=Group)
def queue() -> None:
    """List, pause, limit, purge and rename queues. Workers apply a pause or a limit within three seconds."""


@queue.command("list")
@click.option("--like", metavar="QUEUE", default="default", help="On Redis Cluster: those with its {tag}.")
@json_option
@connected
def list_queues(url: str, like: str, as_json: bool) -> None:
    """List the queues that workers and sweepers have served in the last 90 days, and when they last said so.

    Workers and sweepers of the older packages do not say so.
    """
    known = served(Queue(like, url))
    if as_json:
        click.echo(json.dumps(known, indent=2))
        return
    show_lines(f"{as_time(moment)}  {name}" for name, moment in known.items())


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@connected
def pause(url: str, queues: tuple[str, ...]) -> None:
    """Stop starting tasks from QUEUES until `resume`."""
    conn = connect(url)
    for name in queues:
        where = Queue(name, conn)
        where.pause()
        doubt_names([where])
        click.echo(f"{name}: paused")


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@connected
def resume(url: str, queues: tuple[str, ...]) -> None:
    """Start tasks from QUEUES again."""
    conn = connect(url)
    for name in queues:
        Queue(name, conn).resume()
        click.echo(f"{name}: goes on")


@queue.command()
@click.argument("queue")
@click.option("--concurrency", type=int, help="How many tasks run at once, on all workers together.")
@click.option("--rate", type=float, help="How many tasks begin in a second, on average.")
@click.option("--burst", type=int, show_default="one second's worth", help="How many tasks may begin at once after a pause.")
@click.option("--none", "lift", is_flag=True, help="Remove all limits.")
@connected
def limit(url: str, queue: str, concurrency: int | None, rate: float | None, burst: int | None, lift: bool) -> None:
    """Set limits of QUEUE. A limit that is not given stays as it is."""
    if lift == (concurrency is not None or rate is not None or burst is not None):
        raise click.UsageError("say --concurrency, --rate or both; or --none, to lift all limits")
    where = Queue(queue, url)
    before = Limits() if lift else where.limits()
    if rate is None:
        rate, burst = before.rate, before.burst if burst is None else burst
    where.limit(concurrency=before.concurrency if concurrency is None else concurrency, rate=rate, burst=burst)
    doubt_names([where])
    click.echo(_shown(queue, where.limits()))


@queue.command()
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connected
def purge(url: str, queue: str, yes: bool) -> None:
    """Remove all tasks that wait in QUEUE, in its groups, for keys, and in its schedule.

    Tracked tasks become `cancelled`, and unique keys are free. Tasks that run, dead letters and schedules (`delayed cron`)
    stay. What is enqueued meanwhile may stay, too: `pause` does not stop producers.
    """
    where = Queue(queue, url)
    if not yes:
        click.confirm(f"Remove all tasks that wait in {queue!r}, for good?", abort=True, err=True)
    count = purge_queue(where)
    click.echo(f"{queue}: {counted(count, 'waiting task')} removed")
    if not count:
        doubt_names([where])


@queue.command()
@click.argument("old")
@click.argument("new")
@connected
def rename(url: str, old: str, new: str) -> None:
    """Give the queue OLD the name NEW, with its waiting and scheduled tasks, dead letters, schedules and limits.

    Stop its producers, workers and sweepers first. It is refused, and nothing is moved, while a worker or sweeper lives or a
    task is held, while anything is kept of tracked tasks (their handles know the old name), and if NEW has any key.
    """
    check_names([new])
    conn = connect(url)
    where = Queue(old, conn)
    if where.store.call("EXISTS", *where.keys.all().values()) == 0:
        doubt_names([where])
        raise click.ClickException(f"there is no queue {old!r}: it has no tasks, dead letters, schedules or limits")
    rename_queue(where, Queue(new, conn))
    click.echo(f"{old}: is called {new} now; start its producers, workers and sweepers with that name")


@dataclass(frozen=True, slots=True)
class _State:
    """The state of a queue that `show` prints."""

    queue: str
    waiting: int
    groups: int
    first_groups: dict[str, int]  # of the first in the rotation: SHA-1 of the group → waiting tasks
    limits: Limits


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@json_option
@connected
def show(url: str, queues: tuple[str, ...], as_json: bool) -> None:
    """Show whether QUEUES are paused, their limits, and the tasks that wait in groups."""
    conn = connect(url)
    states = [_state(Queue(name, conn)) for name in queues]
    if as_json:
        click.echo(json.dumps([{**asdict(state), "limits": state.limits._asdict()} for state in states], indent=2))
        return
    for state in states:
        groups = [f"  group {group}: {count} waiting" for group, count in state.first_groups.items()]
        waiting = f"{state.waiting} waiting"
        if state.groups:
            waiting += f", and the tasks of {counted(state.groups, 'group')}"
        show_lines([f"{_shown(state.queue, state.limits)}; {waiting}", *groups])
    doubt_names(Queue(state.queue, conn) for state in states if not state.waiting + state.groups)


def _state(where: Queue) -> _State:
    groups = int(where.store.call("LLEN", where.keys.groups))
    first = where.store.grouped(_GROUPS)
    return _State(
        where.name,
        where.len(),
        groups,
        {each: where.store.call("LLEN", where.keys.group(each)) for each in first},
        where.limits(),
    )


def _shown(name: str, limits: Limits) -> str:
    parts = ["paused"] if limits.paused else []
    if limits.concurrency is not None:
        parts.append(f"at most {counted(limits.concurrency, 'task')} at once")
    if limits.rate is not None:
        parts.append(f"{limits.rate:g} tasks a second, {limits.burst} at once after a pause")
    return f"{name}: {', '.join(parts) or 'not limited'}"
