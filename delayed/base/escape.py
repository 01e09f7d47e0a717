"""Escapes text from Redis before it is shown on a terminal or in a log."""

import logging
from collections.abc import Sequence
from copy import copy

_NAMED = 10


def escaped(text: object) -> str:
    """One line: control characters, line breaks, and what changes the direction of text or cannot be seen, are written as
    Python writes them in a string. What can be printed stays."""
    shown = text if isinstance(text, str) else str(text)
    return shown if shown.isprintable() else "".join(each if each.isprintable() else _code(each) for each in shown)


def indented(text: str, margin: str = "  ") -> str:
    """Several lines, such as a traceback: each stays a line, begins with `margin`, and is escaped beyond that. So none of them
    can be taken for a line of ours."""
    return "\n".join(f"{margin}{escaped(line)}" for line in text.replace("\r\n", "\n").split("\n"))


def listed(names: Sequence[str]) -> str:
    """Names with commas between them, escaped; of many the first, and how many more there are."""
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(escaped, names[:_NAMED])) + more


def _code(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


class EscapingFormatter(logging.Formatter):
    """A log formatter that escapes control characters: whatever a message and its traceback contain, each line after the
    first is indented, and none has control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter` does."""
        detail = getattr(record, "task_detail", None)
        if detail is not None:  # it says what the traceback would, and is cut where that is too long
            record = copy(record)
            record.exc_info = record.exc_text = None
        text = super().format(record)
        first, *rest = (text if detail is None else f"{text}\n{indented(detail.rstrip())}").split("\n")
        return "\n".join([escaped(first), *(escaped(line if line.startswith("  ") else f"  {line}") for line in rest)])
