"""The words of a search for tasks: `state:dead fn:shop:* queue:mail overdue "any text"`."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from ..base.ids import is_id
from ..errors import ConfigurationError, DelayedError
from ..ops.tasks import STATES, TaskFilter

_PLACES = ("queue", "group", "key", "scheduled")
_NAMES = ("state", "fn", "function", "queue", "where", "error", "worker", "group", "text", "id")
_NO_NAMES = (
    "age",
    "args",
    "arguments",
    "attempt",
    "attempts",
    "cause",
    "name",
    "outcome",
    "reason",
    "since",
    "status",
    "task",
    "until",
)
MOST = 1_000_000  # tasks that one search looks at
LEAST = 3_500

_WORD = re.compile(r"""(?:[^ \t\r\n"'\\]|\\(?s:.)|"(?:[^"\\]|\\(?s:.))*"|'[^']*')+""")
_BEHIND_A_MODULE = re.compile(r"[A-Za-z_*?\[][\w.*?\[\]-]*|//.*", re.DOTALL)  # a function, or a pattern of some; or an address


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
    for name, value in _words(text[:1000]):
        if name == "overdue":
            overdue = True
        elif not name:
            rest.append(value)
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
    try:
        wanted = TaskFilter(text=" ".join(rest) or None, overdue=overdue, **found)
    except ConfigurationError as error:
        raise InvalidSearch(str(error)) from None
    return Query(wanted, tuple(queues), only if is_id(only) else None)


def _words(text: str) -> Iterator[tuple[str, str]]:
    """The name of each word and its value; no name for one of what is looked for as text."""
    try:
        shlex.split(text)
    except ValueError:
        raise InvalidSearch('a quotation mark has no second one: write "any text"') from None
    for raw in _WORD.findall(text):
        word = "".join(shlex.split(raw))
        name, colon, value = word.partition(":")
        if word == "overdue":
            yield word, ""
        elif colon and name in _NAMES:
            if not value:
                raise InvalidSearch(f"{name}: says nothing: what it means stands behind it, without a space")
            yield name, value
        else:
            if raw[0] not in "\"'":
                _check_text(word)
            yield "", word


def _check_text(word: str) -> None:
    """See that what is written without quotes is not meant as a word that there is not.

    Raises:
        InvalidSearch: it is.
    """
    match = re.match(r"([a-z_]+)([:<>=])(.*)", word, re.DOTALL)
    if match is None:
        return
    name, sign, value = match.groups()
    if name in _NO_NAMES or (name in _NAMES if sign != ":" else not _BEHIND_A_MODULE.fullmatch(value)):
        words = ", ".join(f"{each}:" for each in _NAMES if each != "function")
        raise InvalidSearch(
            f"{word!r:.100} is no word of a search: there are {words} and overdue; what is in quotes, or after text:, is text"
        )
