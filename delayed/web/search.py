"""The words of a search for tasks: `state:dead fn:shop:* queue:mail overdue "any text"`."""

import shlex
from dataclasses import dataclass

from ..base.ids import is_id
from ..errors import DelayedError
from ..ops.tasks import STATES, TaskFilter

_PLACES = ("queue", "group", "key", "scheduled")
_NAMES = ("state", "fn", "function", "queue", "where", "text", "error", "id")
MOST = 1_000_000  # tasks that one search looks at
LEAST = 3_500


class InvalidSearch(DelayedError):
    """The words of a search mean nothing."""


@dataclass(frozen=True)
class Query:
    """What is searched for."""

    filter: TaskFilter
    queues: tuple[str, ...] = ()
    id: str | None = None  # of the one task that is meant


def parse(text: str) -> Query:
    """Understand the words.

    Raises:
        InvalidSearch: they mean nothing.
    """
    found, queues, rest, overdue = dict[str, str](), list[str](), list[str](), False
    try:
        words = shlex.split(text[:1000])
    except ValueError:
        raise InvalidSearch('a quotation mark has no second one: write "any text"') from None
    for word in words:
        name, colon, value = word.partition(":")
        if word == "overdue":
            overdue = True
        elif not colon or name not in _NAMES:
            rest.append(word)
        elif name == "queue":
            queues.append(value)
        else:
            found[{"fn": "function"}.get(name, name)] = value
    only = found.get("id") or (rest[0] if len(rest) == 1 and not found and not overdue else "")
    rest += [found.pop(name) for name in ("id", "text") if name in found]
    state, where = found.get("state"), found.get("where")
    if state is not None and state not in STATES:
        raise InvalidSearch(f"state is one of {', '.join(STATES)}, not {state!r:.100}")
    if where is not None and where not in _PLACES:
        raise InvalidSearch(f"where is one of {', '.join(_PLACES)}, not {where!r:.100}")
    wanted = TaskFilter(state, found.get("function"), " ".join(rest) or None, where, overdue, found.get("error"))
    return Query(wanted, tuple(queues), only if is_id(only) else None)
