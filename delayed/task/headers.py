"""One careful reader for each header of a task, whoever wrote it."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Self

from ..base.ids import FLOW, index_of, is_id


class Member(NamedTuple):
    """A node of a workflow, as its task names it."""

    home: str  # the queue that has the workflow's keys
    flow: str  # the workflow
    set: int  # to which of its sets of nodes it belongs
    node: int  # its number among the nodes


class Holds(NamedTuple):
    """The keys that a task may hold, as its headers name them."""

    id: str | None = None  # of a tracked task: it has a state, and perhaps a result
    unique: str | None = None  # its unique key,
    mode: str = ""  # and for how long it has that
    slots: str | None = None  # its concurrency key,
    limit: int = 0  # and how many tasks with that run at once
    member: Member | None = None  # of the workflow that hears how it ends

    @property
    def has_only_a_state(self) -> bool:
        """Whether it is tracked, and holds no key."""
        return self.id is not None and self.unique is None and self.slots is None

    @property
    def has_one_key(self) -> bool:
        """Whether it holds a key, of concurrency or a unique one, and not both."""
        return (self.unique is None) != (self.slots is None)

    @property
    def begins_with_others(self) -> bool:
        """Whether one question may begin it with others: it need not take or free a unique key."""
        return self.unique is None or (self.slots is None and self.mode not in ("while_running", "while_queued"))

    @property
    def while_running(self) -> Self:
        """What it holds only while it runs: no unique key that it has from its enqueue on."""
        return self if self.mode == "while_running" else self._replace(unique=None)


HOLDS_NOTHING = Holds()
TRACE = ("traceparent", "tracestate")  # of W3C Trace Context
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?", re.ASCII)
_LONGEST_TRACE = 512  # characters: what W3C says that everybody carries
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


def is_in_group(headers: dict[str, Any], pattern: str) -> bool:
    """Whether the task is in a group whose name fits a pattern."""
    group = text_in(headers, "group")
    return group is not None and fnmatchcase(group, pattern)


def texts_in(headers: dict[str, Any], name: str) -> list[str] | None:
    """An array of texts."""
    value = headers.get(name)
    return value if type(value) is list and all(type(each) is str for each in value) else None


def id_in(headers: dict[str, Any]) -> str | None:
    """The id of a tracked task; None for another task."""
    identity = text_in(headers, "id")
    return identity if identity is not None and is_id(identity) else None


def uid_in(headers: dict[str, Any]) -> str | None:
    """The id of a task that is not tracked: for logs, events and dead letters."""
    identity = text_in(headers, "uid")
    return identity if identity is not None and is_id(identity) else None


def any_id_in(headers: dict[str, Any]) -> str | None:
    """The id of a task, tracked or not."""
    return id_in(headers) or uid_in(headers)


def metadata_in(headers: dict[str, Any]) -> dict[str, str]:
    """What the producer said about the task: texts by name."""
    match headers.get("metadata"):
        case dict(found) if all(type(name) is str and type(value) is str for name, value in found.items()):
            return found
    return {}


def trace_in(headers: Mapping[str, Any]) -> tuple[str, str] | None:
    """The W3C trace context in which the task was enqueued, `traceparent` and `tracestate`; None for none. The headers of an
    HTTP request have the same ones."""
    parent, state = headers.get(TRACE[0]), headers.get(TRACE[1])
    if type(parent) is not str or len(parent) > _LONGEST_TRACE or not _TRACEPARENT.fullmatch(parent):
        return None
    if type(state) is not str or len(state) > _LONGEST_TRACE or not (state.isascii() and state.isprintable()):
        return parent, ""
    return parent, state


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


def member_in(headers: dict[str, Any], identity: str | None = None) -> Member | None:
    """Of which workflow the task is a node; None for a task that is none. `identity`: its id, if that is known."""
    found, identity = headers.get("flow"), identity or id_in(headers)
    if identity is None or type(found) is not list or len(found) != 2:
        return None
    home, number = found
    if type(home) is not str or not home or type(number) is not int or not 0 <= number <= MOST:
        return None
    return Member(home, identity[:FLOW], number, index_of(identity))


def holds_in(headers: dict[str, Any]) -> Holds:
    """What a task may hold. Only a tracked one has a unique key."""
    identity = id_in(headers) if "id" in headers else None
    key, mode, _ = unique_in(headers) if identity is not None and "unique" in headers else ("", "", 0)
    unique = key if mode else None
    slots, limit = concurrency_in(headers) or (None, 0)
    member = member_in(headers, identity) if "flow" in headers else None
    return Holds(identity, unique, mode if unique is not None else "", slots, limit, member)
