"""The package's logger. The package logs to it and leaves its handlers and level to the application."""

import contextlib
import logging
import sys

from .escape import EscapingFormatter

DEFAULT_DATE_FORMAT = "%y%m%d %H:%M:%S"
DEFAULT_LOG_FORMAT = "[%(levelname)1.1s %(asctime)s %(process)d %(module)s:%(lineno)d] %(message)s"

logger = logging.getLogger("delayed")
logger.addHandler(logging.NullHandler())


def set_handler(handler: logging.Handler) -> None:
    """Make `handler` the logger's only one."""
    logger.handlers = [handler]
    logger.propagate = False


def setup_logger(
    date_format: str = DEFAULT_DATE_FORMAT,
    log_format: str = DEFAULT_LOG_FORMAT,
    log_level: int | str = logging.DEBUG,
) -> None:
    """Log to standard error.

    Args:
        date_format: as for `time.strftime`.
        log_format: as for `logging.Formatter`.
        log_level: the least level that is logged. At DEBUG each task logs a line when it starts and when it ends.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter(fmt=log_format, datefmt=date_format))
    set_handler(handler)
    logger.setLevel(log_level)


def flush_output() -> None:
    """Write out what was printed. A full disk, or an output that is closed, must keep no process from its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # Python's way of saying that the descriptor was closed when it started
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
