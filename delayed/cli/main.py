"""The command `delayed`.

Exit status: 0 done; 1 it failed, and the message says why; 2 wrong usage; 3 a worker that had to leave a task unfinished, and
gave it back; 78 a module or an application of the user's that cannot be imported.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from ..base.escape import escaped
from ..system import exits
from .common import Group

# Each command's module is imported when the command is used: `delayed enqueue` need not know the worker.
_PLACES = {
    "worker": "run",
    "sweeper": "sweeper",
    "up": "develop",
    "demo": "develop",
    "simulate": "simulate",
    "enqueue": "enqueue",
    "task": "task",
    "flow": "flow",
    "info": "info",
    "dead": "dead",
    "cron": "cron",
    "queue": "queue",
    "stats": "stats",
    "exporter": "exporter",
    "interest": "interest",
    "fsck": "check",
    "doctor": "check",
    "health": "health",
    "ui": "ui",
    "audit": "audit",
    "job": "job",
    "history": "history",
    "watch": "watch",
    "top": "top",
    "server": "server",
    "token": "token",
    "webhook": "webhook",
}


@contextmanager
def _escaping() -> Iterator[None]:
    """Whatever a message quotes, such as a name that somebody has typed, none of it reaches the terminal as anything else."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = "\n".join(map(escaped, error.message.split("\n")))
        raise


class _Commands(Group):
    """The commands in `_PLACES`, in that order."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the words before the command."""
        with _escaping():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, which reads its own words first."""
        with _escaping():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        if cmd_name not in _PLACES:
            return None
        module = import_module(f".{_PLACES[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="delayedq", prog_name="delayed")
def main() -> None:
    """A task queue on Redis for Python and Go."""
    gc.freeze()  # modules live until the end: looking through them for garbage is a sixth of what `delayed enqueue` costs


def run() -> NoReturn:
    """The program."""
    exits.run(main)
