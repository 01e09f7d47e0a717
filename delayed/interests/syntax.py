"""The regular expressions of interests: a subset of RE2's syntax that means the same to Go's `regexp`, to JavaScript and here.

Text, `.`, classes `[a-z]`, groups `(…)` and `(?:…)`, `|`, the repetitions `*`, `+`, `?`, `{n}`, `{n,}` and `{n,m}`, also lazy,
`^`, `$`, `\\b`, `\\B`, `\\d`, `\\D`, `\\w`, `\\W`, `\\s`, `\\S`, `\\t`, `\\n`, `\\r`, `\\f`, `\\v`, `\\xHH`, and `\\` before
punctuation. What is not in it is refused, with a reason. interop/internal/interest/syntax.go is the same in Go.
"""

from typing import NamedTuple

from ..errors import ConfigurationError

LONGEST = 1000  # characters of a pattern
LARGEST = 500  # places of the text that it may look at; each repetition counts
_DEEPEST = 20  # groups in each other
_MOST_TIMES = 100  # repetitions
LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]  # of code points, ascending
_DIGITS: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_DIGITS_10 = "0123456789"
_DIGITS_16 = "0123456789abcdefABCDEF"


class One(NamedTuple):
    """One character in these ranges."""

    ranges: Ranges


class Place(NamedTuple):
    """A place between characters: `^`, `$`, `b` or `B`."""

    kind: str


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple["Node", ...]


class Either(NamedTuple):
    """One of them."""

    parts: tuple["Node", ...]


class Repeated(NamedTuple):
    """So many times; `most` is None for as often as one likes."""

    part: "Node"
    least: int
    most: int | None


Node = One | Place | Sequence | Either | Repeated


def but(ranges: Ranges) -> Ranges:
    """All other characters."""
    found, first = [], 0
    for low, high in _merged(ranges):
        if first < low:
            found.append((first, low - 1))
        first = high + 1
    if first <= LAST:
        found.append((first, LAST))
    return tuple(found)


def _merged(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE, "D": but(_DIGITS), "W": but(_WORD), "S": but(_SPACE)}
_ANY = but(((10, 10),))  # a dot


def parsed(text: str) -> Node:
    """The regular expression in `text`.

    Raises:
        ConfigurationError: it is none, or not in the subset, or too large.
    """
    parser = _Parser(text)
    node, _ = parser.alternatives(0)
    if parser.at < len(text):
        raise parser.wrong("this ) closes nothing")
    return node


class _Parser:
    """Reads one expression. Each part says how large it is, as the limit counts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def wrong(self, why: str) -> ConfigurationError:
        where = f"at character {self.at + 1}"
        return ConfigurationError(f"the regular expression {self.text!r:.200} cannot be used ({where}): {why}")

    def _next(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _took(self, what: str) -> bool:
        found = self.text.startswith(what, self.at)
        self.at += len(what) if found else 0
        return found

    def _bounded(self, size: int) -> int:
        if size > LARGEST:
            raise self.wrong(f"it is too large: with its repetitions it looks at more than {LARGEST} places")
        return size

    def alternatives(self, depth: int) -> tuple[Node, int]:
        if depth > _DEEPEST:
            raise self.wrong(f"more than {_DEEPEST} groups are in each other")
        node, size = self._sequence(depth)
        parts = [node]
        while self._took("|"):
            node, more = self._sequence(depth)
            parts.append(node)
            size = self._bounded(size + more + 1)
        return (parts[0] if len(parts) == 1 else Either(tuple(parts))), size

    def _sequence(self, depth: int) -> tuple[Node, int]:
        parts, size = list[Node](), 0
        while self._next() not in ("", "|", ")"):
            node, more = self._repeated(*self._atom(depth))
            parts.append(node)
            size = self._bounded(size + more)
        return (parts[0] if len(parts) == 1 else Sequence(tuple(parts))), size

    def _atom(self, depth: int) -> tuple[Node, int]:
        char = self._next()
        self.at += 1
        if char == "(":
            if self._next() == "?" and not self._took("?:"):
                raise self.wrong("of groups with (? there is only (?:")
            node, size = self.alternatives(depth + 1)
            if not self._took(")"):
                raise self.wrong("a group is not closed")
            return node, size
        if char == "[":
            return One(self._class()), 1
        if char == ".":
            return One(_ANY), 1
        if char in ("^", "$"):
            return Place(char), 1
        if char == "\\":
            return self._escape(), 1
        if char in "*+?{":
            self.at -= 1
            raise self.wrong(f"{char} repeats nothing; for the character itself write \\{char}")
        return One(((ord(char),) * 2,)), 1

    def _escape(self) -> Node:
        if self._next() in ("b", "B"):
            self.at += 1
            return Place(self.text[self.at - 1])
        return One(self._escaped())

    def _escaped(self) -> Ranges:
        """What is behind a backslash, as one character or a class."""
        char = self._next()
        self.at += 1
        if char in _CLASSES:
            return _CLASSES[char]
        if char == "x":
            digits = self.text[self.at : self.at + 2]
            if len(digits) < 2 or any(each not in _DIGITS_16 for each in digits):
                raise self.wrong("\\x is followed by two hexadecimal digits")
            self.at += 2
            return ((int(digits, 16),) * 2,)
        if char in _CONTROLS:
            return ((_CONTROLS[char],) * 2,)
        if char == "" or not ("!" <= char <= "~") or char.isalnum():
            self.at -= 1
            raise self.wrong(f"there is no \\{char}")
        return ((ord(char),) * 2,)

    def _class(self) -> Ranges:
        negated = self._took("^")
        ranges: Ranges = ()
        first = True
        while not self._took("]"):
            if self._next() == "":
                raise self.wrong("a class [ is not closed")
            plain = self._next() == "-"
            low = self._member()
            if self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._member()
                if len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or low > high:
                    raise self.wrong("a range in a class goes from one character to a later one; for a hyphen write \\-")
                ranges += ((low[0][0], high[0][0]),)
            elif plain and not first and self._next() != "]":
                raise self.wrong("a hyphen inside a class is written \\-")
            else:
                ranges += low
            first = False
        if not ranges:
            raise self.wrong("a class has no characters")
        return but(ranges) if negated else _merged(ranges)

    def _member(self) -> Ranges:
        char = self._next()
        if char == "[":
            raise self.wrong("a [ inside a class is written \\[")
        self.at += 1
        if char == "\\":
            return self._escaped()
        return ((ord(char),) * 2,)

    def _repeated(self, node: Node, size: int) -> tuple[Node, int]:
        if self._next() not in ("*", "+", "?", "{") or self._next() == "":
            return node, size
        if isinstance(node, Place):
            raise self.wrong("a place such as ^ cannot be repeated")
        least, most = self._times()
        self._took("?")  # as few as possible: whether there is a match does not depend on it
        if self._next() in ("*", "+", "?", "{") and self._next() != "":
            raise self.wrong("a repetition is repeated: put the first in a group (?:…)")
        return Repeated(node, least, most), self._bounded(size * max(1, least, most or 0) + 1)

    def _times(self) -> tuple[int, int | None]:
        for char, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._took(char):
                return times
        self.at += 1
        least = self._count()
        most: int | None = least
        if self._took(","):
            most = None if self._next() == "}" else self._count()
        if not self._took("}"):
            raise self.wrong("a number of repetitions is {n}, {n,} or {n,m}; for the character itself write \\{")
        if most is not None and least > most:
            raise self.wrong("a number of repetitions ends below its beginning")
        return least, most

    def _count(self) -> int:
        first = self.at
        while self._next() != "" and self._next() in _DIGITS_10:
            self.at += 1
        digits = self.text[first : self.at]
        if not digits or (digits[0] == "0" and len(digits) > 1) or len(digits) > 3 or int(digits) > _MOST_TIMES:
            raise self.wrong(f"a number of repetitions is 0 to {_MOST_TIMES}, as in {{2,5}}; for the character write \\{{")
        return int(digits)
