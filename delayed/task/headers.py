"""One careful reader for each header of a task, whoever wrote it."""

import re
from typing import Any, NamedTuple, Self


class Holds(NamedTuple):
    """The keys that a task may hold, as its headers name them."""

    id: str | None = None  # of a tracked task: it has a state, and perhaps a result
    unique: str | None = None  # its unique key,
    mode: str = ""  # and for how long it has that
    slots: str | None = None  # its concurrency key,
    limit: int = 0  # and how many tasks with that run at once

    @property
    def while_running(self) -> Self:
        """What it holds only while it runs: no unique key that it has from its enqueue on."""
        return self if self.mode == "while_running" else self._replace(unique=None)


HOLDS_NOTHING = Holds()
_ID = re.compile(r"[\w-]{16}", re.ASCII)  # it is cut off again by its length, and part of keys
MOST = 2**53  # milliseconds, or tasks at once: more is nonsense, and Redis refuses it


# What the headers say. They may be another program's, and any nonsense: each is of exactly the type that docs/protocol.md,
# section 2, gives it, or it is not there. (To Python a boolean is an integer; to Redis, and to its scripts, it is none.)


def number_in(headers: dict[str, Any], name: str) -> int:
    """A whole number; 0 for none."""
    value = headers.get(name)
    return value if type(value) is int else 0


def milliseconds_in(headers: dict[str, Any], name: str) -> int:
    """A number of milliseconds that Redis takes; 0 for none."""
    return min(max(number_in(headers, name), 0), MOST)


def text_in(headers: dict[str, Any], name: str) -> str | None:
    """A text."""
    value = headers.get(name)
    return value if type(value) is str else None


def texts_in(headers: dict[str, Any], name: str) -> list[str] | None:
    """An array of texts."""
    value = headers.get(name)
    return value if type(value) is list and all(type(each) is str for each in value) else None


def id_in(headers: dict[str, Any]) -> str | None:
    """The id of a tracked task; None for another task."""
    identity = text_in(headers, "id")
    return identity if identity is not None and _ID.fullmatch(identity) else None


def uid_in(headers: dict[str, Any]) -> str | None:
    """The id of a task that is not tracked: for logs, events and dead letters."""
    identity = text_in(headers, "uid")
    return identity if identity is not None and _ID.fullmatch(identity) else None


def any_id_in(headers: dict[str, Any]) -> str | None:
    """The id of a task, tracked or not."""
    return id_in(headers) or uid_in(headers)


def metadata_in(headers: dict[str, Any]) -> dict[str, str]:
    """What the producer said about the task: texts by name."""
    match headers.get("metadata"):
        case dict(found) if all(type(name) is str and type(value) is str for name, value in found.items()):
            return found
    return {}


def unique_in(headers: dict[str, Any]) -> tuple[str, str, int]:
    """The unique key, for how long a task counts as there, and the milliseconds that bound it; ('', '', 0) for none."""
    match headers.get("unique"):
        case [str(key), str(mode), bound] if type(bound) is int:
            return key, mode, min(max(bound, 0), MOST)
    return "", "", 0


def concurrency_in(headers: dict[str, Any]) -> tuple[str, int] | None:
    """The concurrency key, and how many tasks with it may run at once; None for a task without one."""
    match headers.get("concurrency"):
        case [str(key), limit] if type(limit) is int and limit > 0:
            return key, min(limit, MOST)
    return None


def holds_in(headers: dict[str, Any]) -> Holds:
    """What a task may hold. Only a tracked one has a unique key."""
    identity, (key, mode, _) = id_in(headers), unique_in(headers)
    unique = key if mode and identity is not None else None
    slots, limit = concurrency_in(headers) or (None, 0)
    return Holds(identity, unique, mode if unique is not None else "", slots, limit)
