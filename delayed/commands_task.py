"""`delayed task`: look at a tracked task, wait for its result, cancel it."""

import click

from .command_line import as_json_text, connected, json_option, show
from .handle import Handle
from .queue import Queue
from .words import as_time


@click.group()
def task() -> None:
    """Look at a tracked task, wait for its result, cancel it."""


@task.command("status")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@json_option
@connected
def task_status(url: str, queue: str, task_id: str, as_json: bool) -> None:
    """Show where the task ID of QUEUE is."""
    status = Handle(Queue(queue, url), task_id).status()._asdict()
    if as_json:
        click.echo(as_json_text(status))
        return
    for name, value in status.items():
        if value is not None and value != "":
            is_time = name in ("enqueued", "due", "started")
            show([f"{name + ':':9} {as_time(value) if is_time else value}"])


@task.command("result")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@click.option("--wait", default=0.0, metavar="SECONDS", show_default=True, help="How long to wait for the task's end.")
@connected
def task_result(url: str, queue: str, task_id: str, wait: float) -> None:
    """Print what the task ID of QUEUE has returned, as JSON. Exit status 1 if it has not, or has failed."""
    click.echo(as_json_text(Handle(Queue(queue, url), task_id).result(wait)))


@task.command("cancel")
@click.argument("queue")
@click.argument("task_id", metavar="ID")
@click.option("--hard", is_flag=True, help="If it runs and does not end by itself within seconds, end its process.")
@connected
def task_cancel(url: str, queue: str, task_id: str, hard: bool) -> None:
    """Cancel the task ID of QUEUE. What has not begun will not; what runs is told. Prints in which state it was."""
    show([Handle(Queue(queue, url), task_id).cancel(hard=hard)])
