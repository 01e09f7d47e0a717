"""The option --app of the commands that serve an application."""

import sys
import traceback
from pathlib import Path

import click
from click.core import ParameterSource

from ..app import App
from ..app.app import find_app

EXIT_NO_APP = 78  # EX_CONFIG of sysexits.h: the application cannot be imported
app_option = click.option(
    "--app", "app_path", metavar="MODULE:NAME", help="An application (delayed.App): its queues, tasks and middlewares."
)


def load_app(path: str, url: str) -> App:
    """The application at `path`, on the Redis of --redis if that was given. If it cannot be imported: exit status 78."""
    try:
        app = find_app(path)
    except Exception as error:  # whatever the modules of an application raise
        where = "".join(traceback.format_exception_only(error)).strip()
        click.echo(f"Error: cannot load --app {path}: {where} (the current folder is {Path.cwd()})", err=True)
        sys.exit(EXIT_NO_APP)
    if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
        app.use(url)
    return app
