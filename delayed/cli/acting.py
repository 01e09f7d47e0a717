"""Who gives a command that changes something, and what is said of what it did."""

import getpass
import os
import socket

import click

from ..ops.audit import Actor, Done
from ..ops.job_records import Job
from .common import hint, show


def operator() -> Actor:
    """Who gives this command: DELAYED_OPERATOR, or else the user of this process."""
    who = os.environ.get("DELAYED_OPERATOR") or os.environ.get("SUDO_USER")
    if not who:
        try:
            who = getpass.getuser()
        except (KeyError, OSError):  # in a container there may be no name for it
            who = f"uid {os.getuid()}"
    return Actor(who, f"cli {socket.gethostname()}")


background_option = click.option(
    "--background", is_flag=True, help="As a job, a page at a time, which `delayed job` works on, shows and stops."
)


def tell_of_job(job: Job) -> None:
    """Say that a job has begun."""
    show(
        [f"job {job.id} of {job.queue}: {job.act}", f"`delayed job run {job.queue}` works on it, as servers for operators do"]
    )


def tell(done: Done) -> None:
    """Say what an act has done. What could not be done is an error."""
    if done.says and (done.count or not done.left):  # else the error says it
        show(done.says.split("\n"))
    if done.note:
        hint(done.note)
    if done.left:
        raise click.ClickException(done.left)
