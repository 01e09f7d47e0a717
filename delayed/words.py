"""Words for people, and what they meant."""

from datetime import UTC, datetime


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun, in the plural (by default with an s) unless it is one."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def clipped(text: str, most: int) -> str:
    """A text of so many characters at most, which shows if something has been cut off."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def is_number(value: object) -> bool:
    """Whether somebody who was asked for a number has given one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Likewise, for a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_time(seconds: float) -> str:
    """A moment, in seconds since 1970, as all commands show it: in UTC, and saying so."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # another program's number
        return f"{seconds:g} s after 1970"
