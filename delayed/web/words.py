"""How pages write numbers, times and names."""

import re
import shlex
from datetime import UTC, datetime
from urllib.parse import quote

from ..base.escape import escaped

_TEXT = re.compile(r"<textarea\b[^>]*>[^<]*|>[^<]*")  # outside of tags, in which there is no > of anybody else's
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def number(count: float) -> str:
    """With separators."""
    return f"{count:,.0f}"


def age(seconds: float | None) -> str:
    """In the largest unit that fits."""
    if seconds is None:
        return "-"
    for size, name in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def size(count: float | None) -> str:
    """Bytes in the largest unit that fits."""
    if count is None:
        return "-"
    for factor, name in _SIZES:
        if count >= factor:
            return f"{count / factor:.1f} {name}"
    return f"{count:.0f} B"


def clock(seconds: float | None) -> str:
    """A time, to the second."""
    if seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):  # another program's number
        return f"{seconds:.0f}"


def part(name: str) -> str:
    """A name as one part of a path. Many a proxy and server takes %2F for a slash, so that has another form."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="")


def name_in(path: str) -> str:
    """The name in a part of a path."""
    return path.replace("~1", "/").replace("~0", "~")


def visible(page: str) -> str:
    """A page whose texts have no control characters, and nothing that changes the direction of what is beside it: they are
    escaped as in a terminal. What forms send, in attributes and text areas, stays as it is."""
    if page.replace("\n", "").isprintable():
        return page
    return _TEXT.sub(lambda found: found[0] if found[0][0] == "<" else _lines(found[0]), page)


def _lines(text: str) -> str:
    return text if text.isprintable() else re.sub(r"[^\n\t]+", lambda found: escaped(found[0]), text.replace("\r\n", "\n"))


def word(name: str) -> str:
    """A name as one word of a search."""
    return shlex.quote(name)
