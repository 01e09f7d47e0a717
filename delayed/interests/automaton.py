"""Says whether a regular expression finds something in a text, in time that grows with the text alone.

All ways through the expression are followed at once, so that none has to be tried again. What was found out for a character
in a place is kept, up to a limit.
"""

from dataclasses import dataclass, field

from .syntax import Either, Node, One, Place, Ranges, Repeated, Sequence

_MOST_KEPT = 5000  # steps of one expression
_START, _IN_WORD, _OUTSIDE, _END = range(4)  # what is on one side of a place in the text
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@dataclass(slots=True)
class _State:
    """A place in the text: where in the program one may be, and what is before it."""

    places: tuple[int, ...]
    before: int
    moves: dict[str, "_State | None"] = field(default_factory=dict)  # None: something was found
    ends: bool | None = None  # whether something is found if the text ends here


class Automaton:
    """A regular expression that is ready to search.

    Args:
        node: the expression.
        whole: it has to fit the whole text.
    """

    def __init__(self, node: Node, *, whole: bool = False) -> None:
        self._program: list[tuple[str, int, int]] = []  # what, and where it goes on
        self._ranges: list[Ranges] = []
        self._whole = whole
        parts = (Place("^"), node, Place("$")) if whole else (node,)
        self._compile(Sequence(parts))
        self._add("found")
        self._states: dict[tuple[tuple[int, ...], int], _State] = {}
        self._kept = 0

    def finds(self, text: str) -> bool:
        """Whether it finds something."""
        state = self._state((0,), _START)
        for char in text:
            try:
                following = state.moves[char]
            except KeyError:
                following = self._moved(state, char)
            if following is None:
                return True
            state = following
        if state.ends is None:
            state.ends = self._reached(state, _END)[1]
        return state.ends

    # What an expression becomes

    def _add(self, what: str, first: int = 0, second: int = 0) -> int:
        self._program.append((what, first, second))
        return len(self._program) - 1

    def _compile(self, node: Node) -> None:
        """Add a part of the program, which goes on behind itself."""
        match node:
            case One(ranges):
                self._ranges.append(ranges)
                self._add("one", len(self._ranges) - 1)
            case Place(kind):
                self._add(kind)
            case Sequence(parts):
                for part in parts:
                    self._compile(part)
            case Either(parts):
                self._compile_either(parts)
            case Repeated(part, least, most):
                self._compile_repeated(part, least, most)

    def _compile_either(self, parts: tuple[Node, ...]) -> None:
        jumps = []
        for part in parts[:-1]:
            fork = self._add("fork")
            self._compile(part)
            jumps.append(self._add("jump"))
            self._program[fork] = ("fork", fork + 1, len(self._program))
        self._compile(parts[-1])
        for jump in jumps:
            self._program[jump] = ("jump", len(self._program), 0)

    def _compile_repeated(self, part: Node, least: int, most: int | None) -> None:
        for _ in range(least):
            self._compile(part)
        if most is None:
            fork = self._add("fork")
            self._compile(part)
            self._add("jump", fork)
            self._program[fork] = ("fork", fork + 1, len(self._program))
            return
        forks = []
        for _ in range(most - least):
            forks.append(self._add("fork"))
            self._compile(part)
        for fork in forks:
            self._program[fork] = ("fork", fork + 1, len(self._program))

    # What happens in a text

    def _state(self, places: tuple[int, ...], before: int) -> _State:
        state = self._states.get((places, before))
        if state is None:
            state = self._states[places, before] = _State(places, before)
        return state

    def _moved(self, state: _State, char: str) -> _State | None:
        """The state after one more character."""
        word = _IN_WORD if char in _WORD else _OUTSIDE
        reached, found = self._reached(state, word)
        following: _State | None = None
        if not found:
            code = ord(char)
            places = {at + 1 for at in reached if _within(self._ranges[self._program[at][1]], code)}
            if not self._whole:
                places.add(0)
            following = self._state(tuple(sorted(places)), word)
        self._kept += 1
        if self._kept > _MOST_KEPT:
            forgotten, self._states, self._kept = self._states, {}, 0
            for each in list(forgotten.values()):  # another thread may be at it
                each.moves.clear()
        state.moves[char] = following
        return following

    def _reached(self, state: _State, after: int) -> tuple[list[int], bool]:
        """The characters that may come next, if what is behind this place is `after`; and whether something is found."""
        reached, seen, todo = [], set(state.places), list(state.places)
        while todo:
            at = todo.pop()
            what, first, second = self._program[at]
            if what == "found":
                return [], True
            if what == "one":
                reached.append(at)
                continue
            following: tuple[int, ...]
            if what == "fork":
                following = (first, second)
            elif what == "jump":
                following = (first,)
            else:
                following = (at + 1,) if _holds(what, state.before, after) else ()
            for each in following:
                if each not in seen:
                    seen.add(each)
                    todo.append(each)
        return reached, False


def _holds(kind: str, before: int, after: int) -> bool:
    """Whether a place is what it has to be."""
    if kind == "^":
        return before == _START
    if kind == "$":
        return after == _END
    return ((before == _IN_WORD) != (after == _IN_WORD)) == (kind == "b")


def _within(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)
