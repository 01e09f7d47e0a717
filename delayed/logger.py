"""The package's logger. The package logs to it and leaves its handlers and level to the application."""

import contextlib
import logging
import sys
import traceback

from .base.escape import EscapingFormatter
from .base.output import OutputHandler
from .errors import TimedOut

DEFAULT_DATE_FORMAT = "%y%m%d %H:%M:%S"
DEFAULT_LOG_FORMAT = "[%(levelname)1.1s %(asctime)s %(process)d %(module)s:%(lineno)d] %(message)s"
logger = logging.getLogger("delayed")


logger.addHandler(logging.NullHandler())


def _call_handlers(record: logging.LogRecord) -> None:
    """As `Logger.callHandlers`, but a handler that raises does not affect the task."""
    try:
        logging.Logger.callHandlers(logger, record)
    except TimedOut:  # it is the task's time that is over
        raise
    except Exception:
        if logging.raiseExceptions:
            with contextlib.suppress(OSError, AttributeError):  # as handlers do it that look after themselves
                traceback.print_exc(file=sys.stderr)


logger.callHandlers = _call_handlers  # type: ignore[method-assign]  # whoever made this logger


class _Operators(logging.Logger):
    """The logger of a process that says itself where it logs: an application that configures its own logging (which by default
    disables all loggers that there are), or disables it, in a module that is imported for its tasks, does not silence it."""

    @property
    def disabled(self) -> bool:
        """Never."""
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None: ...

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        """Whatever `logging.disable` says."""
        return level >= self.getEffectiveLevel()


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
    handler = _to_standard_error()
    handler.setFormatter(EscapingFormatter(fmt=log_format, datefmt=date_format))
    set_handler(handler)
    logger.setLevel(log_level)
    logger.__class__ = _Operators


def _to_standard_error() -> logging.Handler:
    try:
        return OutputHandler(sys.stderr.fileno(), sys.stderr.encoding)
    except (OSError, ValueError, AttributeError):  # it is closed, or something that is no file
        return logging.StreamHandler()
