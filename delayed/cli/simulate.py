"""`delayed simulate`: gives queues something to do, with workers of its own, until Ctrl-C."""

import contextlib
import os
import random
import select
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from ..base.clock import monotonic
from ..base.text import counted
from ..errors import DelayedError
from ..ops.checks import Snapshot
from ..ops.fsck import check
from ..ops.fsck import lines as said_of
from ..ops.overview import look
from ..ops.statistics import Sums, sums, totals
from ..queue.queue import Queue
from ..redis.connect import connect
from ..redis.embedded import EmbeddedRedis
from ..simulation import tasks
from ..simulation.life import PREFIX, QUEUES, Life
from ..system.child import ChildProcess, python
from ..system.http import listening
from ..system.process import describe_status
from ..system.signals import STOP, SignalPipe
from .amounts import WEEK, Count, Number
from .common import explained, show

_SHOWN = ("enqueued", "started", "retried", "recovered", "failed", "completed", "waiting", "held", "dead")
_GROWING = ("enqueued", "started")  # of them
_LOG = 4000  # bytes of what the processes logged, if one of them ends by itself
_SWEEPER = "sweeper"
_REMOVED = 500  # keys in one command


class Plan(NamedTuple):
    """What is simulated. Times are seconds."""

    workers: int
    go_worker: Path | None
    fill_time: float
    run_time: float
    retries: int
    failure_rate: float
    log_interval: float
    shutdown_timeout: float
    seconds: float | None
    listen: str | None


@click.command()
@click.option("-q", "--queue", "names", multiple=True, default=QUEUES, show_default=True, metavar="NAME",
              help=f"A queue, whose name begins with {PREFIX!r} besides. Repeatable.")  # fmt: skip
@click.option("-c", "--workers", default=5, show_default=True, type=Count(most=10_000), help="Python worker processes.")
@click.option(
    "--go-worker", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Go module's delayed-worker, which gets a queue of its own.",
)  # fmt: skip
@click.option("--fill-time", default=0.5, show_default=True, type=Number(most=WEEK), help="Most seconds between enqueues.")
@click.option("--run-time", default=0.5, show_default=True, type=Number(most=WEEK), help="Most seconds that a task runs.")
@click.option("--retries", default=2, show_default=True, type=Count(0), help="How often a failed call is repeated.")
@click.option("--failure-rate", default=0.05, show_default=True, type=Number(most=1), help="The share of attempts that fail.")
@click.option(
    "--log-interval", default=1.0, show_default=True, type=Number(0.1, most=WEEK), help="Seconds between two lines of totals."
)
@click.option(
    "--shutdown-timeout", default=25.0, show_default=True, type=Number(most=WEEK),
    help="Seconds that workers have at the end to finish what runs.",
)  # fmt: skip
@click.option("--seconds", type=Number(), help="End after so long; by default at Ctrl-C.")
@click.option("--redis", "url", metavar="URL", help="Where Redis is; by default one of its own, which ends with it.")
@click.option("--clean", is_flag=True, help="At the end, remove all that its queues have.")
@click.option("--ui", "with_ui", is_flag=True, help="Serve the web UI besides.")
@click.option("--listen", default="127.0.0.1:7678", show_default=True, metavar="HOST:PORT", help="Where, with --ui.")
@explained
def simulate(url: str | None, names: tuple[str, ...], clean: bool, with_ui: bool, listen: str, **options: object) -> None:
    """Simulate producers and workers: tasks, failures, retries, groups, workflows and schedules, until Ctrl-C or --seconds.

    A line of totals each second; at the end, what `delayed fsck` finds, and exit status 1 if that is anything.
    """
    plan = Plan(**options, listen=listen if with_ui else None)  # type: ignore[arg-type]
    if plan.listen is not None:
        listening(plan.listen, 7678).close()  # says now that somebody else does
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(EmbeddedRedis()).url
            click.echo(f"export DELAYED_REDIS_URL={shlex.quote(url)}  # for commands beside it")
        queues = [Queue(PREFIX + name, connect(url)) for name in dict.fromkeys(names)]
        go = Queue(f"{queues[0].name}:go", queues[0].conn) if plan.go_worker else None
        life = Life(queues, plan.retries, go, failure_rate=plan.failure_rate, run_time=plan.run_time)
        try:
            with tempfile.TemporaryFile() as log, SignalPipe() as signals:
                sound = _run(plan, life, url, log, signals)
        finally:
            if clean:
                click.echo(f"removed {counted(sum(map(_removed, life.all)), 'key')}")
    if not sound:
        sys.exit(1)


def _run(plan: Plan, life: Life, url: str, log: BinaryIO, signals: SignalPipe) -> bool:
    """Simulate. Returns whether the queues are sound at the end."""
    life.prepare()
    with _processes(plan, life, url, log) as processes:
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        for each in processes.values():
            poll.register(each, select.POLLIN)
        began = monotonic()
        put, line, least = began, began + plan.log_interval, dict[str, int]()
        while plan.seconds is None or monotonic() < began + plan.seconds:
            moment = monotonic()
            if moment >= put:
                life.step()
                put = moment + random.uniform(0, plan.fill_time)
            if moment >= line:
                click.echo(_line(life.all, least))
                line = moment + plan.log_interval
            poll.poll(max(0.0, min(put, line) - monotonic()) * 1000)
            if STOP.intersection(signals.read()):
                break
            _see_that_they_live(processes, log)
        _stop([process for name, process in processes.items() if name != _SWEEPER])
        click.echo(_line(life.all, {}))
        return _checked(life.all)  # while the sweeper repairs what they have left


@contextlib.contextmanager
def _processes(plan: Plan, life: Life, url: str, log: BinaryIO) -> Iterator[dict[str, ChildProcess]]:
    """The processes, which are stopped at the end."""
    environment = {**os.environ, "DELAYED_REDIS_URL": url, tasks.RUN_TIME: f"{plan.run_time}"}
    environment[tasks.FAILURE_RATE] = f"{plan.failure_rate}"
    environment.pop("DELAYED_REDIS_URL_FILE", None)
    names = [queue.name for queue in life.all]
    started = dict[str, ChildProcess]()
    try:
        started[_SWEEPER] = ChildProcess(python("delayed", "sweeper", *names, "--interval=1"), environment, log)
        for name, command in _workers(plan, life).items():
            started[name] = ChildProcess(command, environment, log)
        if plan.listen is not None:
            command = python("delayed", "ui", "--listen", plan.listen, "--environment", "simulation")
            started["web UI"] = ChildProcess(command, environment, sys.stdout.buffer)
        yield started
    finally:
        _stop(list(started.values()))


def _stop(processes: list[ChildProcess]) -> None:
    for process in processes:
        process.ask()
    for process in processes:
        process.wait()


def _workers(plan: Plan, life: Life) -> Mapping[str, list[str]]:
    names = [queue.name for queue in life.queues]
    options = ["--allow", f"{tasks.__name__}:*", "-c", f"{plan.workers}", "--grace", f"{plan.shutdown_timeout}", "--swept"]
    commands = {"Python worker": python("delayed", "worker", *names, *options)}
    if plan.go_worker is not None:
        grace = f"{plan.shutdown_timeout}s"
        commands["Go worker"] = [str(plan.go_worker), "-queues", life.all[-1].name, "-concurrency", "5", "-grace", grace]
    return commands


def _see_that_they_live(processes: Mapping[str, ChildProcess], log: BinaryIO) -> None:
    for name, process in processes.items():
        if process.ended:
            status = describe_status(process.wait())
            log.seek(0)
            raise DelayedError(f"the {name} ended: {status}\n{log.read()[-_LOG:].decode(errors='replace')}")


def _line(queues: list[Queue], least: dict[str, int]) -> str:
    """Totals over all queues, which agree with each other while nothing runs. What has ended and is not counted yet is in none
    of them: so what cannot become less stays what it was in `least`, the line before."""
    found = [sums(totals(queue), look(queue)) for queue in queues]
    total = Sums(*map(sum, zip(*found, strict=True)))._asdict()
    least |= {name: max(total[name], least.get(name, 0)) for name in _GROWING}
    return "  ".join(f"{name} {(total | least)[name]:,}" for name in _SHOWN)


def _checked(queues: list[Queue]) -> bool:
    """Whether `delayed fsck` finds nothing wrong."""
    found = [check(queue) for queue in queues]
    for each in found:
        show(said_of(each))
    return not any(each.wrong for each in found)


def _removed(queue: Queue) -> int:
    """Remove all that a queue has, and its names from what queues share. Returns how many keys there were."""
    keys = [*queue.keys.all().values()]
    keys += [key for key in Snapshot(queue).suffixed if key not in keys and _is_own(queue, key)]
    queue.remove_interest()
    queue.store.forget()
    return sum(int(queue.call("UNLINK", *keys[start : start + _REMOVED])) for start in range(0, len(keys), _REMOVED))


def _is_own(queue: Queue, key: str) -> bool:
    own = queue.keys
    owned = (own.owns_for_a_task, own.owns_group, own.owns_waits, own.owns_stats, own.owns_flow, own.owns_lease)
    return any(owns(key) for owns in owned)
