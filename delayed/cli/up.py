"""`delayed up`: Redis, a worker and a sweeper in one command, for development.

The worker may run any function, so nobody else on the machine can reach this Redis: see `embedded`. Its address goes to the
children in their environment.
"""

import contextlib
import errno
import fcntl
import os
import select
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ..errors import DelayedError
from ..redis.embedded import EmbeddedRedis, make_private, write_private
from ..system.child import ChildProcess, python
from ..system.process import describe_status
from ..system.signals import STOP, SignalPipe
from .common import show


def run_up(
    queues: list[str],
    allow: list[str],
    preload: list[str],
    folder: Path,
    port: int,
    app: str | None = None,
    *,
    reloads: bool = False,
) -> None:
    """Run until a signal, or until the worker or the sweeper ends.

    Raises:
        DelayedError: Redis did not start, or its folder or port is in use.
    """
    ours = ["--app", app] if app else []
    options = [*(ours or _repeated("--allow", allow) or ["--allow-any"]), *_repeated("--preload", preload), "--swept"]
    options += ["--reload"] * reloads  # the worker's alone, as those before
    with _owned(folder):
        _check_port(port, queues)
        _run(queues, options, ours, folder, port)


def _repeated(option: str, values: list[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Lock the folder, so that no second server writes to it. The lock ends with this process, however it ends."""
    make_private(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "(just started)"
            raise DelayedError(f"{folder.absolute()} is in use by process {who}; choose another with --folder") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _check_port(port: int, queues: list[str]) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise DelayedError(
                f"port {port} is taken; choose another with --port, or use what is there: "
                f"delayed worker {' '.join(queues)} … --redis redis://localhost:{port}"
            ) from None


def _run(queues: list[str], options: list[str], ours: list[str], folder: Path, port: int) -> None:
    with EmbeddedRedis(folder, port, persistent=True) as server, SignalPipe() as signals:
        environment = {**os.environ, "DELAYED_REDIS_URL": server.url}
        if ours:  # whatever Redis the application names, in development it is this one
            options, ours = [*options, "--redis", server.url], [*ours, "--redis", server.url]
        environment.pop("DELAYED_REDIS_URL_FILE", None)
        processes = {
            "worker": ChildProcess(python("delayed", "worker", *queues, *options), environment, sys.stderr.buffer),
            "sweeper": ChildProcess(python("delayed", "sweeper", *queues, *ours), environment, sys.stderr.buffer),
        }
        address = folder / "url"  # for the user's own programs; nobody else can read it
        write_private(address, f"{server.url}\n")
        show([f"Redis at {server.url}, data in {folder}; {_served(queues, ours)}. Ctrl-C stops all."])
        click.echo(f"In other terminals: export DELAYED_REDIS_URL=$(cat {shlex.quote(str(address.absolute()))})")
        try:
            _until_the_end(processes, signals)
        finally:
            for process in processes.values():
                process.stop()


def _served(queues: list[str], ours: list[str]) -> str:
    return f"queues: {', '.join(queues)}" if queues else f"all queues of {ours[1]}"


def _until_the_end(processes: dict[str, ChildProcess], signals: SignalPipe) -> None:
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
