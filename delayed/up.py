"""`delayed up`: Redis, a worker and a sweeper in one command, for development."""

import os
import select
import signal
import sys
from pathlib import Path

import click

from .causes import describe_status
from .embedded import EmbeddedRedis
from .guard import Guarded, python
from .signals import STOP, SignalPipe


def run_up(queues: list[str], allow: list[str], folder: Path, port: int) -> None:
    """Run until a signal, or until the worker or the sweeper ends.

    Raises:
        DelayedError: Redis did not start.
    """
    permission = [part for pattern in allow for part in ("--allow", pattern)] or ["--allow-any"]
    with EmbeddedRedis(folder, port, persistent=True) as server, SignalPipe() as signals:
        environment = {**os.environ, "DELAYED_REDIS_URL": server.url}
        environment.pop("DELAYED_REDIS_URL_FILE", None)
        processes = {
            "worker": Guarded(python("delayed", "worker", *queues, *permission), environment, sys.stderr.buffer),
            "sweeper": Guarded(python("delayed", "sweeper", *queues), environment, sys.stderr.buffer),
        }
        click.echo(f"Redis at {server.url}, data in {folder}; queues: {', '.join(queues)}. Ctrl-C stops all.")
        try:
            _until_the_end(processes, signals)
        finally:
            for process in processes.values():
                process.stop()


def _until_the_end(processes: dict[str, Guarded], signals: SignalPipe) -> None:
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    for process in processes.values():
        poll.register(process, select.POLLIN)
    while True:
        poll.poll()
        if any(number in STOP or number == signal.SIGQUIT for number in signals.read()):
            return
        for name, process in processes.items():
            if process.ended:
                click.echo(f"The {name} ended: {describe_status(process.wait())}", err=True)
                sys.exit(1)
