"""Log formatters of the commands: JSON lines for programs, and colours for terminals."""

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any

from .escape import EscapingFormatter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "task_detail"}
_COLOURS = {"D": "2", "I": "32", "W": "33", "E": "31", "C": "1;31"}  # by the first letter of the level


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, process, message, the fields of `extra`, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        found.update({name: value for name, value in vars(record).items() if name not in _STANDARD and name not in found})
        detail = getattr(record, "task_detail", None)
        if detail is None and record.exc_info:
            detail = self.formatException(record.exc_info)
        if detail is not None:
            found["exception"] = detail
        if record.stack_info:
            found["stack"] = record.stack_info
        return json.dumps(_plain(found), default=_shown)


class ColouredFormatter(EscapingFormatter):
    """As `EscapingFormatter`; what stands before the message, in brackets, has the colour of the level."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        head, bracket, rest = super().format(record).partition("] ")
        colour = _COLOURS.get(record.levelname[:1])
        return f"\x1b[{colour}m{head}]\x1b[0m {rest}" if bracket and colour else head + bracket + rest


def _plain(value: Any) -> Any:
    """What JSON has no word for, as text: numbers without a value, keys that are no text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return type(value).__name__
