"""Small helpers for messages."""

import re
import traceback
from fnmatch import fnmatchcase


def summary(detail: str) -> str:
    """The line of a dead letter's detail that says most: of a traceback the type of the exception, and what it says first."""
    lines = detail.strip("\n").splitlines() or [""]
    group = next((match[1] for line in lines if (match := _GROUP.match(line))), None)
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    said = [line for line in lines[frames[-1] + 1 :] if line[:1] not in ("", " ")] if frames else []
    return group or (said[0] if said else lines[0].strip())


_FRAME = re.compile(r'  File "[^"]*", line \d+')  # a line of a traceback
_GROUP = re.compile(r"  \| (\w.*)")  # an exception group, in one


def says(error: str, text: str) -> bool:
    """Whether an error says a text, in upper or lower case."""
    return text.lower() in error.lower()


def is_of(place: str, pattern: str) -> bool:
    """Whether a process, as host:pid, is the one that a pattern means; it may be one for the host alone."""
    return fnmatchcase(place, pattern) or fnmatchcase(place.rpartition(":")[0], pattern)


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun, in the plural (by default with an s) unless it is one."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def clipped(text: str, most: int) -> str:
    """A text of so many characters at most, which shows if something has been cut off."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int) -> str:
    """A text of about so many characters: what is too much is cut out of its middle, as both ends say something."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n… ({len(text) - most // 2 * 2:,} characters left out) …\n{text[-(most // 2) :]}"


def name_of(kind: type) -> str:
    """The qualified name of a type, past its metaclass, which may be of anybody's making."""
    try:
        return str.__str__(type.__dict__["__qualname__"].__get__(kind))
    except BaseException:  # what is no text
        return "an object"


def module_of(kind: type) -> str:
    """Likewise, its module."""
    try:
        return str.__str__(type.__dict__["__module__"].__get__(kind))
    except BaseException:
        return "?"


def said(thing: object, most: int = 10_000) -> str:
    """What an object says of itself; nothing if it cannot say it, as it may be of a task's making, and raise anything."""
    try:
        return shortened(str.__str__(str(thing)), most)
    except BaseException:
        return ""


def shown(thing: object, most: int = 100) -> str:
    """Likewise, as Python writes it; or at least its type."""
    kind = name_of(type(thing))
    try:
        return clipped(f"{kind} {str.__str__(repr(thing))}", len(kind) + most)
    except BaseException:
        return kind


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception, for the log; or at least its type, as it may be of a task's making."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{name_of(type(error))}, which cannot be shown"
