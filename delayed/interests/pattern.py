"""Patterns for the names and values of what is published."""

import re
from collections.abc import Callable
from functools import lru_cache

from ..errors import ConfigurationError
from .automaton import Automaton
from .syntax import LARGEST, LAST, LONGEST, Node, One, Repeated, Sequence, parsed

KINDS = ("exact", "glob", "regex")
_ANY = One(((0, LAST),))
_SURROGATES = re.compile("[\ud800-\udfff]")
READ = 4096  # characters of a text that are looked at


def bounded(text: str) -> str:
    """As much of a text as patterns look at. What stands for a byte that is not UTF-8 becomes U+FFFD, as Go reads it."""
    text = text[:READ]
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def kind_of(pattern: str) -> tuple[str, str]:
    """The kind of a pattern and what follows: `regex:…`, `exact:…`, `glob:…`; without such a word it is a glob."""
    kind, colon, rest = pattern.partition(":")
    return (kind, rest) if colon and kind in KINDS else ("glob", pattern)


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Callable[[str], bool]:
    """What says whether a text (see `bounded`) is one that `pattern` means.

    Raises:
        ConfigurationError: it cannot be used; the message says why.
    """
    if len(pattern) > LONGEST:
        raise ConfigurationError(f"a pattern has {LONGEST:,} characters at most, not {len(pattern):,}: {pattern!r:.100}")
    if _SURROGATES.search(pattern):
        raise ConfigurationError(f"the pattern {pattern!r:.100} is no text in UTF-8")
    kind, text = kind_of(pattern)
    if kind == "regex":
        return Automaton(parsed(text)).finds
    if kind == "glob":
        parts = _glob(text)
        if not all(isinstance(part, str) for part in parts):
            return Automaton(_whole(parts, text), whole=True).finds
        text = "".join(map(str, parts))
    return text.__eq__


def _glob(text: str) -> list[str | Node]:
    r"""The parts of a glob: characters, and what `*` (any text) and `?` (any character) stand for. `\` makes the next one a
    character."""
    parts, chars = list[str | Node](), iter(text)
    for char in chars:
        if char == "\\":
            following = next(chars, None)
            if following is None:
                raise ConfigurationError(f"the pattern {text!r:.200} ends in a \\: for the character itself write \\\\")
            parts.append(following)
        elif char == "*":
            if not parts or not isinstance(parts[-1], Repeated):
                parts.append(Repeated(_ANY, 0, None))
        else:
            parts.append(_ANY if char == "?" else char)
    return parts


def _whole(parts: list[str | Node], text: str) -> Node:
    if len(parts) > LARGEST:
        raise ConfigurationError(f"a pattern with * or ? has {LARGEST} characters at most: {text!r:.100}")
    return Sequence(tuple(One(((ord(each),) * 2,)) if isinstance(each, str) else each for each in parts))
