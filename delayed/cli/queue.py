"""The commands with which operators say how fast a queue may go."""

import json
from dataclasses import asdict, dataclass

import click

from ..base.text import counted
from ..queue.limits import Limits
from ..queue.queue import Queue
from ..redis.connect import connect
from .common import connected, json_option
from .common import show as show_lines

_GROUPS = 100  # shown


@click.group()
def queue() -> None:
    """Pause queues, limit them, and show that. Workers follow it from their next beat on (every 3 s)."""


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@connected
def pause(url: str, queues: tuple[str, ...]) -> None:
    """No worker takes tasks from QUEUES, until `resume`."""
    conn = connect(url)
    for name in queues:
        Queue(name, conn).pause()
        click.echo(f"{name}: paused")


@queue.command()
@click.argument("queues", nargs=-1, required=True)
@connected
def resume(url: str, queues: tuple[str, ...]) -> None:
    """Workers take tasks from QUEUES again."""
    conn = connect(url)
    for name in queues:
        Queue(name, conn).resume()
        click.echo(f"{name}: goes on")


@queue.command()
@click.argument("queue")
@click.option("--concurrency", type=int, help="How many tasks run at once, on all workers together.")
@click.option("--rate", type=float, help="How many tasks begin in a second, on average.")
@click.option("--burst", type=int, show_default="as many as in a second", help="How many begin at once after a rest.")
@click.option("--none", "lift", is_flag=True, help="No limits any more.")
@connected
def limit(url: str, queue: str, concurrency: int | None, rate: float | None, burst: int | None, lift: bool) -> None:
    """Set all limits of QUEUE; what is not given is not limited any more."""
    if lift == (concurrency is not None or rate is not None or burst is not None):
        raise click.UsageError("say --concurrency, --rate or both; or --none, to lift all limits")
    where = Queue(queue, url)
    where.limit(concurrency=concurrency, rate=rate, burst=burst)
    click.echo(_shown(queue, where.limits()))


@dataclass(frozen=True, slots=True)
class _State:
    """What `show` tells of a queue."""

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
    """Whether QUEUES are paused, their limits, and what waits in groups."""
    conn = connect(url)
    states = [_state(Queue(name, conn)) for name in queues]
    if as_json:
        click.echo(json.dumps([{**asdict(state), "limits": state.limits._asdict()} for state in states], indent=2))
        return
    for state in states:
        groups = [f"  group {group}: {count} waiting" for group, count in state.first_groups.items()]
        waiting = f"{state.waiting} waiting, and the tasks of {counted(state.groups, 'group')}"
        show_lines([f"{_shown(state.queue, state.limits)}; {waiting}", *groups])


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
        parts.append(f"{limits.rate:g} tasks a second, {limits.burst} at once after a rest")
    return f"{name}: {', '.join(parts) or 'not limited'}"
