"""`delayed up` and `demo`: everything in one command, to develop with and to look at."""

import sys
from pathlib import Path

import click

from .amounts import Count
from .application import app_option
from .common import check_names, explained
from .demo import run_demo
from .up import run_up


@click.command()
@click.argument("queues", nargs=-1)
@app_option
@click.option("--allow", multiple=True, metavar="PATTERN", help="As for `delayed worker`; any function by default.")
@click.option("--preload", multiple=True, metavar="MODULE", help="As for `delayed worker`: register its schedules, too.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".delayed"), show_default=True, help="Redis's data.")
@click.option(
    "--port", type=Count(most=65_535), default=6379, show_default=True, help="Redis's port on the loopback interface."
)
@click.option("--reload", "reloads", is_flag=True, help="Restart the worker when a .py file below this folder changes.")
@explained
def up(
    queues: tuple[str, ...],
    app_path: str | None,
    allow: tuple[str, ...],
    preload: tuple[str, ...],
    folder: Path,
    port: int,
    reloads: bool,
) -> None:
    """For development: Redis with its data in a folder, a worker and a sweeper, until Ctrl-C."""
    check_names(queues)
    names = list(queues or (() if app_path else ("default",)))
    run_up(names, list(allow), list(preload), folder, port, app_path, reloads=reloads)


@click.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Files to hash; by default the Python standard library.",
)
@click.option("--workers", type=Count(most=10_000), default=2, show_default=True, help="Worker processes.")
@click.option("--kills", type=Count(0), default=3, show_default=True, help="Workers to kill in mid-task.")
@click.option(
    "--go-worker",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Go module's delayed-worker, to hash every other file.",
)
@explained
def demo(folder: Path | None, workers: int, kills: int, go_worker: Path | None) -> None:
    """Hash every file of a folder on an embedded Redis, kill workers meanwhile, and check that nothing is lost."""
    if not run_demo(folder, workers, kills, go_worker):
        sys.exit(1)
