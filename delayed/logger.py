"""The package's logger. The package logs to it and leaves its handlers and level to the application."""

import contextlib
import logging
import os
import sys
import traceback

from .base.escape import EscapingFormatter
from .base.log_format import ColouredFormatter, JsonFormatter
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
        log_level: the least level that is logged. At INFO tasks log a line when they end; at DEBUG also when they start.
    """
    _log_to(_to_standard_error(), EscapingFormatter(fmt=log_format, datefmt=date_format), log_level)


def setup_process(log_level: int | str, *, as_json: bool = False) -> None:
    """Log to standard error from a process of ours, with colours on a terminal, and there, too, what the application logs, as
    long as it has no handlers of its own for that.

    Args:
        log_level: the least level that is logged.
        as_json: one line of JSON for each record.
    """
    handler = _to_standard_error()
    formatter: logging.Formatter = JsonFormatter()
    if not as_json:
        kind = ColouredFormatter if _is_terminal() else EscapingFormatter
        formatter = kind(fmt=DEFAULT_LOG_FORMAT, datefmt=DEFAULT_DATE_FORMAT)
    _log_to(handler, formatter, log_level)
    root = logging.getLogger()
    if not root.handlers:
        logging.lastResort = handler  # no handler of the root: then a later `basicConfig` would do nothing
        root.setLevel(log_level)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    except (ValueError, AttributeError):  # closed, or none
        return False


def _log_to(handler: logging.Handler, formatter: logging.Formatter, log_level: int | str) -> None:
    handler.setFormatter(formatter)
    set_handler(handler)
    logger.setLevel(log_level)
    logger.__class__ = _Operators


def _to_standard_error() -> logging.Handler:
    try:
        return OutputHandler(sys.stderr.fileno(), sys.stderr.encoding)
    except (OSError, ValueError, AttributeError):  # it is closed, or something that is no file
        return logging.StreamHandler()
