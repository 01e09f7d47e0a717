"""`delayed job`: lists, shows and stops acts on many tasks, and works on them."""

import json
import time

import click

from ..base.checks import as_time
from ..ops.job_records import Job, job_of, jobs
from ..ops.jobs import Runner, stop_job
from ..queue.queue import Queue
from ..redis.connect import connect
from .acting import operator
from .common import Group, connected, json_option, show
from .places import places


@click.group(cls=Group)
def job() -> None:
    """List, show and stop acts on many tasks (`--background`), and work on them.

    They are worked on by `delayed job run`. What a process that is killed leaves, another goes on with.
    """


@job.command("list")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@json_option
@connected
def job_list(url: str, queues: tuple[str, ...], as_json: bool) -> None:
    """List the jobs of QUEUES, or of all known queues, the newest first; of each queue fifty that have ended are kept."""
    found = sorted((each for place in places(url, queues, None) for each in jobs(place)), key=lambda each: -each.created)
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in found], indent=2))
        return
    show(f"{each.id}  {as_time(each.created)}  {each.queue}  {each.act}  {progress(each)}" for each in found)


@job.command("show")
@click.argument("queue")
@click.argument("job_id", metavar="ID")
@json_option
@connected
def job_show(url: str, queue: str, job_id: str, as_json: bool) -> None:
    """Show job ID of QUEUE, and how far it is."""
    found = job_of(Queue(queue, url), job_id)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
        return
    show(lines(found))


@job.command("stop")
@click.argument("queue")
@click.argument("job_id", metavar="ID")
@connected
def job_stop(url: str, queue: str, job_id: str) -> None:
    """Stop job ID of QUEUE, after the page at hand. What it has done stays done."""
    found = stop_job(Queue(queue, url), operator(), job_id)
    click.echo(f"{found.id}: {'stops after the page at hand' if found.state == 'open' else progress(found)}")


@job.command("run")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--forever", is_flag=True, help="Wait for others, until Ctrl-C.")
@connected
def job_run(url: str, queues: tuple[str, ...], forever: bool) -> None:
    """Work on the jobs of QUEUES, or of all known queues, on which nobody works, until there is none."""
    conn = connect(url)
    runner = Runner(lambda: [Queue(name, conn) for name in queues] if queues else places(url, (), None))
    try:
        while runner.step() or forever:
            time.sleep(0 if not forever else 1)  # nothing tells when an operator begins another one
    except KeyboardInterrupt:
        return


def progress(found: Job) -> str:
    """How far a job is, in a line."""
    parts = [f"{found.state}: {found.done:,} done"]
    parts += [f"{found.left:,} left"] * (found.left > 0) + [f"{found.unsure:,} unknown"] * (found.unsure > 0)
    parts += [f"looked at {found.looked:,} of {max(found.total, found.looked):,}"]
    return ", ".join([*parts, *[found.says] * (found.says != "")])


def lines(found: Job) -> list[str]:
    """All that is known of a job."""
    said = [
        f"job:     {found.id}",
        f"queue:   {found.queue}",
        f"act:     {found.act}",
        f"for:     {found.what.partition(': ')[2]}",
    ]
    said += [f"by:      {found.who}, {found.origin}", f"begun:   {as_time(found.created)}"]
    said += [f"ended:   {as_time(found.ended)}"] if found.ended is not None else []
    said += [f"runner:  {found.runner}"] if found.runner else []
    return [*said, f"state:   {progress(found)}"]
