"""Ends a process in bounded time: it waits forever neither for a reader of its output nor for what tasks have left."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from ..logger import logger
from .process import flush_output

_FLUSHING = 1.0  # seconds that the output may take to be written out
_longest: list[float] = []  # seconds that our end may take, the last that was said; none: as long as it likes


def leave(status: int) -> NoReturn:
    """Write out what can be written at once, and end this process: whatever threads are in it, and whatever they hold."""
    try:
        written = threading.Thread(target=_write_out, name="delayed-output", daemon=True)
        written.start()
        written.join(_FLUSHING)
    finally:
        os._exit(status)


def leave_within(seconds: float, status: int) -> None:
    """End this process after so many seconds, if it has not ended by itself."""

    def wait() -> None:
        time.sleep(seconds)
        logger.warning("Left, though what tasks have left behind has not ended: %s", ", ".join(_others()) or "exit handlers")
        leave(status)

    with contextlib.suppress(RuntimeError):  # the system has no thread left
        threading.Thread(target=wait, name="delayed-end", daemon=True).start()


def end_within(seconds: float) -> None:
    """Foreign code has run in this process: when its command is done (see `run`), it may take so many seconds to end."""
    _longest.append(max(seconds, _FLUSHING))


def run(command: Callable[[], object]) -> NoReturn:
    """Run the command of this process, and end with its status. The application's exit handlers run, if they do not take too
    long; our own is the last."""
    status = 1
    atexit.register(lambda: leave(status) if _longest else None)
    try:
        command()
        status = 0
    except SystemExit as end:
        status = end.code if type(end.code) is int else int(end.code is not None)
        raise
    finally:
        if _longest:
            leave_within(_longest[-1], status)
    sys.exit(0)


def _others() -> list[str]:
    """The names of the threads that keep this process alive."""
    return [each.name for each in threading.enumerate() if not each.daemon and each is not threading.main_thread()]


def _write_out() -> None:
    flush_output()
    with contextlib.suppress(Exception):  # of a handler of the application's
        logging.shutdown()
