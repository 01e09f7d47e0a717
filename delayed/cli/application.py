"""The option --app of the commands that serve an application."""

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ..base.later import Later
from ..queue.queue import Queue
from .common import EXIT_NO_APP, hint

if TYPE_CHECKING:
    from ..app import App
    from ..app import app as applications
else:
    applications = Later("delayed.app.app")

app_option = click.option(
    "--app", "app_path", metavar="MODULE:NAME", help="An application (delayed.App): its queues, tasks and middlewares."
)


def takes_app() -> bool:
    """Whether the command has that option."""
    context = click.get_current_context(silent=True)  # there is none in another thread, as of `delayed top`
    return context is not None and any(each.name == "app_path" for each in context.command.params)


def load_app(path: str, url: str) -> "App":
    """The application at `path`, on the Redis of --redis if that was given. If it cannot be imported: exit status 78."""
    try:
        app = applications.find_app(path)
    except Exception as error:  # whatever the modules of an application raise
        where = "".join(traceback.format_exception_only(error)).strip()
        hint(f"Error: cannot load --app {path}: {where} (the current folder is {Path.cwd()})")
        sys.exit(EXIT_NO_APP)
    if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
        app.use(url)
    return app


def chosen(queues: list[Queue], names: tuple[str, ...]) -> list[Queue]:
    """The queues of an application, or those of them that were named."""
    known = {queue.name for queue in queues}
    for name in names:
        if name not in known:
            raise click.UsageError(f"the application has no queue {name!r}; it has {', '.join(sorted(known))}")
    return [queue for queue in queues if not names or queue.name in names]
