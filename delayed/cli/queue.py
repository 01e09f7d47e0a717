"""`delayed queue`: pauses, limits, empties and renames queues, and shows them."""

import json
from dataclasses import asdict, dataclass

import click

from ..base.checks import as_time
from ..base.escape import escaped
from ..base.text import clipped, counted
from ..ops.actions import limit_queue, limits_text, pause_queue, purge_queue, rename_queue, resume_queue
from ..ops.register import served
from ..ops.tasks import upcoming
from ..queue.limits import Limits
from ..queue.queue import Queue
from ..redis.connect import connect
from .acting import operator, tell
from .amounts import Count
from .common import Group, check_names, connected, hint, json_option
from .common import show as show_lines
from .doubt import doubt_names
from .history import queue_history

_GROUPS = 100  # shown
_LONGEST = 200  # characters of a path, and of arguments, in a list


@click.group(cls=Group)
def queue() -> None:
    """List, peek into, pause, limit, purge and rename queues. Workers apply a pause or a limit within three seconds."""


queue.add_command(queue_history)


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
        done = pause_queue(where, operator())
        doubt_names([where])
        tell(done)


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@connected
def resume(url: str, queues: tuple[str, ...]) -> None:
    """Start tasks from QUEUES again."""
    conn = connect(url)
    for name in queues:
        where = Queue(name, conn)
        done = resume_queue(where, operator())
        doubt_names([where])
        tell(done)


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
    done = limit_queue(where, operator(), concurrency=concurrency, rate=rate, burst=burst, lift=lift)
    doubt_names([where])
    tell(done)


@queue.command("peek")
@click.argument("queue")
@click.option("--count", default=10, show_default=True, type=Count(most=1000), help="How many.")
@json_option
@connected
def queue_peek(url: str, queue: str, count: int, as_json: bool) -> None:
    """Show the tasks of QUEUE that are taken next, and take nothing. `delayed task peek` shows one of them in full."""
    where = Queue(queue, url)
    found = upcoming(where, count)
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in found], indent=2))
        return
    for position, each in enumerate(found, 1):
        called = f"{clipped(escaped(each.task), _LONGEST)}({clipped(escaped(each.arguments), _LONGEST)})"
        show_lines([f"{position:>4}  {each.id or '-':16}  {each.where:5}  {called}"])
    if where.limits().paused:
        hint(f"{queue} is paused: none of them begins until `delayed queue resume {queue}`")
    if not found:
        hint(f"nothing waits in {queue}, nor in its groups")
        doubt_names([where])


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
    done = purge_queue(where, operator())
    tell(done)
    if not done.count:
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
    tell(rename_queue(where, Queue(new, conn), operator()))


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
        show_lines([f"{limits_text(state.queue, state.limits)}; {waiting}", *groups])
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
