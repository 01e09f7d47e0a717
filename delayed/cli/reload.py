"""`--reload`: runs a command in a child process, and starts it again when a source file changes. For development."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ..logger import logger
from ..system.child import ChildProcess, python
from ..system.process import describe_status
from ..system.signals import INSIST, NOW, STOP, SignalPipe

_LOOK = 0.5  # seconds between two looks at the files
_LEAVING = 5.0  # seconds
_SHOWN = 3  # files that are named
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}


def run_again_on_changes(arguments: Sequence[str], folder: Path) -> int:
    """Run `delayed ARGUMENTS` until a signal. When it ends by itself, wait for the next change.

    Args:
        arguments: of the command, without --reload.
        folder: where to look for .py files, and below; not in hidden folders, virtual environments and the like.

    Returns:
        An exit status.
    """
    with SignalPipe() as signals:
        seen = mtimes(folder)
        logger.info("Reloading when one of the %d .py files below %s changes", len(seen), folder)
        while True:
            child = ChildProcess(python("delayed", *arguments), None, sys.stderr.buffer)
            asked, changed = _until_a_change(child, signals, folder, seen)
            if asked:
                return _stop(child, signals)
            seen = mtimes(folder)
            shown = ", ".join(sorted(changed)[:_SHOWN])
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            logger.info("Changed: %s%s; reloading", shown, more)
            _stop(child, signals)


def mtimes(folder: Path) -> dict[str, int]:
    """The Python files in a folder and below, and when each was changed."""
    found: dict[str, int] = {}
    for path, folders, files in os.walk(folder):
        here = Path(path)
        folders[:] = [each for each in folders if _is_source(here / each)]
        for name in files:
            if name.endswith(".py"):
                try:
                    found[str((here / name).relative_to(folder))] = (here / name).stat().st_mtime_ns
                except OSError:  # it has gone meanwhile
                    continue
    return found


def _is_source(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name not in _SKIPPED and not (folder / "pyvenv.cfg").exists()


def _until_a_change(child: ChildProcess, signals: SignalPipe, folder: Path, seen: dict[str, int]) -> tuple[bool, set[str]]:
    """Wait. Returns whether we are to stop, and the files that have changed."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(child, select.POLLIN)
    said = False
    while True:
        poll.poll(_LOOK * 1000)
        if any(number in STOP or number == NOW for number in signals.read()):
            return True, set()
        if child.ended and not said:
            said = True
            poll.unregister(child)
            logger.error("It ended: %s; waiting for a change", describe_status(child.wait()))
        found = mtimes(folder)
        changed = {name for name in found.keys() | seen.keys() if found.get(name) != seen.get(name)}
        if changed:
            return False, changed


def _stop(child: ChildProcess, signals: SignalPipe) -> int:
    """End the child; a second signal goes to it, too, which then gives back what it runs and leaves."""
    child.ask()
    if child.fileno() < 0:  # it has ended by itself
        return child.wait()
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    poll.register(child, select.POLLIN)
    while not child.ended:
        poll.poll(_LOOK * 1000)
        if any(number in INSIST or number == NOW for number in signals.read()):
            child.send(signal.SIGTERM)
    poll.unregister(signals)
    poll.poll(_LEAVING * 1000)  # for the program itself, whose shell may have ended before it
    return child.wait()
